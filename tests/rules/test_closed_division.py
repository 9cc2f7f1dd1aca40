"""The closed division's checker: rounded copies pass; pruned, retrained and foreign ones do not."""

import pytest
import torch

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.catalog import build
from paredown.core.work import Work
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid, Masked
from paredown.methods.prune.weights import Weights
from paredown.methods.quantize.uniform import Uniform
from paredown.rules.closed_division import differences


def reference() -> Net:
    return fold_batchnorm(small_conv())[0]


def compared(submission: Net) -> list[str]:
    return differences(freeze(reference()), freeze(submission))


def changed(net: Net, change: object) -> Net:
    """Return a copy whose weights were changed in place."""
    made = net.copy()
    with torch.no_grad():
        for name, _ in made.weighted():
            slot = made.slot(name)
            made.set_slot(name, Free(change(slot().clone())))  # type: ignore[operator]
    return made


def test_the_reference_is_itself() -> None:
    assert compared(reference()) == []


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_rounded_copies_pass_at_every_width(bits: int, granularity: str) -> None:
    assert compared(Uniform(bits=bits, granularity=granularity).apply(reference(), Work())) == []


def test_signs_are_rounding_to_the_two_levels_of_one_bit_and_other_weights_signs_are_not() -> None:
    made, other = reference(), reference()
    for name, _ in made.weighted():
        weight = made.slot(name)().detach()
        made.set_slot(name, Grid(weight.sign(), weight.abs().mean(), 1))
        other.set_slot(name, Grid(weight.sign(), 0.1 * weight.abs().mean(), 1))
    assert compared(made) == [] and compared(other) == [], "what lies beyond the range is at its last level"
    far = made.copy()
    far.set_slot("stem.weight", Free(-3 * made.slot("stem.weight")()))
    assert any("retrained" in line for line in differences(freeze(reference()), freeze(far)))


def test_rounding_up_or_down_and_activations_are_free() -> None:
    net = Uniform(bits=4, activation_bits=8).apply(reference(), Work({"calib": (inputs_for(reference(), 8)[0], None)}))
    assert compared(net) == []
    source, up = reference(), reference()
    for name, _ in up.weighted():
        value = source.slot(name)().detach()
        step = value.abs().max() / 7
        up.set_slot(name, Grid((value / step).floor().clamp(-8, 7), step, 4))
    assert compared(up) == []


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_narrow_floats_pass(kind: torch.dtype) -> None:
    assert compared(changed(reference(), lambda w: w.to(kind).float())) == []


def test_a_codebook_of_the_weights_own_values_passes() -> None:
    """Sixteen shared values, each weight at one of the two beside it."""
    shared = build({"part": "share.kmeans", "clusters": 16}).apply(reference(), Work())
    assert compared(shared) == []


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pruned_copies_are_rejected(share: float) -> None:
    pruned = Weights(sparsity=share).apply(reference(), Work())
    assert any(isinstance(pruned.slot(name), Masked) for name, _ in pruned.weighted())
    found = compared(pruned)
    assert found and all("discarded: pruned" in line for line in found)


def test_a_pruned_and_rounded_copy_is_rejected() -> None:
    pruned = Weights(sparsity=0.5).apply(reference(), Work())
    assert any("pruned" in line for line in compared(Uniform(bits=8).apply(pruned, Work())))


def test_a_retrained_copy_is_rejected_rounded_or_not() -> None:
    draw = torch.Generator().manual_seed(0)
    trained = changed(reference(), lambda w: w * (1 + 0.05 * torch.randn(w.shape, generator=draw)))
    assert any("retrained or replaced" in line for line in compared(trained))
    assert any("retrained or replaced" in line for line in compared(Uniform(bits=8).apply(trained, Work())))


def test_other_weights_and_other_networks_are_rejected() -> None:
    draw = torch.Generator().manual_seed(1)
    other = changed(reference(), lambda w: torch.randn(w.shape, generator=draw))
    assert any("replaced" in line for line in compared(other))
    assert "another model" in compared(small_mlp())[0]
    found = compared(changed(reference(), lambda w: w[:1]))
    assert any("its shape is" in line for line in found)
