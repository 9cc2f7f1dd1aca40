"""DCASE Task 1 (2020 to 2025): limits on size and MACs, and what each year ranks by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import knob
from paredown.core.score import Check, Score
from paredown.rules.book import Book, ByEdition, Edition, read
from paredown.rules.evidence import Evidence, counted, ranking

BOOK = read("dcase")
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]


class Nonzero(Evidence):
    """2020, 2021. nonzero_bytes: of nonzero parameters, batch norms left out. accuracy: mean over classes."""

    nonzero_bytes: Whole = counted()
    accuracy: Share | None = ranking()
    log_loss: float | None = ranking(ge=0)


class Counted(Evidence):
    """2022. params: zeros included. macs: of one second, as NeSsi counted (`cost/nessi.py`, quirk). weight_bits: the widest."""

    params: Whole = counted()
    macs: Whole = counted("macs_quirk")
    weight_bits: Whole = counted(default=8)
    log_loss: float | None = ranking(ge=0)


class Size(Evidence):
    """A model from 2023 on. param_bytes: of all parameters, at their widths. macs: of one second."""

    param_bytes: Whole = counted()
    macs: Whole = counted()


class System(Size):
    """Another submission, to be ranked among."""

    accuracy: Share


class Ranked(Size):
    """2023. systems: the other submissions; a rank is one among them."""

    accuracy: Share | None = ranking()
    systems: tuple[System, ...] = ranking(default=())


class Subsets(Size):
    """2024. accuracy_by_subset: for each share of the training set, of one system or of all that were submitted."""

    accuracy_by_subset: dict[str, Share | tuple[Share, ...]] = ranking(default={})


class Devices(Size):
    """2025. devices: the models of single devices, where there are any beside the general one."""

    accuracy: Share | None = ranking()
    devices: dict[str, Size] = Field(default={})


def kilobytes(size_bytes: int, edition: Edition) -> float:
    """Return a size in the edition's kilobytes: of 1,024 bytes until 2021, of 1,000 from 2023."""
    return float(size_bytes / edition["kilobyte_bytes"])


def fits_bytes(size_bytes: int, edition: Edition, what: str = "size_kb") -> Check:
    """Return whether a size is within the edition's limit; one that is exactly at it is."""
    most = kilobytes(edition["limit_bytes"], edition)
    limit = f"<= {most:g} KB of {edition['kilobyte_bytes']:,} bytes"
    return Check(what, kilobytes(size_bytes, edition), limit, size_bytes <= edition["limit_bytes"])


def fits_macs(macs: int, edition: Edition, what: str = "macs") -> Check:
    """Return whether the MACs of one second are within the edition's limit."""
    return Check(what, macs, f"<= {edition['limit_macs']:,}", macs <= edition["limit_macs"])


def ranks(values: Sequence[float], higher_is_better: bool) -> list[int]:
    """Return each value's rank, 1 for the best; equal values share the better rank.

    >>> ranks([0.5, 0.7, 0.5], higher_is_better=True)
    [2, 1, 2]
    """
    ahead: Callable[[float, float], bool] = (lambda a, b: a > b) if higher_is_better else (lambda a, b: a < b)
    return [1 + sum(ahead(other, value) for other in values) for value in values]


def weighted_rank(
    own: Mapping[str, float], others: Sequence[Mapping[str, float]], edition: Edition
) -> dict[str, float]:
    """Return the weighted ranks of a system among others, which sum to its score (2023); lower is better."""
    found = {}
    for name, weight in edition["rank_weights"].items():
        values = [own[name], *(other[name] for other in others)]
        found[name] = weight * ranks(values, higher_is_better=name == "accuracy")[0]
    return found


