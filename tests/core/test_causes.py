"""A cause's best undoing is the cheapest that gives most of what there is to give."""

import pytest

from paredown.core.diagnosis import Cause, Gain, Undone


def way(what: str, share: float) -> Undone:
    """Return an undoing that takes away a share of the divergence."""
    return Undone(what, Gain(0.0, 0.0, 0.0, 100, 0, 0, 0.0, -share, share))


@pytest.mark.parametrize(
    ("shares", "best"),
    [([0.5, 0.6, 0.9], 2), ([0.5, 0.75, 0.9], 1), ([0.9, 0.2], 0), ([-0.3, -0.2], 1), ([-0.2], 0), ([0.0, -0.1], 0)],
)
def test_the_cheapest_of_nearly_the_best_is_taken(shares: list[float], best: int) -> None:
    cause = Cause("few_bits", "a", "", "", tuple(way(str(at), share) for at, share in enumerate(shares)))
    assert cause.best is cause.undone[best]


def test_what_was_not_measured_has_no_best() -> None:
    assert Cause("few_bits", "a", "", "").best is None
