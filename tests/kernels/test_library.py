"""Where the kernels are, which paths there are, and what is said where they are not."""

from pathlib import Path

import pytest

import paredown.kernels
from paredown.core.errors import BadInput
from paredown.kernels import library as here
from paredown.kernels.library import FORCED, PATHS, built, path_number, paths

needs_kernels = pytest.mark.skipif(not built(), reason="the low-bit kernels are not built: there was no C compiler")
SOURCES = Path(paredown.kernels.__file__).parent / "c"


@needs_kernels
def test_a_path_is_named_forced_or_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths() == PATHS[: len(paths())] and paths()[0] == "portable"
    monkeypatch.delenv(FORCED, raising=False)
    assert path_number() == len(paths()) - 1 and path_number("portable") == 0
    monkeypatch.setenv(FORCED, "portable")
    assert path_number() == 0
    monkeypatch.setenv(FORCED, "neon")
    with pytest.raises(
        BadInput, match="the path 'neon' of the low-bit kernels is not there; this processor has portable"
    ):
        path_number()


def test_without_a_compiler_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "EXTENSION_SUFFIXES", [".nowhere"])
    here.library.cache_clear()
    try:
        assert not built()
        with pytest.raises(BadInput, match=r"not built: install a C compiler .* then paredown again"):
            here.library()
    finally:
        monkeypatch.undo()
        here.library.cache_clear()


def test_every_source_holds_the_function_it_is_named_after() -> None:
    """And no file is longer than a screen or two. The packed format's decoder is a file by itself, for devices to take."""
    header = (SOURCES / "kernels.h").read_text()
    for source in (path for path in SOURCES.glob("*.c") if not path.name.startswith("pdn")):
        text = source.read_text()
        assert f" {source.stem}(" in text and f" {source.stem}(" in header, source.name
        assert len(text.splitlines()) < 120, source.name
