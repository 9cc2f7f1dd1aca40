"""`paredown report` and `paredown cite`. Import no torch."""

from pathlib import Path
from typing import Any

from paredown.core.catalog import Entry, entry
from paredown.core.errors import BadInput
from paredown.core.store import read_json
from paredown.reports.page import write_report


def report(run: Any) -> Path:
    """Rebuild a run's `report.html` from its folder and return its path. Raises BadInput for what is no run."""
    folder = Path(str(getattr(run, "folder", run)))
    if not (folder / "asked.json").exists():
        raise BadInput(f"{folder} is not a run's folder: it has no asked.json")
    return write_report(folder)


def cite(run: Any) -> str:
    """Return BibTeX of what the winner's recipe is made of, each paper once. Raises BadInput for a run without a winner."""
    folder = Path(str(getattr(run, "folder", run)))
    found = read_json(folder / "found.json")
    if not found.get("best"):
        raise BadInput(f"run {folder} has no winner, so there is nothing to cite")
    names = dict.fromkeys(_parts(found["best"]["recipe"]))
    return "\n\n".join(bibtex(e) for e in map(entry, names) if e.card.paper)


def _parts(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        own = [tree["part"]] if "part" in tree else []
        return own + [name for value in tree.values() for name in _parts(value)]
    return [name for item in tree for name in _parts(item)] if isinstance(tree, list) else []


def bibtex(found: Entry) -> str:
    """Return a part's paper as a BibTeX entry."""
    card = found.card
    kind, _, number = card.paper.partition(":")
    where = (
        f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}}," if kind == "arxiv" else f"  {kind} = {{{number}}},"
    )
    title = card.source.split(",")[0] or card.title
    key = f"{card.authors.split(',')[0].lower().replace(' ', '')}{card.year}{found.name.split('.')[-1]}"
    authors = " and ".join(name.strip() for name in card.authors.split(","))
    return f"@misc{{{key},\n  title = {{{title}}},\n  author = {{{authors}}},\n  year = {{{card.year}}},\n{where}\n}}"
