"""A packed file read by the portable decoder in C (c/pdn.h), as arrays: what a device sees. Needs no torch."""

import ctypes

import numpy as np

from paredown.core.errors import Damaged
from paredown.graph.frozen import Blocks, Hashed, Plain, Rounded, Shared, Stored, Vectors
from paredown.kernels.library import address, library

OK, TENSOR, END = 0, 1, 2
FORMS = ("rounded", "shared", "plain", "vectors", "hashed", "blocks")
TYPES = ("float32", "int64", "int32", "uint8", "int8", "bool", "float16")
NUMBERS = ("int", "uint", "q", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp6_e3m2", "fp6_e2m3", "fp4_e2m1")

_INT, _U32, _SIZE, _P = ctypes.c_int, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p


class Tensor(ctypes.Structure):
    """`pdn_tensor`: what a tensor of a file is, and the room that it needs."""

    _fields_ = [
        *((name, _INT) for name in ("form", "type", "rank", "bits", "code_bytes", "channels")),
        ("shape", _U32 * 8),
        *((name, _SIZE) for name in ("codes", "steps", "coarse", "zeros", "floats")),
        *((name, _U32) for name in ("books", "vectors", "length", "seed")),
        *((name, _INT) for name in ("number", "fraction")),
        *((name, _U32) for name in ("block", "rows", "of_row")),
    ]


class Buffers(ctypes.Structure):
    """`pdn_buffers`: where it goes."""

    _fields_ = [(name, _P) for name in ("codes", "steps", "coarse", "zeros", "floats", "widths")]


def tensors(data: bytes, wanted: set[int] | None = None) -> list[Stored | None]:
    """Return the tensors of a packed file in its order; None in the place of those that are not `wanted`.

    Raises Damaged for a file that is not as it was written, and BadInput where the kernels were not built.
    """
    calls = library()
    reader = ctypes.create_string_buffer(calls.pdn_reader_bytes())
    if calls.pdn_open(reader, data, len(data)) != OK:
        raise Damaged("this packed network is damaged, or of another version")
    found: list[Stored | None] = []
    tensor = Tensor()
    while (told := calls.pdn_next(reader, ctypes.byref(tensor))) == TENSOR:
        needed = wanted is None or len(found) in wanted
        arrays = _room(tensor, needed)
        to = Buffers(*(None if array is None else address(array) for array in arrays.values()))
        if calls.pdn_read(reader, ctypes.byref(to)) != OK:
            raise Damaged(f"tensor {len(found)} of this packed network is damaged")
        found.append(_stored(tensor, arrays) if needed else None)
    if told != END:
        raise Damaged("this packed network holds no valid tensors")
    return found


def _room(t: Tensor, needed: bool) -> dict[str, np.ndarray | None]:
    kind = (
        TYPES[t.type]
        if FORMS[t.form] == "plain"
        else f"{'' if FORMS[t.form] == 'rounded' else 'u'}int{8 * t.code_bytes}"
    )
    made: dict[str, np.ndarray | None] = {
        "codes": np.zeros(t.codes, dtype=kind),
        "steps": np.zeros(t.steps, dtype=np.float32),
        "coarse": np.zeros(t.coarse, dtype=np.float32),
        "zeros": np.zeros(t.zeros, dtype=np.int32),
        "floats": np.zeros(t.floats, dtype=np.float32),
        "widths": np.zeros(t.shape[0], dtype=np.uint8) if t.channels else None,
    }
    if not needed:
        made |= {"codes": None, "steps": None, "coarse": None, "zeros": None}
    return made


def _stored(t: Tensor, arrays: dict[str, np.ndarray | None]) -> Stored:
    shape = tuple(t.shape[: t.rank])
    codes, steps, coarse, zeros, floats, widths = arrays.values()
    assert codes is not None and steps is not None and coarse is not None and zeros is not None and floats is not None
    form = FORMS[t.form]
    if form == "rounded":
        return Rounded(codes.reshape(shape), steps.reshape(-1, *[1] * (len(shape) - 1)), t.bits, widths)
    if form == "shared":
        return Shared(codes.reshape(shape), floats)
    if form == "plain":
        return Plain(codes.reshape(shape))
    if form == "vectors":
        return Vectors(codes, floats.reshape(t.books, t.vectors, t.length), shape)
    if form == "hashed":
        return Hashed(floats, shape, t.seed)
    number = NUMBERS[t.number]
    if number in ("int", "uint", "q"):
        number = f"q{t.bits - t.fraction}.{t.fraction}" if number == "q" else f"{number}{t.bits}"
    dims = (t.rows, t.of_row)
    zero, top = (zeros.reshape(dims) if t.zeros else None), (coarse.reshape(-1, 1) if t.coarse else None)
    own = codes if t.code_bytes == 1 else codes.astype(np.int32)
    return Blocks(own.reshape(shape), steps.reshape(dims), number, t.block, zero, top)


def bucket(entry: int, seed: int, values: int) -> tuple[int, float]:
    """Return where a hash sends an entry of a tensor, and with which sign."""
    negative = ctypes.c_int()
    found = library().pdn_bucket(_U32(entry), _U32(seed), _U32(values), ctypes.byref(negative))
    return found, -1.0 if negative.value else 1.0


def value(number: str, code: int, bits: int, fraction: int = 0) -> float:
    """Return what a code of a number format of NUMBERS stands for, by the decoder's own arithmetic."""
    tensor = Tensor(number=NUMBERS.index(number), bits=bits, fraction=fraction)
    return library().pdn_value(ctypes.byref(tensor), code)
