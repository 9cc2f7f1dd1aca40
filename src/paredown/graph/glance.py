"""A network as it is seen while it runs once: for counting, where tracing for reuse would take many times as long."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from paredown.core.errors import BadInput
from paredown.graph.capture import capture, live, node_of, op_of, plain
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node, Slot, Spec, Value, mapped


def glance(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> Net:
    """Return `model` as a Net whose sizes are those of one sample: good for counts and shapes, not for training.

    The model runs once, without gradients, while every operator is noted as ATen names it. Where one of them is unknown,
    or the model makes tensors of its own, the model is traced in full (`capture`). Raises BadInput as `capture` does.
    """
    if isinstance(model, Net):
        return model
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    single = tuple(x[:1] for x in inputs)
    notes = _Notes(model, single)
    flags = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which would hide a whole encoder layer in one operator
    try:
        with torch.inference_mode(), notes:
            output = model.eval()(*single)
        return notes.net(output)
    # The user's forward may raise anything; capture tells it in one line.
    except Exception:  # noqa: BLE001
        return capture(model, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in flags.items():
            module.training = training


class _Notes(TorchDispatchMode):
    """Every operator that runs, as nodes; tensors are known by their identity as long as they live."""

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.names: Counter[str] = Counter()
        self.inputs = tuple((f"x{at}" if at else "x", tuple(x.shape[1:])) for at, x in enumerate(inputs))
        self.known: Any = WeakTensorKeyDictionary()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.slots: dict[str, nn.Module] = {}
        for (name, _), x in zip(self.inputs, inputs, strict=True):
            self._keep(x, name)
        self.stored = {id(t): name for name, t in [*model.named_buffers(), *model.named_parameters()]}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note it."""
        made = func(*args, **(kwargs or {}))
        op = op_of(func, func.name())
        base = op.partition(".")[0]
        name = f"{base}_{self.names[base]}" if self.names[base] else base
        self.names[base] += 1
        self.nodes.append(node_of(name, op, args, kwargs or {}, self._referred))
        if isinstance(made, Tensor):
            self._keep(made, name)
        else:
            for index, part in enumerate(made):
                own = f"{name}_part_{index}"
                self.nodes.append(Node(own, "getitem", {"self": Value(name), "index": index}))
                self._keep(part, own)
        return made

    def net(self, output: Any) -> Net:
        """Return what was noted as a Net that knows its shapes."""
        result = _structured(output, self._reference)
        spec = Spec(self.inputs, live(self.nodes, result), result)
        used = spec.slot_users()
        net = Net(spec, {name: slot for name, slot in self.slots.items() if name in used})
        net.remember(self.shapes)
        return net

    def _keep(self, tensor: Tensor, name: str) -> None:
        self.known[tensor] = Value(name)
        self.shapes[name] = tuple(tensor.shape)

    def _referred(self, tree: Any) -> Any:
        return mapped(list(tree) if isinstance(tree, tuple) else tree, self._reference)

    def _reference(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return plain(leaf)
        found = self.known.get(leaf)
        if found is None:
            name = self.stored.get(id(leaf), f"constant_{len(self.slots)}")
            trained = isinstance(leaf, nn.Parameter) and leaf.is_floating_point()
            self.slots[name] = _of(leaf, Free if trained else Fixed)  # which keeps it alive
            found = self.known[leaf] = Slot(name)
        return found


def _of(tensor: Tensor, form: type[nn.Module]) -> nn.Module:
    """Return a slot that holds the very tensor, not a copy."""
    slot = form(torch.empty(0))
    if form is Free:
        slot.value = tensor
    else:
        slot.register_buffer("value", tensor)
    return slot


def _structured(output: Any, reference: Any) -> Any:
    if isinstance(output, dict):
        return {str(key): _structured(item, reference) for key, item in output.items()}
    if isinstance(output, list | tuple):
        return (list if isinstance(output, list) else tuple)(_structured(item, reference) for item in output)
    if isinstance(output, Tensor | int | float | None):
        return reference(output)
    raise BadInput(f"the model returns a {type(output).__name__}")
