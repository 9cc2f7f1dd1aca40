"""Shared values that training finds."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for
from contracts.trained_step import TrainedStepContract, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import stored_bits
from paredown.graph.clusters import lloyd, means, nearest
from paredown.graph.freeze import freeze
from paredown.graph.slots import Codebook
from paredown.graph.vectors import VectorCodebook
from paredown.methods.share.dkm import Dkm, DkmSharing, attention, bits_per_weight, moved, soft_kmeans
from paredown.methods.share.kmeans import Kmeans
from paredown.targets.onnx import Onnx

SHORT = Plan(epochs=2, batch=16)


class TestDkm(TrainedStepContract):
    def part(self) -> DkmSharing:
        return DkmSharing(2, plan=SHORT)

    def settings(self) -> list[DkmSharing]:
        return [DkmSharing(8, 16, 1e-6, 1000, plan=Plan(epochs=3))]


class TestVectors(TrainedStepContract):
    def part(self) -> DkmSharing:
        return DkmSharing(2, 2, plan=SHORT)

    def test_its_files_hold_it(self, tmp_path: Path) -> None:
        for net in self.nets().values():
            out = self.trained(net)[1]
            (x,) = inputs_for(net, 64, seed=1)
            got = Onnx().load(Path(Onnx().write(freeze(out), tmp_path).path))(x.numpy())
            with torch.no_grad():
                np.testing.assert_allclose(got, out(x).numpy(), rtol=1e-4, atol=1e-5)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attention_by_hand() -> None:
    share = attention(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]]), 2.0)
    assert share[0].tolist() == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])
    assert share[1].tolist() == pytest.approx([0.5, 0.5])
    found = moved(torch.tensor([[0.0], [1.0]]), share, torch.zeros(2, 1))
    assert float(found[0]) == pytest.approx(0.5 / (float(share[0, 0]) + 0.5))


@pytest.mark.parametrize("length", [1, 3])
def test_with_little_temperature_it_is_hard_k_means(length: int) -> None:
    """Cho et al., section 3.2: as τ → 0, attention is one or zero."""
    vectors = draw(200, length)
    start = vectors[:6].clone()
    share, centroids = soft_kmeans(vectors, start, 1e-9, 300)
    codes, hard = lloyd(vectors, start, 300)
    assert torch.allclose(centroids, hard, atol=1e-9) and torch.equal(share.argmax(1), codes)
    assert torch.allclose(share.max(1).values, torch.ones(200, dtype=torch.float64))
    one = soft_kmeans(vectors, start, 1e-9, 1)[1]
    assert torch.allclose(one, means(vectors, nearest(vectors, start)[0], start))
    warm = soft_kmeans(vectors, start, 0.5, 300)[0]
    assert warm.max(1).values.mean() < 0.95


def test_a_centroid_that_nothing_sees_stays() -> None:
    vectors, start = draw(20, 2), torch.cat([draw(2, 2, seed=1), torch.full((1, 2), 100.0, dtype=torch.float64)])
    assert torch.equal(soft_kmeans(vectors, start, 0.01, 10)[1][2], start[2])


def test_gradients_reach_the_weights_through_all_rounds() -> None:
    """Against finite differences; a straight-through estimator would not pass."""
    value = draw(8, 2).requires_grad_()
    start = value.detach()[:3].clone()

    def whole(v: Tensor) -> Tensor:
        share, centroids = soft_kmeans(v, start, 0.3, 2)
        return share @ centroids

    assert torch.autograd.gradcheck(whole, (value,))
    slot = Dkm(draw(6, 4).float(), 4, 2, 0.1, 5, 0).train()
    (slot() * draw(6, 4, seed=1).float()).sum().backward()
    assert slot.value.grad is not None and (slot.value.grad != 0).all()


@pytest.mark.parametrize(("length", "kind"), [(1, Codebook), (2, VectorCodebook)])
def test_what_is_held_are_the_nearest_centroids(length: int, kind: type) -> None:
    slot = Dkm(draw(10, 8).float(), 4, length, 0.05, 5, 0)
    slot.train()
    soft = slot()
    before = copy.deepcopy(slot.state_dict())
    held = slot.eval().held()
    assert isinstance(held, kind) and held.bits == slot.bits == 2
    assert torch.equal(slot(), held()) and not torch.equal(soft, held())
    assert all(torch.equal(v, before[k]) for k, v in slot.state_dict().items())  # looking at it changes nothing
    vectors = slot.value.detach().view(-1, length)
    apart = torch.cdist(vectors.double(), held.centroids.detach().view(-1, length).double())
    assert torch.equal(apart.argmin(1), held.codes.flatten().long())


@pytest.mark.parametrize(("bits", "dims"), [(2, 1), (4, 4), (1, 2)])
def test_storage(bits: int, dims: int) -> None:
    net = mlp(0)
    out = DkmSharing(bits, dims, plan=SHORT).apply(net, Work({"fit": trainer(samples(net))}))
    assert stored_bits(out.slot("0.weight")) == round(bits_per_weight(bits, dims, 6400) * 6400)


def test_digits_at_two_bits() -> None:
    """Three seeds: 5 epochs with it, at least half a point above k-means without training in the mean, and never below."""
    gains = []
    for seed in range(3):
        train, test = digits(seed)
        held = DkmSharing(2, plan=Plan(epochs=5)).apply(mlp(seed), Work({"fit": trainer(train, seed)}, seed))
        after = Kmeans(4).apply(mlp(seed), Work())
        mine, plain = accuracy(held, test), accuracy(after, test)
        assert mine >= plain and held.slot("0.weight").bits == 2, (seed, mine, plain)
        gains.append(mine - plain)
    assert sum(gains) / 3 >= 0.5, gains


@pytest.mark.parametrize("wrong", [{"bits": 9}, {"dims": 3}, {"temperature": 0.0}, {"rounds": 0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        DkmSharing(**wrong)
