"""What the tests run in processes of their own: `python -m tests.streams.program SETTINGS`.

SETTINGS is JSON: name, bootstrap_servers, state_dir, input, slow_ms, and options for App. It counts
per key, counts per key and window, sums over a repartition, and drops duplicates; every 13th record
fails, and every record takes slow_ms.
Prints its metrics as a line of JSON when it ends.
"""

import json
import logging
import sys
import time
from typing import Any

from ottla.client import ClientError
from ottla.streams import App, Count, StreamsError, Sum, Tumbling

WINDOW_MS = 1_000
FAILING = 13
KEYS = 7


def build(settings: dict[str, Any]) -> App:
    """The application, with topics named after it."""
    name = settings["name"]
    app = App(
        name,
        settings["bootstrap_servers"],
        state_dir=settings["state_dir"],
        errors="dead_letter",
        **settings.get("options", {}),
    )
    stream = app.stream(settings["input"], timestamp=lambda v: v["at"])
    if settings["slow_ms"]:
        stream = stream.peek(lambda v: time.sleep(settings["slow_ms"] / 1000))
    good = stream.map_values(check)
    by_key = good.group_by_key()
    by_key.count("per-key").current().to(f"{name}-counts")
    windows = by_key.windowed(Tumbling(WINDOW_MS, grace=0)).agg(
        "windows", n=Count(), total=Sum("n")
    )
    windows.final().to(f"{name}-windows")
    good.dedupe("seen", key=lambda v: v["n"], window=WINDOW_MS * 3600).to(f"{name}-seen")
    groups = good.group_by(lambda v: f"g{v['n'] % 3}", "group")
    groups.agg("groups", n=Count(), total=Sum("n")).current().to(f"{name}-groups")
    return app


def check(value: dict[str, int]) -> dict[str, int]:
    if value["n"] % FAILING == 0:
        raise ValueError("unlucky")
    return value


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    app = build(json.loads(sys.argv[1]))
    print("starting", flush=True)
    try:
        app.run()
    except (StreamsError, ClientError) as refused:
        sys.exit(f"{type(refused).__name__}: {refused}")
    finally:
        print(json.dumps(app.metrics()), flush=True)


if __name__ == "__main__":
    main()
