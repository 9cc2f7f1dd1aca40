"""A search that is killed goes on to the same winner: no trial lost, none run twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from paredown.core.store import Store

WORDS = ["find", "tiny.npz", "--floor", "0.8", "--trials", "6", "--seed", "3", "--json", "--quiet"]
QUICK = "import paredown.search.space as s; s.Measure.epochs = lambda self, effort: max(0.5, 3 * effort)\n"
"""Trainings of three epochs: the subject here is the log, not accuracy."""


@pytest.fixture
def folder(tmp_path):
    """A folder with a small task of vectors."""
    import numpy as np

    draw = np.random.default_rng(0)
    centres = draw.normal(size=(3, 6)) * 3
    y = np.arange(240) % 3
    np.savez(tmp_path / "tiny.npz", x=(centres[y] + draw.normal(size=(240, 6))).astype("float32"), y=y)
    return tmp_path


def start(folder, *more):
    code = QUICK + "from paredown.cli import main; main()"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *WORDS, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def finished(process):
    out, err = process.communicate(timeout=180)
    assert process.returncode in (0, 3), err
    return json.loads(out)


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def events(folder, run):
    return [json.loads(line) for line in (folder / run / "log").read_text().splitlines()]


def test_killed_at_random_moments_and_resumed_it_finds_the_same_winner(folder):
    whole = finished(start(folder, "--out", "whole"))
    draw = random.Random(1)
    kills, seen = 0, 0
    while seen < 11:
        process = start(folder, "--out", "killed", "--resume")
        wanted = seen + draw.randint(1, 4)
        while process.poll() is None and lines(folder / "killed" / "log") < wanted:
            time.sleep(0.005)
        time.sleep(0.05 * draw.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills, seen = kills + 1, max(wanted, lines(folder / "killed" / "log"))
    again = finished(start(folder, "--out", "killed", "--resume"))
    assert kills >= 3
    assert again["best"]["id"] == whole["best"]["id"]
    assert again["best"]["artifacts"][0]["sha256"] == whole["best"]["artifacts"][0]["sha256"]
    assert [r["id"] for r in again["frontier"]] == [r["id"] for r in whole["frontier"]]
    for run in ("whole", "killed"):
        asked = [e["number"] for e in events(folder, run) if e["event"] == "asked"]
        told = [e["number"] for e in events(folder, run) if e["event"] == "told"]
        assert asked == list(range(6)) and sorted(told) == list(range(6))


def test_a_log_cut_at_any_byte_is_mended(folder):
    whole = finished(start(folder, "--out", "run"))
    log = folder / "run" / "log"
    data = log.read_bytes()
    for cut in (len(data) - 1, len(data) - 40, len(data) // 2):
        log.write_bytes(data[:cut])
        (folder / "run" / "found.json").unlink()
        assert finished(start(folder, "--out", "run", "--resume"))["best"]["id"] == whole["best"]["id"]


def test_two_processes_on_one_folder_get_a_clear_line(folder):
    with Store(folder / "run"):
        _, err = (second := start(folder, "--out", "run", "--resume")).communicate(timeout=120)
    assert second.returncode == 2 and "in use by another process" in err and err.count("\n") == 1
    assert finished(start(folder, "--out", "run", "--resume"))["best"]


def test_a_finished_run_is_given_back_and_not_searched_further(folder):
    whole = finished(start(folder, "--out", "run"))
    (folder / "run" / "report.html").unlink()
    assert finished(start(folder, "--out", "run", "--resume")) == whole
    assert (folder / "run" / "report.html").exists()
    more = start(folder, "--out", "run", "--resume", "--trials", "9")
    _, err = more.communicate(timeout=120)
    assert more.returncode == 2 and "has met the test split" in err


def test_another_question_in_the_same_folder_is_refused(folder):
    finished(start(folder, "--out", "run"))
    other = start(folder, "--out", "run", "--resume", "--floor", "0.9")
    _, err = other.communicate(timeout=120)
    assert other.returncode == 2 and "another goal" in err
    again = start(folder, "--out", "run")
    _, err = again.communicate(timeout=120)
    assert again.returncode == 2 and "--resume" in err
