"""Net: an ordinary torch module that runs a Spec with its slots. It trains, deep-copies, saves without pickle."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from paredown.core.errors import BadInput, Damaged
from paredown.graph.ops import OPS, WEIGHTED
from paredown.graph.slots import stored
from paredown.graph.spec import Node, Slot, Spec, Value, mapped, references

_DURING_TRAINING = {
    "batch_norm": "training", "instance_norm": "use_input_stats",
    "dropout": "train", "feature_dropout": "train", "alpha_dropout": "train",
    "rnn_tanh.input": "train", "rnn_relu.input": "train", "gru.input": "train", "lstm.input": "train",
}  # fmt: skip
"""Arguments that follow `net.training` instead of what was traced; where one is a slot, only until that holds True."""


_LIKE = Value("")
"""What a tensor made of nothing takes its device and type from: the first input."""


class Net(nn.Module):
    """A network as nodes and slots. `net(x)` returns what the traced model returned."""

    spec: Spec

    def __init__(self, spec: Spec, slots: dict[str, nn.Module]) -> None:
        super().__init__()
        self.slots = nn.ModuleDict({_key(name): slot for name, slot in slots.items()})
        self.rewire(spec)

    def rewire(self, spec: Spec) -> None:
        """Replace the architecture; slots that no node reads any more are dropped. Raises BadInput for missing ones."""
        used = spec.slot_users()
        if missing := [name for name in used if _key(name) not in self.slots]:
            raise BadInput(f"node {used[missing[0]][0].name} reads the slot {missing[0]!r}, which is not there")
        for key in set(self.slots) - {_key(name) for name in used}:
            del self.slots[key]
        self.spec = spec
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._functions = [_function(node) for node in spec.nodes]
        self._last = _last_use(spec)

    def slot(self, name: str) -> Any:
        """Return the slot module called `name`. Raises KeyError."""
        return self.slots[_key(name)]

    def set_slot(self, name: str, slot: nn.Module) -> None:
        """Put a slot module under `name`, in place of the one there."""
        self._shapes = None
        self.slots[_key(name)] = slot

    def slot_names(self) -> list[str]:
        """Return the slots' names in order of first use."""
        return list(self.spec.slot_users())

    def weighted(self) -> Iterator[tuple[str, Node]]:
        """Yield (slot name of the weight, node) for every convolution and linear layer, each stored weight once."""
        seen = set()
        for node in self.spec.nodes:
            slot = node.slot("weight") if node.op in WEIGHTED else None
            if slot is not None and slot not in seen:
                seen.add(slot)
                yield str(slot), node

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(*inputs)

    def run(self, *inputs: Tensor, watch: Callable[[Node, Any], Any] | None = None) -> Any:
        """Return the output; `watch(node, value)` sees every node's value and may return one to put in its place."""
        env: dict[str, Any] = {name: x for (name, _), x in zip(self.spec.inputs, inputs, strict=True)}
        env[_LIKE] = inputs[0]
        cache: dict[str, Tensor] = {}

        def fetch(leaf: Any) -> Any:
            if type(leaf) is Value:
                return env[leaf]
            if type(leaf) is Slot:
                if leaf not in cache:
                    cache[leaf] = self.slots[_key(leaf)]()
                return cache[leaf]
            return leaf

        for node, function, dead in zip(self.spec.nodes, self._functions, self._last, strict=True):
            env[node.name] = function(fetch, self.training)
            if watch is not None and (instead := watch(node, env[node.name])) is not None:
                env[node.name] = instead
            for name in dead:
                del env[name]
        return mapped(self.spec.output, lambda leaf: env[leaf] if isinstance(leaf, Value) else leaf)

    def example(self, batch: int = 1, seed: int = 0, signed: bool = False) -> tuple[Tensor, ...]:
        """Return random inputs of the traced shapes, with `batch` samples, where the network's weights are.

        Numbers from 0 to 1, or normal ones if `signed`; where the network looks an input up in a table, rows of that table.
        """
        device = next((t.device for t in [*self.parameters(), *self.buffers()]), torch.device("cpu"))
        draw, make = torch.Generator().manual_seed(seed), torch.randn if signed else torch.rand
        rows = self._rows()
        return tuple(
            (
                torch.randint(0, rows[name], (batch, *shape), generator=draw)
                if name in rows
                else make((batch, *shape), generator=draw)
            ).to(device)
            for name, shape in self.spec.inputs
        )

    def _rows(self) -> dict[str, int]:
        """Return {input: rows of the table that it is looked up in}."""
        tables = [(str(n.args["indices"]), n.slot("weight")) for n in self.spec.nodes if n.op == "embedding"]
        return {name: len(self.slot(table)()) for name, table in tables if table is not None}

    @torch.no_grad()
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return {value name: shape at batch 1} for inputs and every node that makes one tensor.

        The network runs once for it; the shapes are kept until its nodes or slots are exchanged.
        """
        if self._shapes is None:
            self._shapes = self._seen_shapes()
        return dict(self._shapes)

    def remember(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Take the shapes as known, instead of running the network for them."""
        self._shapes = shapes

    def _seen_shapes(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {name: (1, *shape) for name, shape in self.spec.inputs}

        def watch(node: Node, value: Any) -> None:
            if isinstance(value, Tensor):
                found[node.name] = tuple(value.shape)

        training = self.training
        try:
            inputs = self.example()
            self.eval().run(*(x.to(self.dtype) if x.is_floating_point() else x for x in inputs), watch=watch)
        finally:
            self.train(training)
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the trainable values (float32 where there are none)."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    def forms(self) -> frozenset[str]:
        """Return the forms that the stored weights are in (masked, shared, quantized)."""
        return frozenset(f for slot in self.slots.values() if (f := getattr(slot, "form", "")))

    def copy(self) -> "Net":
        """Return a copy whose stored values are its own; the architecture, which nothing changes in place, is shared."""
        shared = (self.spec, self._functions, self._last)
        return copy.deepcopy(self, {id(one): one for one in shared})

    def save(self, folder: str | Path) -> None:
        """Write `net.json` and `weights.safetensors` into `folder`. Raises BadInput for slots that cannot be stored."""
        metas = {}
        for name in self.slot_names():
            if not hasattr(self.slot(name), "meta"):
                form = type(self.slot(name)).__name__
                raise BadInput(f"slot {name!r} is a {form}, a form for training only; finish that step first")
            metas[name] = self.slot(name).meta()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "net.json").write_text(json.dumps({"spec": self.spec.to_json(), "slots": metas}))
        tensors = {k: v.contiguous().cpu() for k, v in self.state_dict().items()}
        safetensors.torch.save_file(tensors, folder / "weights.safetensors")

    @staticmethod
    def load(folder: str | Path) -> "Net":
        """Return the network that `save` wrote. Nothing is unpickled. Raises BadInput or Damaged."""
        folder = Path(folder)
        try:
            data = json.loads((folder / "net.json").read_text())
            tensors = safetensors.torch.load_file(folder / "weights.safetensors")
            net = Net(Spec.of_json(data["spec"]), {n: stored(m, _entries(tensors)) for n, m in data["slots"].items()})
        except OSError as error:
            raise BadInput(f"network {folder} cannot be read: {error}") from error
        except BadInput:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise Damaged(f"network {folder} is damaged: {error}") from error
        try:
            net.load_state_dict(tensors)
        except RuntimeError as error:
            raise Damaged(f"network {folder} does not fit its weights: {str(error).splitlines()[0]}") from error
        return net


