"""MicroNet's counter (2019): stored values with their masks, multiplications and additions, each by its width in bits.

Convention of google-research/micronet_challenge/counting.py: batch norm folds into the layer before it and leaves a
bias; a ReLU is a multiplication, on purpose, so that it gets the 16-bit freebie; weights are sparse with one mask bit
an entry, biases never. Operators that the reference lacks cost what the full convention says (`cost/arithmetic.py`),
comparisons and special functions as one multiplication each. A tensor with zeros is charged dense or sparse, whichever
takes fewer bits. Integer weights pay one 32-bit multiplication per output for their step; converting formats is free.
A shuffle of channels that is written as view and transpose is not recognised as one, and costs nothing here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import nn

from paredown.cost.arithmetic import Call, counted, slot_shape, stored_entries
from paredown.cost.memory import QUANTIZERS, value_bits
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Codebook, Fixed
from paredown.graph.spec import Value, references
from paredown.graph.vectors import Hashed, VectorCodebook

FLOAT = 32
"""The width of what nobody quantized, of steps, of centroids and of sums in floating point."""

ACTIVATIONS = {
    "relu": (1, 0),
    "relu6": (1, 0),
    "hardtanh": (1, 0),
    "clamp": (1, 0),
    "clamp_min": (1, 0),
    "silu": (3, 1),
    "sigmoid": (2, 1),
}
"""Multiplications and additions per value: the reference's relu, swish and sigmoid, and what clips as a ReLU does."""


@dataclass(frozen=True)
class Tally:
    """How many values are stored, products formed and sums taken, by width; `mask_bits` say where the nonzeros are.

    `dots` are sums of integer products, {(length, width of a product): how many}: what one addition of those costs
    depends on how they are accumulated. Counts may be fractions, of a sparsity or of a mean over a test set.
    """

    values_by_bits: Mapping[int, float] = field(default_factory=dict)
    mults_by_bits: Mapping[int, float] = field(default_factory=dict)
    adds_by_bits: Mapping[int, float] = field(default_factory=dict)
    dots: Mapping[tuple[int, int], float] = field(default_factory=dict)
    mask_bits: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        kept = [f.name for f in fields(self) if f.name != "mask_bits"]
        sums = {name: _sum(getattr(self, name), getattr(other, name)) for name in kept}
        return Tally(**sums, mask_bits=self.mask_bits + other.mask_bits)

    @property
    def values(self) -> float:
        """Stored values of any width."""
        return sum(self.values_by_bits.values())

    @property
    def mults(self) -> float:
        """Multiplications of any width."""
        return sum(self.mults_by_bits.values())

    @property
    def adds(self) -> float:
        """Additions of any width."""
        inside = sum((length - 1) * times for (length, _), times in self.dots.items())
        return sum(self.adds_by_bits.values()) + inside

    def charged(self, param_bits: float, mult_bits: float, add_bits: float) -> tuple[float, float]:
        """Return (parameters, operations) of 32 bits when everything has these widths: the reference's summary."""
        operations = self.mults * mult_bits + self.adds * add_bits
        return (self.values * param_bits + self.mask_bits) / FLOAT, operations / FLOAT

    def to_json(self) -> dict[str, Any]:
        """Return the counts as the MicroNet rule reads them: widths as keys, dots as [length, width, how many]."""
        return {
            "values_by_bits": dict(self.values_by_bits), "mults_by_bits": dict(self.mults_by_bits),
            "adds_by_bits": dict(self.adds_by_bits), "mask_bits": self.mask_bits,
            "dots": [[length, width, times] for (length, width), times in self.dots.items()],
        }  # fmt: skip


