"""The C kernels as numpy sees them: found beside this file, called through ctypes, one path for each processor."""

import ctypes
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

from paredown.core.errors import BadInput

PATHS = ("portable", "avx2", "avx512")
"""From the slowest to the fastest: plain C, AVX2, AVX-512 with VPOPCNTDQ and VNNI."""
FORCED = "PAREDOWN_KERNELS"
LANES = 16
"""How many outputs stand side by side in a packed weight."""
KINDS = ("twos", "signs", "ternary")
"""What the planes of a weight are, by number; bit_product.c says how each is counted."""

_P, _N = ctypes.c_void_p, ctypes.c_int64
_PAIR = _N * 2


class Product(ctypes.Structure):
    """What `bit_product` and `code_product` read; see kernels.h."""

    _fields_ = [
        *((name, _P) for name in ("x", "w", "y", "offset", "which", "table")),
        *((name, _N) for name in ("rows", "words", "outputs", "y_stride")),
        *((name, ctypes.c_int32) for name in ("x_bits", "w_bits", "kind", "scale")),
    ]


class Patches(ctypes.Structure):
    """What `gather_patches` reads; see kernels.h."""

    _fields_ = [
        *((name, _P) for name in ("x", "rows")),
        *(
            (name, _N)
            for name in ("pictures", "height", "width", "pixel_bytes", "out_height", "out_width", "row_bytes")
        ),
        *((name, _PAIR) for name in ("kernel", "stride", "padding", "dilation")),
    ]


def address(array: np.ndarray) -> int:
    """Return where an array's values lie; they must be contiguous, and the array outlive the call."""
    return array.__array_interface__["data"][0]


@cache
def library() -> ctypes.CDLL:
    """Return the kernels. Raises BadInput, saying what to do, where they were not built."""
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        if (path := folder / f"_kernels{suffix}").exists():
            return _declared(ctypes.CDLL(str(path)))
    raise BadInput(
        "the low-bit kernels are not built: install a C compiler (gcc or clang), then paredown again (`pip install -e .` in a clone)"
    )


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    for name in ("bit_product", "code_product"):
        getattr(found, name).argtypes = [ctypes.c_int, ctypes.POINTER(Product)]
    found.pack_planes.argtypes = [ctypes.c_int, _P, _P, _N, _N, _N, ctypes.c_int]
    found.gather_patches.argtypes = [ctypes.POINTER(Patches)]
    found.quantize.argtypes = [_P, _P, _P, ctypes.c_float, _P]
    found.to_real.argtypes = found.to_codes.argtypes = [_P] * 5
    found.pdn_encode_levels.argtypes = [_P, _P, _N, _N, _N, ctypes.c_int, ctypes.c_int, _P, _P, _N]
    found.pdn_decode_levels.argtypes = [_P, _N, _P, _N, _N, _N, ctypes.c_int, ctypes.c_int, _P, _P]
    found.pdn_encode_indices.argtypes = [_P, _N, ctypes.c_int, _P, _P, _N]
    found.pdn_decode_indices.argtypes = [_P, _N, _N, ctypes.c_int, _P, _P]
    found.pdn_open.argtypes = [_P, _P, ctypes.c_size_t]
    found.pdn_next.argtypes = found.pdn_read.argtypes = [_P, _P]
    found.pdn_value.argtypes, found.pdn_value.restype = [_P, ctypes.c_uint32], ctypes.c_float
    found.pdn_reader_bytes.restype, found.pdn_bucket.restype = ctypes.c_size_t, ctypes.c_uint32
    found.pdn_encode_levels.restype = found.pdn_encode_indices.restype = _N
    for name in ("gather_patches", "quantize", "to_real", "to_codes"):
        getattr(found, name).restype = None
    return found


def built() -> bool:
    """Return whether the kernels were built."""
    try:
        return library() is not None
    except (BadInput, OSError):
        return False


@cache
def paths() -> tuple[str, ...]:
    """Return the paths that this processor has, from the slowest to the fastest."""
    return PATHS[: library().fastest_path() + 1]


def path_number(name: str = "") -> int:
    """Return the number of a path: the one named, else the one in PAREDOWN_KERNELS, else the fastest there is.

    Raises BadInput for one that is unknown, or that this processor has not.
    """
    name = name or os.environ.get(FORCED, "")
    there = paths()
    if name and name not in there:
        raise BadInput(f"the path {name!r} of the low-bit kernels is not there; this processor has {', '.join(there)}")
    return PATHS.index(name or there[-1])
