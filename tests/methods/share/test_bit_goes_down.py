"""Shared vectors that keep what a layer makes."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for, small_conv
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.clusters import shared_vectors
from paredown.graph.net import Net
from paredown.graph.vectors import VectorCodebook
from paredown.methods.share.bit_goes_down import (
    BitGoesDown,
    assigned,
    block_moments,
    em,
    fitted,
    output_error,
    places_first,
    split_empty,
    storage_bytes,
)  # fmt: skip
from paredown.methods.share.product_quantization import Product


class TestBitGoesDown(StepContract):
    def part(self) -> BitGoesDown:
        return BitGoesDown(4, length=2, rounds=10)

    def settings(self) -> list[BitGoesDown]:
        return [BitGoesDown(4096, 2, 16, 10_000, "stacked")]


class TestStacked(StepContract):
    def part(self) -> BitGoesDown:
        return BitGoesDown(3, kernels=2, rounds=10, activations="stacked")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(places: int, length: int) -> Tensor:
    """Return products of inputs that differ much in size and go together."""
    x = draw(places, 40, length, seed=9) * torch.logspace(0, 1, length) @ draw(length, length, seed=8)
    return x.transpose(1, 2) @ x / 40


def test_the_e_step_by_brute_force() -> None:
    blocks, weighed, centroids = draw(3, 20, 4), moments(3, 4), draw(6, 4, seed=2)
    found = assigned(blocks, weighed, centroids)
    for p in range(3):
        for v in range(20):
            costs = [float((blocks[p, v] - c) @ weighed[p] @ (blocks[p, v] - c)) for c in centroids]
            assert costs[int(found[p, v])] == pytest.approx(min(costs))


def test_the_m_step_is_least_squares() -> None:
    """Against torch's solver on the stacked √M (v − c); with one matrix of full rank for all it is the mean."""
    blocks, weighed = draw(3, 20, 4), moments(3, 4)
    codes = assigned(blocks, weighed, blocks[0, :5].clone())
    found = fitted(blocks, weighed, codes, draw(5, 4, seed=3))
    roots = torch.linalg.cholesky(weighed).transpose(1, 2)
    for k in range(5):
        at = (codes == k).nonzero()
        left = torch.cat([roots[p] for p, _ in at])
        right = torch.cat([roots[p] @ blocks[p, v] for p, v in at])
        assert torch.allclose(found[k], torch.linalg.lstsq(left, right[:, None]).solution[:, 0], atol=1e-6)
    same = fitted(blocks, weighed[:1].expand(3, -1, -1), codes, draw(5, 4, seed=3))
    assert torch.allclose(same[2], blocks[codes == 2].mean(0), atol=1e-8)


def test_directions_that_no_input_has_do_not_break_the_m_step() -> None:
    weighed = torch.zeros(2, 3, 3, dtype=torch.float64)
    weighed[0, 0, 0] = 1.0
    _codes, centroids, errors = em(draw(2, 10, 3), weighed, 3, 20)
    assert torch.isfinite(centroids).all() and errors[-1] <= errors[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_objective_never_rises(seed: int) -> None:
    """A-S0-31."""
    blocks = draw(6, 50, 4, seed=seed)
    _, _, errors = em(blocks, moments(6, 4), 16, 100, seed)
    assert len(errors) > 3 and errors[-1] < errors[0]
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(errors))


def test_an_empty_cluster_goes_beside_the_largest() -> None:
    centroids, codes = draw(4, 2), torch.tensor([[0, 1, 1], [1, 0, 3]])
    out = split_empty(codes, centroids, torch.Generator().manual_seed(0), 1e-8)
    assert torch.equal(out[[0, 1, 3]], centroids[[0, 1, 3]])
    assert 0 < (out[2] - centroids[1]).abs().max() < 1e-6


