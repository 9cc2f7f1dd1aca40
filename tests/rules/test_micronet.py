"""MicroNet against the challenge's own examples and what entrants reported."""

import math

import pytest

from contracts.rule import RuleContract
from paredown.core.catalog import rule
from paredown.rules.micronet import MicroNet, accumulated_bits, adder_tree_bits

OSI_AI = {"values_by_bits": {32: 470_776}, "mults_by_bits": {32: 60_456_692}, "adds_by_bits": {32: 57_132_604}}


def scored(edition: str, numbers: dict, **settings: object):
    part = MicroNet(edition, **settings)
    return part.score(part.evidence.of(numbers))


class TestMicroNet(RuleContract):
    family = "micronet"

    def evidence(self):
        quality = {
            "imagenet": {"accuracy": 0.75},
            "cifar100": {"accuracy": 0.8003},
            "wikitext103": {"perplexity": 34.95},
        }
        return {edition: {**OSI_AI, **value} for edition, value in quality.items()}


def test_the_rules_pages_example() -> None:
    """Three million parameters and 500 million operations on ImageNet: 0.862."""
    three = {"values_by_bits": {32: 3e6}, "mults_by_bits": {32: 250e6}, "adds_by_bits": {32: 250e6}}
    found = scored("imagenet", three, freebie=False)
    assert round(found.total, 3) == 0.862 and found.total == pytest.approx(3 / 6.9 + 500 / 1170)


def test_osi_ai_before_pruning() -> None:
    found = scored("cifar100", OSI_AI)
    assert [round(v, 6) for v in found.terms.values()] == [0.006449, 0.008328]
    assert round(found.total, 6) == 0.014777


def test_osi_ai_with_early_exit() -> None:
    """0.003031 + 0.002753 at 80.03 %: means over the test set are fractions."""
    exits = {"values_by_bits": {32: 0.003031 * 36.5e6}, "mults_by_bits": {32: 0.002753 * 10.49e9}, "adds_by_bits": {}}
    found = scored("cifar100", {**exits, "accuracy": 0.8003}, freebie=False)
    assert round(found.total, 6) == 0.005784 and found.passes


RIAIR = {
    "tree": (0.100732, 0.150126),
    "int": (0.116038, 0.165433),
    "fp16": (0.113956, 0.163350),
    "fp32": (0.164937, 0.214332),
}


@pytest.mark.parametrize("how", RIAIR)
def test_riairs_four_totals(how: str) -> None:
    """Storage 0.049394 with each of the four operation scores (published to six decimals)."""
    operations, total = RIAIR[how]
    numbers = {
        "values_by_bits": {8: 0.049394 * 6.9e6 * 4},
        "mults_by_bits": {32: operations * 1170e6},
        "adds_by_bits": {},
    }
    found = scored("imagenet", numbers, accumulation=how)
    assert found.total == pytest.approx(total, abs=1.1e-6) and found.terms["storage"] == pytest.approx(0.049394)
    assert set(found.conventions) == set(RIAIR)


def brute_force_tree(widths: list[int]) -> int:
    """Add neighbours until one is left; a sum is as wide as the tree's level, and costs the level's width."""
    level, bits = widths[0], 0
    while len(widths) > 1:
        bits += level * (len(widths) // 2)
        level += 1
        widths = [level] * (len(widths) // 2) + widths[len(widths) - len(widths) % 2 :]
    return bits


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 17, 64, 1000])
@pytest.mark.parametrize("width", [3, 8, 15])
def test_ways_of_accumulating(length: int, width: int) -> None:
    assert adder_tree_bits(length, width) == brute_force_tree([width] * length)
    assert accumulated_bits(length, width, "fp32") == 2 * accumulated_bits(length, width, "fp16") == 32 * (length - 1)
    enough = (2**width * length - 1).bit_length()  # holds `length` numbers below 2^width
    assert accumulated_bits(length, width, "int") == (length - 1) * (width + math.ceil(math.log2(length)))
    assert width + math.ceil(math.log2(length)) >= enough - 1
    assert accumulated_bits(length, width, "tree") <= accumulated_bits(length, width, "int")


def test_integer_sums_cost_what_the_convention_says() -> None:
    """One layer of 4 x 4 bits: 100 sums of 9 products."""
    layer = {"values_by_bits": {4: 90}, "mults_by_bits": {4: 900}, "adds_by_bits": {32: 100}, "dots": [[9, 8, 100]]}
    found = scored("imagenet", layer, accumulation="int")
    assert found.amounts == {"parameters_32bit": 90 / 8, "operations_32bit": 900 / 8 + 100 + 100 * 8 * 12 / 32}
    tree = 100 * (4 * 8 + 2 * 9 + 10 + 11) / 32
    assert found.conventions["tree"] == pytest.approx(found.terms["storage"] + (900 / 8 + 100 + tree) / 1170e6)
    assert found.conventions["fp16"] < found.conventions["fp32"] and found.total == found.conventions["int"]


@pytest.mark.parametrize(
    ("change", "parameters", "operations"),
    [
        ({}, 50, 50 + 100),  # nothing is quantized: values and multiplications halve, additions never
        ({"mask_bits": 320}, 60, 150),  # the mask is stored as it is
        ({"values_by_bits": {32: 99, 8: 1}}, 99.25, 200),  # any part below 16 bits: no freebie anywhere
        ({"values_by_bits": {16: 100}}, 50, 150),  # 16 bits are what the freebie gives
        ({"mults_by_bits": {32: 99, 1: 1}}, 100, 99 + 1 / 32 + 100),  # a sign flipped is 1/32
        ({"mults_by_bits": {5: 100}}, 100, 100 * 5 / 32 + 100),  # 3 x 5 bits: five of 32
    ],
)
def test_the_freebie(change: dict, parameters: float, operations: float) -> None:
    numbers = {"values_by_bits": {32: 100}, "mults_by_bits": {32: 100}, "adds_by_bits": {32: 100}}
    found = scored("imagenet", {**numbers, **change})
    assert found.amounts == {"parameters_32bit": parameters, "operations_32bit": operations}


@pytest.mark.parametrize(
    ("edition", "name", "enough", "short"),
    [
        ("imagenet", "accuracy", 37_500 / 50_000, 37_499 / 50_000),
        ("cifar100", "accuracy", 8_000 / 10_000, 7_999 / 10_000),
        ("wikitext103", "perplexity", 35.0, 35.0001),
    ],
)
def test_thresholds_are_hard(edition: str, name: str, enough: float, short: float) -> None:
    assert scored(edition, {**OSI_AI, name: enough}).passes is True
    assert scored(edition, {**OSI_AI, name: short}).passes is False
    assert scored(edition, OSI_AI).passes is None


def test_what_could_not_be_counted_is_said() -> None:
    found = scored("imagenet", {**OSI_AI, "uncounted": ["fft"]})
    assert "not counted: fft" in found.notes and rule("micronet.imagenet") == MicroNet()
