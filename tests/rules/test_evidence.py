"""Evidence and rule books: what is asked for, what is refused, and that none of it wakes torch."""

import subprocess
import sys

import pytest

from paredown.core.catalog import rule, rules
from paredown.core.errors import BadInput
from paredown.core.score import Check, Constant, Score
from paredown.rules.book import Book
from paredown.rules.evidence import Evidence, counted, ranking


class Example(Evidence):
    """A little of everything."""

    size_bytes: int = counted(ge=0)
    macs: int = counted("macs_quirk", default=0)
    energy_wh: float
    accuracy: float | None = ranking(ge=0, le=1)
    remark: str = ""


def test_what_is_wanted_is_said_in_words() -> None:
    assert Example.wanted() == {
        "size_bytes": "counted",
        "macs": "counted",
        "energy_wh": "needed",
        "accuracy": "for a total",
        "remark": "if known",
    }
    assert Example.required() == ["size_bytes", "energy_wh"] and Example.measured() == ["energy_wh", "accuracy"]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({}, "c.json lacks size_bytes and energy_wh; it must have size_bytes and energy_wh"),
        ({"size_bytes": 1}, "c.json lacks energy_wh"),
        ({"size_bytes": 1, "energy_wh": 1, "bytes": 2}, "unknown bytes; allowed: size_bytes, macs, energy_wh"),
        ({"size_bytes": -1, "energy_wh": 1}, "c.json: size_bytes=-1: "),
        ({"size_bytes": 1, "energy_wh": float("nan")}, "c.json: energy_wh=nan: "),
        ({"size_bytes": 1, "energy_wh": 1, "accuracy": 97}, "c.json: accuracy=97: "),
        (3, "c.json holds 3; it must be an object with size_bytes and energy_wh"),
    ],
)
def test_bad_evidence_gets_one_line(numbers: object, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        Example.of(numbers, "c.json")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_counts_are_taken_by_their_own_names_and_the_rest_is_left() -> None:
    found = Example.within({"size_bytes": 3, "macs": 10, "macs_quirk": 7, "energy_wh": 2, "other": 1})
    assert (found.size_bytes, found.macs, found.energy_wh) == (3, 7, 2.0)
    with pytest.raises(ValueError, match="frozen"):
        found.macs = 1


def test_a_score_passes_when_every_check_holds() -> None:
    def score(*holds: bool | None) -> Score:
        return Score("a", "b", {}, 1.0, tuple(Check("c", 1, "<= 1", h) for h in holds))

    assert score().passes is True and score(True, True).passes is True
    assert score(True, None).passes is None and score(None, False).passes is False
    marked = Score("a", "b", {}, 1.0, constants=(Constant("k", 1, "here", True), Constant("m", 2, "memory", False)))
    assert marked.unverified == ("m",)


def test_an_edition_has_its_own_constants_over_the_shared_ones() -> None:
    clause = {"clause": "somewhere", "verified": True}
    editions = {"x": {"about": "x", "constants": {"a": {"value": 2, **clause}}}, "y": {"about": "y", "constants": {}}}
    book = Book(title="t", source="s", year=2000, shared={"a": {"value": 1, **clause}}, editions=editions)
    assert (book["x"]["a"], book["y"]["a"], book["x"].get("b", 7)) == (2, 1, 7)


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    for name in ("micronet.cifar10", "dcase.2019", "micronet", "loss.cross_entropy", ""):
        with pytest.raises(BadInput, match=r"rule .* is unknown; did you mean"):
            rule(name)
    assert rule("micronet.cifar100").edition == "cifar100" and len(rules()) >= 28


def test_rules_wake_no_torch() -> None:
    code = (
        "from paredown.core.catalog import rule; import sys; r = rule('dcase.2020');"
        "r.score(r.evidence.of({'nonzero_bytes': 1, 'accuracy': 0.9})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
