"""LPIRC, LPCV and DAC-SDC: accuracy against energy or time, a formula for each year; higher is better."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import knob
from paredown.core.score import Check, Score
from paredown.rules.book import Book, ByEdition, Edition, read
from paredown.rules.evidence import Evidence

BOOK = read("lpcv")
Share = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0)]


class Energy(Evidence):
    """accuracy: mAP, or what the track measured. minutes: until the last answer. images: how many were processed."""

    accuracy: Share
    energy_wh: Above
    minutes: Above | None = None
    images: int | None = Field(default=None, ge=0)


class Timed(Evidence):
    """runtime_ms: of all images together."""

    accuracy: Share
    runtime_ms: Above
    images: int = Field(ge=1)


class OnFrontier(Evidence):
    """quality_percent: accuracy or mAP in per cent. slope, offset: of the frontier, where the rule's data has none."""

    quality_percent: float = Field(ge=0, le=100)
    latency_ms: Above
    slope: float | None = None
    offset: float | None = None


class Segmented(Evidence):
    """mean_dice: over the classes and images. mean_s: of one inference."""

    mean_dice: Share
    mean_s: Above


class Sdc(Evidence):
    """energy_j: of the whole run; it must be above 1, for the logarithm. iou: mean overlap. fps: frames a second."""

    energy_j: float = Field(gt=1)
    iou: Share
    fps: Above


def per_energy(accuracy: float, energy_wh: float) -> float:
    """Return accuracy / Wh (LPIRC 2015 to 2017, LPCV 2021)."""
    return accuracy / energy_wh


def per_time(accuracy: float, runtime_ms: float, images: int, least_ms: float) -> float:
    """Return accuracy over the total milliseconds, which count as `least_ms` an image at least (2018, track 1)."""
    return accuracy / max(least_ms * images, runtime_ms)


def frontier_percent(latency_ms: float, slope: float, offset: float) -> float:
    """Return the frontier's quality at a latency: slope * ln(ms) + offset (OVIC 2019, 2020)."""
    return slope * math.log(latency_ms) + offset


def dac_sdc(evidence: Sdc, edition: Edition) -> dict[str, float]:
    """Return the three factors, energy's, overlap's and speed's, whose product is the score (DAC-SDC 2022)."""
    missing = max(0.0, edition["least_iou"] - evidence.iou)
    slow = max(0.0, 1 - evidence.fps / edition["least_fps"])
    return {
        "energy": edition["energy_scale"] / math.log2(evidence.energy_j),
        "overlap": max(1 - edition["iou_slope"] * missing, edition["least_factor"]),
        "speed": max(0.0, 1 - slow),
    }


Verdict = tuple[dict[str, float], float, list[Check]]
"""Terms, total and checks."""


def _energy(evidence: Energy, edition: Edition) -> Verdict:
    checks = []
    if "most_minutes" in edition:
        kept = None if evidence.minutes is None else evidence.minutes <= edition["most_minutes"]
        checks.append(Check("minutes", evidence.minutes, f"<= {edition['most_minutes']}", kept))
    total = per_energy(evidence.accuracy, evidence.energy_wh)
    return {"accuracy": evidence.accuracy, "energy_wh": evidence.energy_wh}, total, checks


def _hinge(evidence: Timed, edition: Edition) -> Verdict:
    total = per_time(evidence.accuracy, evidence.runtime_ms, evidence.images, edition["least_ms"])
    charged = max(edition["least_ms"] * evidence.images, evidence.runtime_ms)
    return {"accuracy": evidence.accuracy, "charged_ms": charged}, total, []


def _frontier(evidence: OnFrontier, edition: Edition) -> Verdict:
    slope = edition.get("slope", evidence.slope)
    offset = edition.get("offset", evidence.offset)
    if slope is None or offset is None:
        raise BadInput("the evidence lacks slope and offset of the frontier, which this edition's data has not")
    at = frontier_percent(evidence.latency_ms, slope, offset)
    most = edition["target_ms"]
    within = Check("latency_ms", evidence.latency_ms, f"<= {most}", evidence.latency_ms <= most)
    return (
        {"quality_percent": evidence.quality_percent, "frontier_percent": at},
        evidence.quality_percent - at,
        [within],
    )


def _dice(evidence: Segmented, _: Edition) -> Verdict:
    terms = {"mean_dice": evidence.mean_dice, "mean_s": evidence.mean_s}
    return terms, evidence.mean_dice / evidence.mean_s, []


def _sdc(evidence: Sdc, edition: Edition) -> Verdict:
    terms = dac_sdc(evidence, edition)
    return terms, math.prod(terms.values()), []


FORMS: dict[str, tuple[type[Evidence], Callable[[Any, Edition], Verdict]]] = {
    "energy": (Energy, _energy), "hinge": (Timed, _hinge), "frontier": (OnFrontier, _frontier),
    "dice": (Segmented, _dice), "dac_sdc": (Sdc, _sdc),
}  # fmt: skip
"""For each formula what it wants to see, and how it judges."""


@part("lpcv", Card(title=BOOK.title, source=BOOK.source, year=BOOK.year))
@dataclass(frozen=True)
class Lpcv(ByEdition):
    """A year's figure of merit; higher is better.   edition: the year, with its track where it had several."""

    book: ClassVar[Book] = BOOK
    edition: str = knob("2018", among=BOOK.editions)

    @property
    def evidence(self) -> type[Evidence]:
        """What the edition's formula wants to see."""
        return FORMS[self.page.form][0]

    def score(self, evidence: Any) -> Score:
        """Return the formula's parts and its value."""
        edition = self.page
        terms, total, checks = FORMS[edition.form][1](evidence, edition)
        return Score("lpcv", self.edition, terms, total, tuple(checks), self.constants, higher_is_better=True)