def subset_accuracies(given: Mapping[str, Any], edition: Edition) -> dict[str, float]:
    """Return the best accuracy for each training subset (2024). Raises BadInput for subsets that the rule has not."""
    if unknown := set(given) - set(edition["subsets"]):
        allowed = ", ".join(edition["subsets"])
        raise BadInput(f"accuracy_by_subset has {sorted(unknown)[0]!r}; the subsets are {allowed} (per cent)")
    return {name: max(v) if isinstance(v, tuple) else v for name, v in given.items()}


Verdict = tuple[dict[str, float], float | None, list[Check]]
"""Terms, total and checks."""


def _by_quality(evidence: Any, edition: Edition) -> tuple[dict[str, float], float | None]:
    value = getattr(evidence, edition["ranked_by"])
    return ({} if value is None else {edition["ranked_by"]: value}), value


def _nonzero(evidence: Nonzero, edition: Edition) -> Verdict:
    return *_by_quality(evidence, edition), [fits_bytes(evidence.nonzero_bytes, edition, "nonzero_kb")]


def _counted(evidence: Counted, edition: Edition) -> Verdict:
    most, bits = edition["limit_params"], edition["weight_bits"]
    size = Check("params", evidence.params, f"<= {most:,}", evidence.params <= most)
    width = Check("weight_bits", evidence.weight_bits, f"<= {bits}", evidence.weight_bits <= bits)
    return *_by_quality(evidence, edition), [size, width, fits_macs(evidence.macs, edition)]


def _sized(evidence: Size, edition: Edition, of: str = "") -> list[Check]:
    sizes = fits_bytes(evidence.param_bytes, edition, f"param_kb{of}")
    return [sizes, fits_macs(evidence.macs, edition, f"macs{of}")]


def _ranked(evidence: Ranked, edition: Edition) -> Verdict:
    if evidence.accuracy is None or not evidence.systems:
        return {}, None, _sized(evidence, edition)
    others = [system.model_dump() for system in evidence.systems]
    terms = weighted_rank(evidence.model_dump(exclude={"systems"}), others, edition)
    return terms, sum(terms.values()), _sized(evidence, edition)


def _subsets(evidence: Subsets, edition: Edition) -> Verdict:
    terms = subset_accuracies(evidence.accuracy_by_subset, edition)
    whole = set(terms) == set(edition["subsets"])
    return terms, mean(terms.values()) if whole else None, _sized(evidence, edition)


def _devices(evidence: Devices, edition: Edition) -> Verdict:
    checks = _sized(evidence, edition)
    for name, size in evidence.devices.items():
        checks += _sized(size, edition, f" of device {name}")
    return *_by_quality(evidence, edition), checks


FORMS: dict[str, tuple[type[Evidence], Callable[[Any, Edition], Verdict]]] = {
    "nonzero": (Nonzero, _nonzero), "counted": (Counted, _counted), "ranks": (Ranked, _ranked),
    "subsets": (Subsets, _subsets), "devices": (Devices, _devices),
}  # fmt: skip
"""For each form of the rule what it wants to see, and how it judges."""


@part("dcase", Card(title=BOOK.title, source=BOOK.source, year=BOOK.year))
@dataclass(frozen=True)
class Dcase(ByEdition):
    """A year's limits, and what it ranks by: accuracy and mean accuracies (higher is better), log loss and ranks (lower).

    edition: the year.
    """

    book: ClassVar[Book] = BOOK
    edition: str = knob("2024", among=BOOK.editions)

    @property
    def evidence(self) -> type[Evidence]:
        """What the edition wants to see."""
        return FORMS[self.page.form][0]

    def score(self, evidence: Any) -> Score:
        """Return what the edition ranks by, and whether its limits are kept."""
        edition = self.page
        terms, total, checks = FORMS[edition.form][1](evidence, edition)
        higher = edition.form == "subsets" or (edition.form != "ranks" and edition["ranked_by"] == "accuracy")
        notes = () if total is not None else ("no total: what the edition ranks by is not all there",)
        return Score("dcase", self.edition, terms, total, tuple(checks), self.constants, higher, notes=notes)
