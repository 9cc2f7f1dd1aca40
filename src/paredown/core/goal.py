"""What the user wants: a floor on the metric, what to make small, and hard limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from paredown.core.catalog import rule
from paredown.core.errors import BadInput
from paredown.core.units import limit

MINIMIZABLE = ("file_bytes", "flash_bytes", "ram_bytes", "macs", "bops", "latency_ms", "energy_uj")
AVAILABLE = ("file_bytes", "ram_bytes", "macs", "bops", "params", "latency_ms", "energy_uj")

SCORE = "score:"
"""What an official score's rule is named after, as in `score:micronet.cifar100`."""


@dataclass(frozen=True)
class Goal:
    """A floor on the metric, the cost to minimise, hard limits, and how sure the floor must be.

    `confidence` None means the measured test value must be at or above the floor; a number p means that the lower
    bound of the p interval must be.
    """

    floor: float
    minimize: str = "file_bytes"
    limits: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None

    def __post_init__(self) -> None:
        for what in (self.minimize, *self.limits):
            check_cost_name(what)
        for what, size in self.limits.items():
            if not (math.isfinite(size) and size > 0):
                raise BadInput(f"limit {what}={size} must be a number above zero")
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise BadInput(f"confidence {self.confidence} is outside 0.5 to 1; write it like 0.95")

    @property
    def rules(self) -> tuple[str, ...]:
        """The official scores that are minimised or limited."""
        return tuple(w.removeprefix(SCORE) for w in (self.minimize, *self.limits) if w.startswith(SCORE))

    def to_json(self) -> dict[str, object]:
        """Return the goal as a JSON object."""
        return {**vars(self), "limits": dict(self.limits)}


def check_cost_name(what: str) -> None:
    """Raise BadInput unless `what` can be minimised or limited in this version."""
    if what in AVAILABLE:
        return
    if what.startswith(SCORE):
        return _check_rule(what)
    if what in MINIMIZABLE:
        raise BadInput(f"{what!r} is not available in this version yet; allowed: {', '.join(AVAILABLE)}")
    raise BadInput(f"{what!r} cannot be minimised or limited; allowed: {', '.join(AVAILABLE)}")


def _check_rule(what: str) -> None:
    """Raise BadInput unless counting a network is all that the rule needs."""
    if measured := rule(what.removeprefix(SCORE)).evidence.measured():
        raise BadInput(f"{what!r} cannot be minimised: it needs {', '.join(measured)}, which counting does not give")


def parse_limits(texts: list[str] | tuple[str, ...]) -> dict[str, float]:
    """Return {cost name: size} from terms like `ram_bytes=32KB`. Raises BadInput."""
    limits = {}
    for text in texts:
        what, equals, size = text.partition("=")
        if not equals:
            raise BadInput(f"limit {text!r} is not WHAT=SIZE; write it like ram_bytes=32KB or macs=2M")
        check_cost_name(what.strip())
        limits[what.strip()] = limit(what.strip(), size)
    return limits
