"""Remove channels: first as zeros in place, then for real, and the two are compared."""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.flow import Flow
from paredown.graph.groups import Cut, Group
from paredown.graph.masked_norms import OVER, with_masked_norms
from paredown.graph.net import Net
from paredown.graph.resize import Kept, resized
from paredown.graph.slots import Codebook, Fixed, Free, Grid, Masked
from paredown.graph.spec import Node, Spec
from paredown.graph.trace import trace

TOLERANCE = 1e-9
"""Largest difference between the shrunk and the masked network, relative to the largest output, in float64."""

Chosen = Mapping[Group, Sequence[int]]
"""Which units of each group go."""


def mask_channels(net: Net, group: Group, units: Iterable[int], heads: bool = False) -> Net:
    """Return a copy in which every stored entry that belongs to these units is zero: the masked original.

    What made the channels is zero (weights, biases, the scale, shift and mean of norms), and so are the weights that
    read them; variances are left. A removed channel therefore adds nothing to any output; a norm that takes its statistics
    over channels takes them over the others (`graph.masked_norms`). Trainable tensors become Masked slots, so that training
    keeps the zeros. Raises BadInput for a unit that the group does not have.
    """
    return mask_all(net, {group: tuple(units)}, heads)


def mask_all(net: Net, chosen: Chosen, heads: bool = False) -> Net:
    """Return `mask_channels` of several groups at once."""
    crosses = any(node.op in OVER for node in net.spec.nodes)
    return _masked(net, chosen, trace(net, heads) if crosses else None)


def _masked(net: Net, chosen: Chosen, flow: Flow | None) -> Net:
    """Return the masked network; flow: how channels flow through it, which only norms over channels need."""
    out, keep_ones = net.copy(), _variances(net)
    cuts: dict[str, list[Cut]] = {}
    for group, units in chosen.items():
        for slot, own in _by_slot(group, units).items():
            cuts.setdefault(slot, []).extend(own)
    for slot, own in cuts.items():
        if slot not in keep_ones:
            out.set_slot(slot, _blanked(out.slot(slot), own))
    return out if flow is None else with_masked_norms(out, flow, _gone(flow, chosen))


def remove_channels(net: Net, chosen: Chosen, heads: bool = False) -> tuple[Net, dict[str, str]]:
    """Return (a copy without the chosen units, {group name: why it was left alone}).

    Stored tensors shrink and sizes in the nodes are rewritten. The result is compared with the masked network in
    float64 on random inputs, with the network's own weights and with perturbed ones; where they differ by more than
    TOLERANCE half of the groups are tried, then the other half beside what was good, each halved again, down to single
    ones; those that fail are left alone. heads: the groups are those of `head_groups`.
    """
    flow, probes = trace(net, heads), [_doubled(net, jitter) for jitter in (0.0, 0.5)]
    wanted = [(group, tuple(units)) for group, units in chosen.items() if len(units)]
    good: dict[Group, Sequence[int]] = {}
    left: dict[str, str] = {}
    waiting = [wanted]
    while waiting:
        part = waiting.pop()
        why = _doubt(probes, flow, {**good, **dict(part)})
        if not why:
            good.update(part)
        elif len(part) > 1:
            waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
        else:
            left |= {group.name: why for group, _ in part}
    return _shrunk(net, flow, good), left


def apart(net: Net, other: Net) -> float:
    """Return the largest difference of two networks' outputs on random inputs, by the largest output, in float64."""
    return _gap(_doubled(net), _doubled(other), signed=True)


def _doubt(probes: Sequence[Net], flow: Flow, chosen: Chosen) -> str:
    """Return why the shrunk network cannot be vouched for, or ""; probes: the network itself and perturbed, in float64."""
    try:
        for perturbed, probe in enumerate(probes):
            gap = _gap(_masked(probe, chosen, flow), _shrunk(probe, flow, chosen), signed=perturbed > 0)
            if gap > TOLERANCE or (math.isnan(gap) and not perturbed):
                return f"the shrunk network differs from the masked one by {gap:.1e} of its largest output"
    except (ValueError, RuntimeError, LookupError) as error:
        return f"cannot be shrunk: {str(error).splitlines()[0]}"
    return ""


def _gone(flow: Flow, chosen: Chosen) -> set[int]:
    """Return the labels that stand for what goes."""
    cuts = [cut for group, units in chosen.items() for unit in _checked(group, units) for cut in group.units[unit]]
    return {flow.labels.find(int(flow.axis((cut.slot, cut.dim))[index])) for cut in cuts for index in cut.indices}


