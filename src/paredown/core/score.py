"""What a rule says: its terms, its total, what had to hold, and which clause each constant comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SCHEMA = "paredown/score/1"


@dataclass(frozen=True)
class Constant:
    """A number of a rule, the clause it stands in, and whether that clause was read (or is from memory: unverified)."""

    name: str
    value: object
    clause: str
    verified: bool

    def to_json(self) -> dict[str, object]:
        """Return the constant as a JSON object."""
        return dict(vars(self))


@dataclass(frozen=True)
class Check:
    """One thing that had to hold: the value found, the limit in words, and whether it holds (None: cannot be told)."""

    what: str
    value: object
    limit: str
    holds: bool | None

    def to_json(self) -> dict[str, object]:
        """Return the check as a JSON object."""
        return dict(vars(self))


@dataclass(frozen=True)
class Score:
    """A rule's verdict. `terms` make up `total`; `amounts` are what they were made from; `conventions` are the totals
    under other readings of the rule. `total` is None where the evidence does not reach that far.
    """

    rule: str
    edition: str
    terms: Mapping[str, float]
    total: float | None
    checks: tuple[Check, ...] = ()
    constants: tuple[Constant, ...] = ()
    higher_is_better: bool = False
    amounts: Mapping[str, float] = field(default_factory=dict)
    conventions: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def passes(self) -> bool | None:
        """Whether every check holds; None when one cannot be told and no other fails."""
        found = [check.holds for check in self.checks]
        if False in found:
            return False
        return None if None in found else True

    @property
    def unverified(self) -> tuple[str, ...]:
        """The constants whose clauses are from memory."""
        return tuple(constant.name for constant in self.constants if not constant.verified)

    def to_json(self) -> dict[str, object]:
        """Return the score as the JSON of `paredown score`."""
        return {
            "schema": SCHEMA, "rule": self.rule, "edition": self.edition, "terms": dict(self.terms), "total": self.total,
            "passes": self.passes, "better": "higher" if self.higher_is_better else "lower",
            "checks": [check.to_json() for check in self.checks], "amounts": dict(self.amounts),
            "conventions": dict(self.conventions), "constants": [constant.to_json() for constant in self.constants],
            "unverified": list(self.unverified), "notes": list(self.notes),
        }  # fmt: skip
