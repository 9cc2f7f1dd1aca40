"""Channel groups: which slices of which stored tensors go together when a channel is removed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from paredown.graph.flow import Axis, Flow
from paredown.graph.labels import Track
from paredown.graph.net import Net
from paredown.graph.trace import trace


@dataclass(frozen=True)
class Cut:
    """Slices of one stored tensor: `indices` along `dim` of the slot."""

    slot: str
    dim: int
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Layers whose channels are tied, as units that can be removed one by one.

    name: the slot of the first weight that makes these channels. units: for each, the cuts that remove it everywhere.
    makers: (slot, dim) of the weights that make the channels; readers: of those that read them.
    frozen: {layer's weight: why some or all of its channels must stay}. needed: sets of units of which one must stay.
    """

    name: str
    units: tuple[tuple[Cut, ...], ...]
    makers: tuple[Axis, ...]
    readers: tuple[Axis, ...] = ()
    frozen: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[frozenset[int], ...] = ()

    def __len__(self) -> int:
        return len(self.units)

    def width(self) -> int:
        """Return how many channels of the first maker one unit has (the fewest, where units differ)."""
        counts = [sum(len(c.indices) for c in unit if (c.slot, c.dim) in self.makers[:1]) for unit in self.units]
        return max(1, min(counts, default=1))

    def lowest(self, scores: Sequence[float] | Tensor, count: int) -> tuple[int, ...]:
        """Return the `count` units of lowest score, fewer where more would leave a value without channels."""
        gone: set[int] = set()
        for unit in np.argsort(np.asarray([float(s) for s in scores]), kind="stable").tolist():
            if len(gone) >= count:
                break
            if not any(need <= gone | {unit} for need in self.needed):
                gone.add(unit)
        return tuple(sorted(gone))


ALONE = "its channels can only be removed all together"


def groups(net: Net) -> list[Group]:
    """Return every channel group of `net`, in order of first use, those that must stay included (they have no units).

    Convolutions (grouped, depthwise, transposed), linear and recurrent layers, attention, embeddings, norms, elementwise
    operators, reshapes, concatenation, splits, shuffles and pooling are followed by rule, what has none by marking its
    channels (`graph.probe`); what is not clear freezes the channels that reach it, and
    `Group.frozen` says why. A grouped convolution is cut by whole groups or at the same place in each group, attention by
    its width, the same in all heads (or by heads, where there are more of them).
    """
    return groups_of(trace(net))


def head_groups(net: Net) -> list[Group]:
    """Return the groups whose units are heads of attention: each with all that makes and reads it."""
    flow = trace(net, heads=True)
    headed = {int(root) for labels in flow.headed for root in flow.labels.roots(labels)}
    found = [group for group in groups_of(flow) if len(group)]
    return [group for group in found if _roots(flow, group) <= headed]


def _roots(flow: Flow, group: Group) -> set[int]:
    """Return the labels that stand for a group's units."""
    first = (unit[0] for unit in group.units)
    return {flow.labels.find(int(flow.axis((cut.slot, cut.dim))[cut.indices[0]])) for cut in first}


def groups_of(flow: Flow) -> list[Group]:
    """Return `groups` of a network that has been traced."""
    cuts = _cuts(flow)
    found = [_group(flow, axes, cuts) for axes in _components(flow)]
    needs = _needs(flow, {root: (n, at) for n, (_, roots) in enumerate(found) for at, root in enumerate(roots)})
    return [replace(group, needed=_least(needs.get(n, set()))) for n, (group, _) in enumerate(found)]


def frozen(net: Net) -> dict[str, str]:
    """Return {slot: why} of every weight whose channels must all stay, as the groups say it, without making the groups."""
    flow = trace(net)
    found: dict[str, str] = {}
    for makers in _components(flow):
        roots = {key: np.unique(flow.labels.roots(flow.axes[key])) for key in makers}
        held = {key[0]: flow.labels.held(own) for key, own in roots.items()}
        reasons = {slot: "; ".join(why) for slot, why in held.items() if why}
        if not reasons and len({int(root) for own in roots.values() for root in own[:2]}) == 1:
            reasons = dict.fromkeys((key[0] for key in makers), ALONE)
        found.update(reasons)
    return found


