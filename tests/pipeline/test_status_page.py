"""The page that shows a pipeline while it runs, and Ctrl-C."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ottla.web.page import PAGE, POLICY


def fetch(url: str, **headers: str) -> tuple[str, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, headers=named)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read()


def fetch_json(url: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(fetch(url)[1])
    return content


def test_the_page_shows_what_is_going_on_until_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,name\n1,<b>Ada</b>\n2,Grace\n2,Grace\n")
    (tmp_path / "p.yaml").write_text(
        "p:\n  from: file:in.csv\n  dedupe: id\n  to: sqlite:out.db?table=t\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "ottla", "run", "p.yaml", "--follow", "--web", "127.0.0.1:0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"progress: (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())
        assert found is not None
        url = found[1]
        deadline = time.monotonic() + 60
        # Each part reports for itself, a moment apart.
        wanted = {"title": "p", "rows_in": 3, "duplicates": 1, "rows_out": 2}
        while (status := fetch_json(f"{url}status.json")) | wanted != status:
            assert time.monotonic() < deadline, status
            time.sleep(0.1)
        assert set(status["states"]) == {"source", "streams", "sink"}
        assert fetch_json(f"{url}rows.json") == {
            "columns": ["id", "name"],
            "rows": [[1, "<b>Ada</b>"], [2, "Grace"]],
        }
        kind, page = fetch(url)
        assert kind == "text/html; charset=utf-8"
        assert b"innerHTML" not in page
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"{url}nothing")
        for path in ("", "status.json", "rows.json", "../p.yaml", "nothing"):
            with pytest.raises(urllib.error.HTTPError, match="421"):
                fetch(url + path, Host="evil.example:80")
            for site in ("cross-site", "same-site"):
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    fetch(url + path, Sec_Fetch_Site=site)
        for path in ("../p.yaml", "%2e%2e/p.yaml", "/etc/passwd"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(url + path)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stderr) == (0, "")
    assert "3 in · 1 deduplicated · 2 out" in stdout


def test_the_page_runs_its_own_script_and_no_other() -> None:
    """The hash is checked by a browser; here, that there is nothing else that it would let in."""
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    for element in ("script", "style"):
        [content] = re.findall(f"<{element}>(.*?)</{element}>".encode(), PAGE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in POLICY
    assert not re.search(rb" on[a-z]+=| style=|javascript:|https?:", PAGE)


@pytest.mark.parametrize("address", ["nowhere", "0.0.0.0:0", "192.0.2.1:80", "[::]:0", "host:1"])
def test_an_address_that_is_none_or_not_of_this_machine_is_refused(
    tmp_path: Path, address: str
) -> None:
    (tmp_path / "in.csv").write_text("id\n1\n")
    (tmp_path / "p.yaml").write_text("p:\n  from: file:in.csv\n  to: sqlite:out.db?table=t\n")
    done = subprocess.run(
        [sys.executable, "-m", "ottla", "run", "p.yaml", "--web", address],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"--web {address} cannot be used" in done.stderr
