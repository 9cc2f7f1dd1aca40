"""Every operator's counter against a plain loop whose numbers count what is done with them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cost import counted_numbers as loop
from cost import sampled_numbers as sampling
from cost.counted_numbers import DONE, Number, each, numbers, over, sigmoid, tanh, values
from paredown.core.cost import KINDS
from paredown.cost.arithmetic import Call, counted
from paredown.cost.count import layers
from paredown.graph.capture import capture
from paredown.graph.ops import OPS

MAP, SIGNAL, ROWS, VOLUME = (4, 5, 6), (4, 9), (5, 8), (2, 4, 3, 3)
Case = tuple[str, Callable[..., Tensor], tuple[tuple[int, ...], ...], Callable[..., np.ndarray]]
"""Operator; function of x and weights in torch; shapes of a sample and of the weights; the same as a loop."""


class Made(nn.Module):
    """A function of the input and of weights as a module."""

    def __init__(self, function: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.weights = nn.ParameterList(torch.rand(shape, generator=draw) + 0.1 for shape in shapes)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.weights)


def convolution(op: str, f: Callable[..., Tensor], x: tuple[int, ...], w: tuple[int, ...], **how: int) -> Case:
    """Return a case of a convolution, with a bias or without."""
    transposed = "transpose" in op
    groups, bias = how.get("groups", 1), how.pop("bias", 0)
    back = loop.convolve_back if transposed else loop.convolve
    given = (how.get("stride", 1), how.get("padding", 0), how.get("dilation", 1), groups)

    def by_loop(x: Any, w: Any, b: Any = None) -> np.ndarray:
        return back(x, w, b, *given)

    shapes = (x, w, (w[1] * groups if transposed else w[0],)) if bias else (x, w)
    return op, lambda x, w, b=None: f(x, w, b, **how), shapes, by_loop


def point(op: str, f: Callable[[Tensor], Tensor], of: Callable[[Number], Any]) -> Case:
    """Return a case of an operator on single values."""
    return op, f, (MAP,), lambda x: each(of, x)


def normal(
    op: str, f: Callable[..., Tensor], shape: tuple[int, ...], groups: int, channel: bool, centre: bool = True
) -> Case:
    """Return a case of a norm that measures `groups` blocks of a sample, with an affine map by channel or by place."""

    def by_loop(x: Any, w: Any, b: Any = None) -> np.ndarray:
        blocks = [loop.normalise(block, centre) for block in x[0].reshape(groups, -1)]
        wide = (-1, *[1] * (x.ndim - 2)) if channel else w.shape
        shift = None if b is None else b.reshape(wide)
        return loop.affine(np.array(blocks, dtype=object).reshape(x.shape), w.reshape(wide), shift)

    weight = (shape[0],) if channel else shape[-1:]
    return op, f, (shape, weight, weight) if centre else (shape, weight), by_loop


def recurrent(op: str, kind: type[nn.RNNBase], **how: Any) -> Case:
    """Return a case of a recurrent layer over five steps of eight values."""
    layer = kind(8, 3, batch_first=True, **how)
    shapes = tuple(tuple(p.shape) for p in layer.parameters())
    layers_, directions = how.get("num_layers", 1), 2 if how.get("bidirectional") else 1

    def by_torch(x: Tensor, *weights: Tensor) -> Tensor:
        state = torch.zeros(layers_ * directions, x.shape[0], 3)
        start: Any = [state, state] if op == "lstm.input" else state
        given = (list(weights), how.get("bias", True), layers_, 0.0, False, directions == 2, True)
        return getattr(torch.ops.aten, op.split(".", maxsplit=1)[0]).input(x, start, *given)[0]

    def by_loop(x: Any, *weights: Any) -> np.ndarray:
        return loop.recur(op.split(".", maxsplit=1)[0], x[0], list(weights), layers_, directions)[None]

    return op, by_torch, (ROWS, *shapes), by_loop


PRODUCTS: list[Case] = [
    convolution("conv1d", F.conv1d, SIGNAL, (3, 4, 3), bias=1),
    convolution("conv2d", F.conv2d, MAP, (3, 4, 2, 3), padding=1, bias=1),
    convolution("conv2d", F.conv2d, MAP, (6, 2, 2, 2), groups=2, stride=2),
    convolution("conv2d", F.conv2d, MAP, (4, 1, 3, 3), groups=4, padding=2, dilation=2),
    convolution("conv3d", F.conv3d, VOLUME, (3, 2, 2, 2, 2), bias=1),
    convolution("conv_transpose1d", F.conv_transpose1d, SIGNAL, (4, 2, 3), stride=2, bias=1),
    convolution("conv_transpose2d.input", F.conv_transpose2d, (4, 3, 3), (4, 2, 3, 3), stride=2, padding=1, groups=2),
    convolution("conv_transpose2d.input", F.conv_transpose2d, (4, 3, 3), (4, 2, 2, 2), stride=3, dilation=2, bias=1),
    convolution("conv_transpose3d.input", F.conv_transpose3d, (2, 2, 2, 2), (2, 1, 2, 2, 2)),
    ("conv1d.padding", lambda x, w: F.conv1d(x, w, padding="same"), (SIGNAL, (3, 4, 3)), lambda x, w: loop.convolve(x, w, None, 1, 1, 1, 1)),
    ("conv2d.padding", lambda x, w: F.conv2d(x, w, padding="same"), (MAP, (3, 4, 3, 3)), lambda x, w: loop.convolve(x, w, None, 1, 1, 1, 1)),
    ("conv3d.padding", lambda x, w: F.conv3d(x, w, padding="valid"), (VOLUME, (3, 2, 2, 2, 2)), lambda x, w: loop.convolve(x, w, None, 1, 0, 1, 1)),
    ("linear", F.linear, (ROWS, (3, 8), (3,)), loop.linear),
    ("linear", F.linear, ((7,), (3, 7)), loop.linear),
    ("matmul", lambda x, w: x @ w, (ROWS, (8, 3)), loop.product),
    ("matmul", lambda x, w: w @ x, (ROWS, (3, 5)), lambda x, w: loop.product(w, x)),
    ("bmm", lambda x: torch.bmm(x, x.transpose(1, 2)), (ROWS,), lambda x: loop.product(x, np.swapaxes(x, 1, 2))),
    ("mm", torch.mm, ((6,), (6, 3)), loop.product),
    ("addmm", lambda x, w, b: torch.addmm(b, x, w), ((6,), (6, 3), (3,)), lambda x, w, b: each(lambda u, v: u + v, loop.product(x, w), b)),
    ("addmm", lambda x, w, b: torch.addmm(b, x, w, alpha=2.0), ((6,), (6, 3), (3,)), lambda x, w, b: each(lambda u, v: u * 2 + v, loop.product(x, w), b)),
    ("scaled_dot_product_attention", lambda q, k, v: F.scaled_dot_product_attention(q, k[None], v[None]), ((2, 3, 4), (2, 5, 4), (2, 5, 6)), lambda q, k, v: loop.attend(q, k[None], v[None])),
    ("scaled_dot_product_attention", lambda q, m: F.scaled_dot_product_attention(q, q, q, m), ((2, 3, 4), (3, 3)), lambda q, m: loop.attend(q, q, q, m)),
    recurrent("rnn_tanh.input", nn.RNN),
    recurrent("rnn_relu.input", nn.RNN, bias=False),
    recurrent("lstm.input", nn.LSTM, num_layers=2, bidirectional=True),
    recurrent("gru.input", nn.GRU, num_layers=2),
    recurrent("gru.input", nn.GRU, bidirectional=True, bias=False),
]  # fmt: skip


def clipped(v: Number, low: float, high: float) -> Number:
    """Return v within bounds."""
    return v.largest(low).smallest(high)


def erf_gelu(v: Number) -> Number:
    """Return x/2 (1 + erf(x/√2))."""
    return v * 0.5 * ((v * math.sqrt(0.5)).function(math.erf) + 1)


def tanh_gelu(v: Number) -> Number:
    """Return x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    inside = (v + v * v * v * 0.044715) * math.sqrt(2 / math.pi)
    return v * 0.5 * (tanh(inside) + 1)


