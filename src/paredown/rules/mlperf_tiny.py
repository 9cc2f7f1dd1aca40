"""MLPerf Tiny (v1.2): the latency of one inference, at a quality target and with the reference's weights, or openly."""

from dataclasses import dataclass
from statistics import median
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.score import Check, Score
from paredown.rules.book import Book, ByEdition, Edition, read
from paredown.rules.evidence import Evidence, ranking

BOOK = read("mlperf_tiny")
Above = Annotated[float, Field(gt=0)]


class Submission(Evidence):
    """latencies_ms: of one inference, a value for each run. energies_uj: of one inference, where it was measured.

    differences: what `closed_division.differences` found against the reference; None where nobody looked.
    """

    division: Literal["closed", "open"] = "closed"
    latencies_ms: tuple[Above, ...] = ranking(default=())
    energies_uj: tuple[Above, ...] = ()
    differences: tuple[str, ...] | None = None


class ByAccuracy(Submission):
    """accuracy: top-1 on the accuracy set."""

    accuracy: float | None = Field(default=None, ge=0, le=1)


class ByArea(Submission):
    """auc: area under the ROC curve on the accuracy set."""

    auc: float | None = Field(default=None, ge=0, le=1)


class ByAlarms(Submission):
    """False alarms and misses in the stream."""

    false_positives: int | None = Field(default=None, ge=0)
    false_negatives: int | None = Field(default=None, ge=0)


FORMS: dict[str, type[Submission]] = {"accuracy": ByAccuracy, "auc": ByArea, "alarms": ByAlarms}


def targets(edition: Edition) -> dict[str, tuple[str, float]]:
    """Return {what is measured: (">=" or "<=", the closed division's target)} (Constraints for the Closed division)."""
    if edition.form == "alarms":
        return {f"false_{what}": ("<=", edition[f"most_false_{what}"]) for what in ("positives", "negatives")}
    return {edition.form: (">=", edition["target"])}


def quality(evidence: Submission, edition: Edition) -> list[Check]:
    """Return whether the targets are met; the open division asks only that the quality is reported."""
    checks = []
    for name, (sign, target) in targets(edition).items():
        value = getattr(evidence, name)
        if evidence.division == "open":
            checks.append(Check(name, value, "reported", value is not None))
        else:
            meets = None if value is None else value >= target if sign == ">=" else value <= target
            checks.append(Check(name, value, f"{sign} {target:g}", meets))
    return checks


def equivalence(evidence: Submission) -> list[Check]:
    """Return whether the weights are the reference's, rounded (Model Equivalence); the open division does not ask."""
    if evidence.division == "open":
        return []
    found = evidence.differences
    told = "not compared" if found is None else "; ".join(found) or "none"
    return [Check("differences from the reference", told, "none", None if found is None else not found)]


@part("mlperf_tiny", Card(title=BOOK.title, source=BOOK.source, year=BOOK.year))
@dataclass(frozen=True)
class MlperfTiny(ByEdition):
    """The median latency of one inference, lower is better; energy beside it where it was measured.

    edition: the task. The evidence's `division` says whether targets and equivalence are asked (closed) or not (open).
    """

    book: ClassVar[Book] = BOOK
    edition: str = knob("image_classification", among=BOOK.editions)

    @property
    def evidence(self) -> type[Submission]:
        """What the task wants to see."""
        return FORMS[self.page.form]

    def score(self, evidence: Submission) -> Score:
        """Return the median latency, and whether quality, weights and runs are as the division asks."""
        edition = self.page
        latency = median(evidence.latencies_ms) if evidence.latencies_ms else None
        enough = len(evidence.latencies_ms) >= edition["least_runs"] if evidence.latencies_ms else None
        runs = Check("runs", len(evidence.latencies_ms), f">= {edition['least_runs']}", enough)
        return Score(
            "mlperf_tiny", self.edition, {} if latency is None else {"latency_ms": latency}, latency,
            (*quality(evidence, edition), *equivalence(evidence), runs), self.constants,
            amounts={"energy_uj": median(evidence.energies_uj)} if evidence.energies_uj else {},
            notes=(f"{evidence.division} division",),
        )  # fmt: skip
