"""Slots: what a network stores. Each is a small module whose call returns the tensor that the network computes with.

A fact about a weight (its mask, its codes, its codebook) lives in its slot, so `deepcopy` and `state_dict` keep it.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.blocks import Blocked
from paredown.graph.frozen import code_range, fit_widths, fits
from paredown.graph.vectors import Hashed, VectorCodebook


class Free(nn.Module):
    """A trainable float tensor."""

    form: ClassVar[str] = ""
    bits = 32

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())

    def forward(self) -> Tensor:
        return self.value

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        return {"slot": "free", "shape": list(self.value.shape)}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Free":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        return cls(torch.zeros(meta["shape"]))


class Fixed(nn.Module):
    """A float or integer tensor that is not trained: running statistics, constants."""

    form: ClassVar[str] = ""
    bits = 32
    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value.detach().clone())

    def forward(self) -> Tensor:
        return self.value

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        return {"slot": "fixed", "shape": list(self.value.shape), "dtype": str(self.value.dtype)}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Fixed":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        return cls(torch.zeros(meta["shape"], dtype=_dtype(meta["dtype"])))


class Masked(nn.Module):
    """A trainable tensor, some of whose entries are held at zero."""

    form: ClassVar[str] = "masked"
    bits = 32
    mask: Tensor

    def __init__(self, value: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())
        self.register_buffer("mask", mask.detach().bool().clone())

    def forward(self) -> Tensor:
        return self.value * self.mask

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        return {"slot": "masked", "shape": list(self.value.shape)}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Masked":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        zeros = torch.zeros(meta["shape"])
        return cls(zeros, zeros)


class Grid(nn.Module):
    """Integer codes times a step: `codes * step`. `step` is a scalar or broadcasts over the output channels.

    Codes are two's complement; with bits=1 they are −1 and +1. widths: where the output channels differ, the bits of
    each, 0 to `bits`; a channel of 0 bits has the codes 0 and the step 1, and is not stored.
    """

    form: ClassVar[str] = "quantized"
    codes: Tensor
    step: Tensor
    widths: Tensor | None

    def __init__(self, codes: Tensor, step: Tensor, bits: int, widths: Tensor | None = None) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise BadInput(f"codes of {bits} bits cannot be held; allowed: 1 to 16")
        if not fits(codes, bits):
            found, (low, high) = f"codes from {int(codes.min())} to {int(codes.max())}", code_range(bits)
            raise BadInput(f"{found} do not fit {bits} bits ({f'{low} to {high}' if bits > 1 else '-1 and 1'})")
        if widths is not None and not fit_widths(codes.cpu().numpy(), widths.tolist(), bits):
            raise BadInput(f"codes of {bits} bits do not fit the widths {widths.tolist()} of their channels")
        self.bits = bits
        self.register_buffer("codes", codes.to(torch.int8 if bits <= 8 else torch.int16))
        self.register_buffer("step", step.detach().float().clone())
        self.register_buffer("widths", None if widths is None else widths.to(torch.uint8).clone())

    def forward(self) -> Tensor:
        return self.codes * self.step

    def takes(self, codes: Tensor) -> bool:
        """Return whether these codes could stand in the place of its own."""
        if not fits(codes, self.bits):
            return False
        return self.widths is None or fit_widths(codes.cpu().numpy(), self.widths.tolist(), self.bits)

    def code_bits(self) -> int:
        """Return what the codes take, uncoded: each channel's at its own width where there are widths."""
        if self.widths is None:
            return self.codes.numel() * self.bits
        return int(self.widths.long().sum()) * math.prod(self.codes.shape[1:])

    def stored_bits(self) -> int:
        """Return what codes and steps (32 bits) take, uncoded; channels of 0 bits need no step."""
        steps = self.step.numel() if self.widths is None else min(self.step.numel(), int((self.widths > 0).sum()))
        return self.code_bits() + 32 * steps

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        made = {"slot": "grid", "shape": list(self.codes.shape), "step": list(self.step.shape), "bits": self.bits}
        return made if self.widths is None else {**made, "widths": True}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Grid":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        codes = torch.full(meta["shape"], int(meta["bits"] == 1), dtype=torch.int16)
        widths = torch.zeros(meta["shape"][:1]) if meta.get("widths") else None
        return cls(codes, torch.zeros(meta["step"]), meta["bits"], widths)