def _shrunk(net: Net, flow: Flow, chosen: Chosen) -> Net:
    cuts = [cut for group, units in chosen.items() for unit in _checked(group, units) for cut in group.units[unit]]
    gone = _gone(flow, chosen)
    kept, out = Kept(flow, gone), net.copy()
    spec = resized(flow, gone)
    leaving = {(cut.slot, cut.dim, index) for cut in cuts for index in cut.indices}
    for (slot, dim), labels in flow.axes.items():
        mask = kept.mask(labels)
        leaving.symmetric_difference_update((slot, dim, index) for index in (~mask).nonzero()[0].tolist())
        if not mask.all():
            out.set_slot(slot, sliced(out.slot(slot), dim, torch.from_numpy(mask.nonzero()[0])))
    if leaving:
        raise ValueError(f"the units do not fit this network at {min(leaving)[0]}; take its groups afresh")
    out.rewire(Spec(spec.inputs, _retyped(spec, net.spec), spec.output) if net.spec is not flow.net.spec else spec)
    return out


def _retyped(spec: Spec, like: Spec) -> tuple[Node, ...]:
    """Return the nodes of `spec` with the number types that the probe's own spec has."""
    types = {n.name: n.args.get("dtype") for n in like.nodes}
    return tuple(n.with_args(dtype=types[n.name]) if types.get(n.name) else n for n in spec.nodes)


def sliced(slot: nn.Module, dim: int, keep: Tensor) -> nn.Module:
    """Return the slot with only the indices `keep` along `dim`, in the form that it has. Raises BadInput."""
    if isinstance(slot, Free | Fixed):
        return type(slot)(slot.value.detach().index_select(dim, keep.to(slot.value.device)))
    if isinstance(slot, Masked):
        keep = keep.to(slot.mask.device)
        return Masked(slot.value.detach().index_select(dim, keep), slot.mask.index_select(dim, keep))
    if isinstance(slot, Grid | Codebook):
        out, keep = copy.deepcopy(slot), keep.to(slot.codes.device)
        out.codes = slot.codes.index_select(dim, keep)
        if isinstance(out, Grid):
            at = dim - (slot.codes.dim() - out.step.dim())
            if at >= 0 and out.step.shape[at] == slot.codes.shape[dim] > 1:
                out.step = out.step.index_select(at, keep)
            if dim == 0 and out.widths is not None:
                out.widths = out.widths.index_select(0, keep)
        return out
    raise BadInput(f"a {type(slot).__name__} slot cannot be cut")


def _blanked(slot: nn.Module, cuts: list[Cut]) -> nn.Module:
    held = slot()
    mask = torch.ones_like(held, dtype=torch.bool)
    for dim in {cut.dim for cut in cuts}:
        indices = [index for cut in cuts if cut.dim == dim for index in cut.indices]
        mask.index_fill_(dim, torch.tensor(indices, device=mask.device), False)
    if isinstance(slot, Fixed):
        return Fixed(held * mask)
    if isinstance(slot, Grid):
        out = copy.deepcopy(slot)
        out.codes = slot.codes * mask
        return out
    if isinstance(slot, Masked):
        return Masked(slot.value, slot.mask & mask)
    return Masked(held, mask)


def _by_slot(group: Group, units: Iterable[int]) -> dict[str, list[Cut]]:
    found: dict[str, list[Cut]] = {}
    for unit in _checked(group, units):
        for cut in group.units[unit]:
            found.setdefault(cut.slot, []).append(cut)
    return found


def _checked(group: Group, units: Iterable[int]) -> list[int]:
    listed = [int(unit) for unit in units]
    if wrong := [unit for unit in listed if not 0 <= unit < len(group)]:
        raise BadInput(f"group {group.name} has no unit {wrong[0]}; it has {len(group)}")
    return listed


def _variances(net: Net) -> set[str]:
    return {str(node.args["running_var"]) for node in net.spec.nodes if "running_var" in node.args}


def _doubled(net: Net, jitter: float = 0.0) -> Net:
    """Return a float64 copy for comparing; `jitter` adds noise to trainable tensors, so that dead ones count too."""
    out = net.copy().double().eval()
    nodes = tuple(
        n.with_args(**{k: "torch.float64" for k, v in n.args.items() if type(v) is str and v == "torch.float32"})
        for n in out.spec.nodes
    )
    out.rewire(Spec(out.spec.inputs, nodes, out.spec.output))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in out.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(parameter.device)
            size = parameter.std() if parameter.numel() > 1 else parameter.abs().mean()
            parameter.add_(jitter * noise * (size if size > 0 else 0.1))
    return out


@torch.no_grad()
def _gap(masked: Net, thin: Net, signed: bool) -> float:
    """Return the largest difference of the outputs on random inputs, relative to the largest output.

    inf: their shapes differ, or the thin one's is not finite. nan: the masked network's own output is not finite.
    """
    worst = 0.0
    for seed in (1, 2):
        drawn = masked.example(1, seed, signed)
        inputs = [x.double() if x.is_floating_point() else x for x in drawn]
        wanted, got = (torch.utils._pytree.tree_leaves(net(*inputs)) for net in (masked.eval(), thin.eval()))
        for a, b in zip(wanted, got, strict=True):
            if a.shape != b.shape or (not torch.isfinite(b).all() and torch.isfinite(a).all()):
                return math.inf
            gap = float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))
            worst = max(worst, gap) if torch.isfinite(a).all() else math.nan
    return worst
