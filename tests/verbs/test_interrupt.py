"""Ctrl-C in a terminal: one line that says how to go on, exit code 130, and the run goes on from there."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path


def started(folder: Path, *words: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "paredown",
        "find",
        "digits",
        "--floor",
        "0.5",
        "--out",
        str(folder / "run"),
        *words,
    ]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  (what a shell starts with & ignores it)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)  # noqa: PLW1509


def test_ctrl_c_says_how_to_go_on_and_resume_does(tmp_path: Path) -> None:
    process = started(tmp_path, "--trials", "40")
    log = tmp_path / "run" / "log"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 130, said
    assert "go on with --resume" in said and "Traceback" not in said

    again = started(tmp_path, "--trials", "2", "--resume", "--json", "--quiet")
    out, said = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert json.loads(out)["trials"] == 2
