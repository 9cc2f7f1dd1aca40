"""MicroNet's counter: the organisers' networks from layer lists and from captured ones, and small cases by hand."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.work import Work
from paredown.cost.micronet import (
    Tally,
    activation,
    add,
    block_mask_bits,
    convolution,
    count,
    depthwise,
    fully_connected,
    global_average,
    permutation,
    product_bits,
    scale,
    side,
    together,
    uncounted,
)
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid, Masked
from paredown.methods.prune.weights import Weights
from paredown.methods.quantize.uniform import Uniform
from paredown.zoo.resolve import network

REFERENCE = (6.9e6, 1170e6)
B0 = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))  # fmt: skip
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
V2_WIDE = ((1, 24, 1, 1), (6, 32, 2, 2), (6, 48, 3, 2), (6, 88, 4, 2), (6, 136, 3, 1), (6, 224, 3, 2), (6, 448, 1, 1))


def convolved(size: int, kernel: int, inside: int, outside: int, stride: int, act: str, s: float) -> Tally:
    """A convolution, its folded norm and its activation."""
    places = side(size, kernel, stride) ** 2
    cost = convolution(places, kernel, inside, outside, s)
    return cost + (activation(act, places * outside) if act else Tally())


def efficientnet(s: float = 0.0, quirk: bool = False) -> Iterator[Tally]:
    """EfficientNet-B0 at 224 as a list of layers; quirk: residual additions of the expanded channels."""
    yield convolved(224, 3, 3, 32, 2, "silu", s)
    size, inside = 112, 32
    for expansion, kernel, outside, blocks, stride in B0:
        for at in range(blocks):
            step, hidden, middle = stride if at == 0 else 1, inside * expansion, max(1, inside // 4)
            if expansion > 1:
                yield convolved(size, 1, inside, hidden, 1, "silu", s)
            places = side(size, kernel, step) ** 2
            yield depthwise(places, kernel, hidden, s) + activation("silu", places * hidden)
            yield global_average(places, hidden)
            yield fully_connected(hidden, middle, s) + activation("silu", middle)
            yield fully_connected(middle, hidden, s) + activation("sigmoid", hidden)
            yield scale(places * hidden)
            size = side(size, kernel, step)
            yield convolved(size, 1, hidden, outside, 1, "", s)
            if step == 1 and inside == outside:
                yield add(size * size * (hidden if quirk else outside))
            inside = outside
    yield convolved(size, 1, inside, 1280, 1, "silu", s)
    yield global_average(size * size, 1280) + fully_connected(1280, 1000, s)


def mobilenet(stages: tuple, stem: int, last: int, s: float = 0.0) -> Iterator[Tally]:
    """MobileNetV2 at 224 as a list of layers."""
    yield convolved(224, 3, 3, stem, 2, "relu", s)
    size, inside = 112, stem
    for expansion, outside, blocks, stride in stages:
        for at in range(blocks):
            step, hidden = stride if at == 0 else 1, inside * expansion
            if expansion > 1:
                yield convolved(size, 1, inside, hidden, 1, "relu", s)
            places = side(size, 3, step) ** 2
            yield depthwise(places, 3, hidden, s) + activation("relu", places * hidden)
            size = side(size, 3, step)
            yield convolved(size, 1, hidden, outside, 1, "", s)
            if step == 1 and inside == outside:
                yield add(size * size * outside)
            inside = outside
    yield convolved(size, 1, inside, last, 1, "relu", s)
    yield global_average(size * size, last) + fully_connected(last, 1000, s)


LISTS = {
    "efficientnet_b0": (efficientnet, {}),
    "mobilenet_v2": (lambda s=0.0: mobilenet(V2, 32, 1280, s), {}),
    "mobilenet_v2 1.4": (lambda s=0.0: mobilenet(V2_WIDE, 48, 1792, s), {"width": 1.4}),
}
FP32, FREEBIE = (32, 32, 32), (16, 16, 32)
ROWS = [
    ("efficientnet_b0", 0.0, FP32, 5_267_540, 801_173_936, 1.448176),
    ("efficientnet_b0", 0.0, FREEBIE, 2_633_770, 597_862_342, 0.892699),
    ("efficientnet_b0", 0.5, FREEBIE, 1_488_353, 308_501_278, 0.479380),
    ("efficientnet_b0", 0.9, FREEBIE, 441_114.6, 77_012_426.8, 0.129752),
    ("efficientnet_b0", 0.0, (8, 8, 32), 1_316_885, 496_206_545, 0.614961),
    ("efficientnet_b0", 0.0, (8, 8, 16), 1_316_885, 298_931_171, 0.446350),
    ("mobilenet_v2", 0.0, FP32, 3_487_816, 607_933_440, 1.025082),
    ("mobilenet_v2", 0.0, FREEBIE, 1_743_908, 454_492_768, 0.641196),
    ("mobilenet_v2 1.4", 0.0, FP32, 6_084_808, 1_173_537_008, 1.884879),
    ("mobilenet_v2 1.4", 0.0, FREEBIE, 3_042_404, 878_060_736, 1.191407),
]
RAW = {
    ("efficientnet_b0", 0.0): (406_623_188, 394_550_748),
    ("efficientnet_b0", 0.5): (213_715_812, 201_643_372),
    ("efficientnet_b0", 0.9): (59_389_911.2, 47_317_471.2),
    ("mobilenet_v2", 0.0): (306_881_344, 301_052_096),
    ("mobilenet_v2 1.4", 0.0): (590_952_544, 582_584_464),
}


@pytest.fixture(scope="module")
def captured() -> dict[str, Net]:
    """The three networks of the zoo, captured."""
    specs = {name: {"model": name.split()[0], **settings} for name, (_, settings) in LISTS.items()}
    return {name: network(spec, (3, 224, 224), 1000) for name, spec in specs.items()}


@pytest.mark.parametrize("way", ["layer list", "captured"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_worked_rows(captured, way: str, row: tuple) -> None:
    name, s, bits, parameters, operations, score = row
    found = together(LISTS[name][0](s) if way == "layer list" else count(captured[name], s).values())
    assert found.charged(*bits) == pytest.approx((parameters, operations), rel=1e-12)
    assert (found.mults, found.adds) == pytest.approx(RAW[name, s], rel=1e-12)
    assert sum(n / of for n, of in zip(found.charged(*bits), REFERENCE, strict=True)) == pytest.approx(score, abs=5e-7)


def test_dense_networks_have_their_own_zeros_only(captured) -> None:
    for name, net in captured.items():
        assert together(count(net).values()) == together(count(net, 0.0).values()), name
        assert uncounted(net) == []


@pytest.mark.parametrize(
    ("s", "printed"),
    [
        (0.0, (10.535, 203.312, 395.601, 598.913)),
        (0.5, (5.953, 106.858, 202.694, 309.552)),
        (0.9, (1.764, 29.695, 48.368, 78.063)),
    ],
)
def test_the_notebooks_quirk(s: float, printed: tuple) -> None:
    """Its reader books each residual addition with the expanded channels: 395,601,308 additions when dense."""
    found = together(efficientnet(s, quirk=True))
    megabytes, mults = int(found.values * 16 + found.mask_bits) / 8e6, found.mults / 2e6
    assert tuple(round(v, 3) for v in (megabytes, mults, found.adds / 1e6, mults + found.adds / 1e6)) == printed
    assert s or found.adds == 395_601_308


@pytest.mark.parametrize(("s", "megabytes"), [(0.0, 10.535080), (0.5, 5.953412), (0.9, 1.764458)])
def test_storage_of_efficientnet_in_megabytes(s: float, megabytes: float) -> None:
    found = together(efficientnet(s))
    assert round(int(found.values * 16 + found.mask_bits) / 8e6, 6) == megabytes


def test_wide_resnet_has_the_cifar_references_operations() -> None:
    """36.5 M parameters and 10.49 G operations normalise CIFAR-100; the exact build has 36,536,884 parameters."""
    net = network({"model": "wide_resnet"}, (3, 32, 32), 100)
    found = together(count(net).values())
    assert found.values == pytest.approx(36.5e6, rel=2e-3) and found.mults + found.adds == pytest.approx(
        10.49e9, rel=2e-3
    )


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "same", "out"),
    [(224, 3, 2, True, 112), (7, 7, 1, True, 7), (8, 3, 1, False, 6), (8, 2, 2, True, 5), (9, 4, 2, False, 3)],
)
def test_sides(size: int, kernel: int, stride: int, same: bool, out: int) -> None:
    assert side(size, kernel, stride, same) == out


def test_masks_permutations_and_signs() -> None:
    assert block_mask_bits((512, 128), (4, 4)) == 4096 and block_mask_bits((5, 3), (4, 4)) == 2
    shuffle = permutation(49, 16)
    assert (shuffle.values, shuffle.mask_bits, shuffle.mults, shuffle.adds) == (16, 256, 784, 0)
    assert (product_bits(3, 5), product_bits(32, 8), product_bits(1, 32, signs=True)) == (5, 32, 1)


def test_a_sum_of_tallies_keeps_widths_and_dots_apart() -> None:
    one = Tally({8: 2, 32: 1}, {8: 4}, {32: 3}, {(9, 16): 5}, 7)
    two = one + Tally({8: 1}, {16: 1}, {}, {(9, 16): 1, (4, 8): 2}, 1)
    assert two == Tally({8: 3, 32: 1}, {8: 4, 16: 1}, {32: 3}, {(9, 16): 6, (4, 8): 2}, 8)
    assert (two.values, two.mults, two.adds) == (4, 5, 3 + 6 * 8 + 2 * 3)
    assert two.to_json()["dots"] == [[9, 16, 6], [4, 8, 2]]


def brute_force(net: Net) -> int:
    """Return how many products of a nonzero weight and a value the layers form, padding included, one by one."""
    total, shapes = 0, net.shapes()
    for slot, node in net.weighted():
        weight = net.slot(slot)()
        places = torch.tensor(shapes[node.name]).prod() // weight.shape[0]
        total += sum(int(places) for entry in weight.detach().flatten().tolist() if entry != 0)
    return total


def layers(net: Net) -> Tally:
    names = {node.name for _, node in net.weighted()}
    return together(cost for name, cost in count(net).items() if name in names)


def test_pruned_weights_are_values_and_a_mask_and_are_not_multiplied() -> None:
    net = Weights(sparsity=0.6).apply(fold_batchnorm(small_conv())[0], Work())
    found, weights = layers(net), [net.slot(name) for name, _ in net.weighted()]
    kept = sum(int(w().count_nonzero()) for w in weights)
    biases = sum(net.slot(n).value.numel() for n in net.slot_names() if n.endswith("bias"))
    assert found.values_by_bits == {32: kept + biases} and found.mask_bits == sum(w().numel() for w in weights)
    assert found.mults == brute_force(net) < layers(small_conv()).mults


def test_few_zeros_are_cheaper_stored_dense() -> None:
    """At 8 bits a mask pays from one zero in eight; below that nothing is gained, and all products count."""
    weight = torch.ones(4, 16)
    net = capture(nn.Linear(16, 4, bias=False), torch.rand(2, 16))
    name = net.slot_names()[0]
    for zeros, values, mask in ((8, 64, 0), (9, 55, 64)):
        codes = weight.clone().flatten()
        codes[:zeros] = 0
        net.set_slot(name, Grid(codes.view(4, 16), torch.tensor(0.5), 8))
        found = together(count(net).values())
        assert found.values_by_bits == {8: values, 32: 1} and found.mask_bits == mask
        assert found.mults_by_bits == {32: values + 4}  # by float values, and the step once an output


def test_integers_are_summed_as_dots_of_their_own_lengths() -> None:
    net = Uniform(bits=4, activation_bits=8).apply(small_mlp(), Work({"calib": (inputs_for(small_mlp(), 8)[0], None)}))
    found = layers(net)
    assert {width for _, width in found.dots} == {12}
    assert sum(length * times for (length, _), times in found.dots.items()) == found.mults_by_bits[8]
    assert found.mults_by_bits[32] == 32 + 16 + 10 and found.adds_by_bits == {32: 32 + 16 + 10}


def test_weights_of_two_opposite_values_flip_signs() -> None:
    net = capture(nn.Linear(6, 3, bias=False), torch.rand(2, 6))
    name = net.slot_names()[0]
    codes = torch.tensor([[0, 1] * 3] * 3)
    net.set_slot(name, Codebook(codes, torch.tensor([-0.5, 0.5])))
    assert together(count(net).values()).mults_by_bits == {1: 18, 32: 3}
    net.set_slot(name, Codebook(codes, torch.tensor([-0.5, 0.25])))
    assert together(count(net).values()).mults_by_bits == {32: 18}


class Pieces(nn.Module):
    """A norm that folds, one that does not, a shared weight, a pooling and an activation of the full convention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fold, self.stay = (
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.BatchNorm2d(4),
        )
        self.same = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stay(torch.relu(self.fold(self.conv(x)))))
        return self.same(torch.tanh(self.same(nn.functional.max_pool2d(y, 4).flatten(1))))


def test_norms_shared_weights_and_operators_that_the_reference_lacks() -> None:
    net = capture(Pieces().eval(), torch.rand(2, 2, 4, 4))
    found, outputs = count(net), 4 * 16
    by_op = {node.op: found.get(node.name) for node in net.spec.nodes}
    assert found[net.spec.nodes[0].name] == Tally({32: 72 + 4}, {32: 18 * outputs}, {32: 18 * outputs}) + Tally()
    assert len([n for n in net.spec.nodes if n.op == "batch_norm" and n.name in found]) == 1
    kept = by_op["batch_norm"]
    assert kept is not None and (kept.values, kept.mults, kept.adds) == (8, outputs, outputs)
    assert by_op["max_pool2d"] == Tally({}, {32: 15 * 4}, {32: 0}) and by_op["tanh"].mults == 4
    assert together(found.values()).values == 72 + 4 + 8 + 20
    name, node = next(net.weighted())
    net.set_slot(name, Masked(net.slot(name)().detach(), torch.zeros(4, 2, 3, 3)))
    assert count(net)[node.name].mults == 0
