"""A network's architecture as data: an ordered list of nodes. Needs no torch; safe to read from any file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from paredown.core.errors import BadInput
from paredown.graph.ops import OPS, op_named

SCHEMA = "paredown/spec/1"


class Value(str):
    """The name of an input or of a node: a value that flows."""

    __slots__ = ()


class Slot(str):
    """The name of a slot: a value that is stored."""

    __slots__ = ()


@dataclass(frozen=True)
class Node:
    """One operation. `args` holds what differs from the operator's defaults; a Value or Slot in it is a reference."""

    name: str
    op: str
    args: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return an argument, given or default. Raises KeyError if the operator has no such argument."""
        if name in self.args:
            return self.args[name]
        return OPS[self.op].defaults[name]

    def values(self) -> tuple[Value, ...]:
        """Return the names of the values this node reads, in order."""
        return self._values

    def slots(self) -> tuple[Slot, ...]:
        """Return the names of the slots this node reads, in order."""
        return self._slots

    @cached_property
    def _values(self) -> tuple[Value, ...]:
        return tuple(r for r in references(list(self.args.values())) if isinstance(r, Value))

    @cached_property
    def _slots(self) -> tuple[Slot, ...]:
        return tuple(r for r in references(list(self.args.values())) if isinstance(r, Slot))

    def slot(self, name: str) -> Slot | None:
        """Return the slot that the argument `name` refers to, or None."""
        value = self.args.get(name)
        return value if isinstance(value, Slot) else None

    def with_args(self, **changes: Any) -> "Node":
        """Return the node with some arguments replaced."""
        return replace(self, args={**self.args, **changes})


def references(tree: Any) -> Iterator[Value | Slot]:
    """Yield every reference in a nested structure of lists, tuples and dicts."""
    if isinstance(tree, Value | Slot):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from references(item)
    elif isinstance(tree, dict):
        yield from references(list(tree.values()))


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Return the structure with `change` applied to every leaf."""
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(item, change) for item in tree)
    if isinstance(tree, dict):
        return {key: mapped(item, change) for key, item in tree.items()}
    return change(tree)


@dataclass(frozen=True)
class Spec:
    """Inputs (name and sample shape, without the batch), nodes in order of execution, and the structure returned."""

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    nodes: tuple[Node, ...]
    output: Any

    def __post_init__(self) -> None:
        known: set[str] = {name for name, _ in self.inputs}
        if len(known) < len(self.inputs) or any(size < 0 for _, shape in self.inputs for size in shape):
            raise BadInput(f"the inputs {self.inputs} have a name twice, or a negative size")
        for node in self.nodes:
            op = op_named(node.op)
            if unknown := set(node.args) - set(op.names):
                raise BadInput(f"node {node.name}: {node.op} has no argument {sorted(unknown)[0]!r}")
            if missing := set(op.names) - set(op.defaults) - set(node.args):
                raise BadInput(f"node {node.name}: {node.op} lacks the argument {sorted(missing)[0]!r}")
            if early := [value for value in node.values() if value not in known]:
                raise BadInput(f"node {node.name} reads {early[0]!r} before it is made")
            if node.name in known:
                raise BadInput(f"node {node.name} stands twice")
            known.add(node.name)
        if unmade := set(references(self.output)) - known:
            raise BadInput(f"the output reads {sorted(unmade)[0]!r}, which no node makes")

    def node(self, name: str) -> Node:
        """Return the node called `name`. Raises KeyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def users(self, name: str) -> list[Node]:
        """Return the nodes that read the value `name`."""
        return [node for node in self.nodes if Value(name) in node.values()]

    def slot_users(self) -> dict[str, list[Node]]:
        """Return {slot name: nodes that read it}, in order of first use."""
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for slot in node.slots():
                users.setdefault(str(slot), []).append(node)
        return users

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as JSON: `%name` is a value, `@name` a slot, `=text` a string."""
        return {
            "schema": SCHEMA,
            "inputs": [[name, list(shape)] for name, shape in self.inputs],
            "nodes": [{"name": n.name, "op": n.op, "args": mapped(n.args, _mark)} for n in self.nodes],
            "output": mapped(self.output, _mark),
        }

    @staticmethod
    def of_json(data: Any) -> "Spec":
        """Return the architecture that `to_json` wrote. Raises BadInput for anything else."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise BadInput(f"this is not a network description of schema {SCHEMA}")
        try:
            inputs = tuple((str(name), tuple(int(s) for s in shape)) for name, shape in data["inputs"])
            nodes = tuple(Node(str(n["name"]), str(n["op"]), mapped(dict(n["args"]), _unmark)) for n in data["nodes"])
            return Spec(inputs, nodes, mapped(data["output"], _unmark))
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"this network description is malformed: {error}") from error


def _mark(leaf: Any) -> Any:
    if isinstance(leaf, Value):
        return f"%{leaf}"
    if isinstance(leaf, Slot):
        return f"@{leaf}"
    return f"={leaf}" if isinstance(leaf, str) else leaf


def _unmark(leaf: Any) -> Any:
    if not isinstance(leaf, str):
        return leaf
    kinds: dict[str, Callable[[str], Any]] = {"%": Value, "@": Slot, "=": str}
    if leaf[:1] not in kinds:
        raise BadInput(f"text {leaf!r} in a network description must begin with %, @ or =")
    return kinds[leaf[0]](leaf[1:])
