"""Residual branches: where they are, and the network without one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paredown.graph.net import Net
from paredown.graph.spec import Node, Slot, Spec, Value, mapped, references


@dataclass(frozen=True)
class Branch:
    """A residual branch: what is added to a shortcut, and can be left out.

    name: the node that adds. kept: the value that takes its place, the shortcut. nodes: those that only the branch needs.
    slots: those that only these nodes read.
    """

    name: str
    kept: str
    nodes: tuple[str, ...]
    slots: tuple[str, ...]


def branches(net: Net) -> list[Branch]:
    """Return every residual branch of a network in order: of two values of one shape and a common origin, the longer way.

    The shorter way is the shortcut; where both are equally long, or are one value, neither is. A shortcut may compute
    something itself (a projection); it stays then.
    """
    shapes, found = net.shapes(), []
    for node in net.spec.nodes:
        both = _added(node)
        if both is None or shapes.get(both[0]) != shapes.get(both[1]) or shapes.get(both[0]) != shapes.get(node.name):
            continue
        first, second = (_behind(net.spec, value) for value in both)
        ways = len(first - second), len(second - first)
        if not first & second or ways[0] == ways[1]:
            continue
        kept = both[0] if ways[0] < ways[1] else both[1]
        found.append(_branch(net, node, kept))
    return found


def _added(node: Node) -> tuple[str, str] | None:
    """Return the two values that a node adds as they are, or None."""
    if node.op != "add.Tensor" or node.args.get("alpha", 1) != 1:
        return None
    values = node.args.get("self"), node.args.get("other")
    return (str(values[0]), str(values[1])) if all(isinstance(v, Value) for v in values) else None


def _behind(spec: Spec, value: str) -> set[str]:
    """Return the value and all inputs and nodes that it is computed from."""
    nodes = {node.name: node for node in spec.nodes}
    found, waiting = set(), [value]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [str(v) for v in nodes[name].values()] if name in nodes else []
    return found


def _branch(net: Net, node: Node, kept: str) -> Branch:
    after = _bypassed(net.spec, node.name, kept)
    left = {n.name for n in after.nodes}
    slots = after.slot_users()
    lost = tuple(n.name for n in net.spec.nodes if n.name not in left and n.name != node.name)
    return Branch(node.name, kept, lost, tuple(name for name in net.slot_names() if name not in slots))


def _bypassed(spec: Spec, name: str, kept: str) -> Spec:
    """Return the spec in which what read one value reads another, without the nodes that nothing needs any more."""

    def past(leaf: Any) -> Any:
        return Value(kept) if isinstance(leaf, Value) and leaf == name else leaf

    nodes = [Node(n.name, n.op, {key: mapped(arg, past) for key, arg in n.args.items()}) for n in spec.nodes]
    output = mapped(spec.output, past)
    return Spec(spec.inputs, tuple(_needed(nodes, output)), output)


def _needed(nodes: list[Node], output: Any) -> Iterator[Node]:
    """Yield, in order, the nodes that the output is computed from."""
    wanted = {str(v) for v in references(output) if not isinstance(v, Slot)}
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(str(v) for v in node.values())
    return (node for node in nodes if node.name in wanted)


def without(net: Net, branch: Branch) -> Net:
    """Return a copy without a branch: what read the sum reads the shortcut; dead nodes and slots are gone."""
    out = net.copy()
    out.rewire(_bypassed(net.spec, branch.name, branch.kept))
    return out
