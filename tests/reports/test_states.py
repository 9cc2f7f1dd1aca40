"""The page in every state of a run folder."""

import json
import shutil

import pytest

from paredown.core.errors import BadInput
from paredown.reports.page import write_report


def asked_with(folder, **goal):
    asked = json.loads((folder.path / "asked.json").read_text())
    asked["goal"].update(goal)
    folder.write("asked.json", asked)


def test_a_run_that_reached_its_floor_says_so_with_its_numbers(folder, shown):
    page = shown(folder.searched().found().winner())
    assert page.all("h1")[0]["text"] == "pets: 321 bytes, floor 0.9 reached"
    assert "95 % interval 0.9112 to 0.9512, n = 300" in page.text
    for said in ("Floor reached", "0.9312", "Chosen among 2 candidates", "0.9123"):
        assert said in page.text
    assert "the test value itself is at or above the floor" in page.text
    assert "0.9112, is as well" in page.text


def test_the_weaker_sense_is_told_when_the_interval_reaches_below_the_floor(folder, shown):
    page = shown(folder.searched().found(test=0.91).winner())
    assert "0.8900, is below it, so a fresh sample could fall short" in page.text


def test_the_sense_of_confidence_is_told(folder, shown):
    asked_with(folder.searched().found(), confidence=0.95)
    assert "meant in the sense of confidence" in shown(folder).text
    asked_with(folder, confidence=0.99)
    assert "99 % was asked for, 95 % is stored" in shown(folder).text


def test_a_run_that_missed_says_why_with_evidence_and_what_to_try_before_all_else(folder, shown):
    why = "capacity or training: larger candidates do better; the best found is 0.8712; try a larger --budget"
    page = shown(folder.searched().found(reached=False, test=0.8712, why=why))
    assert "floor 0.9 not reached; best found 0.8712 in 321 bytes" in page.all("h1")[0]["text"]
    assert "What limits it: capacity or training" in page.text
    headings = [e["text"] for e in page.elements if e["tag"] in ("h2", "h3")]
    assert headings[:4] == ["Why the floor was not reached", "Evidence", "What to try", "Frontier"]
    advice = [e["text"] for e in page.all("li") if e["text"].startswith("try")]
    assert advice == ["try a larger --budget"]
    assert "0.0288 short of the floor" in page.text
    assert all(part in page.text for part in why.split("; ")[1:])


def test_a_reason_in_another_shape_is_shown_whole(folder, shown):
    assert "nobody knows" in shown(folder.searched().found(reached=False, why="nobody knows")).text


def test_a_missed_run_without_any_result_has_a_page(folder, shown):
    folder.asked().log(0, "0" * 12, told=False)
    why = "no candidate has a result: too short; give a larger --budget"
    page = shown(folder.found(best=None, reached=False, why=why))
    assert "no candidate has a result" in page.all("h1")[0]["text"]
    assert "give a larger --budget" in [e["text"] for e in page.all("li")]


def test_an_interrupted_run_shows_what_leads_and_how_to_go_on(folder, shown):
    page = shown(folder.searched().log(3, "f" * 12, told=False))
    assert page.all("h1")[0]["text"] == "pets: not finished"
    assert "3 of 4 trials asked for have a result" in page.text
    assert "not chosen, not tested" in page.text
    assert "321 bytes" in page.text
    assert f"--out {folder.path} --resume" in page.text
    assert not page.all("section", id="answers")


def test_a_run_that_has_only_begun_has_a_page(folder, shown):
    page = shown(folder.asked())
    assert "0 of 0 trials" in page.text
    assert "nothing to draw" in page.text


def test_a_run_resumed_after_its_conclusion_says_that_the_conclusion_is_old(folder, shown):
    assert "holds 1 more finished trials" in shown(folder.searched().found(trials=2)).text


def test_an_applied_recipe_has_no_floor(folder, shown):
    folder.asked(searcher="", goal={"floor": 0.0, "minimize": "file_bytes", "limits": {}, "confidence": None})
    folder.candidate(1, 321, 0.951, trial=False).found(baseline=None, floor=None, trials=1, chosen=None).winner()
    page = shown(folder)
    assert page.all("h1")[0]["text"] == "pets: 321 bytes at accuracy 0.9312"
    assert "One recipe, measured" in page.text
    assert not page.all("line", **{"class": "floor"})
    assert "Chosen among" not in page.text
    assert "Go on with it" not in page.text