def _sum(one: Mapping[Any, float], other: Mapping[Any, float]) -> dict[Any, float]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def together(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    return sum(tallies, Tally())


def floats(values: float = 0, mults: float = 0, adds: float = 0, mask_bits: float = 0) -> Tally:
    """Return a tally in which everything is 32 bits wide."""
    return Tally({FLOAT: values}, {FLOAT: mults}, {FLOAT: adds}, {}, mask_bits)


def side(size: int, kernel: int, stride: int = 1, same: bool = True) -> int:
    """Return the side of a convolution's square output: ceil((n - k + 1 + 2 pad) / stride), pad = k // 2 for "same"."""
    return math.ceil((size - kernel + 1 + 2 * (kernel // 2 if same else 0)) / stride)


def product_layer(length: float, outputs: float, weights: float, sparsity: float = 0.0, biases: float = 0) -> Tally:
    """Return the cost of `outputs` dot products of `length` with `weights` stored values, of which a share is zero."""
    terms = length * (1 - sparsity)
    adds = (terms - 1) * outputs + (outputs if biases else 0)
    return floats(weights * (1 - sparsity) + biases, terms * outputs, adds, weights if sparsity else 0)


def convolution(places: int, kernel: int, inside: int, outside: int, sparsity: float = 0.0, bias: bool = True) -> Tally:
    """Return the cost of a square convolution at `places` output positions (`side` squared)."""
    length = kernel * kernel * inside
    return product_layer(length, places * outside, length * outside, sparsity, outside if bias else 0)


def depthwise(places: int, kernel: int, channels: int, sparsity: float = 0.0, bias: bool = True) -> Tally:
    """Return the cost of a depthwise convolution at `places` output positions."""
    length = kernel * kernel
    return product_layer(length, places * channels, length * channels, sparsity, channels if bias else 0)


def fully_connected(inside: int, outside: int, sparsity: float = 0.0, bias: bool = True) -> Tally:
    """Return the cost of a linear layer."""
    return product_layer(inside, outside, inside * outside, sparsity, outside if bias else 0)


def global_average(places: int, channels: int) -> Tally:
    """Return the cost of a mean over `places` positions: a sum and a division for each channel."""
    return floats(mults=channels, adds=(places - 1) * channels)


def scale(values: int) -> Tally:
    """Return the cost of multiplying `values` values, each by its own factor or by one."""
    return floats(mults=values)


def add(values: int) -> Tally:
    """Return the cost of adding two tensors of `values` values."""
    return floats(adds=values)


def activation(op: str, values: int) -> Tally:
    """Return the cost of relu, silu (swish) or sigmoid on `values` values. Raises KeyError for another."""
    mults, adds = ACTIVATIONS[op]
    return floats(mults=mults * values, adds=adds * values)


def permutation(places: int, channels: int) -> Tally:
    """Return the cost of an arbitrary order of channels: a product with a sparse permutation matrix (rules, FAQ)."""
    return floats(values=channels, mults=channels * places, mask_bits=channels * channels)


def block_mask_bits(shape: tuple[int, ...], block: tuple[int, ...]) -> int:
    """Return the bits of a mask with one bit a block (Parameter Storage: 512 x 128 in blocks of 4 x 4 takes 4,096)."""
    return math.prod(-(-size // step) for size, step in zip(shape, block, strict=True))


def product_bits(weight: int, value: int, signs: bool = False) -> int:
    """Return the width charged for a multiplication: the wider input's; 1 where it only flips a standalone sign bit.

    signs: the weight is +1 or -1 and the value has a sign bit of its own, as IEEE floats have and two's complement has not.
    """
    return 1 if signs else max(weight, value)


def count(net: Net, sparsity: float | None = None) -> dict[str, Tally]:
    """Return {node: cost for one sample}. Weights count where they are first read.

    sparsity: None for the zeros that the weights have; a number for what the reference counter books when every
    convolution and linear layer had that share of zeros, in floating point.
    """
    shapes, widths, seen = net.shapes(), value_bits(net), set[str]()
    folded = _folds(net)
    shifted = set(folded.values())
    found = {}
    for node in net.spec.nodes:
        fresh = {str(slot) for slot in node.slots()} - seen
        seen |= fresh
        call = Call(node, net, shapes)
        if node.op in WEIGHTED and "transpose" not in node.op and node.slot("weight"):
            width = max((widths[v] for v in node.values() if v in widths), default=FLOAT)
            shift = node.name in shifted or call.has("bias")
            found[node.name] = _layer(call, fresh, width, shift, sparsity)
        elif node.name not in folded:
            found[node.name] = _stored(call, fresh) + _work(call, widths)
    return found


def uncounted(net: Net) -> list[str]:
    """Return the operators whose cost nobody knows."""
    return sorted({node.op for node in net.spec.nodes} - set(counted()))


def _folds(net: Net) -> dict[str, str]:
    """Return {batch norm: the layer it folds into}, for those that one layer feeds, which feeds nothing else."""
    layers = {node.name for node in net.spec.nodes if node.op in WEIGHTED and "transpose" not in node.op}
    readers = Counter(str(value) for node in net.spec.nodes for value in set(node.values()))
    readers.update(map(str, references(net.spec.output)))
    norms = {n.name: n.args["input"] for n in net.spec.nodes if n.op == "batch_norm"}
    return {norm: maker for norm, maker in norms.items() if maker in layers and readers[maker] == 1}


def _layer(call: Call, fresh: set[str], width: int, shift: bool, sparsity: float | None) -> Tally:
    """Return the cost of a convolution or linear layer; `shift`: it adds a bias, of its own or a folded norm's."""
    name, bias = str(call.node.slot("weight")), call.node.slot("bias")
    shape, outside = call.shape("weight"), call.shape("weight")[0]
    stored = name in fresh
    if sparsity is not None:
        length = math.prod(shape[1:])
        weights = math.prod(shape) if stored else 0
        return product_layer(length, call.outputs, weights, sparsity, outside if shift else 0)
    weight, places = call.net.slot(name), call.outputs // outside
    lengths = Counter(_lengths(weight))
    cost = _products(weight, width, {length: n * places for length, n in lengths.items()})
    if shift:
        held = _dense(call.net.slot(bias)) if bias else Tally({FLOAT: outside})
        cost += Tally(adds_by_bits={FLOAT: call.outputs}) + (held if not bias or bias in fresh else Tally())
    return cost + (_tensor(weight) if stored else Tally())


def _products(weight: nn.Module, width: int, dots: Mapping[int, int]) -> Tally:
    """Return the multiplications and additions of {length: how many dot products} of a weight with values of a width."""
    bits, signs = _width(weight), _flips(weight) and width == FLOAT
    mults: dict[int, float] = {product_bits(bits, width, signs): sum(n * times for n, times in dots.items())}
    if getattr(weight, "form", "") == "quantized" or signs:
        mults = _sum(mults, {FLOAT: sum(dots.values())})
    if max(bits, width) < FLOAT:
        return Tally(mults_by_bits=mults, dots={(n, bits + width): times for n, times in dots.items() if n})
    return Tally(mults_by_bits=mults, adds_by_bits={FLOAT: sum(max(n - 1, 0) * times for n, times in dots.items())})


def _width(slot: nn.Module) -> int:
    """Return the width of the numbers that a slot multiplies with: codes at theirs, all else at 32."""
    return int(slot.bits) if getattr(slot, "form", "") == "quantized" else FLOAT  # type: ignore[arg-type]


def _flips(slot: nn.Module) -> bool:
    """Whether a weight only flips signs: a codebook of a number and its negative."""
    return isinstance(slot, Codebook) and slot.centroids.numel() == 2 and float(slot.centroids.sum()) == 0.0


def _lengths(slot: nn.Module) -> list[int]:
    """Return, for each output channel, how many products it sums."""
    value = slot().detach().flatten(1)
    if not _is_sparse(slot):
        return [value.shape[1]] * value.shape[0]
    return [int(n) for n in (value != 0).sum(1)]


def _is_sparse(slot: nn.Module) -> bool:
    """Whether nonzeros and a mask take fewer bits than all values."""
    if isinstance(slot, VectorCodebook | Hashed):
        return False
    value = slot().detach()
    kept = int(value.count_nonzero())
    return kept * _code_bits(slot) + value.numel() < value.numel() * _code_bits(slot)


def _code_bits(slot: nn.Module) -> int:
    return int(getattr(slot, "bits", FLOAT))


def _tensor(slot: nn.Module) -> Tally:
    """Return what a weight takes: values or codes, a mask if that is shorter, and its steps or centroids."""
    if not _is_sparse(slot):
        return _dense(slot)
    kept, size = int(slot().count_nonzero()), math.prod(slot_shape(slot))
    return Tally(_sum({_code_bits(slot): kept}, _tables(slot)), mask_bits=size)


def _dense(slot: nn.Module) -> Tally:
    return Tally(_sum({_code_bits(slot): stored_entries(slot)}, _tables(slot)))


def _tables(slot: nn.Module) -> dict[int, float]:
    """Return the 32-bit values that codes need: steps, centroids."""
    tables = [getattr(slot, name, None) for name in ("step", "centroids")]
    return {FLOAT: sum(table.numel() for table in tables if isinstance(table, torch.Tensor))}


def _stored(call: Call, fresh: set[str]) -> Tally:
    """Return what a node other than a layer stores; running statistics fold into the norm's scale and shift."""
    return together(_dense(call.net.slot(s)) for s in sorted(fresh) if not isinstance(call.net.slot(s), Fixed))


def _work(call: Call, widths: Mapping[str, int]) -> Tally:
    """Return the operations of a node other than a layer."""
    op = call.node.op
    width = max((widths[v] for v in call.node.values() if isinstance(v, Value) and v in widths), default=FLOAT)
    if op in ACTIVATIONS:
        mults, adds = (n * call.outputs for n in ACTIVATIONS[op])
        return Tally(mults_by_bits={width: mults}, adds_by_bits={width: adds})
    if op == "channel_shuffle":
        channels = call.out[1]
        return permutation(call.outputs // channels, channels)
    if op in QUANTIZERS or op not in counted():
        return Tally()  # a conversion to a format that float32 holds exactly is free (Math Operations)
    full = counted()[op].count(call)
    return Tally(mults_by_bits={width: full.mults + full.compares + full.specials}, adds_by_bits={width: full.adds})
