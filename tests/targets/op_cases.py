"""One small module for each operator that can be written as ONNX, in several settings."""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PICTURE, VECTOR, SIGNAL, TOKENS, VOLUME = (4, 6, 6), (8,), (4, 9), (5, 8), (2, 4, 5, 6)


ROWS_READ = torch.tensor([0, 3, 3, 1, 4, 2, 0, 1])
"""Rows that an embedding case reads."""


class Call(nn.Module):
    """A function of the input, and weights of given shapes, as a module."""

    def __init__(self, function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList(torch.randn(s, generator=draw) / 2 for s in shapes)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x - 0.5, *self.weights)


def call(function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> Call:
    return Call(function, *shapes)


class _First(nn.Module):
    """A recurrent layer's outputs, or its last state."""

    def __init__(self, layer: nn.Module, which: int = 0) -> None:
        super().__init__()
        self.layer, self.which = layer, which

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x)[self.which]
        return found[0].transpose(0, 1) if isinstance(found, tuple) else found


def _norm(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = make().train()
        for _ in range(2):
            norm(torch.randn(16, *shape) * 2 + 1)
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
        return norm.eval()


def _layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    return {
        "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), SIGNAL),
        "conv2d": (nn.Conv2d(4, 6, 3), PICTURE),
        "conv2d uneven": (nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False), PICTURE),
        "conv2d groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), PICTURE),
        "conv2d depthwise": (nn.Conv2d(4, 8, 3, groups=4), PICTURE),
        "conv2d short": (
            call(lambda x, w: F.conv2d(x, w, stride=(2,), padding=(1,), dilation=(2,)), (3, 4, 2, 2)),
            PICTURE,
        ),
        "conv2d reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), PICTURE),
        "conv2d circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), PICTURE),
        "conv3d": (nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), VOLUME),
        "lstm": (_First(nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)), TOKENS),
        "lstm last": (_First(nn.LSTM(8, 6, bias=False, batch_first=True), 1), TOKENS),
        "gru": (_First(nn.GRU(8, 6, num_layers=2, batch_first=True)), TOKENS),
        "rnn": (_First(nn.RNN(8, 6, batch_first=True, bidirectional=True)), TOKENS),
        "rnn relu": (_First(nn.RNN(8, 6, batch_first=True, nonlinearity="relu")), TOKENS),
        "attention": (call(lambda x: F.scaled_dot_product_attention(x, 2 * x, x + 1)), TOKENS),
        "attention scaled": (call(lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3)), PICTURE),
        "attention masked": (call(lambda x, m: F.scaled_dot_product_attention(x, x, x, m), (5, 5)), TOKENS),
        "attention causal": (call(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), PICTURE),
        "same1d": (nn.Conv1d(4, 6, 4, padding="same"), SIGNAL),
        "same2d": (nn.Conv2d(4, 6, 3, padding="same"), PICTURE),
        "same2d even": (nn.Conv2d(4, 6, (2, 4), padding="same"), PICTURE),
        "same2d dilated": (nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(3, 2)), PICTURE),
        "same3d": (nn.Conv3d(2, 4, (2, 3, 2), padding="same"), VOLUME),
        "valid2d": (nn.Conv2d(4, 6, 3, padding="valid", stride=2, groups=2), PICTURE),
        "transposed1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), SIGNAL),
        "transposed2d": (nn.ConvTranspose2d(4, 6, 3, stride=2), PICTURE),
        "transposed2d all": (
            nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 1), groups=2, bias=False, dilation=(2, 1)),
            PICTURE,
        ),
        "transposed3d": (nn.ConvTranspose3d(2, 4, 2, stride=2), VOLUME),
        "linear": (nn.Linear(8, 5), VECTOR),
        "linear bare": (nn.Linear(8, 5, bias=False), VECTOR),
        "linear tokens": (nn.Linear(8, 3), TOKENS),
        "linear tokens bare": (nn.Linear(8, 3, bias=False), TOKENS),
        "batch norm 1d": (_norm(lambda: nn.BatchNorm1d(8, eps=0.1), VECTOR), VECTOR),
        "batch norm 2d": (_norm(lambda: nn.BatchNorm2d(4), PICTURE), PICTURE),
        "batch norm bare": (_norm(lambda: nn.BatchNorm2d(4, affine=False), PICTURE), PICTURE),
        "layer norm": (_norm(lambda: nn.LayerNorm(8), TOKENS), TOKENS),
        "layer norm 2": (_norm(lambda: nn.LayerNorm((6, 6), eps=0.01, bias=False), PICTURE), PICTURE),
        "layer norm bare": (nn.LayerNorm(8, elementwise_affine=False), TOKENS),
        "group norm": (_norm(lambda: nn.GroupNorm(2, 4), PICTURE), PICTURE),
        "group norm bare": (nn.GroupNorm(4, 4, affine=False), PICTURE),
        "prelu": (nn.PReLU(4), PICTURE),
        "prelu one": (nn.PReLU(), PICTURE),
        "prelu vector": (nn.PReLU(8), VECTOR),
        "matmul": (call(lambda x, w: x @ w, (8, 3)), TOKENS),
        "matmul two": (call(lambda x: x @ x.transpose(1, 2)), TOKENS),
        "bmm": (call(lambda x: torch.bmm(x, x.transpose(-1, -2))), TOKENS),
        "mm": (call(torch.mm, (8, 3)), VECTOR),
        "tied": (call(lambda x, w: F.linear(F.linear(x, w), w.t()), (3, 8)), VECTOR),
    }


