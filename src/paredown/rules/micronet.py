"""MicroNet Challenge (2019): storage and operations, each over a reference network's; the smaller the sum the better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.score import Check, Score
from paredown.rules.book import Book, ByEdition, Edition, read
from paredown.rules.evidence import Evidence, counted

BOOK = read("micronet")
Width = Annotated[int, Field(ge=1, le=64)]
Number = Annotated[float, Field(ge=0)]
Length = Annotated[int, Field(ge=1)]


class Counts(Evidence):
    """Counts by width in bits, for one example, or their means over the test set (Math Operations).

    dots: [length, width of a product, how many] of each sum of integer products; all other additions by width.
    """

    values_by_bits: dict[Width, Number] = counted()
    mults_by_bits: dict[Width, Number] = counted()
    adds_by_bits: dict[Width, Number] = counted()
    dots: tuple[tuple[Length, Width, Number], ...] = counted(default=())
    mask_bits: Number = counted(default=0.0)
    uncounted: tuple[str, ...] = counted(default=())
    accuracy: float | None = Field(default=None, ge=0, le=1)
    perplexity: float | None = Field(default=None, ge=1)


def may_take_freebie(counts: Counts, freebie_bits: int) -> bool:
    """Return whether nothing in the entry is narrower than the freebie (Parameter Storage)."""
    widths = [*counts.values_by_bits, *counts.mults_by_bits, *counts.adds_by_bits]
    return not counts.dots and min(widths, default=freebie_bits) >= freebie_bits


def units(by_bits: Mapping[int, float], unit_bits: int, most: float = math.inf) -> float:
    """Return how many units of `unit_bits` the numbers are, none counted wider than `most` bits."""
    return sum(number * min(bits, most) for bits, number in by_bits.items()) / unit_bits


def adder_tree_bits(length: int, width: int) -> float:
    """Return the bits added in a tree that sums `length` products of `width` bits; each level is one bit wider.

    >>> adder_tree_bits(5, 8)  # two of 8 bits, one of 9, one of 10
    35
    """
    bits = 0
    while length > 1:
        bits += length // 2 * width
        length, width = length - length // 2, width + 1
    return bits


def accumulated_bits(length: int, width: int, how: str) -> float:
    """Return the bits added in one sum of integer products. how: fp32, fp16, int (as wide as its last sum), or tree."""
    if how == "tree":
        return adder_tree_bits(length, width)
    exact = width + math.ceil(math.log2(length))
    return (length - 1) * {"fp32": 32, "fp16": 16, "int": exact}[how]


def storage(counts: Counts, edition: Edition, freebie: bool) -> float:
    """Return the stored values in parameters of 32 bits, masks included (Parameter Storage)."""
    most = edition["freebie_bits"] if freebie else math.inf
    values = units(counts.values_by_bits, edition["unit_bits"], most)
    return values + counts.mask_bits * edition["mask_bits"] / edition["unit_bits"]


def operations(counts: Counts, edition: Edition, freebie: bool, how: str) -> float:
    """Return the multiplications and additions in operations of 32 bits (Math Operations)."""
    unit, most = edition["unit_bits"], edition["freebie_bits"] if freebie else math.inf
    summed = sum(accumulated_bits(length, width, how) * times for length, width, times in counts.dots)
    return units(counts.mults_by_bits, unit, most) + units(counts.adds_by_bits, unit) + summed / unit


@part("micronet", Card(title=BOOK.title, source=BOOK.source, year=BOOK.year))
@dataclass(frozen=True)
class MicroNet(ByEdition):
    """Storage over the reference's parameters plus operations over the reference's; lower is better.

    edition: the task. accumulation: which of the four readings makes the total; all are shown. freebie: take values and
    multiplications as 16 bits wide where nothing is narrower.
    """

    evidence: ClassVar[type[Counts]] = Counts
    book: ClassVar[Book] = BOOK
    edition: str = knob("imagenet", among=BOOK.editions)
    accumulation: str = knob("fp32", among=BOOK.shared["accumulation"].value, search=False)
    freebie: bool = True

    def score(self, evidence: Counts) -> Score:
        """Return the terms, their sum, and the sum under each way of accumulating."""
        edition = self.page
        free = self.freebie and may_take_freebie(evidence, edition["freebie_bits"])
        parameters = storage(evidence, edition, free)
        ways = {how: operations(evidence, edition, free, how) for how in edition["accumulation"]}
        terms = {
            "storage": parameters / edition["parameters_reference"],
            "operations": ways[self.accumulation] / edition["operations_reference"],
        }
        totals = {how: terms["storage"] + n / edition["operations_reference"] for how, n in ways.items()}
        return Score(
            "micronet", self.edition, terms, sum(terms.values()), (threshold(evidence, edition),), self.constants,
            amounts={"parameters_32bit": parameters, "operations_32bit": ways[self.accumulation]}, conventions=totals,
            notes=_notes(evidence, free, self.accumulation),
        )  # fmt: skip


def threshold(counts: Counts, book: Edition) -> Check:
    """Return whether the quality is at the edition's hard threshold, unrounded (FAQ)."""
    name = "accuracy" if "accuracy_floor" in book else "perplexity"
    value = getattr(counts, name)
    if name == "accuracy":
        floor = book["accuracy_floor"]
        return Check(name, value, f">= {floor:g} on {book.task}", None if value is None else value >= floor)
    most = book["perplexity_ceiling"]
    return Check(name, value, f"<= {most:g} on {book.task}", None if value is None else value <= most)


def _notes(counts: Counts, freebie: bool, how: str) -> tuple[str, ...]:
    width = "16 bits, by the freebie" if freebie else "their own widths"
    notes = [f"values and multiplications at {width}; integer products summed as {how}"]
    if counts.uncounted:
        notes.append(f"not counted: {', '.join(counts.uncounted)}")
    return tuple(notes)
