"""A convolution as channels moved by a place each, which costs nothing, and a 1×1 convolution."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.chains import bias_of, exchange_, kernels, named, pointwise
from paredown.graph.net import Net
from paredown.graph.partners import assigned
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node, Slot, Value


def centre(kernel: Sequence[int]) -> int:
    """Return the number of a kernel's middle place (of an even side the one before the middle)."""
    return int(np.ravel_multi_index([(side - 1) // 2 for side in kernel], tuple(kernel)))


def group_sizes(channels: int, kernel: Sequence[int]) -> list[int]:
    """Return how many channels move to each place: ⌊channels / places⌋, and the remainder to the centre (Wu et al., section 3.2)."""
    places = math.prod(kernel)
    sizes = [channels // places] * places
    sizes[centre(kernel)] += channels % places
    return sizes


def chosen(weight: Tensor, assignment: str, taps: int = 1) -> Tensor:
    """Return the places that each input channel keeps, [in, taps], in order: those of the largest squared weights.

    weight: [out, in, kernel…]. A place is a number in the flattened kernel. With the weights there left as they are, no other choice has a
    smaller squared error; "balanced" is the best of those with the paper's `group_sizes`.
    """
    energy = weight.detach().double().square().sum(0).flatten(1)
    if assignment == "balanced":
        sizes = np.array(group_sizes(len(energy), weight.shape[2:]))
        return torch.from_numpy(assigned(energy.cpu().numpy(), sizes))[:, None]
    return energy.topk(taps, dim=1).indices.sort(1).values.cpu()


def shifted(weight: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (1×1 weight [out, in · taps, 1…], input channel of each of its inputs, place of each): sorted by place."""
    taps = places.shape[1]
    channels = torch.arange(len(places)).repeat_interleave(taps)
    order = places.flatten().argsort(stable=True)
    channels, at = channels[order], places.flatten()[order]
    point = weight.detach().flatten(2)[:, channels, at]
    return point.reshape(*point.shape, *[1] * (weight.dim() - 2)).contiguous(), channels, at


@part("factorize.shift", Card(title="Shift: a zero-FLOP, zero-parameter alternative to spatial convolutions", paper="arxiv:1711.08141",
                              year=2018, authors="Wu, Wan, Yue, Jin, Zhao, Golmant, Gholaminejad, Gonzalez, Keutzer",
                              source="Shift, section 3: equation 3 and the assignment of channels in 3.2",
                              changes={"params", "macs"}, gives={"factored"},
                              forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Shift:
    """Move each input channel by one place of the kernel, then mix them by a 1×1 convolution; then train.

    assignment: "largest" keeps the place with the largest squared weights of each channel, "balanced" the best that moves
    ⌊M / places⌋ of M channels to each place and the remainder to the centre, as the paper has it (with fewer channels than places
    all stay in the centre). taps: places that each channel keeps, with "largest"; a channel is then read so often. Of a
    kernel of k² places, taps / k² of the weights and operations are left: moving channels takes none of either.
    first: convert the network's first layer too.

    A shift is a cut from the padded input, which runs and exports as it stands; the 1×1 convolution has the stride. Differs
    from the paper: fitted to a convolution that is there, by its weights alone; channels need not lie side by side, and their order
    is stored as whole numbers; a 1×1 convolution before the shift (the paper's CSC module) is not added.
    """

    assignment: str = knob("largest", among=("largest", "balanced"))
    taps: int = knob(1, low=1, high=64)
    first: bool = knob(False, among=(False, True), search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.assignment == "balanced" and self.taps > 1:
            raise BadInput(f"taps={self.taps} needs assignment='largest'; 'balanced' moves each channel to one place")

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some convolutions shifted; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, _, weight in kernels(net, work.skip, self.first):
            if self.taps >= weight[0, 0].numel():
                work.skip(
                    name, f"its kernel has only {weight[0, 0].numel()} places, and taps={self.taps} would keep them all"
                )
            else:
                shift_(out, name, weight, chosen(weight, self.assignment, self.taps))
        return out


def shift_(net: Net, name: str, weight: Tensor, places: Tensor) -> None:
    """Put moved channels and a 1×1 convolution in the place of every layer that uses the weight `name`; in place.

    places: the places of the kernel that each input channel keeps, [in, taps].
    """
    made, channels, at = shifted(weight, places)
    point, order = named(name, "point"), Slot(named(name, "shift").removesuffix("weight") + "order")
    slots: dict[Slot, nn.Module] = {point: Free(made)}
    if len(channels) != weight.shape[1] or (channels.diff() != 1).any():
        slots[order] = Fixed(channels.to(weight.device))
    counts = torch.bincount(at, minlength=weight[0, 0].numel()).tolist()

    def expand(node: Node, fresh: Callable[[str], str]) -> list[Node]:
        nodes, source = list[Node](), Value(node.args["input"])
        if order in slots:
            nodes.append(Node(fresh("order"), "index_select", {"self": source, "dim": 1, "index": order}))
            source = Value(nodes[-1].name)
        nodes += moved(node, fresh, source, tuple(weight.shape[2:]), counts)
        last = pointwise(node, node.name, Value(nodes[-1].name) if nodes else source, point)
        return [*nodes, last.with_args(**bias_of(node), stride=node.get("stride"))]

    exchange_(net, name, slots, expand)


def moved(
    node: Node, fresh: Callable[[str], str], source: Value, kernel: tuple[int, ...], counts: Sequence[int]
) -> list[Node]:
    """Return the nodes that move the channels of `source` as a convolution's kernel would: padded, cut, joined.

    counts: how many channels in a row go to each place of the kernel.
    """
    nodes = list[Node]()

    def add(part: str, op: str, **args: object) -> Value:
        nodes.append(Node(fresh(part), op, args))
        return Value(nodes[-1].name)

    if any(amounts := _padding(node, kernel)):
        source = add("padded", "pad", self=source, pad=amounts)
    used = [place for place, count in enumerate(counts) if count]
    runs = [counts[place] for place in used]
    split = add("split", "split_with_sizes", self=source, split_sizes=runs, dim=1) if len(used) > 1 else None
    cuts = []
    for at, place in enumerate(used):
        value = source if split is None else add("channels", "getitem", self=split, index=at)
        for dim, (start, end) in enumerate(_cut(node, kernel, place)):
            if (start, end) != (0, None):
                value = add("cut", "slice.Tensor", self=value, dim=dim + 2, start=start, end=end)
        cuts.append(value)
    if split is not None:
        add("moved", "cat", tensors=cuts, dim=1)
    return nodes


def _padding(node: Node, kernel: tuple[int, ...]) -> list[int]:
    """Return the zeros around a convolution's input, as `pad` takes them: the last dimension first."""
    padding, sides = node.get("padding"), list[int]()
    for dim in reversed(range(len(kernel))):
        reach = node.get("dilation")[dim] * (kernel[dim] - 1)
        if isinstance(padding, str):
            sides += [reach // 2, reach - reach // 2] if padding == "same" else [0, 0]
        else:
            sides += [padding[dim]] * 2
    return sides


def _cut(node: Node, kernel: tuple[int, ...], place: int) -> list[tuple[int, int | None]]:
    """Return (start, end) along each dimension of what a place of the kernel reads from the padded input."""
    found = list[tuple[int, int | None]]()
    for side, at, step in zip(kernel, np.unravel_index(place, kernel), node.get("dilation"), strict=True):
        start = int(at) * step
        found.append((start, start - step * (side - 1) or None))
    return found
