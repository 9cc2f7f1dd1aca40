"""Run a network whose weights are codes of few bits with the packed kernels, and say which layers were left to float."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.graph.activations import CONSTANT, LEARNABLE
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Codebook, Grid
from paredown.graph.spec import Node, Slot, Value
from paredown.kernels.codes import INPUT_WIDTHS, WIDTHS, Levels
from paredown.kernels.library import path_number
from paredown.kernels.product import Weight, Window, convolve
from paredown.kernels.real import real, rounded

FEWEST = 8
"""Inputs of a group from which on packed words are worth their filling: a depthwise layer has one."""


class Left(Exception):
    """Why a layer is left to float."""


@dataclass(frozen=True)
class Input:
    """How a layer's input becomes codes.

    levels: what the raw codes stand for. step: the value of one. rounding: (step, (zero, least, most)) that makes them. raised: what is
    added to the value first. through: the nodes that need not run if only packed layers read them, the last being the input.
    """

    levels: Levels
    step: float
    rounding: tuple[float, tuple[int, int, int]]
    raised: float
    through: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of packed weights. factor: of a sum, one for each output; bias: float32 [outputs]."""

    weight: Weight
    window: Window
    input: Input
    factor: np.ndarray
    bias: np.ndarray
    path: str

    def __call__(self, x: Tensor, raised: float) -> Tensor:
        """Return the layer's output for float inputs; `raised` is added to them before they are rounded."""
        if raised:
            x = x + raised
        values = x.detach().float().cpu().numpy()
        flat = self.weight.codes.ndim == 2
        raw = rounded(values.reshape(-1, values.shape[-1]) if flat else values, *self.input.rounding)
        total = convolve(raw[:, None, None] if flat else raw, self.weight, self.window, self.path)
        y = torch.from_numpy(real(total, self.factor, self.bias)).to(x.device)
        return y.view(*x.shape[:-1], -1) if flat else y


class Executed(Net):
    """A network in inference, some of whose layers run packed.

    packed: {weight slot: Layer}. left: (weight slot, reason) for every other convolution and linear layer.
    """

    def __init__(self, net: Net, path: str = "") -> None:
        copy = net.copy()
        super().__init__(copy.spec, {name: copy.slot(name) for name in copy.slot_names()})
        self.packed: dict[str, Layer] = {}
        self.left: list[tuple[str, str]] = []
        self.eval()
        taken: dict[str, Layer] = {}
        for node in self.spec.nodes:
            if node.op in WEIGHTED:
                name = str(node.slot("weight") or node.name)
                try:
                    taken[node.name] = self.packed[name] = _layer(self, node, path)
                except Left as why:
                    self.left.append((name, str(why)))
        self._exchange(taken)

    def _exchange(self, taken: dict[str, Layer]) -> None:
        """Let packed layers run in their nodes' places, and what only they read pass through unrounded."""
        places = {node.name: at for at, node in enumerate(self.spec.nodes)}
        for name, layer in taken.items():
            alone = _only_read_by(self, layer.input.through, taken)
            self._functions[places[name]] = _packed(
                self.spec.nodes[places[name]], layer, 0 if alone else layer.input.raised
            )
            for node in layer.input.through if alone else ():
                self._functions[places[node.name]] = _passing(node)


def execute(net: Net, path: str = "") -> Executed:
    """Return the network with its layers of 1 to 4 bits, whose inputs are rounded to at most 8, run by the packed kernels.

    `executed(x)` returns what `net(x)` returns in inference, but for float rounding: the sums are exact integers. `executed.packed` holds the layers
    that run packed, `executed.left` the others and why. path: of `kernels.library.paths()`, else the fastest. Raises BadInput
    where the kernels were not built.
    """
    path_number(path)
    if net.dtype != torch.float32:
        raise BadInput(f"packed kernels make float32; the network computes in {str(net.dtype).removeprefix('torch.')}")
    return Executed(net, path)


def _packed(node: Node, layer: Layer, raised: float) -> Callable[..., Any]:
    return lambda fetch, _: layer(fetch(node.args["input"]), raised)


def _passing(node: Node) -> Callable[..., Any]:
    return lambda fetch, _: fetch(node.args["self"])


def _only_read_by(net: Net, through: tuple[Node, ...], taken: dict[str, Layer]) -> bool:
    readers = [user for node in through for user in net.spec.users(node.name) if user not in through]
    inputs = {str(user.args.get("input")) for user in readers}
    returned = Value(through[-1].name) in set(_leaves(net.spec.output))
    return not returned and all(user.name in taken for user in readers) and inputs == {through[-1].name}


