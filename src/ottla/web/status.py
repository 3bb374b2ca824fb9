"""A page that shows how far a pipeline is, while it runs: `ottla run FILE --web HOST:PORT`.

    /             the page: numbers, parts, what happened, rows of the destination
    /status.json  the numbers
    /rows.json    rows of the destination, the newest state of each

It only shows; nothing can be changed through it. It shows rows, and asks nobody who he is: so it is
on this machine alone. Requests whose Host is not the address it was started at, or that another
site's page sends, are refused, so that a web page elsewhere cannot read it through a visitor's
browser.
"""

import ipaddress
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from ottla.pipeline.display import Display, Snapshot
from ottla.pipeline.errors import PipelineError
from ottla.web.page import PAGE, POLICY

ROWS_MAX = 500
_NOTES_MAX = 30
_REQUEST_S_MAX = 10  # for a request to arrive
Rows = Callable[[int], tuple[list[str], list[tuple[Any, ...]]]]


class StatusServer:
    """Serves the progress that it is shown, and hands it on to another display.

    `rows` gives the names of the columns and up to so many rows of the destination.
    Raises OSError if the address cannot be used, ValueError if others than this machine reach it.
    """

    def __init__(self, title: str, host: str, port: int, shown_on: Display, rows: Rows) -> None:
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(
                "whoever reaches it would see the rows; use 127.0.0.1, and a tunnel from elsewhere"
            )
        self._display = shown_on
        self._title = title
        self._rows = rows
        self._snapshot = Snapshot()
        self._notes: deque[str] = deque(maxlen=_NOTES_MAX)
        self._server = ThreadingHTTPServer((host, port), _handler_for(self))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}/"
        self.hosts = {f"{name}:{self.port}" for name in (host, "localhost", "127.0.0.1")}
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def update(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._display.update(snapshot)

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._display.note(text)

    def close(self) -> None:
        self._display.close()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """The content type and content of a path, None if there is no such page."""
        if path == "/":
            return "text/html; charset=utf-8", PAGE
        if path == "/status.json":
            status = {
                "title": self._title,
                **asdict(self._snapshot),
                "notes": list(self._notes),
            }
            return "application/json", orjson.dumps(status)
        if path == "/rows.json":
            return "application/json", orjson.dumps(self._rows_now(), default=str)
        return None

    def _rows_now(self) -> dict[str, object]:
        try:
            columns, rows = self._rows(ROWS_MAX)
        except PipelineError as error:
            return {"columns": [], "rows": [], "reason": str(error)}
        return {"columns": columns, "rows": rows}


def _handler_for(status: StatusServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S_MAX
        server_version = "ottla"
        sys_version = ""

        def do_GET(self) -> None:
            if self.headers.get("Host", "") not in status.hosts:
                self.send_error(421, "this is not the address of this page")
                return
            if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
                self.send_error(403, "this page is not for other sites")
                return
            answer = status.answer(self.path.partition("?")[0])
            if answer is None:
                self.send_error(404)
                return
            kind, content = answer
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """The pipeline's own display is the log."""

    return Handler
