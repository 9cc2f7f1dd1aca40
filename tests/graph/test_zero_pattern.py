"""Patterns of zeros are seen from the weight alone, and what is asked of them is what a coder needs."""

import math

import numpy as np
import pytest
import torch

from paredown.graph.code_length import decisions, index_pattern, level_pattern
from paredown.graph.zero_pattern import (
    ACROSS,
    KERNEL,
    SIDE,
    WIDEST,
    Groups,
    Pattern,
    Tiles,
    allowed,
    candidates,
    counted,
    questions,
    tiled,
)
from paredown.methods.structure.block import Block
from paredown.methods.structure.granularity import Granularity
from paredown.methods.structure.n_m import NM

SHAPES = [(96, 64), (48, 32, 3, 3), (64, 32, 5)]


def mask(structure: object, shape: tuple[int, ...], sparsity: float) -> np.ndarray:
    """Return where weights stay of random ones of this shape."""
    saliency = torch.from_numpy(np.random.default_rng(0).random(shape)).float()
    return structure.stays({"w": saliency}, sparsity, "layer")["w"].numpy()  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 7), (4, 16), (8, 32), (1, 2)])
def test_groups_are_seen_as_structure_n_m_makes_them(n: int, m: int, shape: tuple[int, ...]) -> None:
    kept = mask(NM(n, m), shape, (1 - n / m) * (shape[1] // m * m / shape[1]) + 5e-10)
    assert Groups(int(counted(kept.reshape(*shape[:2], -1), m).max()), m) in candidates(kept)
    assert index_pattern(kept.astype(int), 2) == level_pattern(kept * 3) == Groups(n, m)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (8, 8), (2, 5), (16, 4)])
def test_tiles_are_seen_as_structure_block_makes_them(rows: int, columns: int, shape: tuple[int, ...]) -> None:
    assert level_pattern(mask(Block(rows, columns), shape, 0.6) * 3) == Tiles(rows, columns)


def test_kernels_that_are_gone_are_seen() -> None:
    assert level_pattern(mask(Granularity("kernel"), (48, 32, 3, 3), 0.5) * 3) == Tiles(1, 9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.9, 0.97, 1.0, 0.0])
def test_nothing_is_seen_in_zeros_that_lie_anywhere(shape: tuple[int, ...], density: float) -> None:
    there = np.random.default_rng(1).random(shape) < density
    assert level_pattern(there * 3) is None and index_pattern(there.astype(int), 2) is None


def asked_one_by_one(there: np.ndarray, pattern: Pattern) -> tuple[list[bool], list[bool]]:
    """Return the answers, and what is left to ask, by the definition alone: entry after entry."""
    outputs, inputs = there.shape[:2]
    parts = there.reshape(outputs, inputs, -1)
    answers, free = [], []
    for o in range(outputs):
        for at in range(inputs * parts.shape[2]):
            if isinstance(pattern, Tiles):
                r, c = o // pattern.rows * pattern.rows, at // pattern.columns * pattern.columns
                any_of = bool(there.reshape(outputs, -1)[r : r + pattern.rows, c : c + pattern.columns].any())
                answers += [any_of] if (r, c) == (o, at) else []
                free.append(any_of)
                continue
            i, k = divmod(at, parts.shape[2])
            if i >= inputs // pattern.m * pattern.m:
                free.append(True)
                continue
            before = parts[o, i // pattern.m * pattern.m : i, k].sum()
            answers += [bool(parts[o, i, k])] if before < pattern.n else []
            free.append(False)
    return answers, free


@pytest.mark.parametrize("shape", [(5, 9), (6, 10, 3), (7, 5, 2, 2)])
@pytest.mark.parametrize("pattern", [Groups(4, 4), Groups(3, 3), Tiles(2, 3), Tiles(1, 4), Tiles(4, 1), Tiles(64, 64)])
def test_the_questions_are_those_of_the_definition(pattern: Pattern, shape: tuple[int, ...]) -> None:
    there = np.random.default_rng(2).random(shape) < 0.4
    contexts, found, free = questions(there, pattern)
    answers, left = asked_one_by_one(there, pattern)
    assert sorted(found.tolist()) == sorted(answers) and free.tolist() == left and len(contexts) == len(found)
    assert contexts.min() >= 0 and contexts.max() < WIDEST * WIDEST


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 16), (3, 7)])
def test_questions_take_the_cost_of_the_index(n: int, m: int) -> None:
    """log2 of the ways to choose n of m, for each group."""
    kept = mask(NM(n, m), (256, 4 * m, 3, 3), 1 - n / m)
    contexts, found, free = questions(kept, Groups(n, m))
    assert not free.any()
    assert decisions(contexts, found) / kept.size == pytest.approx(math.log2(math.comb(m, n)) / m, rel=0.01)


def test_what_a_decoder_cannot_follow_is_not_allowed() -> None:
    assert allowed(Groups(2, 4), (8, 8, 8, 8)) and not allowed(Groups(2, 4), (8, 8, 1, KERNEL + 1))
    assert not allowed(Groups(0, 4), (8, 8)) and not allowed(Groups(5, 4), (8, 8))
    assert not allowed(Groups(2, WIDEST + 1), (8, 80))
    assert not allowed(Tiles(0, 1), (8, 8)) and not allowed(Tiles(SIDE + 1, 1), (99, 8))
    assert allowed(Tiles(2, 2), (8, 2 * ACROSS)) and not allowed(Tiles(2, 2), (8, 2 * ACROSS + 1))


def test_tiles_at_the_edge_are_smaller() -> None:
    matrix = np.zeros((5, 7), bool)
    matrix[4, 6] = True
    assert tiled(matrix, 2, 3).tolist() == [[False] * 3, [False] * 3, [False, False, True]]


def test_groups_that_hold_nothing_are_none() -> None:
    """What is not zero may all lie behind the last whole group: of 64 inputs in groups of 31, in the last two."""
    for last in (1, 2, 3):
        there = np.zeros((64, 64, 3, 3), bool)
        there[np.arange(0, 64, 5), 64 - last, 1, 1] = True
        assert all(allowed(pattern, there.shape) for pattern in candidates(there))
