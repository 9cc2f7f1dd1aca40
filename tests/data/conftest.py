"""Data made on the spot: pictures, tables, arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paredown.core.errors import BadInput
from paredown.data import tasks


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """60 grey pictures of 6 × 5 in three classes of 20."""
    draw = np.random.default_rng(7)
    return draw.integers(0, 256, (60, 6, 5), dtype=np.uint8), np.repeat(np.arange(3), 20)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Writes `count` pictures for each "folder/class" name given, below one folder."""

    def write(*classes: str, count: int = 8, size: tuple[int, int] = (6, 5), mode: str = "RGB", seed: int = 0) -> Path:
        draw = np.random.default_rng([seed, len(classes), count])
        root = tmp_path / "pictures"
        for name in classes:
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(root / name / f"{mode}{seed}_{i:03}.png")
        return root

    return write


@pytest.fixture
def refused() -> Callable[..., str]:
    """Loads what must be refused; returns the line, which must be one, and name each of `words`."""

    def check(source: object, *words: str) -> str:
        with pytest.raises(BadInput) as caught:
            tasks.load(source)
        line = str(caught.value)
        assert "\n" not in line and len(line) < 600
        for word in words:
            assert word in line, line
        return line

    return check
