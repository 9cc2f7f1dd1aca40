"""A few values stand in many places."""

import hashlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.hashing import hashed
from paredown.graph.slots import Codebook
from paredown.graph.vectors import Hashed
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.share.hashed import HashedNets, fitted
from paredown.train.fit import fit


class TestHashedNets(StepContract):
    def part(self) -> HashedNets:
        return HashedNets(4)

    def settings(self) -> list[HashedNets]:
        return [HashedNets(1.5), HashedNets(1024)]


class TestManyTimesSmaller(StepContract):
    def part(self) -> HashedNets:
        return HashedNets(500)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_computed_is_the_explicit_expansion() -> None:
    """HashedNets, eq. 8: every sum over inputs by itself."""
    net = HashedNets(8).apply(small_mlp(), Work(seed=3))
    values, bias = net.slot("0.weight").values.detach(), net.slot("0.bias")().detach()
    buckets, sign = hashed(32 * 64, 256, 3)
    (x,) = inputs_for(net, 4)
    wanted = bias.repeat(4, 1)
    for i in range(32):
        for j in range(64):
            wanted[:, i] += float(sign[64 * i + j]) * values[buckets[64 * i + j]] * x[:, j]
    found = torch.nn.functional.linear(x, net.slot("0.weight")(), bias)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_gradient_of_a_value_is_the_signed_sum() -> None:
    """HashedNets, eq. 12."""
    slot, upstream = Hashed(draw(7), (5, 4, 3), 2), draw(5, 4, 3, seed=1)
    slot().backward(upstream)
    buckets, sign = hashed(60, 7, 2)
    wanted = [
        float((upstream.flatten() * torch.from_numpy(sign))[torch.from_numpy(buckets == k)].sum()) for k in range(7)
    ]
    assert slot.values.grad.tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_start_is_least_squares() -> None:
    weight = draw(12, 10)
    slot = fitted(weight, 15, 4)
    buckets, sign = hashed(120, 15, 4)
    design = torch.zeros(120, 15)
    design[torch.arange(120), torch.from_numpy(buckets)] = torch.from_numpy(sign)
    wanted = torch.linalg.lstsq(design, weight.reshape(-1, 1)).solution[:, 0]
    assert torch.allclose(slot.values, wanted, atol=1e-5)
    assert fitted(torch.zeros(2, 1), 200, 0).values.count_nonzero() == 0


@pytest.mark.parametrize("factor", [2, 8, 64])
def test_counted_parameters_are_the_values(factor: int) -> None:
    net = small_conv()
    out = HashedNets(factor).apply(net, Work())
    sizes = [net.slot(name)().numel() for name, _ in net.weighted()]
    values = [out.slot(name).values.numel() for name, _ in out.weighted()]
    assert values == [max(1, size // factor) for size in sizes]
    assert count(out).params == count(net).params - sum(sizes) + sum(values)
    assert count(out).bits == 32 * count(out).params


def test_another_process_places_them_alike() -> None:
    code = (
        "import hashlib; from paredown.graph.hashing import hashed; b, s = hashed(5000, 77, 9); "
        "print(hashlib.sha256(b.tobytes() + s.tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
        for _ in range(2)
    }
    buckets, sign = hashed(5000, 77, 9)
    assert found == {hashlib.sha256(buckets.tobytes() + sign.tobytes()).hexdigest()}


def test_the_runs_seed_is_the_hashs() -> None:
    one, two = (HashedNets(4).apply(small_mlp(), Work(seed=seed)) for seed in (0, 1))
    assert one.slot("0.weight").seed == 0 and two.slot("0.weight").seed == 1
    assert not torch.equal(one.slot("0.weight")(), two.slot("0.weight")())


def test_weights_that_are_held_otherwise_are_noted() -> None:
    net = small_mlp()
    net.set_slot("2.weight", Codebook(torch.zeros(16, 32), torch.ones(1)))
    work = Work().scoped("share.hashed", ())
    out = HashedNets(4).apply(net, work)
    assert [note.layer for note in work.notes] == ["2.weight"] and isinstance(out.slot("0.weight"), Hashed)
    with pytest.raises(BadInput, match="factor"):
        HashedNets(1.0)


def test_digits_with_an_eighth_of_the_values() -> None:
    """Three seeds: trained after hashing, at most 6 points below the float network; before it, far below that."""
    for seed in range(3):
        train, test = digits(seed)
        net = HashedNets(8).apply(mlp(seed), Work(seed=seed))
        before = accuracy(net, test)
        fit(net, train, CrossEntropy(), plan=Plan(epochs=30), seed=seed)
        full, after = accuracy(mlp(seed), test), accuracy(net, test)
        assert after >= full - 6 and after > before + 10, (seed, full, before, after)
