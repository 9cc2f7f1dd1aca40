"""What each unit of a group adds to single outputs of the layers that read it, at random places of a few samples."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from paredown.graph.features import Place, read, watch
from paredown.graph.groups import Group
from paredown.graph.net import Net
from paredown.graph.spec import Node
from paredown.graph.windows import LAYERS, at_places, some_places, windows


def per_class(labels: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Return the indices of up to `count` samples of each class, in order; of ten times as many where there are no classes."""
    order = torch.randperm(len(labels), generator=draw)
    if labels.dim() != 1 or labels.is_floating_point():
        return order[: 10 * count].sort().values
    shuffled = labels.cpu()[order]
    return torch.cat([order[shuffled == label][:count] for label in shuffled.unique()]).sort().values


def random_outputs(laid: Tensor, weight: Tensor, units: Tensor, draw: torch.Generator) -> Tensor:
    """Return what each unit adds to one random output of each window, [samples · places, units + 1]; the last column is the rest.

    laid: windows, [samples, groups, inputs of a group, taps, places]. weight: [groups, outputs, inputs, taps]. units: of
    each input, [groups, inputs]; −1 is the rest.
    """
    groups, wide = weight.shape[:2]
    columns = laid.permute(0, 4, 1, 2, 3).flatten(0, 1)
    picked = torch.randint(groups * wide, (len(columns),), generator=draw).to(laid.device)
    part = picked // wide
    own = columns[torch.arange(len(columns), device=laid.device), part]
    terms = (own * weight.flatten(0, 1)[picked]).sum(2).double()
    owners, count = units.to(laid.device)[part], int(units.max()) + 1
    made = torch.zeros(len(terms), count + 1, dtype=torch.float64, device=laid.device)
    return made.scatter_add_(1, torch.where(owners >= 0, owners, count), terms)


def contributions(
    net: Net, groups: Sequence[Group], data: tuple[Tensor, Tensor], sizes: tuple[int, int, int], seed: int
) -> list[Tensor | None]:
    """Return for each group [rows, units]: row by row, what each unit adds to one output of a layer that reads the group.

    data: calibration inputs and labels. sizes: (samples of each class, places of each, random outputs at each place).
    Where several layers read a group each one's rows follow, divided by their root mean square sum, so that they count
    alike. None where no layer whose windows can be laid out mixes the group's channels.
    """
    (x, y), (images, places, repeats) = data, sizes
    x = x[per_class(y, images, torch.Generator().manual_seed(seed)).to(x.device)]
    found = read(net, groups)
    nodes = {place: node for own in found for node, place in own if node.op in LAYERS}
    draws = {p: torch.Generator().manual_seed(zlib.crc32(f"{seed} {n.name}".encode())) for p, n in nodes.items()}
    rows: dict[Place, list[Tensor]] = {place: [] for place in nodes}
    held = {place: _grouped(net, node) for place, node in nodes.items()}

    def see(place: Place, value: Tensor) -> None:
        node, (weight, kernel), draw = nodes[place], held[place], draws[place]
        laid = windows(node, value, kernel)
        laid = at_places(laid, some_places(len(laid), laid.shape[-1], places, draw))
        units = place.units.view(weight.shape[0], weight.shape[2])
        rows[place] += [random_outputs(laid, weight, units, draw).cpu() for _ in range(repeats)]

    watch(net, x, nodes, see)
    return [
        _joined([rows[p] for _, p in own if p in rows], len(group)) for group, own in zip(groups, found, strict=True)
    ]


def _grouped(net: Net, node: Node) -> tuple[Tensor, tuple[int, ...]]:
    """Return a layer's weight as [groups, outputs of a group, inputs, taps], and its kernel."""
    weight, groups = net.slot(str(node.args["weight"]))().detach(), int(node.args.get("groups", 1))
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1), tuple(weight.shape[2:])


def _joined(parts: list[list[Tensor]], count: int) -> Tensor | None:
    """Return the rows of all readers, each reader's divided by the root mean square of their sums."""
    if not parts:
        return None
    out = []
    for rows in parts:
        whole = torch.cat(rows)
        own = torch.zeros(len(whole), count, dtype=torch.float64)
        own[:, : whole.shape[1] - 1] = whole[:, :-1]
        size = own.sum(1).square().mean().sqrt()
        out.append(own / size if size > 0 else own)
    return torch.cat(out)
