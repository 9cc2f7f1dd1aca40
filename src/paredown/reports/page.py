"""The report of a run, from its stored JSON alone: one HTML file that needs no network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paredown.core.store import write_whole
from paredown.reports import answers, candidates, chart, curves, drop, headline, origin, sureness, tables
from paredown.reports.read import Record, Tried, read

HERE = Path(__file__).parent


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a run's folder and return its path.

    Works for any state of a run: finished, missed, interrupted, applied. Raises BadInput when there is no `asked.json`.
    """
    path = Path(folder) / "report.html"
    write_whole(path, page(read(folder)))
    return path


def page(record: Record) -> str:
    """Return the report's HTML. Everything from the run is escaped; styles and script stand in the page itself."""
    loader = FileSystemLoader(HERE)
    env = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    own = {"style": Markup((HERE / "page.css").read_text()), "script": Markup((HERE / "page.js").read_text())}
    return env.get_template("page.html.j2").render(**own, **_run(record), **_lead(record, record.lead()))


def _run(record: Record) -> dict[str, Any]:
    """Return what is shown of the run as a whole."""
    kind = record.kinds()
    panels = {t.id: candidates.panel(t, record, kind[t.id]) for t in record.tried}
    repeat, typed = origin.command(record)
    listing = candidates.listing(record)
    front = {t.id for t in record.frontier()}
    return {
        "record": record, "head": headline.headline(record), "sure": sureness.strip(record),
        "charts": [c for c in (chart.draw(record, 720, 420), chart.draw(record, 350, 380)) if c], "panels": panels,
        "listing": listing, "front": [row for row in listing if row["id"] in front],
        "failures": candidates.failures(record),
        "matrix": answers.matrix(record), "wrong": answers.wrong(record), "intervals": sureness.intervals(record),
        "data_notes": [str(note) for note in record.asked.get("task", {}).get("notes") or ()],
        "provenance": origin.provenance(record), "data": origin.data(record), "repeat": repeat, "typed": typed,
        "resume": origin.resume(record), "cite": origin.cite(record), "problems": record.problems,
    }  # fmt: skip


def _lead(record: Record, lead: Tried | None) -> dict[str, Any]:
    """Return what is shown of the winner, or of what leads in an unfinished run."""
    who = "What leads so far" if not record.best else "This recipe" if record.applied else f"The {record.title}"
    shown: dict[str, Any] = {"lead": lead, "who": who, "files": tables.files(record, lead)}
    diagnosis = None if lead is None else lead.diagnosis
    shown["drop"] = None if diagnosis is None else drop.view(diagnosis)
    shown["undiagnosed"] = _undiagnosed(record)
    if lead is None:
        empty = dict.fromkeys(("counted", "uncounted", "measured", "modelled", "notes"), ())
        return {**shown, **empty, "story": None, "layers": None, "curves": (), "recipe": ""}
    return {
        **shown, "story": tables.story(lead, record), "layers": tables.layers(lead), "curves": curves.view(lead.notes), "counted": tables.counted(lead),
        "uncounted": tables.uncounted(lead), "measured": tables.measured(lead, record), "modelled": tables.modelled(lead), "notes": tables.notes(lead),
        "recipe": origin.recipe_yaml(lead),
    }  # fmt: skip


def _undiagnosed(record: Record) -> str:
    """Return why there is no diagnosis, as a sentence; nothing where the run does not say."""
    why = str((record.found or {}).get("undiagnosed") or "")
    return f"This was not looked into: {why}." if why else ""
