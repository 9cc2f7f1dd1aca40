"""Goal: what may be minimised and limited, and what may not."""

import json

import pytest

from paredown.core.errors import BadInput
from paredown.core.goal import AVAILABLE, Goal, check_cost_name, parse_limits


def test_a_goal_survives_json() -> None:
    goal = Goal(0.97, "macs", {"ram_bytes": 32_000.0}, 0.95)
    assert Goal(**json.loads(json.dumps(goal.to_json()))) == goal
    assert Goal(0.9) == Goal(0.9, "file_bytes", {}, None)


@pytest.mark.parametrize("what", AVAILABLE)
def test_every_available_cost_can_be_minimised(what: str) -> None:
    assert Goal(0.5, what).minimize == what


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"minimize": "size"}, "'size' cannot be minimised or limited; allowed: file_bytes"),
        ({"minimize": "flash_bytes"}, "'flash_bytes' is not available in this version yet"),
        ({"minimize": "score:micronet"}, "rule 'micronet' is unknown; did you mean micronet."),
        ({"minimize": "score:lpcv.2018"}, "needs accuracy, runtime_ms, images, which counting does not give"),
        ({"limits": {"speed": 1}}, "'speed' cannot be minimised or limited"),
        ({"limits": {"ram_bytes": 0}}, "limit ram_bytes=0 must be a number above zero"),
        ({"limits": {"ram_bytes": float("inf")}}, "limit ram_bytes=inf"),
        ({"confidence": 95}, "confidence 95 is outside 0.5 to 1"),
        ({"confidence": 1.0}, "confidence 1.0 is outside"),
    ],
)
def test_a_goal_that_cannot_be(changes: dict, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        Goal(0.97, **changes)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_limits_as_people_write_them() -> None:
    got = parse_limits(["ram_bytes=32KiB", "macs = 2M", "latency_ms=5ms"])
    assert got == {"ram_bytes": 32768, "macs": 2_000_000, "latency_ms": 5}
    assert parse_limits([]) == {}


@pytest.mark.parametrize("text", ["ram_bytes", "ram_bytes:3", "ram_bytes=", "speed=3", "macs=-1", "macs=many"])
def test_limits_that_cannot_be(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_limits([text])
    assert text.partition("=")[0].strip() in str(caught.value) and "\n" not in str(caught.value)


def test_a_cost_name_is_checked_alone() -> None:
    check_cost_name("macs")
    with pytest.raises(BadInput):
        check_cost_name("")
