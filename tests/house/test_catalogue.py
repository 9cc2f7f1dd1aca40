"""The catalogue's promises: every part has a test, and adding one edits no shared file."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import paredown
from paredown.core.catalog import Card, entries, part

TESTS = Path(__file__).parents[1]


def test_every_part_has_a_test_file():
    missing = []
    for entry in entries():
        if not entry.cls.__module__.startswith("paredown."):
            continue
        place = entry.cls.__module__.removeprefix("paredown.").split(".")
        path = TESTS.joinpath(*place[:-1], f"test_{place[-1]}.py")
        if not path.exists():
            missing.append(f"{entry.name}: {path.relative_to(TESTS)}")
    assert not missing, missing


def test_test_files_have_names_of_their_own():
    """Pytest imports them by their name alone, and stops at the second of one name."""
    names = [path.name for path in TESTS.rglob("test_*.py")]
    assert not [name for name in names if names.count(name) > 1]


def test_every_kind_of_step_and_piece_has_a_first_member():
    kinds = {entry.kind for entry in entries()}
    assert {"step", "loss", "score", "habit", "codec", "searcher", "backend"} <= kinds


def test_every_card_says_where_the_part_comes_from():
    for entry in entries():
        assert entry.card.title and (entry.card.source or entry.card.paper), entry.name


@pytest.fixture
def package(tmp_path):
    """A package with one step, outside the house: no file of the house is touched."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "shrinker.py").write_text(
        textwrap.dedent('''
        from dataclasses import dataclass
        import torch
        from paredown.core.catalog import Card, part
        from paredown.core.knob import knob

        @part("stranger.halve", Card(title="Halve every weight", source="a test"))
        @dataclass(frozen=True)
        class Halve:
            """Halve every trainable value."""
            factor: float = knob(0.5, low=0.0, high=1.0)

            def apply(self, net, work):
                made = net.copy()
                with torch.no_grad():
                    for value in made.parameters():
                        value.mul_(self.factor)
                return made
    ''')
    )
    return tmp_path


def run(package, *words):
    env = {**os.environ, "PYTHONPATH": str(package), "PAREDOWN_PARTS": "stranger"}
    return subprocess.run(
        [sys.executable, "-m", "paredown.cli", *words],
        check=False,
        capture_output=True,
        text=True,
        env=env,
        cwd=package,
        timeout=120,
    )


def test_a_part_from_a_strangers_package_runs_by_name_from_the_terminal(package):
    (package / "recipe.yaml").write_text("steps:\n  - {part: stranger.halve, factor: 0.25}\n")
    card = run(package, "methods", "stranger.halve")
    assert card.returncode == 0 and "Halve every weight" in card.stdout, card.stderr
    done = run(package, "apply", "recipe.yaml", "digits", "--model", "logistic", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    assert "stranger.halve" in done.stdout
    assert (package / "run" / "best.pdn").stat().st_size > 600


def test_an_import_error_in_a_part_is_not_swallowed(package):
    (package / "stranger" / "broken.py").write_text("import nothing_of_that_name\n")
    failed = run(package, "methods")
    assert failed.returncode == 1 and "nothing_of_that_name" in failed.stderr


def test_two_parts_of_one_name_are_refused():
    def declare(module):
        from dataclasses import dataclass

        class Step:
            def apply(self, net, work):
                return net

        Step.__module__ = module
        return part("test.twice", Card(title="t", source="s"))(dataclass(frozen=True)(Step))

    declare("one")
    with pytest.raises(TypeError, match="twice"):
        declare("two")


def test_the_flat_api_is_small_and_complete():
    assert len(paredown.__all__) <= 20
    for name in paredown.__all__:
        assert callable(getattr(paredown, name))
    with pytest.raises(AttributeError):
        paredown.nothing  # noqa: B018
