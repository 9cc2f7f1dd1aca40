"""The two pruners of `pruning_networks.py`, each as its own page shows it, with what of the original they removed."""

import copy
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.groups import groups
from paredown.graph.net import Net
from paredown.methods.prune import channels
from paredown.methods.score.l2 import L2
from paredown.targets.onnx import Onnx
from pruning_zoo import Network

RATIO = 0.3
"""The share of channels that goes."""

Masks = dict[str, Tensor]
"""Parameter or buffer of the original by name: which of its entries stay."""


class Stop(Exception):
    """A stage did not pass, and why."""


@dataclass
class Pruned:
    """What a tool made: the thin module, what stayed of the original, and what else is known."""

    thin: nn.Module
    masks: Masks
    known: dict[str, Any] = field(default_factory=dict)
    unmaskable: str = ""


class Paredown:
    """Ours, through the step that users call."""

    def trace(self, model: nn.Module, network: Network) -> Any:
        """Return the traced network and its groups."""
        net = capture(model, network.inputs(2))
        return net, groups(net)

    def prune(self, traced: Any, model: nn.Module) -> Pruned:
        """Return the thinner network. Raises Stop with the reasons where nothing went."""
        net, found = traced
        gone: dict[Any, tuple[int, ...]] = {}
        work, remove = Work(), channels.remove_channels

        def watched(net: Net, chosen: Any) -> Any:
            out, left = remove(net, chosen)
            gone.update({group: units for group, units in chosen.items() if group.name not in left})
            return out, left

        channels.remove_channels = watched
        thin = channels.Channels(RATIO, score=L2()).apply(net, work)
        channels.remove_channels = remove
        why = Counter(note.text for note in work.notes)
        known = {"could_go": could_go(net, found), "left": len(work.notes), "reasons": why.most_common(5)}
        if not any(gone.values()):
            raise Stop("refused: " + " | ".join(f"{text} ({n})" for text, n in why.most_common(3)), known)
        cuts = [cut for group, units in gone.items() for unit in units for cut in group.units[unit]]
        stored = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        masks: Masks = {}
        for cut in cuts:
            if cut.slot in stored:
                mask = masks.setdefault(cut.slot, torch.ones_like(stored[cut.slot], dtype=torch.bool))
                mask.index_fill_(cut.dim, torch.tensor(cut.indices), False)
        other = sorted({cut.slot for cut in cuts} - set(stored))
        return Pruned(thin, masks, known, f"cut slots that are no tensors of the module: {other[:3]}" if other else "")

    def double(self, thin: nn.Module) -> nn.Module:
        """Return a float64 copy."""
        net = thin.copy().double().eval()
        nodes = [
            n.with_args(**{k: "torch.float64" for k, v in n.args.items() if type(v) is str and v == "torch.float32"})
            for n in net.spec.nodes
        ]
        net.rewire(type(net.spec)(net.spec.inputs, tuple(nodes), net.spec.output))
        return net

    def gradients(self, thin: nn.Module) -> set[str]:
        """Return the original's names of the parameters that have a gradient."""
        held = {name: getattr(thin.slot(name), "value", None) for name in thin.slot_names()}
        return {name for name, value in held.items() if value is not None and value.grad is not None}

    def export(self, thin: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> Path:
        """Return the ONNX file."""
        return Path(Onnx().write(freeze(thin), folder).path)

    RELOAD = "from paredown.graph.net import Net; net = Net.load(folder)"

    def save(self, thin: nn.Module, network: Network, folder: Path) -> None:
        """Write the network's own files."""
        thin.save(folder)


class TorchPruning:
    """Torch-Pruning, as its own page shows it."""

    def trace(self, model: nn.Module, network: Network) -> Any:
        """Return the pruner over a copy, whose gradients are tags: where each entry stood."""
        import torch_pruning

        model = copy.deepcopy(model)
        for p in model.parameters():
            if p.numel() >= 2**24:
                model = model.double()  # a tag of more than 24 bits
                break
        for p in model.parameters():
            p.grad = torch.arange(p.numel(), dtype=p.dtype).view_as(p)
        inputs = tuple(x.to(next(model.parameters()).dtype) if x.is_floating_point() else x for x in network.inputs(1))
        return torch_pruning.pruner.BasePruner(
            model, inputs, torch_pruning.importance.GroupMagnitudeImportance(p=2), pruning_ratio=RATIO,
            ignored_layers=network.heads(model),
        )  # fmt: skip

    def prune(self, traced: Any, model: nn.Module) -> Pruned:
        """Return the network, changed in place. Raises Stop where nothing went."""
        traced.step()
        thin = traced.model
        masks, other = {}, []
        own = dict(thin.named_parameters(remove_duplicate=False))
        for name, before in model.named_parameters(remove_duplicate=False):
            tags = own[name].grad if name in own else None
            if tags is None or tags.shape != own[name].shape:
                other.append(name)
            elif tags.numel() < before.numel():
                masks[name] = torch.zeros(before.numel(), dtype=torch.bool)
                masks[name][tags.long().flatten()] = True
                masks[name] = masks[name].view_as(before)
        thin.zero_grad()
        if not masks and not other:
            raise Stop("nothing was removed, without a word", {})
        return Pruned(thin.float(), masks, {}, f"parameters exchanged without a trace: {other[:3]}" if other else "")

    def double(self, thin: nn.Module) -> nn.Module:
        """Return a float64 copy."""
        return copy.deepcopy(thin).double().eval()

    def gradients(self, thin: nn.Module) -> set[str]:
        """Return the names of the parameters that have a gradient."""
        return {name for name, p in thin.named_parameters(remove_duplicate=False) if p.grad is not None}

    def export(self, thin: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> Path:
        """Return the ONNX file."""
        torch.onnx.export(thin.eval(), inputs, folder / "model.onnx", dynamo=True, verbose=False)
        return folder / "model.onnx"

    RELOAD = (
        "from pruning_zoo import networks; net = networks()[name].make(); "
        "net.load_state_dict(load_file(folder + '/weights.safetensors'))"
    )

    def save(self, thin: nn.Module, network: Network, folder: Path) -> None:
        """Write the weights."""
        save_file(
            {k: v.detach().clone().contiguous() for k, v in thin.state_dict().items()}, folder / "weights.safetensors"
        )


TOOLS: dict[str, Any] = {"paredown": Paredown, "torch_pruning": TorchPruning}


def could_go(net: Net, found: list[Any]) -> float:
    """Return the share of channels, of all that some weight makes, which are in a unit that may be removed."""
    total = sum(net.slot(slot)().shape[dim] for group in found for slot, dim in group.makers)
    free = sum(len(c.indices) for g in found for unit in g.units for c in unit if (c.slot, c.dim) in g.makers)
    return round(free / max(1, total), 4)
