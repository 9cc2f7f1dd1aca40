"""The section "Why did accuracy drop?": what stands there equals the stored diagnosis; without one it is silent or says why."""

import json

import pytest

from paredown import drop as terminal
from paredown.core.diagnosis import (
    ActivationError,
    Cause,
    Diagnosis,
    Gain,
    LayerError,
    Stage,
    Undone,
)  # fmt: skip
from paredown.core.errors import BadInput
from paredown.reports import drop


def gain(accuracy, share):
    return Gain(accuracy, accuracy - 0.01, accuracy + 0.01, 200, 12, 2, -0.2, -0.1 * share, share)


def diagnosis(**more):
    ways = (
        Undone("one step for each channel", gain(0.031, 0.85), 28),
        Undone("its float weights", gain(0.032, 0.9), 4000),
    )
    base = {
        "split": "val", "n": 200, "float_accuracy": 0.97, "accuracy": 0.93, "whole": gain(0.04, 1.0), "dropped": True,
        "verdict": "Accuracy fell from 0.9700 to 0.9300 <i>on</i> 200 samples.", "divergence": 0.1,
        "layers": (
            LayerError("stem", "conv2d", "conv2d", "first layer", 80, 8, 1, 30.25, 12.5, 12.5, 0.05, (-1.0, 1.5), (-1.6, 1.6), 0.012,
                       40, 256, 776.4, 0.25, 0.31, 0.2),
            LayerError("head", "linear", "linear", "last layer", 120, 8, 4, None, None, -3.5, unlike="the float network has no such layer"),
        ),
        "activations": (ActivationError("relu", "relu_quantized", "head", 4, 21.0, 9.0, 0.01, (0.0, 3.0), (0.0, 2.5), 0.02, 16, 16, 5.0),),
        "causes": (
            Cause("channel_ranges", "stem", "stem: one step for 8 channels whose ranges differ 776 times", "edit.equalize", ways),
            Cause("few_levels", "relu", "values from relu: 4 bits are few", "more bits"),
        ),
        "halves": (Undone("all weights in float", gain(0.04, 0.97), 5000),),
        "together": (Stage("stem: one step for each channel", 0.961, 0.015, 28), Stage("relu: float values", 0.97, 0.0, 28)),
        "unmeasured": 3, "notes": ("head: the float network has no such layer; it is left out",),
    }  # fmt: skip
    return Diagnosis(**{**base, **more})


@pytest.fixture
def page(folder, shown):
    made = folder.searched().found().winner()
    made.write(f"candidates/{1:012x}/diagnosis.json", diagnosis().to_json())
    return shown(made)


def test_the_winners_causes_stand_on_the_page_with_their_numbers(page):
    text = page.text
    assert "Why did accuracy drop?" in text and "Causes, the largest measured gain first" in text
    assert "1. stem: one step for 8 channels whose ranges differ 776 times" in text and "Try: edit.equalize" in text
    assert "+0.0310" in text and "85 %" in text and "+28" in text and "2. values from relu: 4 bits are few" in text
    assert "not measured" in text and "3 further suspects were not measured" in text
    assert "0.9610" in text and "15.0 %" in text and "all weights in float" in text
    for number in ("30.2", "12.5", "40 of 256", "776×", "25.0 %", "0.31", "1.2 %", "16 of 16"):
        assert number in text, number
    assert "<i>on</i>" in text and "&lt;i&gt;on&lt;/i&gt;" in page.html


def test_the_drawing_has_a_bar_for_every_layer_and_quantizer_in_order(page):
    assert len(page.all("svg", **{"class": "decibels"})) == 2  # wide and narrow
    rows = [
        e for e in page.elements if e["tag"] == "g" and e["attrs"].get("class", "").split()[:1] in (["layer"], ["flow"])
    ]
    assert [e["text"].split(":")[0].strip() for e in rows[:3]] == ["stem", "relu", "head"] and len(rows) == 6
    assert rows[0]["attrs"]["class"].split() == ["layer", "low"] and rows[1]["attrs"]["class"].split() == ["flow"]
    lines = drop.bars(drop.ordered(diagnosis().to_json()), 720, 150).lines
    scale = (720 - 62 - 150) / 40
    assert lines[0].bar == pytest.approx(150 + 12.5 * scale, abs=0.1) and lines[1].mark == pytest.approx(
        150 + 9 * scale, abs=0.1
    )
    assert lines[2].mark == 150 and lines[2].text == "–"


def test_nothing_dropped_is_said_plainly(folder, shown):
    made = folder.searched().found()
    calm = diagnosis(
        dropped=False, verdict="Nothing dropped beyond the noise.", causes=(), together=(), unmeasured=0, notes=()
    )
    made.write(f"candidates/{1:012x}/diagnosis.json", calm.to_json())
    text = shown(made).text
    assert "Nothing dropped beyond the noise." in text and "Causes" not in text


def test_without_a_diagnosis_the_page_says_why_or_nothing(folder, shown):
    made = folder.searched().found()
    assert "Why did accuracy drop?" not in shown(made).text
    made.found(undiagnosed="nothing in it is quantized")
    assert "This was not looked into: nothing in it is quantized." in shown(made).text


@pytest.mark.parametrize("broken", ["{", '{"schema": "paredown/diagnosis/1"}', '{"schema": "other"}', "[]"])
def test_a_broken_diagnosis_is_named_and_the_rest_stands(folder, shown, broken):
    made = folder.searched().found()
    made.write(f"candidates/{1:012x}/diagnosis.json", broken)
    text = shown(made).text
    assert "What could not be read" in text and "diagnosis" in text and "321 bytes" in text
    with pytest.raises(BadInput):
        Diagnosis.of_json({"schema": "paredown/diagnosis/1"})


def test_the_best_way_is_the_cheapest_of_those_that_give_most():
    cause = diagnosis().causes[0]
    assert cause.best is cause.undone[0] and diagnosis().to_json()["causes"][0]["best"] == 0
    weak = Cause("k", "l", "t", "r", (Undone("a", gain(0.01, 0.5)), Undone("b", gain(0.02, 0.9))))
    assert weak.best is weak.undone[1] and diagnosis().causes[1].best is None
    assert Diagnosis.of_json(json.loads(json.dumps(diagnosis().to_json()))) == diagnosis()


def test_the_terminal_says_the_same():
    document = {"diagnosis": json.loads(json.dumps(diagnosis().to_json()))}
    said = "\n".join(terminal.lines(document))
    assert (
        "1. stem: one step for 8 channels" in said and "undone with one step for each channel: accuracy +0.0310" in said
    )
    assert "+28 bytes uncoded" in said and "3 further suspects" in said and "one after the other" in said
    assert terminal.table(document["diagnosis"]).row_count == 3
    assert terminal.lines({"diagnosis": None, "undiagnosed": "no steps"}) == ["why accuracy dropped: no steps"]
    assert terminal.lines({"diagnosis": None, "undiagnosed": None}) == []
