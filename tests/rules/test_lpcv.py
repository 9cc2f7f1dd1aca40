"""LPCV: each formula by hand, its hinges, and that better evidence never scores less."""

import math

import pytest

from contracts.rule import RuleContract
from paredown.core.catalog import rule
from paredown.core.errors import BadInput
from paredown.rules.lpcv import frontier_percent, per_time

LINE = {"slope": 10.0, "offset": 20.0}
EVIDENCE = {
    "2015": {"accuracy": 0.1, "energy_wh": 2.0, "minutes": 9, "images": 20_000},
    "2018": {"accuracy": 0.6, "runtime_ms": 3_000.0, "images": 50},
    "2019_classification": {"quality_percent": 65.0, "latency_ms": 25.0, **LINE},
    "2019_detection": {"quality_percent": 25.0, "latency_ms": 80.0, **LINE},
    "2020_detection": {"quality_percent": 24.0, "latency_ms": 30.0},
    "2021": {"accuracy": 0.5, "energy_wh": 0.5},
    "2023": {"mean_dice": 0.5, "mean_s": 0.01},
    "dac_sdc_2022": {"energy_j": 1024.0, "iou": 0.7, "fps": 30.0},
}


def judged(edition: str, **change: object):
    part = rule(f"lpcv.{edition}")
    return part.score(part.evidence.of({**EVIDENCE[edition], **change}))


class TestLpcv(RuleContract):
    family = "lpcv"

    def evidence(self):
        return EVIDENCE


@pytest.mark.parametrize(
    ("edition", "total"),
    [("2015", 0.05), ("2018", 0.6 / 3000), ("2021", 1.0), ("2023", 50.0), ("dac_sdc_2022", 10.0)],
)
def test_by_hand(edition: str, total: float) -> None:
    assert judged(edition).total == pytest.approx(total)


def test_the_frontier_of_april_2020() -> None:
    """The natural logarithm gives 23.04 mAP at 30 ms."""
    assert round(frontier_percent(30.0, 16.894553358968146, -34.42191514521174), 2) == 23.04
    found = judged("2020_detection")
    assert round(found.total, 2) == 0.96 and found.passes and found.unverified == ("logarithm",)
    assert judged("2020_detection", latency_ms=30.01).passes is False
    assert judged("2019_detection", latency_ms=100.0).passes and not judged("2019_detection", latency_ms=101.0).passes
    with pytest.raises(BadInput, match="slope and offset"):
        judged("2019_detection", slope=None)


def test_the_hinge_of_2018() -> None:
    """Below 30 ms an image nothing more is gained; above, the score falls as the time grows."""
    assert per_time(0.6, 1, 50, 30) == per_time(0.6, 1500, 50, 30) == 0.6 / 1500
    assert per_time(0.6, 1501, 50, 30) < per_time(0.6, 1500, 50, 30)
    assert per_time(0.6, 3000, 50, 30) == per_time(0.6, 1500, 50, 30) / 2


def test_ten_minutes_on_site() -> None:
    assert judged("2015", minutes=10).passes and not judged("2015", minutes=10.1).passes
    assert judged("2015", minutes=None).passes is None


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"iou": 0.8}, 1.0),  # no more is gained beyond 0.7
        ({"iou": 0.6}, 0.5),
        ({"iou": 0.52}, 0.1),  # never below a tenth
        ({"iou": 0.0}, 0.1),
        ({"fps": 300.0}, 1.0),  # no more is gained beyond 30 frames a second
        ({"fps": 15.0}, 0.5),
        ({"energy_j": 32.0}, 2.0),
    ],
)
def test_the_hinges_of_dac_sdc(change: dict, factor: float) -> None:
    assert judged("dac_sdc_2022", **change).total == pytest.approx(10.0 * factor)


BETTER = {"accuracy": 1, "mean_dice": 1, "quality_percent": 1, "iou": 1, "fps": 1}
WORSE = {"energy_wh": 1, "runtime_ms": 1, "latency_ms": 1, "mean_s": 1, "energy_j": 1}


@pytest.mark.parametrize("edition", EVIDENCE)
def test_more_quality_never_costs_and_more_energy_or_time_never_pays(edition: str) -> None:
    for name, start in EVIDENCE[edition].items():
        if name not in {**BETTER, **WORSE}:
            continue
        values = [judged(edition, **{name: start * factor}).total for factor in (0.2, 0.5, 0.9, 1.0, 1.1, 1.4)]
        assert all(map(math.isfinite, values))
        assert values == sorted(values, reverse=name in WORSE), (name, values)