def chosen(v: Number, below: Number) -> Number:
    """Return `below` for a negative v, else v."""
    return below if v.below(0) else v


POINTS: list[Case] = [
    point("relu", torch.relu, lambda v: v.largest(0)),
    point("relu6", F.relu6, lambda v: clipped(v, 0, 6)),
    point("hardtanh", F.hardtanh, lambda v: clipped(v, -1, 1)),
    point("clamp", lambda x: x.clamp(-0.2, 0.3), lambda v: clipped(v, -0.2, 0.3)),
    point("clamp", lambda x: x.clamp(max=0.3), lambda v: v.smallest(0.3)),
    point("clamp_min", lambda x: torch.ops.aten.clamp_min(x, 0.1), lambda v: v.largest(0.1)),
    point("leaky_relu", lambda x: F.leaky_relu(x, 0.1), lambda v: chosen(v, v * 0.1)),
    ("prelu", F.prelu, (MAP, (1,)), lambda x, w: each(lambda v: chosen(v, v * w[0]), x)),
    point("hardsigmoid", F.hardsigmoid, lambda v: clipped(v + 3, 0, 6) * (1 / 6)),
    point("hardswish", F.hardswish, lambda v: v * clipped(v + 3, 0, 6) * (1 / 6)),
    point("sigmoid", torch.sigmoid, sigmoid),
    point("silu", F.silu, lambda v: v * sigmoid(v)),
    point("tanh", torch.tanh, tanh),
    point("elu", F.elu, lambda v: chosen(v, v.function(math.exp) - 1)),
    point("elu", lambda x: F.elu(x, 0.5), lambda v: chosen(v, (v.function(math.exp) - 1) * 0.5)),
    point("selu", F.selu, lambda v: chosen(v, (v.function(math.exp) - 1) * 1.6732632423543772) * 1.0507009873554805),
    point("softplus", F.softplus, lambda v: _soft(v) if v.below(20) else v),
    point("softplus", lambda x: F.softplus(x, 2.0), lambda v: _soft(v * 2) * 0.5 if v.below(10) else v),
    point("mish", F.mish, lambda v: v * tanh(_soft(v))),
    point("gelu", F.gelu, erf_gelu),
    point("gelu", lambda x: F.gelu(x, approximate="tanh"), tanh_gelu),
    ("softmax.int", lambda x: F.softmax(x, -1), (ROWS,), lambda x: np.apply_along_axis(loop.softmax, -1, x)),
    ("log_softmax.int", lambda x: F.log_softmax(x, 1), (ROWS,), lambda x: np.apply_along_axis(loop.log_softmax, 1, x)),
    ("add.Tensor", lambda x, w: x + w, (MAP, MAP), lambda x, w: each(lambda a, b: a + b, x, w)),
    ("add.Tensor", lambda x, w: torch.add(x, w, alpha=3), (MAP, MAP), lambda x, w: each(lambda a, b: a + b * 3, x, w)),
    ("sub.Tensor", lambda x, w: x - w, (MAP, MAP), lambda x, w: each(lambda a, b: a - b, x, w)),
    point("rsub.Scalar", lambda x: torch.rsub(x, 2), lambda v: 2 - v),
    ("mul.Tensor", lambda x, w: x * w, (MAP, (4, 1, 1)), lambda x, w: each(lambda a, b: a * b, x, w)),
    ("div.Tensor", lambda x, w: x / w, (MAP, MAP), lambda x, w: each(lambda a, b: a / b, x, w)),
    ("maximum", torch.maximum, (MAP, MAP), lambda x, w: each(lambda a, b: a.largest(b), x, w)),
    ("minimum", torch.minimum, (MAP, MAP), lambda x, w: each(lambda a, b: a.smallest(b), x, w)),
    point("square", torch.square, lambda v: v * v),
    point("neg", torch.neg, lambda v: -v),
    point("abs", torch.abs, abs),
    point("sqrt", torch.sqrt, lambda v: v.function(math.sqrt)),
    point("rsqrt", torch.rsqrt, lambda v: v.function(lambda u: u**-0.5)),
    point("exp", torch.exp, lambda v: v.function(math.exp)),
    point("log", torch.log, lambda v: v.function(math.log)),
    point("erf", torch.erf, lambda v: v.function(math.erf)),
    point("sin", torch.sin, lambda v: v.function(math.sin)),
    point("cos", torch.cos, lambda v: v.function(math.cos)),
    point("reciprocal", torch.reciprocal, lambda v: v.function(lambda u: 1 / u)),
    point("gt.Scalar", lambda x: x > 0.5, lambda v: 1 - v.below(0.5)),
    point("ge.Scalar", lambda x: x >= 0.5, lambda v: 1 - v.below(0.5)),
    point("lt.Scalar", lambda x: x < 0.5, lambda v: int(v.below(0.5))),
    point("le.Scalar", lambda x: x <= 0.5, lambda v: int(v.below(0.5))),
    point("eq.Scalar", lambda x: x == 0.5, lambda v: int(v.below(0.5)) * 0),
    point("ne.Scalar", lambda x: x != 0.5, lambda v: 1 - int(v.below(0.5)) * 0),
    point("pow.Tensor_Scalar", lambda x: x**2, lambda v: v * v),
    point("pow.Tensor_Scalar", lambda x: x**3, lambda v: v * v * v),
    point("pow.Tensor_Scalar", lambda x: x**1.5, lambda v: v.function(lambda u: u**1.5)),
    point("fake_quantize_per_tensor_affine", lambda x: torch.fake_quantize_per_tensor_affine(x, 0.01, 3, 0, 60), lambda v: Number((round(clipped(v * 100 + 3, 0, 60).value) - 3) * 0.01)),
    ("_fake_quantize_learnable_per_tensor_affine", lambda x, s: torch._fake_quantize_learnable_per_tensor_affine(x, s, torch.zeros(1), -8, 7), (MAP, (1,)), lambda x, s: each(lambda v: Number(round(clipped(v * (1 / s[0].value) + 0, -8, 7).value) * s[0].value), x)),
]  # fmt: skip


