"""Ten thousand tensors of every form and type come back bit for bit, from Python's reader and from the decoder in C."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from test_container import assert_same
from test_decoder import assert_equal

from paredown.graph.frozen import Blocks, Frozen, Hashed, Plain, Rounded, Shared, Stored, Vectors
from paredown.graph.patterns import width
from paredown.graph.spec import Node, Slot, Spec, Value
from paredown.kernels import decoder
from paredown.kernels.library import built
from paredown.targets.block_scribe import NUMBERS
from paredown.targets.container import read, write

CASES, PARTS, EACH = 10_000, 5, 40
TYPES = ("float32", "float16", "int64", "int32", "uint8", "int8", "bool", "half")
FORMS = ("plain", "rounded", "channels", "shared", "vectors", "hashed", "blocks")
SHAPES = (
    (1,),
    (),
    (0,),
    (7,),
    (40,),
    (1, 1),
    (3, 4),
    (2, 3, 2),
    (6, 4, 1, 2),
    (1, 1, 1, 1, 1, 1, 1, 2),
    (20, 16),
    (8, 8, 3, 3),
)
"""The last two are large enough for what is only asked of 256 entries or more: dependent levels, patterns of zeros."""
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3.4e38, 1.0)


def whole(draw: np.random.Generator, way: int, low: int, high: int, size: int) -> np.ndarray:
    """Return integers from low to high: random, peaked, sparse, constant, the extremes, in a row, in groups, in runs."""
    near = np.round(draw.laplace(0, 1 + abs(high) / 20, size)).clip(low, high)
    made = (
        lambda: draw.integers(low, high, size, endpoint=True),
        lambda: near,
        lambda: near * (draw.random(size) < 0.1),
        lambda: np.full(size, draw.integers(low, high, endpoint=True)),
        lambda: draw.choice([low, high, 0], size),
        lambda: np.arange(size) % (high - low + 1) + low,
        lambda: near * (np.arange(size) % 4 < 2),
        lambda: np.repeat(near[: -(-size // 9)], 9)[:size],
    )[way]()
    return np.asarray(made).clip(low, high)


def plain(draw: np.random.Generator, way: int, shape: tuple[int, ...]) -> Stored:
    kind, size = str(draw.choice(TYPES)), math.prod(shape)
    if kind in ("float32", "float16", "half"):
        values = draw.normal(size=size) * 10.0 ** draw.integers(-6, 6)
        if way in (2, 6, 7):
            values = values * whole(draw, way, -1, 1, size)
        if way in (3, 4):
            values = draw.choice(SPECIAL, size) if way == 4 else np.full(size, draw.choice(SPECIAL))
        with np.errstate(over="ignore"):
            found = values.astype(np.float16 if kind != "float32" else np.float32)
        return Plain((found.astype(np.float32) if kind == "half" else found).reshape(shape))
    if kind == "bool":
        return Plain(whole(draw, way, 0, 1, size).astype(bool).reshape(shape))
    limits = np.iinfo(kind)
    low, high = max(limits.min, -(2**53)), min(limits.max, 2**53)
    return Plain(whole(draw, way, low, high, size).astype(kind).reshape(shape))


def rounded(draw: np.random.Generator, way: int, shape: tuple[int, ...], channels: bool) -> Stored:
    bits = int(draw.integers(1, 17))
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    kind = np.int8 if bits <= 8 else np.int16
    codes = whole(draw, way, low, high, math.prod(shape)).astype(np.int64)
    codes = np.where(codes < 0, -1, 1) if bits == 1 else codes
    rows, dims = (shape[0] if shape else 1), (shape[0], *[1] * (len(shape) - 1)) if shape else ()
    single = not shape or (not channels and draw.random() < 0.5)
    step = draw.choice([0.25, 1e-9, 1 / 3, 3e38, 1e-45], 1 if single else rows).astype(np.float32)
    step = step.reshape(()) if single else step.reshape(dims)
    if not channels or not shape or bits == 1:
        return Rounded(codes.astype(kind).reshape(shape), step, bits)
    widths = draw.integers(0, bits + 1, rows).astype(np.uint8)
    codes = codes.reshape(rows, codes.size // max(1, rows))
    for row, own in zip(codes, widths.tolist(), strict=True):
        row[:] = np.where(row < 0, -1, 1) if own == 1 else row.clip(-(1 << own >> 1), (1 << own >> 1) - 1) if own else 0
    return Rounded(codes.astype(kind).reshape(shape), np.where(widths.reshape(dims) > 0, step, 1).astype(np.float32), bits, widths)  # fmt: skip


def blocks(draw: np.random.Generator, way: int, shape: tuple[int, ...]) -> Stored:
    name = str(draw.choice(NUMBERS))
    bits = int(draw.integers(1, 17))
    number = f"q{bits - bits // 2}.{bits // 2}" if name == "q" else f"{name}{bits}" if name in ("int", "uint") else name
    bits, block = width(number), int(draw.integers(1, 9))
    rows, inner = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    dims = (1 if draw.random() < 0.3 else rows, -(-inner // block))
    forms = (
        draw.random(dims) + 0.1,
        2.0 ** draw.integers(-20, 20, dims),
        draw.integers(1, 4000, dims),
        draw.random(dims).astype(np.float16) + 1,
    )
    step = np.asarray(forms[draw.integers(4)]).astype(np.float32)
    coarse = draw.random((dims[0], 1)).astype(np.float32) + 1 if draw.random() < 0.3 else None
    zero = None
    if name in ("int", "uint", "q") and draw.random() < 0.4:
        zero = draw.integers(0, 1 << bits if name == "uint" else max(1, 1 << bits >> 1), dims).astype(np.int32)
    codes = whole(draw, way, 0, (1 << bits) - 1, math.prod(shape))
    return Blocks(codes.astype(np.uint8 if bits <= 8 else np.int32).reshape(shape), step, number, block, zero, coarse)


def made(seed: int, form: str, way: int, shape: tuple[int, ...]) -> Stored:
    """Return a stored tensor of a form."""
    draw, size = np.random.default_rng(seed), math.prod(shape)
    if form == "shared":
        table = draw.normal(size=int(draw.choice([1, 2, 5, 16, 255, 256], p=[0.2, 0.2, 0.2, 0.36, 0.02, 0.02]))).astype(
            np.float32
        )
        return Shared(whole(draw, way, 0, len(table) - 1, size).astype(np.uint8).reshape(shape), table)
    if form == "hashed" and size:
        return Hashed(draw.normal(size=int(draw.integers(1, 20))).astype(np.float32), shape, int(draw.integers(2**32)))
    if form == "vectors" and size and math.prod(shape[1:]) % 4 == 0 and len(shape) > 1:
        centroids = draw.normal(size=(int(draw.choice([1, 2])), int(draw.integers(1, 30)), 2)).astype(np.float32)
        codes = whole(draw, way, 0, centroids.shape[1] - 1, size // 2)
        return Vectors(codes.astype(np.uint16), centroids, shape)
    if form == "blocks" and shape:
        return blocks(draw, way, shape)
    if form in ("rounded", "channels"):
        return rounded(draw, way, shape, form == "channels")
    return plain(draw, way, shape)


def drawn(seed: int) -> list[Stored]:
    """Return tensors of every form, way and shape; large ones seldom, for they take longer."""
    draw = np.random.default_rng(seed)
    found = []
    for at in range(EACH):
        shape = SHAPES[int(draw.integers(len(SHAPES) - (2 if at % 10 else 0)))]
        found.append(
            made(int(draw.integers(2**32)), FORMS[int(draw.integers(len(FORMS)))], int(draw.integers(8)), shape)
        )
    return found


def holding_all(held: list[Stored]) -> Frozen:
    """Return a network that holds these tensors."""
    slots = {f"t{at}": stored for at, stored in enumerate(held)}
    nodes = [Node(f"n{at}", "add.Tensor", {"self": Value("x"), "other": Slot(name)}) for at, name in enumerate(slots)]
    return Frozen(Spec((("x", (1,)),), tuple(nodes), Value("n0")), slots)


@pytest.mark.parametrize("part", range(PARTS))
def test_ten_thousand_tensors_come_back(part: int) -> None:
    seen: dict[type, int] = {}

    @settings(
        max_examples=CASES // PARTS // EACH, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @seed(part)
    @given(st.integers(0, 2**32))
    def holds(drawing: int) -> None:
        held = drawn(drawing)
        frozen = holding_all(held)
        data = write(frozen)[0]
        again = read(data)
        assert_same(frozen, again)
        if built():
            for mine, its in zip(decoder.tensors(data), again.tensors.values(), strict=True):
                assert_equal(mine, its)
        for stored in held:
            seen[type(stored)] = seen.get(type(stored), 0) + 1

    holds()
    assert sum(seen.values()) >= CASES // PARTS and set(seen) == {Plain, Rounded, Shared, Vectors, Hashed, Blocks}


@pytest.mark.parametrize("form", FORMS)
def test_the_cases_cover_every_way_shape_and_type(form: str) -> None:
    cases = itertools.product(range(8), SHAPES)
    held = [made(at, form, way, shape) for at, (way, shape) in enumerate(cases)]
    frozen = holding_all(held)
    assert_same(frozen, read(write(frozen)[0]))
    if form == "plain":
        assert {stored.value.dtype.name for stored in held} == set(TYPES) - {"half"}
    if form == "blocks":
        assert {stored.number.rstrip("0123456789.") for stored in held if isinstance(stored, Blocks)} >= {
            "int",
            "uint",
            "q",
        }