def correlated() -> tuple[Net, Tensor]:
    """Return a linear layer and inputs, a few of whose directions are most of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = capture(nn.Linear(32, 64, bias=False), torch.rand(2, 32)).eval()
    mixed = torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) * 0.3 + torch.eye(32)
    x = torch.randn(512, 32, generator=torch.Generator().manual_seed(2)) * torch.logspace(0.5, -1.5, 32)
    return net, x @ mixed


@pytest.mark.parametrize("activations", ["place", "stacked"])
def test_outputs_are_nearer_and_weights_further_off(activations: str) -> None:
    """A-S0-31: below k-means of the weights in output error, above it in weight error."""
    net, x = correlated()
    part = BitGoesDown(32, length=4, activations=activations)
    mine = part.apply(net, Work({"calib": (x, None)}))
    plain = Product(4, 32).apply(net, Work())
    weight = net.slot("weight")()
    with torch.no_grad():
        outputs = [float((other(x) - net(x)).square().mean()) for other in (mine, plain)]
        weights = [float((other.slot("weight")() - weight).square().mean()) for other in (mine, plain)]
    assert outputs[0] < (0.9 if activations == "place" else 1.0) * outputs[1], outputs
    assert weights[0] >= weights[1]


def test_its_moments_are_those_of_the_unrolled_input() -> None:
    net = small_conv()
    node = dict(net.weighted())["wide.weight"]
    x = torch.rand(6, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    found = block_moments(node, x, (3, 3), 9)
    laid = nn.functional.unfold(x, 3, padding=1).double().transpose(1, 2).reshape(-1, 8, 9)
    assert torch.allclose(found, torch.einsum("npd,npe->pde", laid, laid) / len(laid), atol=1e-6)


def test_the_objective_is_the_layers_output_error_where_blocks_are_independent() -> None:
    """Inputs of one block at a time: then nothing is left out between blocks."""
    net, _ = correlated()
    x = torch.zeros(64, 32)
    for at in range(8):
        x[8 * at : 8 * at + 8, 4 * at : 4 * at + 4] = torch.randn(8, 4, generator=torch.Generator().manual_seed(at))
    weight = net.slot("weight")().detach()
    slot = shared_vectors(weight, 4, 8)
    found = block_moments(dict(net.weighted())["weight"], x, (), 4)
    pieces = [places_first(w.detach().double(), 1, 4) for w in (weight, slot())]
    real = (x @ (weight - slot()).T).detach().double().square().sum(1).mean()
    assert output_error(pieces[0], found, pieces[1]) == pytest.approx(float(real), rel=1e-4)


def test_storage() -> None:
    """A-S0-31: 512 × 512 in vectors of 8 with 256 centroids: 32,768 bytes of codes and 4,096 of table."""
    codes, table = storage_bytes((512, 512, 1, 1), 8, 256)
    assert (codes, table) == (32_768, 4_096) and 4 * 512 * 512 / (codes + table) == pytest.approx(28.4, abs=0.05)


def test_vectors_are_kernels_and_layers_are_done_in_order() -> None:
    net, (x,) = small_conv(), inputs_for(small_conv(), 32)
    work = Work({"calib": (x, None)}).scoped("share.bit_goes_down", {"calib"})
    out = BitGoesDown(4).apply(net, work)
    lengths = {name: out.slot(name).centroids.shape[1:] for name, _ in out.weighted()}
    assert lengths == {"wide.weight": (4, 9), "point.weight": (4, 4), "fc.weight": (4, 4),
                       "stem.weight": (2, 9), "deep.weight": (2, 9)}  # fmt: skip
    assert not work.notes  # of eight kernels a quarter are centroids
    first = BitGoesDown(4).apply(net, Work({"calib": (x * 3, None)}))
    assert not torch.equal(first.slot("fc.weight")(), out.slot("fc.weight")())
    work = Work({"calib": (x, None)}).scoped("share.bit_goes_down", {"calib"})
    real = BitGoesDown(4, real_first=True).apply(net, work)
    assert torch.equal(real.slot("stem.weight")(), net.slot("stem.weight")())
    assert [note.layer for note in work.notes] == ["stem.weight"]
    two = BitGoesDown(4, kernels=2).apply(net, Work({"calib": (x, None)}))
    assert two.slot("wide.weight").centroids.shape == (1, 4, 18)


def test_grouped_convolutions_have_the_moments_of_their_groups() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = capture(nn.Conv2d(8, 32, 3, groups=4, bias=False), torch.rand(2, 8, 8, 8)).eval()
    x = torch.rand(16, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1, 1, 8)[:, None, None]
    mine = BitGoesDown(8).apply(net, Work({"calib": (x, None)}))
    plain = Product(9, 8).apply(net, Work())
    assert isinstance(mine.slot("weight"), VectorCodebook)
    with torch.no_grad():
        a, b = (float((other(x) - net(x)).square().mean()) for other in (mine, plain))
    assert a < 0.9 * b


def test_digits() -> None:
    """Three seeds at 1 bit a weight, no training: no worse than k-means of the weights, in the mean by a margin."""
    gains = []
    for seed in range(3):
        train, test = digits(seed)
        mine = BitGoesDown(16, length=4).apply(mlp(seed), Work({"calib": (train.x, train.y)}, seed))
        plain = Product(4, 16).apply(mlp(seed), Work(seed=seed))
        gains.append(accuracy(mine, test) - accuracy(plain, test))
    assert sum(gains) / 3 > 1, gains


@pytest.mark.parametrize("wrong", [{"kernels": 3}, {"length": 5}, {"clusters": 1}, {"activations": "all"}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        BitGoesDown(**wrong)
