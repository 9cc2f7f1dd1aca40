"""Matrix products and convolutions of packed codes: int32, exactly the products of the integers that the codes stand for."""

import ctypes
import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from paredown.core.errors import BadInput
from paredown.kernels.codes import LARGEST, Levels, in_codes, in_planes, kind_of, numbers, patterns_of, planes_of
from paredown.kernels.library import KINDS, Patches, Product, address, library, path_number

Pair = tuple[int, int]
ONCE = 256 * 1024
"""How many bytes of windows are laid out at a time: what stays in the second cache beside the weight."""


@dataclass(frozen=True)
class Window:
    """How a convolution looks at its input: as in torch, each a (vertical, horizontal) pair."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def size(self, kernel: Pair, picture: Pair) -> Pair:
        """Return the output's (height, width)."""
        spans = zip(picture, self.padding, self.dilation, kernel, self.stride, strict=True)
        high, wide = ((size + 2 * pad - gap * (taps - 1) - 1) // step + 1 for size, pad, gap, taps, step in spans)
        return high, wide


@dataclass(frozen=True, eq=False)
class Weight:
    """Signed codes [outputs, inputs, …kernel] packed for inputs of some levels.

    codes: integers. bits: 1, 2 or 4. levels: of the input. odd: the codes are odd numbers (`kernels.codes`). way: "planes" (popcount over
    pairs of bits), "codes" (taken out of their words and multiplied with bytes), or "" for the faster one.
    groups: as in a convolution. Raises BadInput for codes that do not fit, or for sums that int32 may not hold.
    """

    codes: np.ndarray
    bits: int
    levels: Levels
    odd: bool = False
    groups: int = 1
    way: str = ""
    parts: list[np.ndarray] = field(init=False)
    plans: dict[tuple[Window, Pair], "Plan"] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.ndim not in (2, 4) or not self.codes.size or len(self.codes) % self.groups:
            raise BadInput(
                f"weights of shape {self.codes.shape} in {self.groups} groups are not packed; allowed: [out, in] or [out, in, h, w]"
            )
        patterns = patterns_of(self.codes, self.bits, self.odd)
        most = self.inputs * int(np.abs(self.codes).max()) * self.levels.largest
        if most > LARGEST:
            raise BadInput(f"sums of {self.inputs} products may reach {most}; int32 holds {LARGEST}")
        if self.way not in ("", "planes", "codes"):
            raise BadInput(f"the way {self.way!r} is unknown; allowed: planes, codes")
        object.__setattr__(self, "way", self.way or faster(self))
        flat = patterns.reshape(*patterns.shape[:2], -1).transpose(0, 2, 1)
        object.__setattr__(self, "parts", [self._packed(part) for part in np.split(flat, self.groups)])

    def _packed(self, patterns: np.ndarray) -> np.ndarray:
        if self.way == "planes":
            return in_planes(patterns, self.bits, self.kind)
        return in_codes(patterns.reshape(len(patterns), -1), self.bits)

    @property
    def inputs(self) -> int:
        """How many products an output sums."""
        return math.prod(self.codes.shape[1:])

    @property
    def kernel(self) -> Pair:
        """The kernel's (height, width); of a linear layer (1, 1)."""
        return (self.codes.shape[2], self.codes.shape[3]) if self.codes.ndim == 4 else (1, 1)

    @property
    def bytes(self) -> int:
        """What the packed codes take."""
        return sum(part.nbytes for part in self.parts)

    @property
    def kind(self) -> str:
        """What its planes are (`codes.kind_of`)."""
        return kind_of(self.codes, self.bits, self.odd)

    def offsets(self, inside: np.ndarray) -> np.ndarray:
        """Return what is added to the scaled sums, modulo 2^32: int32 [classes, outputs].

        inside: bool [classes, taps], which taps of a window lie in the picture; others read raw codes of 0, not values of 0.
        """
        sums = self.codes.reshape(*self.codes.shape[:2], -1).sum(1, dtype=np.int64)
        scale, shift = self.levels.affine
        offset = -shift * (inside.astype(np.int64) @ sums.T)
        if self.way == "planes" and self.kind == "signs":
            whole = (2**self.bits - 1) * self.inputs + sums.sum(1)
            offset += scale * (2**self.levels.bits - 1) * whole // 2
        elif self.way == "planes" and self.kind == "ternary":
            offset -= scale * (2**self.levels.bits - 1) * (self.codes < 0).reshape(len(self.codes), -1).sum(1)
        return offset.astype(np.int32)


def faster(weight: Weight) -> str:
    """Return the way that takes less time on AVX-512 (bench/low_bit.py): popcounts grow with the product of the widths."""
    filled = -(-weight.codes.shape[1] // 32) * 32 / weight.codes.shape[1]
    counts = weight.levels.bits * (1 if weight.kind == "ternary" else weight.bits)
    return "planes" if counts * filled <= 5 else "codes"


def matmul(x: np.ndarray, weight: Weight, path: str = "") -> np.ndarray:
    """Return the products x · weightᵀ, int32 [rows, outputs], of input codes [rows, inputs].

    path: of `library.paths()`, else the fastest. Raises BadInput for codes that the weight's levels have not.
    """
    if x.ndim != 2 or x.shape[1] != weight.inputs:
        raise BadInput(f"an input of shape {x.shape} does not fit weights for {weight.inputs} inputs")
    return convolve(weight.levels.raw(x)[:, None, None], weight, path=path).reshape(len(x), len(weight.codes))


def conv2d(x: np.ndarray, weight: Weight, window: Window = Window(), path: str = "") -> np.ndarray:
    """Return the sums of a convolution, int32 [batch, outputs, h, w], of input codes [batch, channels, h, w].

    Outside the picture lie values of 0, also where no code stands for 0. Otherwise as `matmul`.
    """
    if x.ndim != 4:
        raise BadInput(f"an input of shape {x.shape} is no batch of pictures")
    return convolve(weight.levels.raw(x).transpose(0, 2, 3, 1), weight, window, path).transpose(0, 3, 1, 2)


def convolve(raw: np.ndarray, weight: Weight, window: Window = Window(), path: str = "") -> np.ndarray:
    """Return the sums, int32 [batch, h, w, outputs], of raw codes (`Levels.raw`) [batch, h, w, channels]."""
    batch, high, wide, channels = raw.shape
    plan = weight.plans.get((window, (high, wide))) or planned(weight, window, (high, wide))
    if channels != weight.codes.shape[1] * weight.groups:
        raise BadInput(
            f"an input of {channels} channels does not fit weights for {weight.codes.shape[1] * weight.groups}"
        )
    total = np.empty((batch, *plan.size, len(weight.codes)), np.int32)
    number = path_number(path)
    for group in range(weight.groups):
        _group(packed_pixels(raw, weight, group, number), weight, plan, (group, number), total)
    return total


def packed_pixels(raw: np.ndarray, weight: Weight, group: int, path: int) -> np.ndarray:
    """Return a group's raw codes as its weights read them: uint8 [batch, h, w, bytes of a pixel].

    raw: uint8 [batch, h, w, channels of all groups]. path: a number of `library.path_number`.
    """
    size = weight.codes.shape[1]
    flat = np.ascontiguousarray(raw).reshape(math.prod(raw.shape[:3]), raw.shape[3])[
        :, group * size : (group + 1) * size
    ]
    if weight.way == "codes":
        return np.ascontiguousarray(flat).reshape(*raw.shape[:3], size)
    planes = planes_of(flat, weight.levels.bits, path)
    return planes.view(np.uint8).reshape(*raw.shape[:3], 4 * math.prod(planes.shape[1:]))


@dataclass(frozen=True, eq=False)
class Plan:
    """What is known of a weight's sums once the picture's size is.

    size: of the output. many: how many pictures are laid out at a time, 0 where the pixels are the rows. patches: how they are laid out.
    products: the request for each group, but for x, y and rows. kept: the arrays that the requests point to.
    """

    size: Pair
    many: int
    row_bytes: int
    patches: Patches
    products: list[Product]
    kept: list[np.ndarray]


def planned(weight: Weight, window: Window, picture: Pair) -> Plan:
    """Return the plan for pictures of a (height, width), and keep it with the weight. Raises BadInput for too small ones."""
    size = window.size(weight.kernel, picture)
    if min(size) < 1:
        raise BadInput(f"a picture of {picture[0]} x {picture[1]} is smaller than the kernel {weight.kernel}")
    channels, taps = weight.codes.shape[1], weight.kernel[0] * weight.kernel[1]
    pixel = -(-channels // 32) * 4 * weight.levels.bits if weight.way == "planes" else channels
    row = taps * pixel if weight.way == "planes" else weight.parts[0].shape[1] * (32 // weight.bits)
    many = 0 if taps == 1 and window == Window() and row == pixel else max(1, ONCE // (size[0] * size[1] * row))
    inside, which = borders(weight.kernel, window, picture, weight.levels.affine[1] != 0)
    classes = np.tile(which, max(1, many))
    offsets = [np.ascontiguousarray(part) for part in np.split(weight.offsets(inside), weight.groups, 1)]
    table = np.resize(numbers(weight.bits, weight.odd), 16)
    products = [
        Product(None, address(part), None, address(offset), address(classes) if len(inside) > 1 else None, address(table),
                0, part.shape[-2], len(weight.codes) // weight.groups, len(weight.codes),
                weight.levels.bits, weight.bits, KINDS.index(weight.kind), weight.levels.affine[0])
        for part, offset in zip(weight.parts, offsets, strict=True)
    ]  # fmt: skip
    pairs = [(ctypes.c_int64 * 2)(*pair) for pair in (weight.kernel, window.stride, window.padding, window.dilation)]
    patches = Patches(None, None, 0, *picture, pixel, *size, row, *pairs)
    plan = Plan(size, many, row, patches, products, [*offsets, classes, table])
    weight.plans[window, picture] = plan
    return plan


def _group(pixels: np.ndarray, weight: Weight, plan: Plan, at: tuple[int, int], total: np.ndarray) -> None:
    """Fill one group's outputs of `total`. pixels: from `packed_pixels`. at: the numbers of the group and of the path."""
    many = plan.many or max(1, len(pixels))
    for start in range(0, len(pixels), many):
        multiply(laid_out(pixels[start : start + many], plan), weight, plan, at, total[start : start + many])


def laid_out(pixels: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the windows over packed pixels, one after the other; where they are the pixels themselves, those."""
    if not plan.many:
        return pixels
    rows = np.empty((len(pixels), plan.size[0] * plan.size[1], plan.row_bytes), np.uint8)
    patches = Patches.from_buffer_copy(plan.patches)
    patches.x, patches.rows, patches.pictures = address(pixels), address(rows), len(pixels)
    library().gather_patches(ctypes.byref(patches))
    return rows


def multiply(rows: np.ndarray, weight: Weight, plan: Plan, at: tuple[int, int], total: np.ndarray) -> None:
    """Fill `total`, int32 [pictures, h, w, outputs], with one group's sums. rows: from `laid_out`; at most `plan.many` pictures."""
    kind = library().bit_product if weight.way == "planes" else library().code_product
    asked = Product.from_buffer_copy(plan.products[at[0]])
    asked.x, asked.y = address(rows), address(total) + 4 * at[0] * asked.outputs
    asked.rows = len(total) * plan.size[0] * plan.size[1]
    if kind(at[1], ctypes.byref(asked)):
        raise BadInput("this processor has not the path that was asked for")


@lru_cache(maxsize=256)
def borders(kernel: Pair, window: Window, picture: Pair, matters: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return which taps lie in the picture, bool [classes, taps], and each output place's class, int32.

    matters: whether it does; if not, there is one class, all of whose taps count.
    """
    ways, at = [], []
    for axis, size in enumerate(window.size(kernel, picture)):
        place = np.arange(size)[:, None] * window.stride[axis] - window.padding[axis]
        place = place + np.arange(kernel[axis]) * window.dilation[axis]
        lies = (place >= 0) & (place < picture[axis]) if matters else np.ones_like(place, bool)
        found, index = np.unique(lies, axis=0, return_inverse=True)
        ways.append(found)
        at.append(index.ravel())
    inside = (ways[0][:, None, :, None] & ways[1][None, :, None, :]).reshape(len(ways[0]) * len(ways[1]), -1)
    return inside, (at[0][:, None] * len(ways[1]) + at[1]).astype(np.int32).ravel()
