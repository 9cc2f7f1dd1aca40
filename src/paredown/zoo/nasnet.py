"""NASNet-A (Zoph, Vasudevan, Shlens, Le 2018, arXiv 1707.07012, figure 4) and PNASNet-5 (Liu et al. 2018, 1712.00559)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.zoo.blocks import between, head, pictures

Block = tuple[str, int, str, int]
"""Two operations and what they read: 0 is the layer before the last, 1 the last, 2 the cell's first block and so on."""


@dataclass(frozen=True)
class Plan:
    """A cell: blocks that are sums of two operations, and which values are put out behind one another."""

    blocks: tuple[Block, ...]
    kept: tuple[int, ...]


NORMAL = Plan(
    (
        ("sep5", 1, "sep3", 0),
        ("sep5", 0, "sep3", 0),
        ("avg", 1, "same", 0),
        ("avg", 0, "avg", 0),
        ("sep3", 1, "same", 1),
    ),
    (0, 2, 3, 4, 5, 6),
)
REDUCTION = Plan(
    (
        ("sep5", 1, "sep7", 0),
        ("max", 1, "sep7", 0),
        ("avg", 1, "sep5", 0),
        ("avg", 2, "same", 3),
        ("sep3", 2, "max", 1),
    ),
    (3, 4, 5, 6),
)
PROGRESSIVE = Plan(
    (
        ("sep5", 0, "max", 0),
        ("sep7", 1, "max", 1),
        ("sep5", 1, "sep3", 1),
        ("sep3", 4, "max", 1),
        ("sep3", 0, "same", 1),
    ),
    (2, 3, 4, 5, 6),
)
"""PNASNet's one cell, for both purposes."""


def _separable(inside: int, outside: int, kernel: int, stride: int) -> nn.Sequential:
    """Return ReLU, a depthwise and a 1 x 1 convolution and batch norm, twice; the stride stands in the first."""
    layers: list[nn.Module] = []
    for step, before in ((stride, inside), (1, outside)):
        depthwise = nn.Conv2d(before, before, kernel, step, kernel // 2, groups=before, bias=False)
        layers += [nn.ReLU(), depthwise, nn.Conv2d(before, outside, 1, bias=False), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers)


def _operation(name: str, inside: int, outside: int, stride: int) -> nn.Module:
    """Return an operation; one that cannot change the channels or the size has a 1 x 1 convolution where it must."""
    if name.startswith("sep"):
        return _separable(inside, outside, int(name[3:]), stride)
    if name == "same":
        return nn.Identity() if stride == 1 and inside == outside else _adapt(inside, outside, stride)
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False) if name == "avg" else nn.MaxPool2d(3, stride, 1)
    if inside == outside:
        return pool
    return nn.Sequential(pool, nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside))


def _adapt(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, 1, stride, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outside))


class _Halve(nn.Module):
    """Every second position, and every second one beside these, each through a 1 x 1 convolution to half of the channels."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inside, outside // 2, 1, bias=False)
        self.odd = nn.Conv2d(inside, outside - outside // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        beside = nn.functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(beside[:, :, ::2, ::2])], 1))


class _Cell(nn.Module):
    """A plan's blocks on the layer before the last and the last, both brought to `width` channels and the same size."""

    def __init__(self, plan: Plan, inside: tuple[int, int], width: int, reduces: bool, before: str) -> None:
        super().__init__()
        ways: dict[str, Callable[[int, int], nn.Module]] = {
            "as it is": lambda *_: nn.Identity(),
            "halved": _Halve,
            "adapted": _adapt,
        }
        self.before, self.last = ways[before](inside[0], width), _adapt(inside[1], width)
        self.plan = plan
        widths = [inside[0] if before == "as it is" else width, *[width] * 6]
        self.operations = nn.ModuleList(
            _operation(name, widths[source], width, 2 if reduces and source < 2 else 1)
            for left, one, right, two in plan.blocks
            for name, source in ((left, one), (right, two))
        )

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        values = [self.before(before), self.last(x)]
        for at, (_, one, _, two) in enumerate(self.plan.blocks):
            values.append(self.operations[2 * at](values[one]) + self.operations[2 * at + 1](values[two]))
        return torch.cat([values[at] for at in self.plan.kept], 1)


