"""Wide residual networks (Zagoruyko, Komodakis 2016, arXiv 1605.07146, table 1)."""

from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.zoo.blocks import between, head, pictures


class _Block(nn.Module):
    """Norm and ReLU before each of two 3 x 3 convolutions; where the shape changes, the shortcut begins after the first."""

    def __init__(self, inside: int, outside: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.begin = nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU())
        self.main = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
            *([nn.Dropout(dropout)] if dropout else []), nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
        )  # fmt: skip
        changes = stride != 1 or inside != outside
        self.short = nn.Conv2d(inside, outside, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.begin(x)
        return self.main(y) + (x if self.short is None else self.short(y))


def wide_resnet(
    shape: tuple[int, ...], classes: int, depth: int = 28, widen: int = 10, dropout: float = 0.0
) -> nn.Sequential:
    """Return WRN-28-10; 36,536,884 parameters and 5,243,386,368 MACs on 3 x 32 x 32 with 100 classes.

    depth: 6n + 4. widen: the stages have 16, 32 and 64 times as many channels; depth 16 and 4 give WRN-16-4, with
    2,772,020 and 392,635,392. Raises BadInput.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or (depth - 4) % 6 or depth < 10:
        raise BadInput(f"model wide_resnet has depth 10, 16, 22, 28, 34 or 40, not {depth}")
    between("wide_resnet", "widen", widen, 1, 64)
    between("wide_resnet", "dropout", dropout, 0.0, 0.9)
    layers: list[nn.Module] = [nn.Conv2d(pictures("wide_resnet", shape), 16, 3, 1, 1, bias=False)]
    inside = 16
    for stage in range(3):
        for at in range((depth - 4) // 6):
            layers.append(_Block(inside, 16 * 2**stage * widen, 2 if stage and at == 0 else 1, dropout))
            inside = 16 * 2**stage * widen
    return nn.Sequential(*layers, nn.BatchNorm2d(inside), nn.ReLU(), head(inside, classes))
