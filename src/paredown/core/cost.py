"""Three kinds of number that never share a heading: counted, modelled, observed."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """Counted, exact. A MAC is one multiply-accumulate; `bits` are the weights' stored widths summed, uncoded."""

    params: int = 0
    nonzero: int = 0
    bits: int = 0
    macs: int = 0
    bops: int = 0
    ram_bytes: int = 0
    macs_by_bits: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the cost as a JSON object."""
        return {**vars(self), "macs_by_bits": dict(self.macs_by_bits), "uncounted": list(self.uncounted)}


@dataclass(frozen=True)
class Estimate:
    """Modelled: a value, and the model's name and version behind it."""

    what: str
    value: float
    model: str
    version: str


@dataclass(frozen=True)
class Measurement:
    """Observed: a value with its spread and the circumstances it was seen in."""

    what: str
    value: float
    low: float
    high: float
    repeats: int
    device: str
    toolchain: str
    date: str
    command: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the measurement as a JSON object."""
        return dict(vars(self))