def filters(net: Net, group: Group, axes: Iterable[Axis] | None = None) -> list[Tensor]:
    """Return, for each unit, the weights that make its channels (or, with `axes`, those cut along these), flat."""
    wanted = set(group.makers if axes is None else axes)
    held = {slot: net.slot(slot)() for slot, _ in wanted}
    return [_flat([c for c in unit if (c.slot, c.dim) in wanted], held) for unit in group.units]


def _flat(cuts: list[Cut], held: Mapping[str, Tensor]) -> Tensor:
    parts = []
    for cut in cuts:
        tensor = held[cut.slot]
        parts.append(tensor.index_select(cut.dim, torch.tensor(cut.indices, device=tensor.device)).reshape(-1))
    return torch.cat(parts) if parts else torch.zeros(0)


def _cuts(flow: Flow) -> dict[int, list[Cut]]:
    """Return {root label: every slice of a stored tensor that carries it}."""
    found: dict[int, list[Cut]] = {}
    for (slot, dim), labels in flow.axes.items():
        roots = flow.labels.roots(labels)
        order = np.argsort(roots, kind="stable")
        for at in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1):
            found.setdefault(int(roots[at[0]]), []).append(Cut(slot, dim, tuple(sorted(at.tolist()))))
    return found


def _components(flow: Flow) -> list[list[Axis]]:
    """Return the makers, those that share a set of channels together, in order of first use."""
    owner: dict[int, int] = {}
    parts: dict[int, list[Axis]] = {}
    held: dict[int, set[int]] = {}
    for number, key in enumerate(flow.makers):
        roots = set(np.unique(flow.labels.roots(flow.axes[key])).tolist())
        joined = sorted({owner[root] for root in roots & owner.keys()})
        first = joined[0] if joined else number
        parts[first] = [axis for part in joined for axis in parts.pop(part)] + [key]
        for part in joined[1:]:
            moved = held.pop(part)
            owner.update(dict.fromkeys(moved, first))
            held[first] |= moved
        owner.update(dict.fromkeys(roots, first))
        held.setdefault(first, set()).update(roots)
    return [parts[first] for first in sorted(parts)]


def _group(flow: Flow, makers: list[Axis], cuts: dict[int, list[Cut]]) -> tuple[Group, list[int]]:
    """Return the group of these makers, and the label that stands for each of its units."""
    frozen: dict[str, str] = {}
    units: dict[int, tuple[Cut, ...]] = {}
    for key in makers:
        for root in dict.fromkeys(flow.labels.roots(flow.axes[key]).tolist()):
            if why := flow.labels.reasons(root):
                frozen.setdefault(key[0], "; ".join(why))
            else:
                units[root] = tuple(cuts[root])
    if len(units) == 1 and not frozen:
        frozen, units = dict.fromkeys((key[0] for key in makers), ALONE), {}
    touched = {(cut.slot, cut.dim) for unit in units.values() for cut in unit}
    readers = tuple(axis for axis in flow.readers if axis in touched)
    return Group(makers[0][0], tuple(units.values()), tuple(makers), readers, frozen), list(units)


def _needs(flow: Flow, owner: Mapping[int, tuple[int, int]]) -> dict[int, set[frozenset[int]]]:
    """Return, by group number, the sets of units whose removal would leave some value without channels."""
    needs: dict[int, set[frozenset[int]]] = {}
    for made in flow.values.values():
        for track in made if isinstance(made, tuple) else (made,):
            if not isinstance(track, Track):
                continue
            places = [owner.get(root) for root in {*flow.labels.roots(np.unique(track.labels)).tolist()}]
            numbers = {None if place is None else place[0] for place in places}
            number = numbers.pop() if len(numbers) == 1 else None
            if number is not None:
                needs.setdefault(number, set()).add(frozenset(place[1] for place in places if place))
    return needs


def _least(sets: set[frozenset[int]]) -> tuple[frozenset[int], ...]:
    least = [s for s in sets if not any(other < s for other in sets)]
    return tuple(sorted(least, key=lambda s: (len(s), sorted(s))))
