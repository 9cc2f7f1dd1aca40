"""Cards, kinds, knobs and work: what is refused at birth."""

from dataclasses import dataclass

import pytest

from paredown.core.catalog import Card, build, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work


@dataclass(frozen=True)
class Numbers:
    """Fields of several kinds."""

    bits: int = knob(8, among=range(2, 9))
    rate: float = knob(0.5, low=0.0, high=1.0)
    name: str = "x"
    maybe: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"bits": 9}, "one of 2, 3"), ({"bits": 4.0}, "float"), ({"bits": True}, "bool"), ({"rate": 1.5}, "from 0.0 to 1.0"),
        ({"rate": float("nan")}, "nan"), ({"rate": "high"}, "high"), ({"name": 3}, "str"), ({"maybe": "no"}, "int or NoneType"),
    ],
)  # fmt: skip
def test_fields_out_of_range_or_of_a_wrong_type_are_refused(fields, word):
    with pytest.raises(BadInput, match=word):
        Numbers(**fields)


def test_a_field_for_a_part_takes_parts_of_its_kind_only_and_their_names():
    named = build({"part": "prune.channels", "score": "score.l2"})
    assert named == build({"part": "prune.channels", "score": {"part": "score.l2"}})
    assert build({"part": "train.finetune", "habits": ["habit.slimming"]}).habits == (
        build({"part": "habit.slimming"}),
    )
    with pytest.raises(BadInput, match=r"Channels.score=saliency.snip is a Snip; it must be Score"):
        build({"part": "prune.channels", "score": "saliency.snip"})
    with pytest.raises(BadInput, match=r"Finetune.habits=score.l1 is a L1; it must be Habit"):
        build({"part": "train.finetune", "habits": [{"part": "score.l1"}]})
    with pytest.raises(BadInput, match=r"Channels.score=None is a NoneType; it must be Score"):
        build({"part": "prune.channels", "score": None})
    with pytest.raises(BadInput, match="did you mean"):
        build({"part": "prune.channels", "score": "score.11"})


def test_good_fields_pass_and_integers_stand_for_floats():
    assert Numbers(bits=2, rate=1, maybe=3).rate == 1


def test_a_part_must_be_frozen_and_of_one_kind():
    with pytest.raises(TypeError, match="frozen"):
        part("test.loose", Card(title="t"))(dataclass(type("Loose", (), {"apply": lambda self, net, work: net})))
    with pytest.raises(TypeError, match="no kind"):
        part("test.nothing", Card(title="t"))(dataclass(frozen=True)(type("Nothing", (), {})))
    both = type("Both", (), {"apply": lambda self, net, work: net, "of": lambda self, student, target, teacher: 0})
    with pytest.raises(TypeError, match="exactly one"):
        part("test.both", Card(title="t"))(dataclass(frozen=True)(both))


def test_cards_name_known_forms_and_costs_only():
    with pytest.raises(BadInput, match="speed"):
        Card(title="t", changes={"speed"})
    with pytest.raises(BadInput, match="tiny"):
        Card(title="t", gives={"tiny"})


def test_work_gives_only_what_the_card_names():
    work = Work({"calib": 1, "fit": 2}).scoped("a.step", {"calib"})
    assert work.use("calib") == 1
    with pytest.raises(PermissionError, match=r"a\.step"):
        work.use("fit")
    with pytest.raises(LookupError, match="magic"):
        work.use("magic")
    with pytest.raises(LookupError, match="none was given"):
        Work({}).scoped("a.step", {"calib"}).use("calib")


def test_what_was_left_alone_is_kept_with_its_step():
    work = Work({})
    work.scoped("a.step", ()).skip("conv1", "it is grouped")
    assert [n.to_json() for n in work.notes] == [{"step": "a.step", "layer": "conv1", "text": "it is grouped"}]
