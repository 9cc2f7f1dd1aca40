"""MLPerf Tiny: targets, divisions, and latency."""

import pytest

from contracts.rule import RuleContract
from paredown.core.catalog import rule

RUNS = {"latencies_ms": [12.0, 10.0, 11.0, 10.5, 30.0]}
QUALITY = {
    "keyword_spotting": ({"accuracy": 0.90}, {"accuracy": 0.8999}),
    "visual_wake_words": ({"accuracy": 0.80}, {"accuracy": 0.79}),
    "image_classification": ({"accuracy": 0.85}, {"accuracy": 0.84}),
    "anomaly_detection": ({"auc": 0.85}, {"auc": 0.849}),
    "streaming_wakeword": ({"false_positives": 8, "false_negatives": 8}, {"false_positives": 9, "false_negatives": 0}),
}


def judged(task: str, **numbers: object):
    part = rule(f"mlperf_tiny.{task}")
    return part.score(part.evidence.of(numbers))


class TestMlperfTiny(RuleContract):
    family = "mlperf_tiny"

    def evidence(self):
        return {task: {**RUNS, **enough, "differences": []} for task, (enough, _) in QUALITY.items()}


@pytest.mark.parametrize("task", QUALITY)
def test_targets_of_the_closed_division(task: str) -> None:
    enough, short = QUALITY[task]
    assert judged(task, **RUNS, **enough, differences=[]).passes is True
    assert judged(task, **RUNS, **short, differences=[]).passes is False
    assert judged(task, **RUNS, differences=[]).passes is None


@pytest.mark.parametrize("task", QUALITY)
def test_the_open_division_asks_only_that_the_quality_is_reported(task: str) -> None:
    _, short = QUALITY[task]
    assert judged(task, **RUNS, **short, division="open").passes is True
    assert judged(task, **RUNS, division="open").passes is False


def test_the_closed_division_asks_for_the_references_weights() -> None:
    found = judged("keyword_spotting", **RUNS, accuracy=0.95, differences=["fc: 3 of 9 weights: pruned"])
    assert found.passes is False and "pruned" in str(found.to_json()["checks"])
    assert judged("keyword_spotting", **RUNS, accuracy=0.95).passes is None


def test_the_score_is_the_median_over_at_least_five_runs() -> None:
    found = judged("keyword_spotting", **RUNS, accuracy=0.95, differences=[], energies_uj=[3.0, 5.0, 4.0])
    assert found.total == 11.0 and found.amounts == {"energy_uj": 4.0} and not found.higher_is_better
    few = judged("keyword_spotting", latencies_ms=[1.0] * 4, accuracy=0.95, differences=[])
    assert few.passes is False and few.unverified == ("least_runs",)
    assert judged("keyword_spotting", accuracy=0.95, differences=[]).total is None
