"""The run folder: whole files, one owner, a log that survives a kill at any byte."""

import json

import pytest

from paredown.core.artifact import Artifact
from paredown.core.candidate import Candidate, Result
from paredown.core.errors import BadInput, Busy
from paredown.core.metric import Quality
from paredown.core.recipe import Recipe
from paredown.core.store import Store, write_whole


def test_a_log_cut_at_every_byte_keeps_all_whole_lines(tmp_path):
    events = [{"event": "asked", "number": n, "text": "é" * n} for n in range(4)]
    with Store(tmp_path) as store:
        for event in events:
            store.append(event)
    data = (tmp_path / "log").read_bytes()
    for cut in range(len(data)):
        (tmp_path / "log").write_bytes(data[:cut])
        with Store(tmp_path) as store:
            kept = list(store.events())
            store.append({"event": "after"})
        assert kept == events[: data[:cut].count(b"\n")]
        with Store(tmp_path) as store:
            assert list(store.events())[-1] == {"event": "after"}


def test_a_log_edited_in_the_middle_is_refused(tmp_path):
    (tmp_path / "log").write_text('{"event": "asked"}\nnonsense\n{"event": "told"}\n')
    with Store(tmp_path) as store, pytest.raises(BadInput, match="line 2"):
        list(store.events())


def test_one_process_at_a_time(tmp_path):
    with Store(tmp_path), pytest.raises(Busy, match="in use"), Store(tmp_path):
        pass
    with Store(tmp_path):
        pass


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_candidates_and_results_come_back(tmp_path):
    candidate = Candidate({"model": "dense", "widths": [4]}, Recipe.of_json([{"part": "quantize.uniform"}]), 3, "abc")
    quality = Quality("accuracy", "val", 0.9, 0.8, 0.95, 100)
    artifact = Artifact("packed", "x.pdn", 10, "00", {"weights": 10}, 0, 100, quality)
    result = Result(
        candidate.id,
        10,
        quality,
        None,
        (artifact,),
        {"macs": 5},
        {"latency_ms": 0.1},
        ({"step": "a"},),
        ({"name": "b"},),
        1.5,
    )
    with Store(tmp_path) as store:
        store.save(candidate, result, [])
        assert store.candidate(candidate.id) == candidate and store.candidate(candidate.id).id == candidate.id
        assert store.result(candidate.id) == result
        assert store.result("0000") is None
        assert result.amount("macs") == 5 and result.amount("latency_ms") == 0.1 and result.amount("file_bytes") == 10
        for unknown in ("0000", "../../etc", ""):
            with pytest.raises(BadInput, match="no candidate"):
                store.candidate(unknown)
    assert all(json.loads(p.read_text())["schema"] for p in tmp_path.glob("candidates/*/*.json"))
