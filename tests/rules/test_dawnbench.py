"""DAWNBench: the README's own samples, first crossings, costs."""

import pytest

from contracts.rule import RuleContract
from paredown.core.catalog import rule
from paredown.core.errors import BadInput
from paredown.rules.dawnbench import DawnBench, first_crossing, rows

SQUAD = """epoch   hours f1Score
1     0.7638888888888888      0.5369029640999999
2     1.5238381305555557      0.6606892943
3     2.2855751       0.700419426
4     3.0448481305555557      0.7229908705
5     3.806446388888889       0.731013
6     4.5750864       0.7370445132
7     5.346703258333334       0.7413719296
"""
CIFAR = "epoch\thours\ttop1Accuracy\n1\t0.5\t70.1\n2\t1.0\t94.0\n3\t1.5\t93.2\n4\t2.0\t94.4\n"
IMAGENET = "epoch hours top1Accuracy top5Accuracy\n1 1.0 94.0 92.99\n2 2.5 70.0 93.0\n"
SLOW = {"total_s": 434.5, "quality": 94.45, "dollars_per_hour": 0.90}


def judged(edition: str, **numbers: object):
    part = rule(f"dawnbench.{edition}")
    return part.score(part.evidence.of(numbers))


class TestDawnBench(RuleContract):
    family = "dawnbench"

    def evidence(self):
        return {
            "cifar10_training": {"log": CIFAR},
            "imagenet_training": {"log": IMAGENET},
            "squad_training": {"log": SQUAD, "dollars_per_hour": 0.9},
            "cifar10_inference": {**SLOW, "samples": 10_000},
            "imagenet_inference": {**SLOW, "samples": 50_000},
            "squad_inference": {**SLOW, "quality": 0.75, "samples": 10_570},
        }


def test_the_readmes_squad_sample_crosses_at_its_fifth_epoch() -> None:
    row = first_crossing(rows(SQUAD), "f1Score", 0.73)
    assert row is not None and (row["epoch"], row["f1Score"], row["hours"]) == (5, 0.731013, 3.806446388888889)
    found = judged("squad_training", log=SQUAD, dollars_per_hour=0.9)
    assert found.passes and found.terms == {"hours": row["hours"], "dollars": pytest.approx(3.4258)}


def test_another_log_of_that_network() -> None:
    """A made log whose fifth epoch is the first at or above the threshold, after 3.7639 h."""
    log = "epoch\thours\tf1Score\n4\t3.0111\t0.7229908705\n5\t3.7639\t0.731013\n6\t4.5167\t0.7370445132\n"
    assert judged("squad_training", log=log).total == 3.7639


def test_the_first_crossing_counts_although_the_curve_falls_again() -> None:
    assert judged("cifar10_training", log=CIFAR).total == 1.0
    assert judged("imagenet_training", log=IMAGENET).total == 2.5  # top-5, not top-1
    missed = judged("cifar10_training", log=CIFAR.replace("94", "93"))
    assert missed.total is None and missed.passes is False and missed.checks[0].value == 93.4


def test_latency_and_cost_of_one_image() -> None:
    found = judged("cifar10_inference", **SLOW, samples=10_000)
    assert found.terms == {"latency_ms": pytest.approx(43.45), "dollars": pytest.approx(0.90 * 0.04345 / 3600)}
    assert found.passes and judged("cifar10_inference", total_s=1, samples=10_000, quality=93.99).passes is False
    with pytest.raises(BadInput, match="samples=9999 is not allowed; this edition times all 10,000"):
        judged("cifar10_inference", **SLOW, samples=9_999)


def test_time_or_cost_may_be_the_total() -> None:
    part = DawnBench("cifar10_training", rank="cost")
    assert part.score(part.evidence.of({"log": CIFAR, "dollars_per_hour": 3.0})).total == 3.0
    assert part.score(part.evidence.of({"log": CIFAR})).total is None


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "the log is empty"),
        ("epoch hours top1Accuracy\n", "the log is empty"),
        (
            "epoch hours top1Accuracy\n1 0.5\n",
            "line 2, '1 0.5', has not a number for each of epoch, hours, top1Accuracy",
        ),
        ("epoch hours top1Accuracy\n1 0.5 high\n", "line 2"),
        ("epoch hours f1Score\n1 0.5 0.7\n", "no column 'top1Accuracy'; it has epoch, hours, f1Score"),
        ("epoch top1Accuracy\n1 99\n", "no column 'hours'"),
    ],
)
def test_logs_that_cannot_be_read(log: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        judged("cifar10_training", log=log)