def test_a_moved_folder_finds_its_files(folder, shown, tmp_path):
    folder.searched().found().winner()
    shutil.copytree(folder.path, tmp_path / "moved")
    folder.path = tmp_path / "moved"
    page = shown(folder)
    assert [a["attrs"]["href"] for a in page.all("a") if "best" in a["attrs"]["href"]] == ["best.pdn", "best.onnx"]
    assert page.text.count("on disk, checksum right") == 2


def test_without_winner_json_all_else_is_there(folder, shown):
    page = shown(folder.searched().found())
    assert not page.all("section", id="answers")
    assert page.all("section", id="files")


def test_without_the_candidates_the_conclusion_still_stands(folder, shown):
    page = shown(folder.asked().found().winner())
    assert "321 bytes, floor 0.9 reached" in page.text
    assert page.all("section", id="files")


def test_a_missed_run_whose_best_is_above_the_floor_names_the_limit(folder, shown):
    page = shown(folder.searched().found(reached=False, why="limit: no candidate keeps macs=10; try a larger macs"))
    assert "a limit is exceeded" in page.text
    assert "best found" in page.all("aside", id="panel")[0]["text"].lower()


def test_a_second_winner_after_resuming_is_owned_up_to(folder, shown):
    page = shown(folder.searched().found())
    assert "this one alone has met the test split" in page.text
    folder.candidate(2, 400, 0.94, trial=False, test=folder.quality(0.92, 300, "test"))
    assert "met by 2 candidates" in shown(folder).text


def test_a_choice_among_none_is_told_so(folder, shown):
    chosen = {"among": 0, "expected": 0.8, "probability": 0.96, "how": "nothing reached the floor"}
    page = shown(folder.searched().found(reached=False, test=0.85, why="data: thin", chosen=chosen))
    assert "No candidate is at or above the floor on validation." in page.text
    assert "above the floor; it is not." in page.text


def test_files_that_cannot_be_read_are_named_and_the_rest_is_shown(folder, shown):
    folder.searched().found().write("winner.json", "{").write(f"candidates/{0:012x}/result.json", "[]")
    page = shown(folder)
    assert "What could not be read" in page.text
    assert "winner.json is not JSON" in page.text
    assert "result.json holds list" in page.text
    assert "321 bytes" in page.text


def test_a_log_cut_short_by_a_kill_is_read_to_its_last_whole_line(folder, shown):
    folder.searched()
    with (folder.path / "log").open("a") as out:
        out.write('{"event": "ask')
    page = shown(folder)
    assert "3 of 3 trials" in page.text
    assert "could not be read" not in page.text


def test_a_folder_without_a_question_is_refused(folder):
    with pytest.raises(BadInput, match=r"asked\.json"):
        write_report(folder.path)
    assert not list(folder.path.iterdir())


def test_failed_candidates_say_why(folder, shown):
    page = shown(folder.searched().candidate(4, 0, 0.5, val={}, failed="step 2 needs a thin network").found())
    assert "1 candidate failed" in page.text
    assert "step 2 needs a thin network" in page.text
    assert page.panels[f"{4:012x}"]["failed"] == "step 2 needs a thin network"


def test_hard_limits_are_held_against_the_winner(folder, shown):
    folder.searched().found()
    asked_with(folder, limits={"ram_bytes": 2000, "macs": 5000})
    rows = [e["text"] for e in shown(folder).all("tr")]
    assert "peak activation memory2,000 bytes2,304 bytesexceeded" in rows
    assert "multiply-accumulates5,0001,269kept" in rows


def test_a_run_from_python_gets_a_command_for_the_terminal(folder, shown):
    page = shown(folder.asked(command="ipykernel -f x.json", model="my nets/tiny.py:net").candidate(0, 600, 0.97))
    assert "paredown find pets --model 'my nets/tiny.py:net' --floor 0.9" in page.text
    assert "started from Python" in page.text
