"""From a Net to a Frozen."""

import numpy as np
from torch import nn

from paredown.core.errors import BadInput
from paredown.graph.blocks import Blocked
from paredown.graph.computed import without_computed
from paredown.graph.frozen import Blocks, Frozen, Hashed, Plain, Rounded, Shared, Stored, Vectors, without_identities
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Fixed, Free, Grid, Masked
from paredown.graph.vectors import Hashed as HashedSlot
from paredown.graph.vectors import VectorCodebook


def freeze(net: Net) -> Frozen:
    """Return the finished network: what a file will hold. Raises BadInput for a slot that is still being trained.

    Weights that `net` computes from stored ones are stored as they come out (`graph.computed`).
    """
    spec = without_identities(net.spec)
    frozen = Frozen(spec, {name: _stored(name, net.slot(name)) for name in spec.slot_users()})
    return without_computed(frozen, net)


def _stored(name: str, slot: nn.Module) -> Stored:
    if isinstance(slot, Grid):
        widths = None if slot.widths is None else slot.widths.cpu().numpy()
        return Rounded(slot.codes.cpu().numpy(), slot.step.cpu().numpy(), slot.bits, widths)
    if isinstance(slot, Codebook):
        return Shared(slot.codes.cpu().numpy(), slot.centroids.detach().cpu().numpy())
    if isinstance(slot, VectorCodebook):
        return Vectors(slot.codes.cpu().numpy().astype(np.uint16), slot.centroids.detach().cpu().numpy(), slot.shape)
    if isinstance(slot, HashedSlot):
        return Hashed(slot.values.detach().cpu().numpy(), slot.shape, slot.seed)
    if isinstance(slot, Free | Fixed | Masked):
        value = slot().detach().cpu()
        if isinstance(slot, Masked):
            value = value + 0.0  # a negative number times a mask's zero is −0, which is no zero to a file
        return Plain((value.float() if value.is_floating_point() else value).contiguous().numpy())
    if isinstance(slot, Blocked):
        zero, coarse = (None if part is None else part.cpu() for part in (slot.zero, slot.coarse))
        return Blocks(
            slot.codes.cpu().numpy(),
            slot.step.cpu().float().numpy(),
            slot.number,
            slot.block,
            None if zero is None else zero.numpy(),
            None if coarse is None else coarse.float().numpy(),
        )
    raise BadInput(f"slot {name!r} is a {type(slot).__name__}, a form for training only; finish that step first")