def _leaves(output: Any) -> list[Any]:
    if isinstance(output, dict):
        output = list(output.values())
    return [leaf for item in output for leaf in _leaves(item)] if isinstance(output, list | tuple) else [output]


def _layer(net: Net, node: Node, path: str) -> Layer:
    """Return a layer packed. Raises Left, with the reason."""
    if node.op not in ("conv2d", "linear"):
        raise Left(f"{node.op} has no packed kernel; conv2d and linear have")
    slot = node.slot("weight")
    if slot is None or (node.args.get("bias") is not None and node.slot("bias") is None):
        raise Left("its weight or bias is computed")
    codes, step, bits, odd = signed_codes(net.slot(slot))
    groups = node.get("groups") if node.op == "conv2d" else 1
    if groups > 1 and codes.shape[1] < FEWEST:
        raise Left(f"its groups of {codes.shape[1]} inputs would fill words of 32 with nothing")
    read = _input(net, node.args["input"])
    try:
        weight = Weight(codes, bits, read.levels, odd, groups)
    except BadInput as error:
        raise Left(str(error)) from error
    window = (
        Window(*(_pair(node.get(name)) for name in ("stride", "padding", "dilation")))
        if node.op == "conv2d"
        else Window()
    )
    bias = node.slot("bias")
    added = np.zeros(len(codes)) if bias is None else net.slot(bias)().detach().numpy()
    factor = np.broadcast_to(step.astype(np.float64) * read.step, len(codes))
    return Layer(weight, window, read, factor.astype(np.float32), added.astype(np.float32), path)


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return int(values[0]), int(values[-1])


def signed_codes(slot: Any) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Return (codes, step of one or each output, bits 1, 2 or 4, whether the codes are odd numbers) of a stored weight.

    A codebook of 2^b values evenly spaced around 0, without 0, has odd codes. Raises Left for all that has no such codes.
    """
    if isinstance(slot, Grid) and slot.bits <= WIDTHS[-1]:
        bits = next(width for width in WIDTHS if width >= slot.bits)
        if slot.step.numel() not in (1, len(slot.codes)):
            raise Left(f"it has {slot.step.numel()} steps for {len(slot.codes)} outputs")
        return slot.codes.numpy(), slot.step.numpy().reshape(-1), bits, False
    if isinstance(slot, Grid):
        raise Left(f"its codes have {slot.bits} bits; packed are 1 to {WIDTHS[-1]}")
    if not isinstance(slot, Codebook):
        raise Left(f"its weights are no codes of few bits ({type(slot).__name__})")
    table = slot.centroids.detach().double().numpy()
    step, odd = table[-1] / max(1, len(table) - 1), np.arange(len(table)) * 2 - (len(table) - 1)
    if len(table) not in (2, 4, 8, 16) or step <= 0 or not np.allclose(table, step * odd, rtol=1e-6, atol=0):
        raise Left("its codebook's values are not evenly spaced around 0")
    bits = next(width for width in WIDTHS if 2**width >= len(table))
    return odd[slot.codes.numpy()], np.array([step]), bits, True


def _input(net: Net, value: Any) -> Input:
    """Return how the value that a layer reads becomes codes. Raises Left for one that is not rounded."""
    made = {node.name: node for node in net.spec.nodes}
    node = made.get(str(value))
    if node is None:
        raise Left("it reads the network's input, which is not rounded")
    if node.op == LEARNABLE:
        raise Left("the step of its input is still being learned")
    if node.op == "sub.Tensor" and node.args["other"] == 1 and node.get("alpha") == 1:
        level = made.get(str(node.args["self"]))
        if level is not None and level.op == CONSTANT and _constant(level) == (2.0, 0, 0, 1):
            return Input(Levels(1, signed=True), 1.0, (2.0, (0, 0, 1)), 1.0, (level, node))
    if node.op != CONSTANT:
        raise Left(f"its input, made by {node.op}, is not rounded")
    step, zero, least, most = _constant(node)
    if most - least > 255:
        raise Left(f"its input has {most - least + 1} levels; packed are up to 256")
    bits = next(width for width in INPUT_WIDTHS if 2**width > most - least)
    return Input(Levels(bits, zero=zero - least), step, (step, (zero, least, most)), 0.0, (node,))


def _constant(node: Node) -> tuple[float, int, int, int]:
    """Return a quantizer's (step, zero point, lowest, highest code). Raises Left where they are stored apart."""
    found = [node.args[name] for name in ("scale", "zero_point", "quant_min", "quant_max")]
    if any(isinstance(value, Value | Slot) for value in found):
        raise Left("the step of its input is stored apart from the architecture")
    return float(found[0]), int(found[1]), int(found[2]), int(found[3])
