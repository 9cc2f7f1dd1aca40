"""The section of sensitivity curves: drawn on one scale, as the stored notes have them; what is no curve is passed over."""

import pytest

from paredown.core.work import Curve, Note, Work
from paredown.reports import curves


def note(layer, points, taken=0.25, step="prune.sensitivity", of="the error on validation"):
    curve = Curve("the share of its channels that goes", of, points, taken)
    return Note(step, layer, f"{layer} <b>says</b>", curve).to_json()


STEM = note("stem.weight", ((0.0, 0.02), (0.5, 0.1), (0.9, 0.42)))
HEAD = note("wide.weight", ((0.0, 0.02), (0.5, 0.02), (0.9, 0.03)), taken=0.8)
ALONE = {"step": "prune.channels", "layer": "head.weight", "text": "returned by the network"}


@pytest.fixture
def page(folder, shown):
    made = folder.searched().found().winner()
    made.write(f"candidates/{1:012x}/notes.json", {"notes": [ALONE, STEM, HEAD]})
    return shown(made)


def test_each_layer_has_its_curve_and_its_numbers(page):
    assert "What each layer can lose" in page.text
    drawn = [e for e in page.all("polyline") if e["inside"][-2:] == ["li", "svg"]]
    assert len(drawn) == 2 and all(len(e["attrs"]["points"].split()) == 3 for e in drawn)
    assert [e["text"] for e in page.all("h4") if "weight" in e["text"]] == ["stem.weight", "wide.weight"]
    for number in ("0.4200", "0.0300", "90 %", "25 %", "80 %"):
        assert number in page.text, number
    assert "<b>says</b>" not in page.html.split('id="panels"')[0] and "the share of its channels that goes" in page.text


def test_curves_are_not_said_to_be_left_alone(page):
    left = page.text.split("Left alone")[1].split("Data")[0]
    assert "head.weight" in left and "stem.weight" not in left
    assert [line for line in page.panels[f"{1:012x}"]["notes"]] == [
        "head.weight: returned by the network (prune.channels)"
    ]


def test_without_curves_there_is_no_section(folder, shown):
    assert "What each layer can lose" not in shown(folder.searched().found()).text


def test_all_are_on_one_scale_and_a_mark_stands_at_what_was_taken():
    (scan,) = curves.view([STEM, ALONE, HEAD])
    stem, wide = scan.drawn
    assert (scan.low, scan.high, scan.step) == ("0.02", "0.42", "prune.sensitivity")
    bottom, top = curves.HEIGHT - curves.BOTTOM, curves.TOP
    assert stem.dots[0] == (curves.LEFT, bottom) and stem.dots[2] == pytest.approx((curves.WIDTH - curves.RIGHT, top))
    assert wide.dots[2][1] == pytest.approx(bottom - 0.01 / 0.4 * (bottom - top))
    across = curves.WIDTH - curves.LEFT - curves.RIGHT
    assert stem.taken == pytest.approx(curves.LEFT + across * 0.25 / 0.9)
    assert scan.rows[1] == ("wide.weight", "0.0200", "0.0200", "0.0300", "80 %")


def test_two_scans_are_apart_and_what_cannot_be_drawn_is_passed_over():
    other = note("stem.weight", ((0.0, 1.0), (0.5, float("inf")), (0.9, 2.0)), of="the cross-entropy on calibration")
    broken = [{**ALONE, "curve": wrong} for wrong in (None, [], {"points": 3}, {"points": [[1], "ab"]}, {})]
    first, again, third = curves.view([*broken, STEM, HEAD, STEM, other])
    assert (len(first.drawn), len(again.drawn), len(third.drawn)) == (2, 1, 1)
    assert len(third.drawn[0].dots) == 2 and third.heads == ("Layer", "0 %", "90 %", "Taken")
    flat = curves.view([note("a", ((0.0, 0.1), (0.5, 0.1)), taken=None)])[0]
    assert flat.drawn[0].taken == curves.LEFT


def test_a_note_without_a_curve_is_as_it_was():
    work = Work().scoped("prune.channels", ())
    work.skip("a", "b")
    work.show("c", "d", Curve("x", "y", ((0.0, 1.0),), 0.5))
    plain, shown = (one.to_json() for one in work.notes)
    assert plain == {"step": "prune.channels", "layer": "a", "text": "b"}
    assert shown["curve"] == {"along": "x", "of": "y", "points": ((0.0, 1.0),), "taken": 0.5}