def _soft(v: Number) -> Number:
    return (v.function(math.exp) + 1).function(math.log)


def largest(block: Any) -> Any:
    """Return the largest of a block."""
    return loop.most(block)


def length(block: Any) -> Any:
    """Return the Euclidean length."""
    return loop.total([v * v for v in np.ravel(block)]).function(math.sqrt)


def on_a_grid(mode: str, edge: str, align: bool) -> Case:
    """Return a case of sampling at places inside and outside of the picture."""

    def by_torch(x: Tensor, grid: Tensor) -> Tensor:
        places = (grid * 2.6 - 1.5).expand(x.shape[0], -1, -1, -1)
        return F.grid_sample(x, places, mode, edge, align)

    def by_loop(x: Any, grid: Any) -> np.ndarray:
        return sampling.sampled(x, numbers(values(grid) * 2.6 - 1.5), mode, edge, align)

    return "grid_sampler", by_torch, (MAP, (1, 3, 4, 2)), by_loop


WINDOWS: list[Case] = [
    ("max_pool1d", lambda x: F.max_pool1d(x, 3), (SIGNAL,), lambda x: loop.windows(x, 3, 3, 1, largest)),
    ("max_pool2d", lambda x: F.max_pool2d(x, 2, 1), (MAP,), lambda x: loop.windows(x, 2, 1, 2, largest)),
    ("max_pool3d", lambda x: F.max_pool3d(x, 2, 1), (VOLUME,), lambda x: loop.windows(x, 2, 1, 3, largest)),
    ("avg_pool1d", lambda x: F.avg_pool1d(x, 3), (SIGNAL,), lambda x: loop.windows(x, 3, 3, 1, loop.mean)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 2), (MAP,), lambda x: loop.windows(x, 2, 2, 2, loop.mean)),
    ("avg_pool3d", lambda x: F.avg_pool3d(x, 2, 1), (VOLUME,), lambda x: loop.windows(x, 2, 1, 3, loop.mean)),
    ("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 4), (SIGNAL,), lambda x: loop.adaptive(x, (4,), loop.mean)),
    ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (2, 4)), (MAP,), lambda x: loop.adaptive(x, (2, 4), loop.mean)),
    ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), (MAP,), lambda x: loop.adaptive(x, (1, 1), loop.mean)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (2, 4)), (MAP,), lambda x: loop.adaptive(x, (2, 4), largest)),
    ("upsample_bilinear2d.vec", lambda x: F.interpolate(x, (7, 9), mode="bilinear"), (MAP,), lambda x: loop.bilinear(x, (7, 9))),
    ("upsample_bicubic2d.vec", lambda x: F.interpolate(x, (7, 9), mode="bicubic"), (MAP,), lambda x: sampling.bicubic(x, (7, 9))),
    *(on_a_grid(mode, edge, align) for mode in ("bilinear", "nearest", "bicubic") for edge in ("zeros", "border", "reflection") for align in (False, True)),
    ("mean.dim", lambda x: x.mean((2, 3)), (MAP,), lambda x: over(x, (2, 3), loop.mean)),
    ("mean", lambda x: x.mean(), (MAP,), lambda x: np.array(loop.mean(x), dtype=object)),
    ("sum.dim_IntList", lambda x: x.sum(1), (MAP,), lambda x: over(x, (1,), loop.total)),
    ("sum", lambda x: x.sum(), (MAP,), lambda x: np.array(loop.total(x), dtype=object)),
    ("amax", lambda x: x.amax((1, 3)), (MAP,), lambda x: over(x, (1, 3), largest)),
    ("amin", lambda x: x.amin(1), (MAP,), lambda x: over(x, (1,), lambda b: -largest([-v for v in b]))),
    ("cumsum", lambda x: x.cumsum(1), (ROWS,), lambda x: np.add.accumulate(x, axis=1)),
    ("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, dim=1), (MAP,), lambda x: over(x, (1,), length)),
    ("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, ord=1, dim=1), (MAP,), lambda x: over(x, (1,), lambda b: loop.total([abs(v) for v in b]))),
    ("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, ord=math.inf, dim=1), (MAP,), lambda x: over(x, (1,), lambda b: largest([abs(v) for v in b]))),
    ("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, ord=3, dim=1), (MAP,), lambda x: over(x, (1,), lambda b: loop.total([v.function(lambda u: u**3) for v in b]).function(lambda u: u ** (1 / 3)))),
]  # fmt: skip


def _running(x: Any, m: Any, v: Any, w: Any, b: Any) -> np.ndarray:
    """Return the affine map of a norm with running statistics; its scale and shift are prepared beforehand."""
    scale = values(w) / np.sqrt(values(v) + 1e-5)
    shift = values(b) - values(m) * scale
    wide = (-1, 1, 1)
    return loop.affine(x, scale.reshape(wide), shift.reshape(wide))


NORMS: list[Case] = [
    ("batch_norm", F.batch_norm, (MAP, (4,), (4,), (4,), (4,)), _running),
    ("instance_norm", lambda x, m, v, w, b: F.instance_norm(x, m, v, w, b, use_input_stats=False), (MAP, (4,), (4,), (4,), (4,)), _running),
    normal("instance_norm", lambda x, w, b: F.instance_norm(x, weight=w, bias=b), MAP, 4, True),
    normal("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), MAP, 2, True),
    normal("layer_norm", lambda x, w, b: F.layer_norm(x, (8,), w, b), ROWS, 5, False),
    normal("rms_norm", lambda x, w: F.rms_norm(x, (8,), w, 1e-5), ROWS, 5, False, centre=False),
]  # fmt: skip


CASES = [*PRODUCTS, *POINTS, *WINDOWS, *NORMS]


@pytest.mark.parametrize(("op", "function", "shapes", "by_loop"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_counter_says_what_the_loop_did(op: str, function: Any, shapes: Any, by_loop: Any) -> None:
    module = Made(function, shapes[1:])
    draw = torch.rand((1, *shapes[0]), generator=torch.Generator().manual_seed(0)) + 0.05
    net = capture(module, torch.cat([draw, draw]))
    DONE.clear()
    by_hand = by_loop(numbers(draw), *(numbers(w.detach()) for w in module.weights))
    done = dict(DONE)
    with torch.no_grad():
        assert np.allclose(values(by_hand), module(draw), atol=1e-5), "the loop is not the operator"
    (node,) = [n for n in net.spec.nodes if n.op == op]
    work = counted()[op].count(Call(node, net, net.shapes()))
    assert {k: v for k, v in vars(work).items() if v and k != "macs"} == done
    assert work.macs <= work.mults


def test_every_operator_that_computes_has_a_loop() -> None:
    computing = {name for name, operator in counted().items() if operator.kind not in ("data", "embedding")}
    assert computing == {case[0] for case in CASES}
    assert set(counted()) == set(OPS) and {o.kind for o in counted().values()} <= set(KINDS)


def test_operators_that_only_move_do_no_arithmetic() -> None:
    net = capture(nn.Sequential(nn.PixelShuffle(2), nn.Flatten(), nn.Unflatten(1, (2, -1))), torch.rand(2, 4, 2, 2))
    assert all(row.mults + row.adds + row.compares + row.specials + row.macs == 0 for row in layers(net))


class LogMel(nn.Module):
    """A log-mel front end without an FFT: the Fourier basis as a strided convolution, squares, a mel matrix, a logarithm."""

    def __init__(self, window: int = 16, hop: int = 8, mels: int = 5) -> None:
        super().__init__()
        bins = window // 2 + 1
        angle = 2 * math.pi * torch.arange(window)[None] * torch.arange(bins)[:, None] / window
        self.basis = nn.Parameter(torch.cat([angle.cos(), angle.sin()])[:, None])
        self.mel = nn.Parameter(torch.rand(bins, mels))
        self.hop = hop

    def forward(self, x: Tensor) -> Tensor:
        real, imaginary = F.conv1d(x, self.basis, stride=self.hop).chunk(2, 1)
        power = real.square() + imaginary.square()
        return (power.transpose(1, 2) @ self.mel).clamp(min=1e-6).log()


def test_an_audio_front_end_without_fft() -> None:
    front, sound = LogMel(), torch.rand(1, 1, 64)
    steps, bins = (64 - 16) // 8 + 1, 9
    rows = layers(capture(front, torch.cat([sound, sound])))
    total = {key: sum(getattr(row, key) for row in rows) for key in ("macs", "mults", "adds", "compares", "specials")}
    wanted = steps * 2 * bins * 16 + steps * bins * 5
    assert total["macs"] == wanted and total["mults"] == wanted + 2 * steps * bins
    assert total["adds"] == steps * 2 * bins * 15 + steps * bins + steps * 8 * 5
    assert (total["compares"], total["specials"]) == (steps * 5, steps * 5)
