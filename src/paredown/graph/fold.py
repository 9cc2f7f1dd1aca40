"""Folding batch norms into the layers before them."""

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Free, Grid, Masked
from paredown.graph.spec import Node, Slot, Spec, Value, mapped, references

TINY = 1e-30
"""The least step of a channel: a norm whose gamma is zero leaves codes that mean nothing."""


def fold_batchnorm(net: Net) -> tuple[Net, list[tuple[str, str]]]:
    """Return (a copy with batch norms folded, [(layer left alone, why)]); in eval mode both compute the same.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta becomes one layer (Jacob et al. 2018, eq. 14). A norm is folded
    when a convolution or linear layer alone feeds it and feeds nothing else, and its weights are its own and float or
    integers times a step: those keep their codes (negated where gamma is negative) and take a step for each channel.
    """
    folded = net.copy()
    left: list[tuple[str, str]] = []
    for node in net.spec.nodes:
        if node.op != "batch_norm":
            continue
        reason = _obstacle(folded, node)
        if reason:
            left.append((str(node.slot("weight") or node.name).removesuffix(".weight"), reason))
        else:
            _fold_(folded, node)
    return folded, left


def _obstacle(net: Net, norm: Node) -> str:
    """Return why a norm cannot be folded, or nothing."""
    makers = [n for n in net.spec.nodes if n.name == norm.args["input"]]
    if not makers or makers[0].op not in WEIGHTED:
        return "no convolution or linear layer feeds it"
    maker = makers[0]
    if "transpose" in maker.op:
        return f"{maker.op} keeps its output channels in the second dimension"
    if maker.op == "linear" and len(net.shapes()[maker.name]) != 2:
        return f"{maker.name} makes the last dimension, and the norm works on the second"
    if len(net.spec.users(maker.name)) > 1 or Value(maker.name) in set(references(net.spec.output)):
        return f"the output of {maker.name} is also used elsewhere"
    if norm.args["running_mean"] is None:
        return "it keeps no running statistics"
    return _held(net, norm, maker)


def _held(net: Net, norm: Node, maker: Node) -> str:
    """Return why the values of a layer cannot take up a norm, or nothing."""
    users = net.spec.slot_users()
    for argument in ("weight", "bias"):
        slot = maker.slot(argument)
        able = Free | Masked | Grid if argument == "weight" else Free | Masked
        if slot is not None and (len(users[slot]) > 1 or not isinstance(net.slot(slot), able)):
            return f"the {argument} of {maker.name} is shared or already held as integers"
        if slot is None and maker.args.get(argument) is not None:
            return f"the {argument} of {maker.name} is computed"
    weight = net.slot(maker.args["weight"])
    if isinstance(weight, Grid) and not weight.takes(_turned(weight, _factor(net, norm))):
        return f"the lowest code of {maker.name} has no negative, which the norm's sign asks for"
    return ""


def _factor(net: Net, norm: Node) -> Tensor:
    """Return gamma / sqrt(var + eps), one value for each channel."""
    var, gamma = net.slot(norm.args["running_var"])(), norm.slot("weight")
    return (1 if gamma is None else net.slot(gamma)().detach()) / torch.sqrt(var + norm.args["eps"])


def _turned(weight: Grid, factor: Tensor) -> Tensor:
    """Return the codes (int16) times the sign of each channel's factor; of one bit, a factor of 0 keeps them."""
    sign = factor.sign() if weight.bits > 1 else torch.where(factor < 0, -1.0, 1.0)
    return weight.codes.short() * sign.short().view(-1, *[1] * (weight.codes.dim() - 1))


def _scale_(net: Net, name: Slot, factor: Tensor) -> None:
    """Multiply each output channel of a weight by its factor."""
    weight = net.slot(name)
    if isinstance(weight, Grid):
        step = (weight.step * factor.abs().view(-1, *[1] * (weight.codes.dim() - 1))).clamp(min=TINY)
        net.set_slot(name, Grid(_turned(weight, factor), step, weight.bits, weight.widths))
    else:
        weight.value.mul_(factor.view(-1, *[1] * (weight.value.dim() - 1)))


@torch.no_grad()
def _fold_(net: Net, norm: Node) -> None:
    maker = net.spec.node(norm.args["input"])
    mean = net.slot(norm.args["running_mean"])()

    def value(argument: str, default: Tensor) -> Tensor:
        slot = norm.slot(argument)
        return net.slot(slot)() if slot is not None else default

    scale = _factor(net, norm)
    _scale_(net, maker.args["weight"], scale)
    old = net.slot(maker.args["bias"])() if maker.slot("bias") is not None else torch.zeros_like(mean)
    name = maker.slot("bias") or _unused(net, str(maker.args["weight"]).removesuffix("weight") + "bias")
    net.set_slot(name, Free((old - mean) * scale + value("bias", torch.zeros_like(mean))))
    _remove_(net, norm, maker.with_args(bias=name))


def _unused(net: Net, name: str) -> Slot:
    """Return a slot name that is not taken."""
    return Slot(name) if name not in net.slot_names() else _unused(net, f"{name}_")


def _remove_(net: Net, norm: Node, maker: Node) -> None:
    def past(leaf: object) -> object:
        return Value(maker.name) if leaf == norm.name and isinstance(leaf, Value) else leaf

    nodes = [maker if n.name == maker.name else n for n in net.spec.nodes if n.name != norm.name]
    nodes = [Node(n.name, n.op, mapped(n.args, past)) for n in nodes]
    net.rewire(Spec(net.spec.inputs, tuple(nodes), mapped(net.spec.output, past)))