class _Cells(nn.Module):
    """Cells that each read the last two values; with `skips`, a reduction's output is not one before the last."""

    def __init__(self, stem: int, rows: list[tuple[Plan, int, bool]], skips: bool) -> None:
        super().__init__()
        self.skips, self.reduces = skips, [reduces for _, _, reduces in rows]
        cells, channels, scales = [], (stem, stem), (0, 0)
        for at, (plan, width, reduces) in enumerate(rows):
            before = "as it is" if at == 0 else "halved" if scales[0] < scales[1] else "adapted"
            cells.append(_Cell(plan, channels, width, reduces, before))
            stays = at > 1 and skips and reduces
            channels = channels[0] if stays else channels[1], width * len(plan.kept)
            scales = scales[0] if stays else scales[1], scales[1] + reduces
        self.cells, self.outside = nn.ModuleList(cells), channels[1]

    def forward(self, x: Tensor) -> Tensor:
        before = x
        for at, (cell, reduces) in enumerate(zip(self.cells, self.reduces, strict=True)):
            y = cell(before, x)
            before, x = before if at > 1 and self.skips and reduces else x, y
        return torch.relu(x)


def _network(channels: int, stem: int, classes: int, rows: list[tuple[Plan, int, bool]], skips: bool) -> nn.Sequential:
    cells = _Cells(stem, rows, skips)
    first = nn.Conv2d(channels, stem, 3, 2, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(stem), cells, head(cells.outside, classes, 0.5))


def nasnet_a(
    shape: tuple[int, ...], classes: int, cells: int = 6, features: int = 4032, stem: int = 96
) -> nn.Sequential:
    """Return NASNet-A large; 88,753,150 parameters and 23,783,414,658 MACs on 3 x 331 x 331 with 1,000 classes.

    cells: normal cells in each stage. features: channels at the end, a multiple of 24 · 4. stem: of the first convolution.
    4, 1056 and 32 give the mobile form, with 5,289,978 parameters at 224. Raises BadInput. Differs from the paper: no
    drop-path.
    """
    between("nasnet_a", "cells", cells, 1, 100)
    between("nasnet_a", "stem", stem, 1, 4096)
    between("nasnet_a", "features", features, 96, 65536)
    first = features // 24
    rows = [(REDUCTION, first // 4, True), (REDUCTION, first // 2, True), *[(NORMAL, first, False)] * cells]
    for width in (2 * first, 4 * first):
        rows += [(REDUCTION, width, True), *[(NORMAL, width, False)] * cells]
    return _network(pictures("nasnet_a", shape, 3), stem, classes, rows, True)


def pnasnet_5(
    shape: tuple[int, ...], classes: int, cells: int = 4, features: int = 4320, stem: int = 96
) -> nn.Sequential:
    """Return PNASNet-5 large; 86,057,668 parameters and 24,937,395,792 MACs on 3 x 331 x 331 with 1,000 classes.

    cells: in each stage. features: channels at the end, a multiple of 20 · 4. stem: of the first convolution. Raises
    BadInput. Differs from the paper: no drop-path.
    """
    between("pnasnet_5", "cells", cells, 1, 100)
    between("pnasnet_5", "stem", stem, 1, 4096)
    between("pnasnet_5", "features", features, 80, 65536)
    first = features // 20
    rows = [(PROGRESSIVE, first // 4, True), (PROGRESSIVE, first // 2, True), *[(PROGRESSIVE, first, False)] * cells]
    for width in (2 * first, 4 * first):
        rows += [(PROGRESSIVE, width, True), *[(PROGRESSIVE, width, False)] * (cells - 1)]
    return _network(pictures("pnasnet_5", shape, 3), stem, classes, rows, False)
