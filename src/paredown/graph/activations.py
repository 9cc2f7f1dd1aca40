"""Quantizers on values that flow: learned during training, constant afterwards."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.ranges import calibrate, chosen
from paredown.graph.slots import Fixed, Free, short_float
from paredown.graph.spec import Node, Slot, Spec, Value, mapped, references

LEARNABLE = "_fake_quantize_learnable_per_tensor_affine"
CONSTANT = "fake_quantize_per_tensor_affine"


KEEPING = frozenset({
    "max_pool1d", "max_pool2d", "max_pool3d", "flatten.using_ints", "view", "reshape", "permute", "transpose.int",
    "squeeze", "squeeze.dim", "squeeze.dims", "unsqueeze", "channel_shuffle", "pixel_shuffle",
})  # fmt: skip
"""Operators that only move or choose values: what comes out is on the levels that went in."""

TAKING = WEIGHTED | KEEPING | frozenset({
    "add.Tensor", "sub.Tensor", "mul.Tensor", "cat", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "mean.dim", "matmul", "bmm", "mm",
})  # fmt: skip
"""Operators that runtimes compute in integers when all their inputs and their output are on levels."""


def places(net: Net, everywhere: bool = False) -> dict[str, str]:
    """Return {value to be put on levels: the value whose levels it takes}, in the order of the network.

    Those that feed convolutions and linear layers; or everywhere, so that a runtime can stay in integers from the input to
    the output: all that feeds an operator of TAKING, and what the network returns. What a quantizer reads or makes already
    is left out.
    """
    quantizers = [n for n in net.spec.nodes if n.op in (CONSTANT, LEARNABLE)]
    done = {str(n.args["self"]) for n in quantizers} | {n.name for n in quantizers}
    if not everywhere:
        read = [n.args["input"] for n in net.spec.nodes if n.op in WEIGHTED]
    else:
        taking = [n for n in net.spec.nodes if n.op in TAKING]
        read = [leaf for n in taking for leaf in references(n.args)] + list(references(net.spec.output))
    makers = {n.name: n for n in net.spec.nodes}
    sizes = {name for name, node in makers.items() if node.op == "sym_size.int"}
    wanted = {str(leaf) for leaf in read if isinstance(leaf, Value)} - done - sizes

    def root(name: str) -> str:
        node = makers.get(name)
        return root(str(node.args["self"])) if everywhere and node is not None and node.op in KEEPING else name

    order = [name for name, _ in net.spec.inputs] + list(makers)
    return {name: root(name) for name in order if name in wanted and root(name) not in done}


@torch.no_grad()
def observe(net: Net, x: Tensor, everywhere: bool = False) -> dict[str, tuple[float, float, float]]:
    """Return {value name: (minimum, maximum, mean of |value|)} of what `places` finds roots for."""
    wanted = set(places(net, everywhere).values())
    seen = {}
    if net.spec.inputs[0][0] in wanted:
        seen[net.spec.inputs[0][0]] = (float(x.min()), float(x.max()), float(x.abs().mean()))

    def watch(node: Node, value: Tensor) -> None:
        if node.name in wanted:
            seen[node.name] = (float(value.min()), float(value.max()), float(value.abs().mean()))

    net.eval().run(x, watch=watch)
    return seen


def insert(net: Net, makers: dict[str, Node], everywhere: bool = False) -> None:
    """Put `makers[value]`, a node that reads that value, before all the convolutions and linear layers that read it.

    everywhere: before all that reads it, what the network returns included.
    """

    def instead(leaf: Any) -> Any:
        return Value(makers[leaf].name) if isinstance(leaf, Value) and leaf in makers else leaf

    nodes: list[Node] = [makers[name] for name, _ in net.spec.inputs if name in makers]
    for node in net.spec.nodes:
        if everywhere:
            node = replace(node, args=mapped(node.args, instead))
        elif node.op in WEIGHTED:
            node = node.with_args(input=instead(node.args["input"]))
        nodes.append(node)
        if node.name in makers:
            nodes.append(makers[node.name])
    output = mapped(net.spec.output, instead) if everywhere else net.spec.output
    net.rewire(Spec(net.spec.inputs, tuple(nodes), output))


def learn_activations(net: Net, bits: int, x: Tensor, everywhere: bool = False, start: str = "mean") -> None:
    """Insert quantizers with a learned step (LSQ), in place.

    A value that is never negative on `x` gets the levels 0…2^bits − 1, another one −2^(bits−1)…2^(bits−1) − 1.
    everywhere: as `places` says; values on the levels of another one share its step. start: the first step is
    2 · mean|a| / sqrt(Q) over `x` ("mean", Esser et al. 2020, section 2.1), or the one of the least squared error
    ("mse", as Bhalgat et al. 2020, arxiv:2004.09576, section 3.2, choose it).
    """
    learned = {}
    sizes = {name: math.prod(shape) for name, shape in net.shapes().items()}
    ranges = calibrate(net, x, wanted=places(net, everywhere).values()) if start == "mse" else {}
    for name, (low, _, mean) in observe(net, x, everywhere).items():
        least, most = (0, 2**bits - 1) if low >= 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        step, zero = f"{name}.step", f"{name}.zero"
        device = x.device
        first = 2 * mean / math.sqrt(most)
        if name in ranges:
            bottom, top = chosen(ranges[name], "mse", bits)
            first = max(top / most, bottom / least if least else 0.0)
        net.set_slot(step, Free(torch.tensor([max(first, 1e-6)], device=device)))
        net.set_slot(zero, Fixed(torch.zeros(1, device=device)))
        args = {"self": Value(name), "scale": Slot(step), "zero_point": Slot(zero), "quant_min": least, "quant_max": most,
                "grad_factor": 1 / math.sqrt(sizes[name] * most)}  # fmt: skip
        learned[name] = Node(f"{name}_quantized", LEARNABLE, args)
    insert(net, made(net, learned, everywhere), everywhere)


def made(net: Net, levels: dict[str, Node], everywhere: bool = False) -> dict[str, Node]:
    """Return {value: a quantizer that reads it} for all `places` whose root has `levels`: a quantizer of that root."""
    return {
        name: Node(
            f"{name}_quantized",
            levels[root].op,
            {"self": Value(name)} | {k: v for k, v in levels[root].args.items() if k != "self"},
        )
        for name, root in places(net, everywhere).items()
        if root in levels
    }


def fix_activations(net: Net, bits: int, x: Tensor, everywhere: bool = False) -> None:
    """Insert quantizers with constant min-max steps over `x`, in place (Krishnamoorthi 2018, section 3.1).

    The zero point is nudged so that zero is exactly one of the levels. everywhere: as `places` says.
    """
    levels = {}
    for name, (low, high, _) in observe(net, x, everywhere).items():
        low, high = min(low, 0.0), max(high, 0.0)
        step = max((high - low) / (2**bits - 1), 1e-8)
        zero = min(max(round(-low / step), 0), 2**bits - 1)
        args = {"self": Value(name), "scale": step, "zero_point": zero, "quant_min": 0, "quant_max": 2**bits - 1}
        levels[name] = Node(f"{name}_quantized", CONSTANT, args)
    insert(net, made(net, levels, everywhere), everywhere)


def hold_activations(net: Net) -> None:
    """Turn learned quantizers into constant ones with steps of four significant bits, in place."""
    nodes = []
    for node in net.spec.nodes:
        if node.op == LEARNABLE:
            step = float(short_float(net.slot(node.args["scale"])().detach().abs().clamp(min=1e-8)))
            kept = {k: node.args[k] for k in ("self", "quant_min", "quant_max")}
            node = replace(node, op=CONSTANT, args={**kept, "scale": step, "zero_point": 0})
        nodes.append(node)
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))
