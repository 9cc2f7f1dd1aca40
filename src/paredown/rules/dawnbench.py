"""DAWNBench (2017 to 2020): hours and dollars until a training first reaches a quality, or of one inference at it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import knob
from paredown.core.score import Check, Score
from paredown.rules.book import Book, ByEdition, Edition, read
from paredown.rules.evidence import Evidence

BOOK = read("dawnbench")
Above = Annotated[float, Field(gt=0)]
Row = Mapping[str, float]


class Training(Evidence):
    """log: the TSV's text, one line an epoch. dollars_per_hour: of the instance, where it was rented."""

    log: str
    dollars_per_hour: Above | None = None


class Inference(Evidence):
    """total_s: for `samples` inferences, one at a time. quality: in the unit of the threshold (per cent; F1: a fraction)."""

    total_s: Above
    samples: int = Field(ge=1)
    quality: float = Field(ge=0, le=100)
    dollars_per_hour: Above | None = None


def rows(text: str) -> list[Row]:
    """Return a log's lines as {column: number}. Raises BadInput naming the line that has no number for each column."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        raise BadInput("the log is empty; it must have a line of names, then a line for each epoch")
    return [_row(number, lines[0], cells) for number, cells in enumerate(lines[1:], 2)]


def _row(number: int, names: list[str], cells: list[str]) -> Row:
    try:
        return dict(zip(names, map(float, cells), strict=True))
    except ValueError as error:
        wanted = f"a number for each of {', '.join(names)}"
        raise BadInput(f"the log's line {number}, {' '.join(cells)!r:.60}, has not {wanted}") from error


def first_crossing(log: Iterable[Row], column: str, threshold: float) -> Row | None:
    """Return the first row at or above the threshold, or None; later rows may fall again. Raises BadInput."""
    for row in log:
        if missing := {column, "hours"} - set(row):
            raise BadInput(f"the log has no column {sorted(missing)[0]!r}; it has {', '.join(row)}")
        if row[column] >= threshold:
            return row
    return None


def dollars(hours: float, dollars_per_hour: float | None) -> dict[str, float]:
    """Return {"dollars": cost}, or nothing where no price is known (cost is optional)."""
    return {} if dollars_per_hour is None else {"dollars": hours * dollars_per_hour}


Verdict = tuple[dict[str, float], float | None, Check]
"""Terms, total and check."""


def _training(evidence: Training, edition: Edition) -> Verdict:
    column, threshold, log = edition["column"], edition["threshold"], rows(evidence.log)
    row = first_crossing(log, column, threshold)
    if row is None:
        best = max(line[column] for line in log)
        return {}, None, Check(column, best, f">= {threshold:g} at some epoch", False)
    terms = {"hours": row["hours"], **dollars(row["hours"], evidence.dollars_per_hour)}
    return terms, row["hours"], Check(column, row[column], f">= {threshold:g} at some epoch", True)


def _inference(evidence: Inference, edition: Edition) -> Verdict:
    if "samples" in edition and evidence.samples != edition["samples"]:
        raise BadInput(f"samples={evidence.samples} is not allowed; this edition times all {edition['samples']:,}")
    seconds = evidence.total_s / evidence.samples
    terms = {"latency_ms": 1000 * seconds, **dollars(seconds / 3600, evidence.dollars_per_hour)}
    reached = evidence.quality >= edition["threshold"]
    return terms, 1000 * seconds, Check("quality", evidence.quality, f">= {edition['threshold']:g}", reached)


FORMS: dict[str, tuple[type[Evidence], Any]] = {"training": (Training, _training), "inference": (Inference, _inference)}


@part("dawnbench", Card(title=BOOK.title, source=BOOK.source, year=BOOK.year))
@dataclass(frozen=True)
class DawnBench(ByEdition):
    """Hours to the threshold, or milliseconds of one inference, and dollars where a price is given; lower is better.

    edition: the task, training or inference. rank: which of the two makes the total.
    """

    book: ClassVar[Book] = BOOK
    edition: str = knob("cifar10_training", among=BOOK.editions)
    rank: str = knob("time", among=("time", "cost"), search=False)

    @property
    def evidence(self) -> type[Evidence]:
        """What the edition wants to see."""
        return FORMS[self.page.form][0]

    def score(self, evidence: Any) -> Score:
        """Return time, cost and whether the threshold is reached."""
        edition = self.page
        terms, time, check = FORMS[edition.form][1](evidence, edition)
        total = time if self.rank == "time" else terms.get("dollars")
        return Score("dawnbench", self.edition, terms, total, (check,), self.constants)
