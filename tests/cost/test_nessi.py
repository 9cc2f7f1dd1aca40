"""DCASE's counters: the organisers' layer tables, and their tool's own test."""

import pytest
import torch
from torch import nn

from contracts.nets import small_conv
from paredown.core.work import Work
from paredown.cost import nessi
from paredown.cost.counted import evidence
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid
from paredown.methods.prune.weights import Weights
from paredown.methods.quantize.uniform import Uniform


def baseline_2022() -> Net:
    """The baseline of 2022 with its norms folded, as the 8-bit file has it."""
    layers = [
        nn.Conv2d(1, 16, 7, padding=3), nn.ReLU(), nn.Conv2d(16, 16, 7, padding=3), nn.ReLU(), nn.MaxPool2d(5),
        nn.Conv2d(16, 32, 7, padding=3), nn.ReLU(), nn.MaxPool2d((4, 10)), nn.Flatten(), nn.Linear(64, 100), nn.ReLU(),
        nn.Linear(100, 10),
    ]  # fmt: skip
    return capture(nn.Sequential(*layers), torch.rand(2, 1, 40, 51))


TABLE_2022 = (1_599_360, 25_589_760, 32_000, 2_007_040, 2_560, 3_200, 1_000)


def test_the_layer_table_of_2022() -> None:
    """29,234,920 MACs; the dense layer counts 32 inputs, not the 64 that are flattened: a quirk of the tool."""
    assert tuple(nessi.count(baseline_2022(), quirk=True).values()) == TABLE_2022 and sum(TABLE_2022) == 29_234_920
    assert sum(nessi.count(baseline_2022()).values()) == 29_234_920 + 3_200


def test_the_layer_table_by_its_functions() -> None:
    by_hand = (
        nessi.convolution((7, 7), 1, 40 * 51, 16),
        nessi.convolution((7, 7), 16, 40 * 51, 16),
        nessi.max_pool(25, 8 * 10 * 16),
        nessi.convolution((7, 7), 16, 8 * 10, 32),
        nessi.max_pool(40, 2 * 1 * 32),
        nessi.dense(32, 100),
        nessi.dense(100, 10),
    )
    assert by_hand == TABLE_2022


def test_the_sizes_of_2022() -> None:
    """46,512 bytes: weights of one byte, biases of four."""
    net = Uniform(bits=8).apply(baseline_2022(), Work())
    assert nessi.param_bytes(net) == 46_512 and (nessi.weight_bits(net), nessi.weight_bits(baseline_2022())) == (8, 32)
    assert nessi.params(net) == nessi.params(baseline_2022()) == 45_816 + 174


def test_the_tools_own_test() -> None:
    """A depthwise 3 x 3 of 64 channels with a norm, 64 x 9 places: 704 parameters and 331,904 MACs."""
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.BatchNorm2d(64)).eval()
    net = capture(model, torch.rand(2, 64, 64, 9))
    assert tuple(nessi.count(net).values()) == (331_776, 128)
    assert (nessi.params(net), sum(nessi.count(net).values())) == (704, 331_904)


def baseline_2020() -> Net:
    """The convolutions and dense layers of the 2020 baseline, with norms that the size leaves out."""
    layers = [
        nn.Conv2d(1, 32, 7, padding=3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(5), nn.Conv2d(32, 64, 7, padding=3),
        nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d((4, 100)), nn.Flatten(), nn.Linear(128, 100), nn.ReLU(), nn.Linear(100, 3),
    ]  # fmt: skip
    return capture(nn.Sequential(*layers).eval(), torch.rand(2, 1, 40, 500))


def test_nonzero_sizes_of_2020() -> None:
    """115,219 values of four bytes are 450.07 KB; zeros and batch norms are free."""
    net = baseline_2020()
    assert nessi.nonzero_bytes(net) == 4 * (1_600 + 100_416 + 12_900 + 303) == 4 * 115_219
    assert round(nessi.nonzero_bytes(net) / 1024, 2) == 450.07
    assert nessi.params(net) == 115_219 + 2 * (32 + 64)
    pruned = Weights(sparsity=0.5).apply(net, Work())
    zeros = sum(int((pruned.slot(n)() == 0).sum()) for n, _ in pruned.weighted())
    assert nessi.nonzero_bytes(pruned) == nessi.nonzero_bytes(net) - 4 * zeros
    assert nessi.params(pruned) == nessi.params(net) and nessi.param_bytes(pruned) == nessi.param_bytes(net)


@pytest.mark.parametrize(
    ("slot", "size", "nonzero"),
    [
        (Grid(torch.tensor([[0, 1, -2, 0]]), torch.tensor(0.1), 3), 4, 2),
        (Grid(torch.tensor([[0, 1, -2, 0]]), torch.tensor(0.1), 9), 8, 4),
        (Codebook(torch.tensor([[0, 1, 2, 0]]), torch.tensor([0.0, 0.5, 1.0])), 4 + 12, 2 + 12),
    ],
    ids=["3 bits", "9 bits", "codebook"],
)
def test_codes_take_whole_bytes(slot: nn.Module, size: int, nonzero: int) -> None:
    net = capture(nn.Linear(4, 1, bias=False), torch.rand(2, 4))
    net.set_slot(net.slot_names()[0], slot)
    assert (nessi.param_bytes(net), nessi.nonzero_bytes(net)) == (size, nonzero)


def test_every_count_of_the_rules_at_once() -> None:
    found = evidence(small_conv())
    wanted = {"values_by_bits", "mults_by_bits", "adds_by_bits", "dots", "mask_bits", "uncounted", "params"}
    assert wanted | {"param_bytes", "nonzero_bytes", "macs", "macs_quirk", "weight_bits"} == set(found)
    assert found["params"] * 4 == found["param_bytes"] > found["nonzero_bytes"] > 0
