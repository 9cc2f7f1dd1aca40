"""RegNet (Radosavovic, Kosaraju, Girshick, He, Dollár 2020, arXiv 2003.13678, section 3.3)."""

import itertools
import math
from dataclasses import dataclass

from torch import nn

from paredown.core.errors import BadInput
from paredown.zoo.blocks import Residual, Squeeze, between, conv_norm, head, pictures
from paredown.zoo.resnet import shortcut


@dataclass(frozen=True)
class Line:
    """The paper's parameters: block j is w0 + wa · j wide, rounded to a power of wm times w0; groups are of `group`."""

    depth: int
    w0: int
    wa: float
    wm: float
    group: int

    def stages(self) -> list[tuple[int, int]]:
        """Return (width, depth) of each stage: equation 2 to 4, widths rounded to multiples of 8 and of the groups."""
        steps = [round(math.log(1 + self.wa * j / self.w0) / math.log(self.wm)) for j in range(self.depth)]
        widths = [round(self.w0 * self.wm**step / 8) * 8 for step in steps]
        runs = [(width, len(list(run))) for width, run in itertools.groupby(widths)]
        return [(max(1, round(w / self.each(w))) * self.each(w), d) for w, d in runs]

    def each(self, width: int) -> int:
        """Return the channels of a group in a block of this width."""
        return min(self.group, width)


def _regnet(name: str, shape: tuple[int, ...], classes: int, line: Line, squeezed: bool) -> nn.Sequential:
    between(name, "depth", line.depth, 1, 100)
    between(name, "w0", line.w0, 8, 1024)
    between(name, "wa", line.wa, 0.0, 1024.0)
    between(name, "group", line.group, 1, 1024)
    if isinstance(line.wm, bool) or not isinstance(line.wm, int | float) or not line.wm > 1:
        raise BadInput(f"model {name} has a wm above 1, not {line.wm!r}")
    inside = 32
    layers: list[nn.Module] = [conv_norm(pictures(name, shape), inside, 3, 2)]
    for width, depth in line.stages():
        for at in range(depth):
            stride = 1 if at else 2
            squeeze = [Squeeze(width, round(inside / 4))] if squeezed else []
            middle = conv_norm(width, width, 3, stride, width // line.each(width))
            main = nn.Sequential(conv_norm(inside, width, 1), middle, *squeeze, conv_norm(width, width, 1, act=None))
            layers.append(Residual(main, shortcut(inside, width, stride)))
            inside = width
    return nn.Sequential(*layers, head(inside, classes))


def regnet_x(
    shape: tuple[int, ...], classes: int, depth: int = 13, w0: int = 24, wa: float = 36.44, wm: float = 2.49, group: int = 8
) -> nn.Sequential:  # fmt: skip
    """Return RegNetX-200MF; 2,684,792 parameters and 199,039,872 MACs on 3 x 224 x 224 with 1,000 classes.

    depth, w0, wa, wm, group: the paper's line of widths, here 24, 56, 152, 368 with 1, 1, 4, 7 blocks. Raises BadInput.
    """
    return _regnet("regnet_x", shape, classes, Line(depth, w0, wa, wm, group), False)


def regnet_y(
    shape: tuple[int, ...], classes: int, depth: int = 16, w0: int = 48, wa: float = 27.89, wm: float = 2.09, group: int = 8
) -> nn.Sequential:  # fmt: skip
    """Return RegNetY-400MF (with squeezing); 4,344,144 parameters and 401,842,848 MACs on 3 x 224 x 224, 1,000 classes.

    depth, w0, wa, wm, group: the paper's line of widths, here 48, 104, 208, 440 with 1, 3, 6, 6 blocks. Raises BadInput.
    """
    return _regnet("regnet_y", shape, classes, Line(depth, w0, wa, wm, group), True)
