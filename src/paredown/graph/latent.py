"""Tensors while something coarser is trained in their place, and which layers they stand in."""

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Free, short_float
from paredown.graph.spec import Slot, Value

Skip = Callable[[str, str], None]


class Latent(nn.Module):
    """Float values that gather the updates while the network computes with what they stand for.

    A form for training: the call returns what stands in the values' place, `held()` the slot that will store exactly
    that. `limit`: the largest size that the values keep under `habit.clip_latents`.
    """

    form: ClassVar[str] = "quantized"
    limit: float = math.inf

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())

    def forward(self) -> Tensor:
        raise NotImplementedError

    def held(self) -> nn.Module:
        """Return the slot that stores what the call returns."""
        raise NotImplementedError


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, instead: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return instead.view_as(instead)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return grads[0] * ctx.saved_tensors[0], grads[0], None


def straight_through(value: Tensor, instead: Tensor, slope: Tensor | None = None) -> Tensor:
    """Return `instead`; its gradient goes to `value` times `slope` (default 1), and to `instead` as it is.

    The straight-through estimator (Bengio, Léonard & Courville 2013, section 3); all three have one shape.
    """
    return _Straight.apply(value, instead, value.new_ones(()) if slope is None else slope)


def signs(value: Tensor) -> Tensor:
    """Return +1 where a value is 0 or more and −1 elsewhere, in its type."""
    return (value >= 0).to(value.dtype) * 2 - 1


def by_filter(value: Tensor) -> tuple[int, ...]:
    """Return the dimensions of a weight that one filter spans: all but the first; of a vector all."""
    return tuple(range(1, value.dim())) or (0,)


def short_through(value: Tensor) -> Tensor:
    """Return positive floats rounded to four significant bits, with the gradient of the unrounded ones."""
    return value + (short_float(value.detach()) - value.detach())


def learnable(net: Net, skip: Skip, real_ends: bool = False) -> Iterator[Slot]:
    """Yield the weight of every convolution and linear layer that is stored as plain values, each once.

    real_ends: leave out the first and the last layer. skip: told the layer and the reason for every other weight.
    """
    layers = [node for node in net.spec.nodes if node.op in WEIGHTED]
    ends = {layer.args["weight"] for layer in layers[:1] + layers[-1:]} if real_ends else set()
    seen: set[str] = set()
    for node in layers:
        slot = node.args["weight"]
        if isinstance(slot, Value):
            skip(f"{node.name}.weight", "it is computed, not stored")
        elif slot in ends:
            skip(str(slot), "the first and the last layer stay real")
        elif slot not in seen and isinstance(net.slot(slot), Free):
            yield slot
        elif slot not in seen:
            skip(str(slot), f"it is {net.slot(slot).form or 'constant'}, not a plain weight")
        seen.add(slot)


def learn_(net: Net, make: Callable[[Tensor], nn.Module], skip: Skip, real_ends: bool = False) -> list[Slot]:
    """Put `make(value)` in the place of every learnable weight and return the slots' names."""
    taken = list(learnable(net, skip, real_ends))
    for slot in taken:
        net.set_slot(slot, make(net.slot(slot)().detach()))
    return taken


@torch.no_grad()
def hold_(net: Net) -> Net:
    """Turn every latent slot into what it stands for, in place, and return the network."""
    for name in net.slot_names():
        if isinstance(net.slot(name), Latent):
            net.set_slot(name, net.slot(name).held())
    return net