def _key(name: str) -> str:
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(nn.ModuleDict, key) else key


def _entries(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _last_use(spec: Spec) -> list[list[str]]:
    """Return, for each node, the values that nothing reads after it."""
    kept = set(references(spec.output))
    last: dict[str, int] = {}
    for at, node in enumerate(spec.nodes):
        last[node.name] = at
        for value in node.values():
            last[value] = at
    dead: list[list[str]] = [[] for _ in spec.nodes]
    for name, at in last.items():
        if Value(name) not in kept:
            dead[at].append(name)
    return dead


def _function(node: Node) -> Callable[[Callable[[Any], Any], bool], Any]:
    """Return a closure (fetch, training) -> value for one node."""
    if node.op == "getitem":
        return lambda fetch, _: fetch(node.args["self"])[node.args["index"]]
    if node.op == "zeros":
        return lambda fetch, _: _zeros(mapped(node.args["size"], fetch), fetch(_LIKE))
    names = OPS[node.op].names
    base, _, overload = node.op.partition(".")
    call = getattr(getattr(torch.ops.aten, base), overload or "default")
    given = {name: _literal(node.get(name)) for name in names}
    flag = _DURING_TRAINING.get(node.op)
    if "running_mean" in names and given["running_mean"] is None:
        flag = None  # a norm without running statistics uses the batch's own, always
    own = "running_mean" in given and given["running_mean"] is None  # no statistics kept: always the batch's own
    plain = {k: v for k, v in given.items() if not list(references(v)) and k != flag}
    moving = {k: v for k, v in given.items() if k not in plain and k != flag}
    stop = node.slot(flag) if flag else None

    def function(fetch: Callable[[Any], Any], training: bool) -> Any:
        args = {k: mapped(v, fetch) for k, v in moving.items()}
        training = training and (stop is None or not bool(fetch(stop)))
        return call(**plain, **args, **({flag: training or own} if flag else {}))

    return function


def _zeros(size: Any, like: Tensor) -> Tensor:
    """Return the state that a recurrent layer starts from."""
    return torch.zeros(size, device=like.device, dtype=like.dtype if like.is_floating_point() else None)


def _literal(value: Any) -> Any:
    if type(value) is not str or not value.startswith("torch."):
        return value
    found = getattr(torch, value.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype | torch.memory_format | torch.layout):
        raise BadInput(f"{value!r} is no tensor type, memory format or layout of torch")
    return found
