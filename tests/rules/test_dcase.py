"""DCASE Task 1: the organisers' and the winners' own numbers, and the limits to the byte."""

import pytest

from contracts.rule import RuleContract
from paredown.core.catalog import rule
from paredown.core.errors import BadInput
from paredown.rules.dcase import BOOK, kilobytes, ranks, weighted_rank

SIZE = {"param_bytes": 122_296, "macs": 29_419_156}
BASELINE = {"5": 0.4240, "10": 0.4529, "25": 0.5029, "50": 0.5319, "100": 0.5699}


def judged(edition: str, **numbers: object):
    part = rule(f"dcase.{edition}")
    return part.score(part.evidence.of(numbers))


class TestDcase(RuleContract):
    family = "dcase"

    def evidence(self):
        return {
            "2020": {"nonzero_bytes": 115_219 * 4, "accuracy": 0.895},
            "2021": {"nonzero_bytes": 46_246 * 2, "log_loss": 1.473},
            "2022": {"params": 46_512, "macs": 29_234_920, "log_loss": 1.532},
            "2023": {**SIZE, "accuracy": 0.5, "systems": [{**SIZE, "accuracy": 0.6}]},
            "2024": {**SIZE, "accuracy_by_subset": BASELINE},
            "2025": {**SIZE, "accuracy": 0.5},
        }


@pytest.mark.parametrize(
    ("edition", "size_bytes", "kb", "digits"),
    [
        ("2020", 115_219 * 4, 450.07, 2),  # the baseline's layer table
        ("2020", 247_552 * 2, 483.5, 1),  # Koutini b_2, 16 bits
        ("2020", 3_987_000 / 8, 486.7, 1),  # McDonnell "3M", one bit
        ("2021", 46_246 * 2, 90.32, 2),  # the baseline
        ("2024", 61_148 * 2, 122.296, 3),  # CP-Mobile
    ],
)
def test_published_sizes(edition: str, size_bytes: float, kb: float, digits: int) -> None:
    assert round(kilobytes(size_bytes, BOOK[edition]), digits) == kb


@pytest.mark.parametrize(
    ("edition", "name", "most"),
    [
        ("2020", "nonzero_bytes", 512_000),
        ("2021", "nonzero_bytes", 131_072),
        ("2022", "params", 128_000),
        ("2022", "macs", 30_000_000),
        ("2022", "weight_bits", 8),
        ("2023", "param_bytes", 128_000),
        ("2023", "macs", 30_000_000),
        ("2024", "param_bytes", 128_000),
        ("2025", "macs", 30_000_000),
    ],
)
def test_limits_hold_to_the_unit(edition: str, name: str, most: int) -> None:
    rest = {key: 0 for key in rule(f"dcase.{edition}").evidence.required()}
    assert judged(edition, **{**rest, name: most}).passes is True
    assert judged(edition, **{**rest, name: most + 1}).passes is False


def test_the_baselines_pass_and_122296_bytes_are_within_128_kb() -> None:
    assert judged("2022", params=46_512, macs=29_234_920, log_loss=1.532).passes
    found = judged("2024", **SIZE, accuracy_by_subset=BASELINE)
    assert found.passes and found.higher_is_better and found.total == pytest.approx(sum(BASELINE.values()) / 5)


def test_without_its_metric_an_edition_checks_sizes_but_has_no_total() -> None:
    found = judged("2021", nonzero_bytes=5)
    assert found.total is None and found.passes and "no total" in found.notes[0]
    assert judged("2024", **SIZE, accuracy_by_subset={"5": 0.5}).total is None


def test_the_best_submitted_system_counts_in_each_subset() -> None:
    two = {name: [value, value - 0.1] for name, value in BASELINE.items()}
    assert (
        judged("2024", **SIZE, accuracy_by_subset=two).total
        == judged("2024", **SIZE, accuracy_by_subset=BASELINE).total
    )
    with pytest.raises(BadInput, match=r"'15'; the subsets are 5, 10, 25, 50, 100"):
        judged("2024", **SIZE, accuracy_by_subset={"15": 0.5})


def test_weighted_ranks_of_2023() -> None:
    own = {"accuracy": 0.58, "param_bytes": 20_000, "macs": 5_000_000}
    others = [
        {"accuracy": 0.60, "param_bytes": 100_000, "macs": 29_000_000},
        {"accuracy": 0.55, "param_bytes": 10_000, "macs": 4_000_000},
        {"accuracy": 0.58, "param_bytes": 30_000, "macs": 5_000_000},
    ]
    assert weighted_rank(own, others, BOOK["2023"]) == {"accuracy": 0.5 * 2, "param_bytes": 0.25 * 2, "macs": 0.25 * 2}
    found = judged("2023", **own, systems=others)
    assert found.total == 2.0 and not found.higher_is_better and "rank_weights" in found.unverified
    assert ranks([3, 1, 2, 1], higher_is_better=False) == [4, 1, 3, 1]
    assert judged("2023", **SIZE, accuracy=0.5).total is None


def test_limits_of_2025_hold_for_each_devices_model() -> None:
    large = {"a": {"param_bytes": 128_001, "macs": 1}}
    found = judged("2025", **SIZE, accuracy=0.5, devices=large)
    assert found.passes is False and [c.what for c in found.checks if not c.holds] == ["param_kb of device a"]
