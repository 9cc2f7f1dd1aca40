"""A convolution as one on each channel alone, and a 1×1 one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import bias_of, exchange_, kernels, named, node_without_bias, pointwise
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Value


def separated(weight: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return (depth [in · m, 1, kernel…], point [out, in · m, 1…]) of the least squared error, m = multiplier.

    weight: [out, in, kernel…]. Of each input channel's matrix [out, kernel] the m largest singular triples: no other m kernels for
    a channel come nearer (Eckart & Young 1936). Both sides carry the square root of the singular values.
    """
    out, into, *kernel = weight.shape
    matrices = weight.detach().double().transpose(0, 1).reshape(into, out, -1)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    root = s[:, :multiplier].sqrt()
    depth = (root[:, :, None] * v[:, :multiplier]).reshape(-1, 1, *kernel)
    point = (u[:, :, :multiplier] * root[:, None]).permute(1, 0, 2).reshape(out, -1, *[1] * len(kernel))
    return depth.to(weight.dtype).contiguous(), point.to(weight.dtype).contiguous()


def together(depth: Tensor, point: Tensor, multiplier: int) -> Tensor:
    """Return the weight [out, in, kernel…] of the one convolution that the two layers are."""
    each = depth.squeeze(1).unflatten(0, (-1, multiplier))
    return torch.einsum("oim,im...->oi...", point.flatten(1).unflatten(1, each.shape[:2]), each)


def size(shape: Sequence[int], multiplier: int) -> int:
    """Return the weights of the two layers: m · in · kernel + out · m · in."""
    return multiplier * shape[1] * (math.prod(shape[2:]) + shape[0])


@part("factorize.separable", Card(title="Depthwise-separable convolutions", paper="arxiv:1704.04861", year=2017,
                                  authors="Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam",
                                  source="MobileNets, section 3.1 (cost: 1/N + 1/Dk² of the convolution's)",
                                  changes={"params", "macs"}, gives={"factored"},
                                  forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Separable:
    """Make a convolution one on each input channel alone, and a 1×1 one to its outputs; then train.

    multiplier: m, kernels for each input channel: 1 is the paper's, more come nearer. With N outputs and kernels of Dk² places
    the two take m (1/N + 1/Dk²) of the convolution's weights and operations. Layers where that saves nothing are left alone.
    first: convert the network's first layer too, which the paper has whole: of few inputs few kernels are left.

    Stride, padding and dilation are the first layer's, the bias the second's. Differs from the paper: the two are fitted to a
    convolution that is there, by its weights alone, instead of trained from the start; there is no norm and no rectifier
    between them, so that they are that convolution where its kernels allow it.
    """

    multiplier: int = knob(1, low=1, high=64)
    first: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some convolutions separated; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, _, weight in kernels(net, work.skip, self.first):
            if size(weight.shape, self.multiplier) >= weight.numel():
                work.skip(
                    name, f"with multiplier {self.multiplier} two layers have no fewer weights than {weight.numel()}"
                )
                continue
            depth, point = separated(weight, self.multiplier)
            slots: dict[Slot, nn.Module] = dict(zip(_slots(name), (Free(depth), Free(point)), strict=True))
            exchange_(out, name, slots, lambda node, fresh, into=weight.shape[1]: _two(node, fresh, into))  # type: ignore[misc]
        return out


def _slots(name: str) -> tuple[Slot, Slot]:
    return named(name, "depth"), named(name, "point")


def _two(node: Node, fresh: Callable[[str], str], inputs: int) -> list[Node]:
    depth, point = _slots(str(node.args["weight"]))
    first = node_without_bias(node, fresh("depth")).with_args(weight=depth, groups=inputs)
    return [first, pointwise(node, node.name, Value(first.name), point).with_args(**bias_of(node))]