class Codebook(nn.Module):
    """Indices into a table of shared values: `centroids[codes]`."""

    form: ClassVar[str] = "shared"
    codes: Tensor

    def __init__(self, codes: Tensor, centroids: Tensor) -> None:
        super().__init__()
        if not 1 <= centroids.numel() <= 256:
            raise BadInput(f"a codebook of {centroids.numel()} values cannot be held; allowed: 1 to 256")
        self.bits = max(1, (centroids.numel() - 1).bit_length())
        self.register_buffer("codes", codes.to(torch.uint8))
        self.centroids = nn.Parameter(centroids.detach().float().clone())

    def forward(self) -> Tensor:
        return self.centroids[self.codes.long()]

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        return {"slot": "codebook", "shape": list(self.codes.shape), "size": self.centroids.numel()}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Codebook":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        return cls(torch.zeros(meta["shape"], dtype=torch.uint8), torch.zeros(meta["size"]))


STORED: dict[str, type[Any]] = {
    "free": Free, "fixed": Fixed, "masked": Masked, "grid": Grid, "codebook": Codebook, "blocked": Blocked,
    "vectors": VectorCodebook, "hashed": Hashed,
}  # fmt: skip
"""The slots that can be saved. Methods may define others for training; they must leave one of these behind."""


def stored(meta: dict[str, Any], most: float = math.inf) -> nn.Module:
    """Return an empty slot as `meta()` described it. Raises BadInput for an unknown one, or over `most` entries."""
    kind = meta.get("slot") if isinstance(meta, dict) else None
    if not isinstance(kind, str) or kind not in STORED:
        raise BadInput(f"slot kind {kind!r} is unknown; allowed: {', '.join(STORED)}")
    try:
        parts = [math.prod(meta.get(key, ())) for key in ("step", "table")]
        if max(math.prod(meta["shape"]), *parts, meta.get("size", 1)) > most:
            raise BadInput(f"the slot {meta} is larger than the weights that are there")
        return STORED[kind].empty(meta)
    except (LookupError, TypeError, RuntimeError, ArithmeticError) as error:
        raise BadInput(f"slot description {meta} is malformed: {error}") from error


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise BadInput(f"tensor type {name!r} is unknown")
    return dtype


class LearnedStep(nn.Module):
    """A tensor while its quantization is being trained: float values, and the logarithm of the step between levels.

    Its call returns `round(clip(value / step, low, high)) * step` with LSQ's gradients (Esser et al. 2020, eq. 1-5).
    step: a scalar, or one that broadcasts over the output channels. symmetric: the lowest level is minus the highest one;
    else it is the one below, as in the paper. It is a form for training: `held()` turns it into a Grid.
    """

    form: ClassVar[str] = "quantized"

    def __init__(self, value: Tensor, bits: int, step: Tensor, symmetric: bool = True) -> None:
        super().__init__()
        self.bits, self.high = bits, 2 ** (bits - 1) - 1
        self.low = -self.high - (not symmetric)
        self.value = nn.Parameter(value.detach().clone())
        self.log_step = nn.Parameter(step.detach().float().log())

    def step(self) -> Tensor:
        """Return the step as it is used: rounded to a 4-bit mantissa, with the gradient of the unrounded one.

        That gradient is scaled by LSQ's 1 / sqrt(N Q) here, so that it is for all that depends on the step: a penalty
        on the levels would else outweigh the loss a hundred times.
        """
        step = self.log_step.exp() / math.sqrt(max(1, self.value.numel() // self.log_step.numel() * self.high))
        return step + (short_float(self.log_step.detach().exp()) - step.detach())

    def forward(self) -> Tensor:
        return _Lsq.apply(self.value, self.step(), self.low, self.high)

    def levels(self) -> Tensor:
        """Return `clip(value / step)`, differentiable: where each entry lies between the integer levels."""
        return (self.value / self.step()).clamp(self.low, self.high)

    @torch.no_grad()
    def held(self) -> Grid:
        """Return the integers that the call computes with."""
        step = self.step()
        return Grid((self.value / step).clamp(self.low, self.high).round(), step, self.bits)


class _Lsq(torch.autograd.Function):
    """LSQ's quantizer. In: values, a step that broadcasts, the lowest and the highest level. Out: the quantized values."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        scaled = value / step
        codes = scaled.clamp(low, high).round_()
        ctx.save_for_backward(scaled, codes)
        ctx.levels, ctx.steps = (low, high), step.shape
        return codes * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scaled, codes = ctx.saved_tensors
        low, high = ctx.levels
        inside = (scaled >= low) & (scaled <= high)
        slope = torch.where(inside, codes - scaled, codes)
        return grads[0] * inside, (grads[0] * slope).sum_to_size(ctx.steps), None, None


def short_float(step: Tensor) -> Tensor:
    """Return positive floats rounded to 4 significant bits: what fits one byte and a half in a packed file."""
    mantissa, exponent = torch.frexp(step)
    return torch.ldexp((mantissa * 16).round() / 16, exponent)
