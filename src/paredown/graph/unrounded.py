"""What rounded weights were before they were rounded: kept from a training that rounds, to tell rounding from training."""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from paredown.core.errors import Damaged
from paredown.graph.net import Net

FILE = "unrounded.safetensors"


@torch.no_grad()
def unrounded(net: Net) -> dict[str, Tensor]:
    """Return {slot: float value that the stored one is rounded from} of a network that is still in its training form.

    A slot counts that has a float `value` and is `held()` afterwards. Where it is held at another scale than it runs with
    (its batch norm will be folded), the value is brought to that scale, one factor for each filter.
    """
    found = {}
    for name in net.slot_names():
        slot = net.slot(name)
        if not hasattr(slot, "held") or not isinstance(getattr(slot, "value", None), Tensor):
            continue
        runs, held = slot().detach(), slot.held()().detach()
        if runs.shape != slot.value.shape or held.shape != runs.shape:
            continue
        dims = tuple(range(1, runs.dim())) or (0,)
        power = runs.square().sum(dims, keepdim=True)
        scale = torch.where(power > 0, (held * runs).sum(dims, keepdim=True) / power, torch.ones_like(power))
        found[name] = (slot.value.detach() * scale).float().cpu().contiguous()
    return found


def save_unrounded(values: dict[str, Tensor], folder: Path) -> None:
    """Write the values into a folder, where there are any."""
    if values:
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(values, folder / FILE)


def load_unrounded(folder: Path) -> dict[str, Tensor]:
    """Return the values in a folder, none where it has none. Raises Damaged for a file that is not whole."""
    if not (folder / FILE).exists():
        return {}
    try:
        return dict(safetensors.torch.load_file(folder / FILE))
    except (SafetensorError, OSError) as error:
        raise Damaged(f"{folder / FILE} is damaged: {error}") from error
