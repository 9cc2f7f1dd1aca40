"""Swin (Liu et al. 2021, arXiv 2103.14030): attention in windows that shift from block to block."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from paredown.core.errors import BadInput
from paredown.zoo.blocks import between, pictures
from paredown.zoo.vit import Attention, perceptron


def windows(x: Tensor, side: int) -> Tensor:
    """Return (n, height, width, c) as (n, windows, side · side, c)."""
    _, height, width, channels = x.shape
    x = x.view(-1, height // side, side, width // side, side, channels).transpose(2, 3)
    return x.reshape(-1, (height // side) * (width // side), side * side, channels)


def unwindowed(x: Tensor, height: int, width: int, side: int) -> Tensor:
    """Return (n, windows, side · side, c) as (n, height, width, c): the way back from `windows`."""
    x = x.view(-1, height // side, width // side, side, side, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, height, width, x.shape[-1])


def relative(side: int) -> Tensor:
    """Return, for each pair of places of a window, the row of the table of (2 side - 1)² relative positions."""
    row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
    down, right = row[:, None] - row[None], column[:, None] - column[None]
    return (down + side - 1) * (2 * side - 1) + right + side - 1


def separate(height: int, width: int, side: int, shift: int) -> Tensor:
    """Return (windows, 1, side², side²): 0 within what was together before the shift, -100 across."""
    regions = torch.zeros(1, height, width, 1)
    cuts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for at, (down, right) in enumerate(itertools.product(cuts, cuts)):
        regions[:, down, right] = at
    flat = windows(regions, side)[0, :, :, 0]
    return (flat[:, :, None] != flat[:, None]).float().unsqueeze(1) * -100.0


class _Block(nn.Module):
    """Attention within windows of `side`, moved by `shift`, then a perceptron; each after layer norm, its input added."""

    places: Tensor
    mask: Tensor | None

    def __init__(self, sides: tuple[int, int], width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.perceptron = nn.LayerNorm(width), perceptron(width)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * side - 1) ** 2, heads), std=0.02))
        self.register_buffer("places", relative(side), persistent=False)
        self.register_buffer("mask", separate(*sides, side, shift) if shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attended(self.norm1(x))
        return x + self.perceptron(self.norm2(x))

    def _attended(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        bias = embedding(self.places, self.table).permute(2, 0, 1)
        if self.mask is None:
            return unwindowed(self.attention(windows(x, self.side), bias), height, width, self.side)
        moved = windows(x.roll((-self.shift, -self.shift), (1, 2)), self.side)
        y = unwindowed(self.attention(moved, bias + self.mask), height, width, self.side)
        return y.roll((self.shift, self.shift), (1, 2))


class _Merge(nn.Module):
    """Each 2 x 2 places as one of twice the channels: layer norm and a linear layer without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduce(self.norm(torch.cat(parts, -1)))


class _Mean(nn.Module):
    """The mean over places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2))


class _Permute(nn.Module):
    """Channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def swin_t(
    shape: tuple[int, ...], classes: int, width: int = 96, depths: tuple[int, ...] = (2, 2, 6, 2), window: int = 7
) -> nn.Sequential:
    """Return Swin-T; 28,288,354 parameters, 4,350,425,088 MACs without attention's products on 3 x 224 x 224, 1,000 classes.

    width: channels of the first stage, with a head for each 32 (or one). depths: blocks of each stage. window: its side,
    or the stage's where that is smaller. Raises BadInput for sides that do not divide.
    """
    between("swin_t", "width", width, 4, 4096)
    between("swin_t", "window", window, 1, 64)
    channels = pictures("swin_t", shape, 4 * 2 ** (len(depths) - 1))
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 4), _Permute(), nn.LayerNorm(width)]
    for stage, depth in enumerate(depths):
        if stage:
            layers.append(_Merge(width * 2 ** (stage - 1)))
        sides = shape[1] // (4 * 2**stage), shape[2] // (4 * 2**stage)
        side = min(window, *sides)
        if any(whole % (4 * 2**stage) or part % side for whole, part in zip(shape[1:], sides, strict=True)):
            raise BadInput(f"model swin_t with window={window} cannot part samples of shape {shape} into windows")
        heads = max(1, width // 32) * 2**stage
        for at in range(depth):
            shift = side // 2 if at % 2 and side < min(sides) else 0
            layers.append(_Block(sides, width * 2**stage, heads, side, shift))
    last = width * 2 ** (len(depths) - 1)
    return nn.Sequential(*layers, nn.LayerNorm(last), _Mean(), nn.Linear(last, classes))
