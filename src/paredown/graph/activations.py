"""Quantizers on values that flow: learned during training, constant afterwards."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Fixed, Free, short_float
from paredown.graph.spec import Node, Slot, Spec, Value

LEARNABLE = "_fake_quantize_learnable_per_tensor_affine"
CONSTANT = "fake_quantize_per_tensor_affine"


@torch.no_grad()
def observe(net: Net, x: Tensor) -> dict[str, tuple[float, float, float]]:
    """Return {value name: (minimum, maximum, mean of |value|)} of what feeds convolutions and linear layers."""
    wanted = {str(n.args["input"]) for n in net.spec.nodes if n.op in WEIGHTED and isinstance(n.args["input"], Value)}
    seen = {}
    if net.spec.inputs[0][0] in wanted:
        seen[net.spec.inputs[0][0]] = (float(x.min()), float(x.max()), float(x.abs().mean()))

    def watch(node: Node, value: Tensor) -> None:
        if node.name in wanted:
            seen[node.name] = (float(value.min()), float(value.max()), float(value.abs().mean()))

    net.eval().run(x, watch=watch)
    return seen


def insert(net: Net, makers: dict[str, Node]) -> None:
    """Put `makers[value]`, a node that reads that value, before all the convolutions and linear layers that read it."""
    nodes: list[Node] = [makers[name] for name, _ in net.spec.inputs if name in makers]
    for node in net.spec.nodes:
        value = node.args.get("input")
        if node.op in WEIGHTED and isinstance(value, Value) and value in makers:
            node = node.with_args(input=Value(makers[value].name))
        nodes.append(node)
        if node.name in makers:
            nodes.append(makers[node.name])
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))


def learn_activations(net: Net, bits: int, x: Tensor) -> None:
    """Insert quantizers with a learned step (LSQ), in place; the first step is 2 · mean|a| / sqrt(Q) over `x`.

    A value that is never negative on `x` gets the levels 0…2^bits − 1, another one −2^(bits−1)…2^(bits−1) − 1.
    """
    makers = {}
    sizes = {name: math.prod(shape) for name, shape in net.shapes().items()}
    for name, (low, _, mean) in observe(net, x).items():
        least, most = (0, 2**bits - 1) if low >= 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        step, zero = f"{name}.step", f"{name}.zero"
        device = x.device
        net.set_slot(step, Free(torch.tensor([max(2 * mean / math.sqrt(most), 1e-6)], device=device)))
        net.set_slot(zero, Fixed(torch.zeros(1, device=device)))
        args = {"self": Value(name), "scale": Slot(step), "zero_point": Slot(zero), "quant_min": least,
                "quant_max": most, "grad_factor": 1 / math.sqrt(sizes[name] * most)}  # fmt: skip
        makers[name] = Node(f"{name}_quantized", LEARNABLE, args)
    insert(net, makers)


def fix_activations(net: Net, bits: int, x: Tensor) -> None:
    """Insert quantizers with constant min-max steps over `x`, in place (Krishnamoorthi 2018, section 3.1).

    The zero point is nudged so that zero is exactly one of the levels.
    """
    makers = {}
    for name, (low, high, _) in observe(net, x).items():
        low, high = min(low, 0.0), max(high, 0.0)
        step = max((high - low) / (2**bits - 1), 1e-8)
        zero = min(max(round(-low / step), 0), 2**bits - 1)
        args = {"self": Value(name), "scale": step, "zero_point": zero, "quant_min": 0, "quant_max": 2**bits - 1}
        makers[name] = Node(f"{name}_quantized", CONSTANT, args)
    insert(net, makers)


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