def _pools() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    return {
        "max1d": (nn.MaxPool1d(3, 2, 1), SIGNAL),
        "max1d plain": (call(lambda x: F.max_pool1d(x, 2)), SIGNAL),
        "max2d": (nn.MaxPool2d(2), PICTURE),
        "max2d uneven": (nn.MaxPool2d((2, 3), (1, 2), (1, 1), (2, 1)), PICTURE),
        "max2d ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), PICTURE),
        "max2d ceil padded": (nn.MaxPool2d(2, 3, 1, ceil_mode=True), PICTURE),
        "max2d ceil odd": (nn.MaxPool2d(4, 4, 1, ceil_mode=True), PICTURE),
        "max3d": (nn.MaxPool3d(2, (1, 2, 2), (0, 1, 0)), VOLUME),
        "average1d": (nn.AvgPool1d(3, 2, 1), SIGNAL),
        "average1d not": (nn.AvgPool1d(3, 2, 1, count_include_pad=False), SIGNAL),
        "average2d": (nn.AvgPool2d(2), PICTURE),
        "average2d padded": (nn.AvgPool2d(3, 2, 1), PICTURE),
        "average2d not": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), PICTURE),
        "average2d ceil": (nn.AvgPool2d(4, 3, ceil_mode=True), PICTURE),
        "average2d ceil padded": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), PICTURE),
        "average2d ceil not": (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), PICTURE),
        "average2d sum": (nn.AvgPool2d(2, divisor_override=1), PICTURE),
        "average2d padded sum": (nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=5), PICTURE),
        "average3d": (nn.AvgPool3d((1, 2, 3), (1, 2, 1), (0, 1, 0)), VOLUME),
        "adaptive1d": (nn.AdaptiveAvgPool1d(3), SIGNAL),
        "adaptive2d": (nn.AdaptiveAvgPool2d(1), PICTURE),
        "adaptive2d uneven": (nn.AdaptiveAvgPool2d((2, 3)), PICTURE),
        "adaptive2d as is": (nn.AdaptiveAvgPool2d((None, 1)), PICTURE),
        "adaptive1d parts": (nn.AdaptiveAvgPool1d(4), SIGNAL),
        "adaptive2d parts": (nn.AdaptiveAvgPool2d((4, 3)), (3, 6, 7)),
        "adaptive2d larger": (nn.AdaptiveAvgPool2d((6, 7)), (3, 1, 2)),
        "adaptive2d one side": (nn.AdaptiveAvgPool2d((None, 5)), PICTURE),
        "adaptive max": (nn.AdaptiveMaxPool2d((3, 2)), PICTURE),
        "adaptive max one": (nn.AdaptiveMaxPool2d(1), PICTURE),
        "nearest": (nn.Upsample(scale_factor=2), PICTURE),
        "nearest part": (nn.Upsample(scale_factor=(1.5, 2.5)), PICTURE),
        "nearest size": (nn.Upsample(size=(7, 9)), (2, 3, 5)),
        "nearest far": (nn.Upsample(size=(31, 13)), (2, 7, 11)),
        "nearest smaller": (nn.Upsample(size=(4, 5)), (2, 7, 6)),
        "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), PICTURE),
        "bilinear corners": (nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True), PICTURE),
        "bilinear size": (nn.Upsample(size=(7, 11), mode="bilinear"), (2, 3, 5)),
        "bilinear far": (nn.Upsample(size=(31, 13), mode="bilinear"), (2, 7, 11)),
        "bilinear size corners": (nn.Upsample(size=(7, 11), mode="bilinear", align_corners=True), (2, 3, 5)),
        "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), PICTURE),
        "bicubic part": (nn.Upsample(scale_factor=(1.3, 0.6), mode="bicubic"), PICTURE),
        "bicubic corners": (nn.Upsample(scale_factor=1.3, mode="bicubic", align_corners=True), PICTURE),
        "bicubic size": (nn.Upsample(size=(7, 11), mode="bicubic"), (2, 3, 5)),
        "bicubic one": (nn.Upsample(size=(1, 4), mode="bicubic"), (2, 3, 5)),
        "bicubic size corners": (nn.Upsample(size=(7, 11), mode="bicubic", align_corners=True), (2, 3, 5)),
    }


