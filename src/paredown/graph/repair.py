"""Least-squares repair: weights that read removed channels are refit, so that each layer makes what it made before."""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.shrink import Chosen
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Spec, Value
from paredown.graph.windows import LAYERS, at_places, outputs, some_places, windows

RIDGE = 1e-5
"""What is added to the diagonal of Σ x xᵀ, as a share of its mean; it pulls towards the weights that are there."""
SAMPLES = 1024
PLACES = 16
"""Samples looked at, and places of each one's output (He et al. and Luo et al. take 10)."""
AT_ONCE = 64


def correction(x: Tensor, residual: Tensor, ridge: float = RIDGE) -> Tensor:
    """Return the change of the weights that explains most of a residual: argmin_Δ ‖residual − Δ x‖² + ρ ‖Δ‖².

    x: [inputs, columns]. residual: [outputs, columns]. ρ is `ridge` times the mean of the diagonal of x xᵀ. Returns
    [outputs, inputs], in float64. Δ = 0 is allowed, so the error never grows; what is left is orthogonal to x up to ρ Δ.
    """
    return _solved(x.double() @ x.double().T, residual.double() @ x.double().T, ridge)


def _solved(second: Tensor, crossed: Tensor, ridge: float) -> Tensor:
    """Return crossed (second + ρ)⁻¹."""
    size = float(second.diagonal(dim1=-2, dim2=-1).mean())
    pull = ridge * size if size > 0 else 1.0
    return torch.linalg.solve(second + pull * torch.eye(second.shape[-1]).to(second), crossed, left=False)


@torch.no_grad()
def repair_(thin: Net, like: Net, chosen: Chosen, x: Tensor, skip: Callable[[str, str], None], seed: int = 0) -> None:
    """Refit, in place, the weights and biases of `thin` that read channels which `like` has and `thin` has not.

    chosen: the units that went (`remove_channels`). x: calibration inputs. Layer by layer in order: each is given the inputs
    that the pruned and already repaired layers before it make, and what `like` made as its target (Luo et al. 2017,
    section 3.3; He et al. 2017, equation 2 for W), at up to PLACES random places of up to SAMPLES samples. Layers that read
    such channels and cannot be refit are told to `skip(weight, why)`.
    """
    x = x[:SAMPLES]
    nodes = _able(thin, chosen, skip)
    draw = torch.Generator().manual_seed(seed)
    shapes = thin.shapes()
    count = {node.name: outputs(node, torch.empty(shapes[node.name])).shape[2] for node in nodes.values()}
    places = {name: some_places(len(x), total, PLACES, draw) for name, total in count.items()}
    wanted = _targets(like, x, {name: (node, places[name]) for name, node in nodes.items()}, chosen)
    waiting = Counter(str(node.args["input"]) for node in nodes.values())
    held: dict[str, Tensor] = {thin.spec.inputs[0][0]: x}

    def watch(node: Node, value: Tensor) -> Tensor | None:
        made = None
        if node.name in nodes:
            source = str(node.args["input"])
            _refit_(thin, node, (held[source], value), (places[node.name], wanted.pop(node.name)))
            made = _again(thin, node, held[source])
            waiting[source] -= 1
            if not waiting[source]:
                del held[source]
        if waiting[node.name]:
            held[node.name] = value if made is None else made
        return made

    thin.eval().run(x, watch=watch)


def _able(thin: Net, chosen: Chosen, skip: Callable[[str, str], None]) -> dict[str, Node]:
    """Return {node: itself} of the layers to be refit."""
    readers = {slot for group, units in chosen.items() if len(units) for slot, _ in group.readers}
    users = thin.spec.slot_users()
    found: dict[str, Node] = {}
    for slot in sorted(readers, key=list(users).index):
        node = users[slot][0]
        if node.op not in LAYERS:
            skip(slot, f"{node.op} is not refit after channels went")
        elif len(users[slot]) > 1:
            skip(slot, "several layers share it; it is not refit after channels went")
        elif not isinstance(thin.slot(slot), Free):
            skip(slot, f"it is held as {type(thin.slot(slot)).__name__} and is not refit after channels went")
        else:
            found[node.name] = node
    return found


def _targets(like: Net, x: Tensor, nodes: Mapping[str, tuple[Node, Tensor]], chosen: Chosen) -> dict[str, Tensor]:
    """Return {node: what the network made there, [samples, outputs that stay, places]}."""
    gone: dict[str, set[int]] = {}
    for group, units in chosen.items():
        for cut in (cut for unit in units for cut in group.units[unit] if cut.dim == 0):
            gone.setdefault(cut.slot, set()).update(cut.indices)
    parts: dict[str, list[Tensor]] = {name: [] for name in nodes}
    at = 0

    def watch(node: Node, value: Tensor) -> None:
        if node.op in WEIGHTED and node.name in nodes:
            made, places = outputs(node, value), nodes[node.name][1]
            lost = gone.get(str(node.args["weight"]), set())
            kept = torch.tensor([i for i in range(made.shape[1]) if i not in lost], device=made.device)
            parts[node.name].append(at_places(made[:, kept], places[at : at + len(made)]))

    training = like.training
    for rows in x.split(AT_ONCE):
        like.eval().run(rows, watch=watch)
        at += len(rows)
    like.train(training)
    return {name: torch.cat(found) for name, found in parts.items()}


def _refit_(thin: Net, node: Node, seen: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """Add the correction to a layer's weight and bias. seen: its input and output; wanted: places, and what should be there."""
    slot, bias = thin.slot(str(node.args["weight"])), node.slot("bias")
    own = bias is not None and isinstance(thin.slot(bias), Free) and len(thin.spec.slot_users()[bias]) == 1
    weight, (places, target) = slot.value, wanted
    second: Tensor | float = 0.0
    crossed: Tensor | float = 0.0
    for x, made, at, goal in zip(*(part.split(AT_ONCE) for part in (*seen, places, target)), strict=True):
        laid = at_places(windows(node, x, tuple(weight.shape[2:])), at).double()
        columns = laid.flatten(2, 3).permute(1, 2, 0, 3).flatten(2)
        if own:
            columns = torch.cat([columns, torch.ones_like(columns[:, :1])], 1)
        left = goal.double() - at_places(outputs(node, made), at).double()
        left = left.view(len(left), len(columns), -1, left.shape[2]).permute(1, 2, 0, 3).flatten(2)
        second, crossed = second + columns @ columns.mT, crossed + left @ columns.mT
    assert isinstance(second, Tensor) and isinstance(crossed, Tensor)
    change = torch.cat([_solved(a, b, RIDGE) for a, b in zip(second, crossed, strict=True)]).to(weight.dtype)
    if bias is not None and own:
        thin.slot(bias).value.add_(change[:, -1])
        change = change[:, :-1]
    weight.add_(change.view(weight.shape))


def _again(thin: Net, node: Node, x: Tensor) -> Tensor:
    """Return what a layer makes of `x` now."""
    name = str(node.args["input"])
    alone = Spec(((name, tuple(x.shape[1:])),), (node,), Value(node.name))
    return Net(alone, {slot: thin.slot(slot) for slot in alone.slot_users()}).eval()(x)
