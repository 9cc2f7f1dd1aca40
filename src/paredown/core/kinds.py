"""The closed set of kinds a part can be, each with one verb.

Tensors and modules are `Any` here: the core knows no torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from paredown.core.artifact import Artifact
from paredown.core.cost import Estimate
from paredown.core.score import Score as Verdict
from paredown.core.work import Work


@runtime_checkable
class Step(Protocol):
    """Turns a network into another: `apply(net, work) -> net`. Its input is left as it was."""

    def apply(self, net: Any, work: Work) -> Any: ...


@runtime_checkable
class Loss(Protocol):
    """Returns a scalar from the student's scores, the targets and the teacher's scores (or None)."""

    def of(self, student: Any, target: Any, teacher: Any) -> Any: ...


@runtime_checkable
class Score(Protocol):
    """Returns a 1-D importance, one value for each channel of a group; the lowest are removed first."""

    def importance(self, net: Any, group: Any, work: Work) -> Any: ...


@runtime_checkable
class Saliency(Protocol):
    """Returns how much each weight matters: `saliencies(net, names, work) -> {slot name: tensor of the weight's shape}`.

    The lowest go first. Values may be negative; what a mask holds at zero is judged like any other weight of zero.
    """

    def saliencies(self, net: Any, names: Sequence[str], work: Work) -> dict[str, Any]: ...


@runtime_checkable
class Structure(Protocol):
    """Decides which weights go together: `stays(saliencies, sparsity, scope) -> {slot name: True where a weight stays}`.

    No more than ⌊sparsity · weights⌋ go, by scope of each layer ("layer") or of all together ("global"); what goes at
    one sparsity goes at every higher one. Raises BadInput for a sparsity that the structure cannot reach.
    """

    def stays(self, saliencies: Mapping[str, Any], sparsity: float, scope: str) -> dict[str, Any]: ...


@runtime_checkable
class Sensitivity(Protocol):
    """Returns what rounding costs: `harms(trials, work) -> [[harm of each width] of each place]`; more is worse.

    `trials` says where widths are chosen, which there are, and what each makes of the values (`graph.widths.Trials`).
    """

    def harms(self, trials: Any, work: Work) -> list[list[float]]: ...


@runtime_checkable
class Grid(Protocol):
    """Fits a set of allowed values to a weight: `fit(weight) -> slot` that holds integer codes."""

    def fit(self, weight: Any) -> Any: ...


@runtime_checkable
class Habit(Protocol):
    """Something done during training: `start(net) -> state`, then after each optimiser step `step(net, state, t)`.

    `t` runs from 0 to 1 over the training. The state is a dict of tensors and numbers, so that it can be resumed.
    """

    def start(self, net: Any) -> dict: ...
    def step(self, net: Any, state: dict, t: float) -> dict: ...


@runtime_checkable
class Codec(Protocol):
    """Turns an integer array into bytes and back: `decode(encode(a), a.size) == a.ravel()`."""

    def encode(self, array: Any) -> bytes: ...
    def decode(self, data: bytes, size: int) -> Any: ...


@runtime_checkable
class Searcher(Protocol):
    """Proposes settings from what is known: `ask(space, history, count, seed) -> list of settings`.

    It keeps nothing between calls, so that a search that was killed goes on as if it had not been.
    """

    def ask(self, space: Any, history: Any, count: int, seed: int) -> list[dict[str, Any]]: ...


@runtime_checkable
class Estimator(Protocol):
    """Models a cost of a network: `estimate(net) -> Estimate`."""

    def estimate(self, net: Any) -> Estimate: ...


@runtime_checkable
class Backend(Protocol):
    """Writes a network for a runtime: `write(net, folder) -> Artifact`, and runs such a file: `load(path) -> predict`."""

    def write(self, net: Any, folder: Path) -> Artifact: ...
    def load(self, path: Path) -> Any: ...


@runtime_checkable
class Rule(Protocol):
    """Scores evidence as an official rule does: `score(evidence) -> Score`.

    `evidence` is the type of what it wants; that type says which of its fields are measured, not counted.
    """

    evidence: Any

    def score(self, evidence: Any) -> Verdict: ...


KINDS: dict[str, type] = {
    "step": Step, "loss": Loss, "score": Score, "saliency": Saliency, "structure": Structure, "sensitivity": Sensitivity,
    "grid": Grid, "habit": Habit,
    "codec": Codec, "searcher": Searcher, "estimator": Estimator, "backend": Backend,
    "rule": Rule,
}  # fmt: skip