def _samplers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Sampling on a grid of its own channels, which lead outside, and on one that is an affine map of the picture."""
    settings = itertools.product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True))

    def own(mode: str, edge: str, align: bool) -> Callable[[Tensor], Tensor]:
        return lambda x: F.grid_sample(x, 3 * x[:, :2, 1:5].permute(0, 2, 3, 1), mode, edge, align)

    def affine(align: bool) -> Callable[..., Tensor]:
        def moved(x: Tensor, w: Tensor) -> Tensor:
            maps = (x.flatten(1) @ w).unflatten(1, (-1, x.dim() - 1))
            return F.grid_sample(x, F.affine_grid(maps, list(x.shape), align_corners=align), align_corners=align)

        return moved

    return {
        **{f"grid {' '.join(map(str, how))}": (call(own(*how)), PICTURE) for how in settings},
        "affine grid": (call(affine(False), (144, 6)), PICTURE),
        "affine grid corners": (call(affine(True), (144, 6)), PICTURE),
        "affine grid volume": (call(affine(False), (240, 12)), VOLUME),
    }


def _pointwise() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    functions: dict[str, Callable[..., Tensor]] = {
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "hardswish": lambda x: F.hardswish(6 * x),
        "mish": F.mish,
        "neg": torch.neg,
        "abs": torch.abs,
        "sqrt": lambda x: torch.sqrt(x + 1),
        "exp": torch.exp,
        "log": lambda x: torch.log(x + 1),
        "selu": F.selu,
        "relu6": lambda x: F.relu6(20 * x),
        "nn relu6": nn.ReLU6(),
        "hardtanh": nn.Hardtanh(-0.2, 0.3),
        "clamp": lambda x: x.clamp(-0.1, 0.2),
        "clamp low": lambda x: x.clamp(min=0.1),
        "clamp high": lambda x: x.clamp(max=0.1),
        "clamp_min": lambda x: torch.clamp_min(x, 0.1),
        "hardsigmoid": lambda x: F.hardsigmoid(8 * x),
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu tanh": nn.GELU("tanh"),
        "leaky": nn.LeakyReLU(0.3),
        "leaky plain": nn.LeakyReLU(),
        "elu": nn.ELU(0.7),
        "softmax": lambda x: F.softmax(3 * x, 1),
        "softmax last": lambda x: F.softmax(3 * x, -1),
        "log_softmax": lambda x: F.log_softmax(3 * x, -2),
        "add": lambda x: x + x.abs(),
        "add number": lambda x: x + 1.5,
        "add alpha": lambda x: torch.add(x, x.abs(), alpha=3),
        "sub": lambda x: x - x.abs(),
        "sub alpha": lambda x: torch.sub(x, x.abs(), alpha=0.5),
        "mul": lambda x: x * x.abs(),
        "mul number": lambda x: x * 3,
        "div": lambda x: x / (x.abs() + 1),
        "div number": lambda x: x / 3,
        "maximum": lambda x: torch.maximum(x, -x / 2),
        "minimum": lambda x: torch.minimum(x, -x / 2),
        "square": torch.square,
        "rsqrt": lambda x: torch.rsqrt(x + 1),
        "pow": lambda x: x**3,
        "pow part": lambda x: (x + 1) ** 0.3,
        "mean": lambda x: x.mean((2, 3)),
        "mean kept": lambda x: x.mean(-1, keepdim=True),
        "mean negative": lambda x: x.mean((-1, -2)),
        "sum": lambda x: x.sum(1),
        "sum negative": lambda x: x.sum((-1, 1), keepdim=True),
        "amax": lambda x: x.amax(-1),
        "amax two": lambda x: x.amax((1, 3)),
        "amin": lambda x: x.amin(2, keepdim=True),
        "mean all": lambda x: x - x.mean(),
    }
    return {name: (call(function), PICTURE) for name, function in functions.items()}


def _moves() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    pictures: dict[str, Callable[..., Tensor]] = {
        "flatten": lambda x: x.flatten(1),
        "flatten part": lambda x: x.flatten(1, 2),
        "flatten negative": lambda x: x.flatten(-2),
        "flatten batch": lambda x: x.flatten(0, 1),
        "flatten moved": lambda x: x.permute(1, 0, 2, 3).flatten(1).t(),
        "view": lambda x: x.view(-1, 144),
        "view batch": lambda x: x.view(x.shape[0], 4, 36),
        "view rest": lambda x: x.view(x.size(0), -1, 6),
        "reshape": lambda x: x.reshape(-1, 6, 24),
        "reshape moved": lambda x: x.permute(1, 0, 2, 3).reshape(4, x.shape[0], 36).sum(0),
        "reshape windows": lambda x: F.relu(x.reshape(-1, 36)).reshape(x.shape[0], 4, 36),
        "unflatten": lambda x: x.unflatten(1, (2, 2)),
        "unflatten negative": lambda x: x.unflatten(-1, (-1, 3)),
        "squeeze": lambda x: x[:, :1].squeeze(1),
        "squeeze negative": lambda x: x.mean(-1, keepdim=True).squeeze(-1),
        "squeeze two": lambda x: x.mean((2, 3), keepdim=True).squeeze((2, 3)),
        "unsqueeze": lambda x: x.unsqueeze(1),
        "unsqueeze last": lambda x: x.unsqueeze(-1),
        "permute": lambda x: x.permute(0, 2, 3, 1),
        "permute negative": lambda x: x.permute(0, -1, -3, -2),
        "transpose": lambda x: x.transpose(1, 2),
        "transpose negative": lambda x: x.transpose(-1, -3),
        "cat": lambda x: torch.cat([x, -x], 1),
        "cat last": lambda x: torch.cat([x, x.abs(), -x], -1),
        "stack": lambda x: torch.stack([x, -x], 1),
        "stack last": lambda x: torch.stack([x, -x], -1),
        "stack negative": lambda x: torch.stack([x, -x], -2),
        "chunk": lambda x: x.chunk(2, 1)[1],
        "chunk uneven": lambda x: torch.cat(x.chunk(4, -1)[::-1], -1),
        "chunk many": lambda x: sum(x.chunk(9, 2)[1:]),
        "chunk one": lambda x: x.chunk(1, 1)[0],
        "split": lambda x: torch.cat(x.split(4, 3)[::-1], 3),
        "split negative": lambda x: x.split(4, -2)[1],
        "split sizes": lambda x: x.split([1, 2, 3], -1)[2],
        "unbind": lambda x: sum(x.unbind(1)),
        "unbind last": lambda x: x.unbind(-1)[5],
        "slice": lambda x: x[:, 1:3],
        "slice end": lambda x: x[:, :, 1:],
        "slice negative": lambda x: x[..., -4:-1],
        "slice step": lambda x: x[:, ::2, 1::3],
        "narrow": lambda x: x.narrow(1, 1, 2),
        "narrow negative": lambda x: x.narrow(-1, -2, 2),
        "select": lambda x: x[:, 2],
        "select negative": lambda x: x[..., -2],
        "pad": lambda x: F.pad(x, (1, 2)),
        "pad value": lambda x: F.pad(x, (1, 0, 0, 2, 1, 1), value=-1.5),
        "pad crop": lambda x: F.pad(x, (-1, 1)),
        "pad reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
        "pad edge": lambda x: (
            F.pad(x, (1, 2), mode="replicate") if x.dim() == 3 else F.pad(x, (1, 2, 0, 1), mode="replicate")
        ),
        "pad circular": lambda x: F.pad(x, (1, 2, 2, 0), mode="circular"),
        "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
        "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
        "dropout": nn.Dropout(),
        "clone": lambda x: x.clone().contiguous(),
        "waves": lambda x: torch.sin(x) + torch.cos(2 * x) * torch.erf(x) + torch.reciprocal(x - 1),
        "masked": lambda x: x.masked_fill(x > 0.1, 0.5) + (-x).masked_fill(x <= 0, 2) + x.masked_fill(x == 0, 1),
        "where": lambda x: torch.where(x >= 0.2, x, torch.where(x < -0.2, x * 2, x.masked_fill(x != 0, 3))),
        "flip": lambda x: x.flip((1, 3)),
        "index_select": lambda x: x.index_select(1, torch.tensor([3, 0, 0, 1])),
        "norm": lambda x: x.norm(dim=1),
        "norm of sizes": lambda x: torch.linalg.vector_norm(x, 1, dim=(2, 3), keepdim=True),
        "cumsum": lambda x: torch.cumsum(x, 2),
        "to float": lambda x: x.to(torch.float32, copy=True),
        "roll": lambda x: x.roll((-1, 2), (2, 3)),
        "roll one": lambda x: x.roll(4, -1),
        "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1),
        "expand new": lambda x: x.unsqueeze(2).expand(-1, 4, 2, 6, 6),
        "repeat": lambda x: x.repeat(1, 2, 1, 3),
    }
    return {
        **{name: (call(f), PICTURE) for name, f in pictures.items()},
        "t": (call(lambda x, w: x @ w.t(), (3, 8)), VECTOR),
        "expand to the batch": (
            call(
                lambda x, w: torch.cat([w.expand(x.shape[0], -1, -1), x], 1).sum(2, keepdim=True).split(3, 1)[1],
                (1, 1, 8),
            ),
            TOKENS,
        ),
        "repeat to the batch": (call(lambda x, w: x * w.exp().repeat(x.shape[0], 1, 2), (5, 4)), TOKENS),
        "sum of all": (call(lambda x, w: x * w.sum(), (3, 4)), VECTOR),
        "embedding": (call(lambda x, w: x.matmul(F.embedding(ROWS_READ, w)), (5, 3)), VECTOR),
    }


def _quantizers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    settings = {
        "u8": (0.01, 50, 0, 255),
        "s8": (0.003, 0, -128, 127),
        "u4": (0.05, 7, 0, 15),
        "s4": (0.1, 0, -8, 7),
        "u3": (0.1, 3, 0, 7),
    }
    return {
        f"fake {name}": (call(lambda x, s=s: torch.fake_quantize_per_tensor_affine(x, *s)), VECTOR)
        for name, s in settings.items()
    }


CASES = {**_layers(), **_pools(), **_samplers(), **_pointwise(), **_moves(), **_quantizers()}
"""Name to (module, shape of one sample)."""
