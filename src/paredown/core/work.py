"""What a step is given to work with, and what it must say about the layers it left alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SERVICES = {
    "calib": "inputs and labels of the calibration split, as tensors on the device: (x, y)",
    "fit": "fit(net, loss=…, habits=…, plan=…): train in place on the train split",
    "evaluate": "evaluate(net) -> Quality on the validation split",
}


@dataclass(frozen=True)
class Curve:
    """What a step measured along one of its settings, for a person to see.

    along, of: in words, what the two numbers of a point are. points: (setting, what came of it), ascending. taken: the
    setting that the step then took.
    """

    along: str
    of: str
    points: tuple[tuple[float, float], ...]
    taken: float


@dataclass(frozen=True)
class Note:
    """One remark: which step said it, about which layer, and what; with a curve, what it measured there."""

    step: str
    layer: str
    text: str
    curve: Curve | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the note as a JSON object."""
        said = {"step": self.step, "layer": self.layer, "text": self.text}
        return said if self.curve is None else {**said, "curve": dict(vars(self.curve))}


@dataclass(frozen=True)
class Work:
    """Services, a seed and a place for notes. A step may use only the services that its card declares."""

    services: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    notes: list[Note] = field(default_factory=list)
    allowed: frozenset[str] | None = None
    step: str = ""

    def use(self, name: str) -> Any:
        """Return a service. Raises PermissionError if the card did not declare it, LookupError if there is none."""
        if name not in SERVICES:
            raise LookupError(f"service {name!r} is unknown; there are {', '.join(SERVICES)}")
        if self.allowed is not None and name not in self.allowed:
            raise PermissionError(f"{self.step} uses the service {name!r} but its card does not say that it needs it")
        if name not in self.services:
            raise LookupError(f"{self.step or 'this step'} needs the service {name!r}, and none was given")
        return self.services[name]

    def skip(self, layer: str, why: str) -> None:
        """Say that `layer` was left alone, and why."""
        self.notes.append(Note(self.step, layer, why))

    def show(self, layer: str, text: str, curve: Curve) -> None:
        """Say what was measured for `layer`, which was not left alone by that."""
        self.notes.append(Note(self.step, layer, text, curve))

    def scoped(self, step: str, needs: Iterable[str]) -> "Work":
        """Return the same work for one step, with only the services it `needs`; notes go to the same list."""
        return Work(self.services, self.seed, self.notes, frozenset(needs), step)
