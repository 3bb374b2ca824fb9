"""The demo itself: real flights, every part killed, compared with the original file."""

import os
import subprocess
import sys


def test_the_demo_is_exact_and_leaves_nothing_behind(tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.flights.demo", "--seed", "11", "--kills", "12"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("rows lost", "rows doubled", "sums that differ"):
        [line] = [line for line in done.stdout.splitlines() if name in line]
        assert line.split()[-2] == "0"
    assert os.listdir(str(tmp_path)) == []
