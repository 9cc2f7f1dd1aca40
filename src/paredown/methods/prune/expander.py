"""Each output keeps a few inputs that were drawn before training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.chains import bias_of, exchange_, named, node_without_bias, refusal
from paredown.graph.masks import mask_, mask_of, maskable
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node, Slot, Value
from paredown.graph.wiring import expander, regular, small_world


def gathered(weight: Tensor, wired: Tensor) -> tuple[Tensor, Tensor]:
    """Return (weight [out, D, kernel…], the D inputs of each output in order, [out, D]) of a weight and what it is wired to."""
    inputs = wired.nonzero()[:, 1].view(len(wired), -1)
    return weight[torch.arange(len(weight))[:, None], inputs].contiguous(), inputs


@part("prune.expander", Card(title="Deep Expander Networks (X-Nets)", paper="arxiv:1711.08757", year=2018,
                             authors="Prabhu, Varma, Namboodiri; block-sparse layouts: Gray, Radford, Kingma",
                             source="Deep Expander Networks, section 3.1-3.3; blocks and small worlds: GPU Kernels for Block-Sparse Weights, 2017",
                             changes={"nonzero"}, forbids={"quantized", "shared"}, gives={"masked", "factored"}))  # fmt: skip
@dataclass(frozen=True)
class Expander:
    """Keep for every output of a layer D inputs that are drawn before training; then train.

    by: "compression" takes D = inputs / amount, "degree" D = amount. layout: "random" draws D different inputs for each
    output (X-Conv and X-Linear), "regular" too, with every input read equally often, so that none is lost; "small_world" takes the D nearest on a ring and moves each to a drawn one with probability
    `rewired`. block: outputs and inputs go together in squares of so many, and D counts blocks; what does not fill
    a block at the edge is part of a smaller one. A kernel's places go together.

    form: "masked" holds the other weights at zero; "gathered" takes each output's D inputs out and convolves them alone, so that D / inputs
    of the weights and operations are left (block 1, convolutions that are neither grouped nor transposed; others are
    masked), for D · outputs channels in memory. Layers with no more than D inputs are left alone.

    Differs from the paper: weights keep their values, so that it wants an untrained network or a long training after it.
    """

    by: str = knob("compression", among=("compression", "degree"))
    amount: float = knob(4.0, low=1.0, high=65_536.0, log=True)
    layout: str = knob("random", among=("random", "regular", "small_world"))
    rewired: float = knob(0.1, low=0.0, high=1.0, search=False)
    block: int = knob(1, low=1, high=1024, log=True, search=False)
    form: str = knob("masked", among=("masked", "gathered"))

    def __post_init__(self) -> None:
        check_fields(self)
        if self.block > 1 and self.form == "gathered":
            raise BadInput(f"block={self.block} needs form='masked'; 'gathered' takes single channels")

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose layers are wired sparsely; those left alone are noted by their weight's name."""
        out, draw = net.copy(), torch.Generator().manual_seed(work.seed)
        nodes = dict(net.weighted())
        for name in maskable(out, work.skip):
            weight, node = out.slot(name)(), nodes[name]
            if node.op.startswith("conv_transpose"):
                work.skip(name, "a transposed convolution is not wired anew")
                continue
            wired = self._wired(tuple(weight.shape[:2]), draw)
            if wired is None:
                work.skip(
                    name, f"it has no more than {self._degree(-(-weight.shape[1] // self.block))} inputs to choose from"
                )
            elif self.form == "gathered" and node.op != "linear" and not refusal(net, name, node):
                gather_(out, name, wired)
            else:
                stays = wired.view(*wired.shape, *[1] * (weight.dim() - 2)).expand_as(weight)
                mask_(out, name, stays.to(weight.device) & mask_of(out, name))
        return out

    def _degree(self, inputs: int) -> int:
        return max(1, round(inputs / self.amount if self.by == "compression" else self.amount))

    def _wired(self, shape: tuple[int, int], draw: torch.Generator) -> Tensor | None:
        """Return True where an output reads an input, or None where it would read all."""
        high, wide = (-(-side // self.block) for side in shape)
        degree = self._degree(wide)
        if degree >= wide:
            return None
        if self.layout == "small_world":
            blocks = small_world(high, wide, degree, self.rewired, draw)
        else:
            blocks = (expander if self.layout == "random" else regular)(high, wide, degree, draw)
        return blocks.repeat_interleave(self.block, 0).repeat_interleave(self.block, 1)[: shape[0], : shape[1]]


def gather_(net: Net, name: str, wired: Tensor) -> None:
    """Put a choice of channels and a convolution of each output's own in the place of every layer that uses a weight; in place."""
    weight, inputs = gathered(net.slot(name)().detach(), wired)
    own, order = named(name, "gathered"), Slot(named(name, "gathered").removesuffix("weight") + "order")
    slots: dict[Slot, nn.Module] = {own: Free(weight), order: Fixed(inputs.flatten().to(weight.device))}

    def expand(node: Node, fresh: Callable[[str], str]) -> list[Node]:
        before = Node(fresh("order"), "index_select", {"self": node.args["input"], "dim": 1, "index": order})
        layer = node_without_bias(node, node.name).with_args(input=Value(before.name), weight=own, groups=len(weight))
        return [before, layer.with_args(**bias_of(node))]

    exchange_(net, name, slots, expand)
