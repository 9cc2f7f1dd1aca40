"""What follows a pattern of zeros through a weight says of each entry what is true, and asks only what is not known."""

import numpy as np
import pytest

from paredown.graph.code_length import decisions
from paredown.graph.zero_pattern import Groups, Layout, Pattern, Tiles, counted, questions
from paredown.methods.code.adaptive import Levels
from paredown.methods.code.range_coder import Decoder, Encoder
from paredown.methods.code.zeros import zeros

PATTERNS: list[Pattern] = [
    Groups(2, 4),
    Groups(4, 4),
    Groups(1, 3),
    Groups(3, 32),
    Tiles(3, 4),
    Tiles(1, 5),
    Tiles(4, 1),
]


def weight(draw: np.random.Generator, pattern: Pattern, shape: tuple[int, ...]) -> np.ndarray:
    """Return levels of which many are zero, at most so many of a group not."""
    values = draw.integers(-3, 4, shape) * (draw.random(shape) < 0.3)
    if isinstance(pattern, Groups):
        parts = values.reshape(*shape[:2], -1)
        for at in range(shape[1] // pattern.m * pattern.m):
            first = at // pattern.m * pattern.m
            full = (parts[:, first:at] != 0).sum(1) >= pattern.n
            parts[:, at][full] = 0
    return values


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("shape", [(7, 13), (6, 9, 3), (5, 40, 2, 2), (1, 4), (3, 1)])
def test_levels_come_back_and_what_is_said_is_true(pattern: Pattern, shape: tuple[int, ...]) -> None:
    for seed in range(3):
        values = weight(np.random.default_rng(seed), pattern, shape).ravel()
        layout, coder = Layout(pattern, shape), Encoder()
        Levels().row(coder, values.size, values.tolist(), zeros(layout, values))
        data = coder.finish()
        assert Levels().row(Decoder(data), values.size, None, zeros(layout)) == values.tolist()
        writer, reader = zeros(layout, values), None
        coder = Encoder()
        said = [writer.told(coder, bool(value)) for value in values]
        reader, source = zeros(layout), Decoder(coder.finish())
        assert [reader.told(source) for _ in values] == said
        assert all(told is None or told == bool(value) for told, value in zip(said, values, strict=True))
        assert [told is None for told in said] == questions(values.reshape(shape) != 0, pattern)[2].tolist()


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_it_takes_the_bits_of_its_questions(pattern: Pattern) -> None:
    shape = (40, 64, 3)
    values = weight(np.random.default_rng(3), pattern, shape)
    writer, coder = zeros(Layout(pattern, shape), values), Encoder()
    for value in values.ravel():
        writer.told(coder, bool(value))
    contexts, found, _ = questions(values != 0, pattern)
    assert 8 * len(coder.finish()) == pytest.approx(decisions(contexts, found), rel=0.02, abs=16)


def test_a_group_that_has_all_it_may_have_is_asked_nothing() -> None:
    values = np.array([[5, 5, 0, 0] * 64])
    assert counted(values[..., None] != 0, 4).max() == 2
    writer, coder = zeros(Layout(Groups(2, 4), values.shape), values), Encoder()
    before = [coder.position()]
    for value in values.ravel():
        writer.told(coder, bool(value))
        before.append(coder.position())
    assert all(before[at] == before[at + 2] for at in range(2, 256, 4))
