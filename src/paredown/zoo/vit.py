"""The vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) in the sizes of its authors and of DeiT (2012.12877)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from paredown.core.errors import BadInput
from paredown.zoo.blocks import between, pictures


class Attention(nn.Module):
    """Multi-head self-attention over the last but one axis; a bias (heads, n, n) is added to the scores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        split = self.qkv(x).unflatten(-1, (3 * self.heads, x.shape[-1] // self.heads)).transpose(-2, -3)
        query, key, value = split.chunk(3, -3)
        scores = query @ key.transpose(-1, -2) * (x.shape[-1] // self.heads) ** -0.5
        y = torch.softmax(scores if bias is None else scores + bias, -1) @ value
        return self.project(y.transpose(-2, -3).flatten(-2))


def perceptron(width: int, times: int = 4) -> nn.Sequential:
    """Return two linear layers with GELU between, `times` as wide inside."""
    return nn.Sequential(nn.Linear(width, times * width), nn.GELU(), nn.Linear(times * width, width))


class _Block(nn.Module):
    """Attention, then a perceptron, each after layer norm and with its input added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.perceptron = nn.LayerNorm(width), perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.perceptron(self.norm2(x))


class _Embed(nn.Module):
    """Patches as tokens behind a class token, all with a learned position."""

    def __init__(self, channels: int, patch: int, width: int, places: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, places + 1, width), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return pad(tokens, (0, 0, 1, 0)) + pad(self.token, (0, 0, 0, tokens.shape[1])) + self.position


class _First(nn.Module):
    """The first token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def _vit(name: str, shape: tuple[int, ...], classes: int, patch: int, size: tuple[int, int, int]) -> nn.Sequential:
    width, depth, heads = size
    between(name, "depth", depth, 1, 100)
    between(name, "width", width, 1, 8192)
    between(name, "heads", heads, 1, width)
    between(name, "patch", patch, 1, 256)
    channels = pictures(name, shape, patch)
    if shape[1] % patch or shape[2] % patch:
        raise BadInput(f"model {name} wants sides that patch={patch} divides, not samples of shape {shape}")
    if width % heads:
        raise BadInput(f"model {name} wants a width that heads={heads} divides, not {width}")
    places = (shape[1] // patch) * (shape[2] // patch)
    blocks = [_Block(width, heads) for _ in range(depth)]
    embed = _Embed(channels, patch, width, places)
    return nn.Sequential(embed, *blocks, nn.LayerNorm(width), _First(), nn.Linear(width, classes))


def vit_b_16(
    shape: tuple[int, ...], classes: int, patch: int = 16, width: int = 768, depth: int = 12, heads: int = 12
) -> nn.Sequential:
    """Return ViT-B/16; 86,567,656 parameters, 16,848,500,736 MACs without attention's products on 3 x 224 x 224, 1,000 classes.

    patch: side of a patch; it divides the picture's sides. width, depth, heads: of the transformer. Raises BadInput.
    """
    return _vit("vit_b_16", shape, classes, patch, (width, depth, heads))


def deit_tiny(
    shape: tuple[int, ...], classes: int, patch: int = 16, width: int = 192, depth: int = 12, heads: int = 3
) -> nn.Sequential:
    """Return DeiT-Ti; 5,717,416 parameters, 1,074,851,328 MACs without attention's products on 3 x 224 x 224, 1,000 classes.

    patch: side of a patch; it divides the picture's sides. width, depth, heads: of the transformer. Raises BadInput.
    """
    return _vit("deit_tiny", shape, classes, patch, (width, depth, heads))
