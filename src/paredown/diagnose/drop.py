"""Why did accuracy drop: suspects are found by layer, the worst are undone one at a time, and each undoing is measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.core.diagnosis import Cause, Diagnosis, Stage, Undone
from paredown.core.errors import BadInput
from paredown.diagnose.errors import activation_errors, layer_errors, watch
from paredown.diagnose.gain import Judge
from paredown.diagnose.suspects import Suspect, of_activations, of_layers
from paredown.diagnose.twins import LOOSE, Twins, is_quantizer, moved, twins
from paredown.diagnose.undo import Change, all_activations, all_weights, rounded_again
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid
from paredown.train.data import Data
from paredown.train.evaluate import scores

Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Bounds:
    """How much work a diagnosis may be: samples looked at, suspects measured, and seconds (None: as long as it takes)."""

    samples: int = 1000
    suspects: int = 8
    allowance_s: float | None = None
    told: Told = field(default=lambda _: None)


LITTLE = 0.02
"""The share of the divergence below which undoing something counts for nothing."""


BOUNDS = Bounds()
"""A thousand samples, eight suspects, as long as that takes."""


def diagnose(
    quantized: Net,
    given: Net,
    data: Data,
    split: str,
    unrounded: Mapping[str, Tensor] | None = None,
    bounds: Bounds = BOUNDS,
) -> Diagnosis:
    """Return why `quantized` does worse than the float network `given` on some of `data`.

    data: labelled samples, [n, …] and [n]; at most `bounds.samples` of them are taken, evenly spaced. unrounded: as for
    `twins.twins`. Raises BadInput for networks that have no layer in common, that run on other samples or answer with other
    classes, and for a network in which nothing is quantized.
    """
    started = time.time()
    if not _rounds(quantized):
        raise BadInput(
            "nothing in this network is quantized, so there is no drop to explain; name a quantized candidate"
        )
    with torch.no_grad():
        both = twins(quantized, given, unrounded)
        return _Case(both, _some(data, both, bounds), split, bounds, started).diagnosis()


def _rounds(net: Net) -> bool:
    held = any(isinstance(net.slot(name), Grid | Codebook) for name in net.slot_names())
    return held or bool(net.forms()) or any(is_quantizer(node) for node in net.spec.nodes)


def _some(data: Data, both: Twins, bounds: Bounds) -> Data:
    """Return evenly spaced samples: at most the bound, and fewer where a first look says that time would be short."""
    n = min(len(data), bounds.samples)
    if bounds.allowance_s is not None:
        start = time.time()
        _tried(both, data.x[:32])
        each = (time.time() - start) / len(data.x[:32])
        n = min(n, max(64, int(bounds.allowance_s / (each * (6 + bounds.suspects)))))
    else:
        _tried(both, data.x[:2])
    picked = torch.linspace(0, len(data) - 1, min(n, len(data))).round().long().to(data.x.device)
    return Data(data.x[picked], data.y[picked], data.moves)


def _tried(both: Twins, x: Tensor) -> None:
    """Run both networks once. Raises BadInput where they do not fit the samples or each other."""
    try:
        ours, theirs = both.quantized(x), both.before(x)
    except RuntimeError as error:
        raise BadInput(
            f"the networks do not run on samples of shape {tuple(x.shape[1:])}: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(ours, Tensor) or ours.shape != theirs.shape or ours.dim() != 2:
        raise BadInput("the two networks do not answer with one row of as many scores; they are not of one task")


@dataclass
class _Case:
    """One diagnosis being made."""

    both: Twins
    data: Data
    split: str
    bounds: Bounds
    started: float
    now: np.ndarray = field(init=False)
    judge: Judge = field(init=False)

    def diagnosis(self) -> Diagnosis:
        """Return the whole."""
        self.now, reference = self.scores(self.both.quantized), self.scores(self.both.before)
        self.judge = Judge(self.data.y.cpu().numpy(), reference)
        whole = self.judge.gain(self.now, reference)
        found = watch(self.both, self.data.x)
        layers, activations = layer_errors(self.both, found), activation_errors(self.both, found)
        suspects = [*of_layers(self.both, layers, self.data.x), *of_activations(self.both, activations, found)]
        suspects.sort(key=lambda one: -one.noise)
        measured = [
            self.measured(one, at) for at, one in enumerate(suspects[: self.bounds.suspects]) if self.time_left()
        ]
        causes = sorted([*(cause for cause, _ in measured if _matters(cause)), *self.training()], key=_rank)
        idle = [cause.layer for cause, _ in measured if not _matters(cause)]
        ways = [(c.layer, *two) for c, two in sorted(measured, key=lambda one: _rank(one[0])) if _matters(c)]
        ordered = [(layer, best) for layer, best, _ in ways] + [(layer, surest) for layer, _, surest in ways]
        dropped = whole.low > 0
        done = Diagnosis(
            split=self.split, n=len(self.data), float_accuracy=self.judge.accuracy(reference),
            accuracy=self.judge.accuracy(self.now), whole=whole, dropped=dropped, verdict="",
            divergence=self.judge.divergence(self.now), layers=layers, activations=activations, causes=tuple(causes),
            halves=self.halves(), together=self.together(ordered), unmeasured=len(suspects) - len(measured), notes=self.notes(idle),
        )  # fmt: skip
        return replace(done, verdict=verdict(done), seconds=round(time.time() - self.started, 2))

    def scores(self, net: Net) -> np.ndarray:
        """Return a network's scores on the samples."""
        return scores(net, self.data)

    def time_left(self) -> bool:
        """Whether the allowance is not used up."""
        limit = self.bounds.allowance_s
        return limit is None or time.time() - self.started < 0.7 * limit

    def tried(self, change: Change) -> Undone:
        """Return what a change to the quantized network gives."""
        return Undone(
            change.what, self.judge.gain(self.now, self.scores(change.make(self.both.quantized))), change.bytes
        )

    def measured(self, suspect: Suspect, at: int) -> tuple[Cause, tuple[Change, Change]]:
        """Return a suspect as a cause, each way of undoing it measured; and the way to take, and the surest."""
        self.bounds.told({"doing": f"undoing {suspect.layer}", "progress": at / self.bounds.suspects})
        undone = tuple(self.tried(change) for change in suspect.changes)
        cause = Cause(suspect.kind, suspect.layer, suspect.text, suspect.remedy, undone)
        way = suspect.changes[undone.index(cause.best)] if cause.best else suspect.changes[-1]
        surest = max(range(len(undone)), key=lambda place: round(undone[place].gain.share, 2))
        return cause, (way, suspect.changes[surest])

    def halves(self) -> tuple[Undone, ...]:
        """Return what all weights, and all activations, in float again give, where there are such."""
        spec = self.both.quantized.spec
        weights = [] if self.both.trained else [all_weights(self.both)]
        values = [all_activations(self.both)] if any(map(is_quantizer, spec.nodes)) else []
        return tuple(self.tried(change) for change in (*weights, *values))

    def training(self) -> list[Cause]:
        """Return what the training since the float network has done, apart from the rounding, where it can be told."""
        if self.both.trained:
            return [self.rounding_alone()]
        if not self.both.unrounded:
            return []
        free, reference = self.scores(self.both.plain), self.judge.reference
        gain = self.judge.gain(free, reference)
        part = self.judge.divergence(free) / max(self.judge.divergence(self.now), 1e-12)
        was, now = self.judge.accuracy(reference), self.judge.accuracy(free)
        text = f"the training, not the rounding: before rounding, the trained weights reach {now:.4f}, the float network {was:.4f}"
        if gain.low <= 0 or self.judge.gain(self.now, reference).low <= 0:
            return []
        remedy = "train longer, at another rate, or with less pressure on the size"
        return [
            Cause(
                "training",
                "all layers",
                text,
                remedy,
                (Undone("no training while rounding", replace(gain, share=min(1.0, part))),),
            )
        ]

    def rounding_alone(self) -> Cause:
        """Return the cause of a trained network whose weights before rounding are not known."""
        again = self.tried(rounded_again(self.both))
        far = [name for slot, name in self.both.names.items() if moved(self.both, slot) > LOOSE]
        text = f"the weights of {_several(far)} were trained after the float network: most of their change is the training's, not the rounding's"
        gain = again.gain
        worse = "the training made up for it" if gain.accuracy < 0 else "the training did not help"
        text += f"; rounded without that training, accuracy changes by {_signed(gain.accuracy)}: {worse}"
        return Cause(
            "training",
            "all layers",
            text,
            "compare with the network before rounding; train longer, or at another rate",
            (again,),
        )

    def together(self, ways: list[tuple[str, Change]]) -> tuple[Stage, ...]:
        """Return the network as one cause after the other is undone, until it answers as the float network does.

        What takes it further from the float network's answers, beside what was undone before, is not kept.
        """
        nearest = self.judge.divergence(self.now)
        net, paid, stages, done = self.both.quantized, dict[str, int](), [], set[str]()
        for layer, change in sorted(ways, key=lambda way: not way[1].whole):
            label = change.what if change.whole else f"{layer}: {change.what}"
            if label in done:
                continue
            done.add(label)
            further = change.make(net)
            said = self.scores(further)
            apart = self.judge.divergence(said)
            if apart >= nearest:
                continue
            net, nearest, paid[layer] = further, apart, change.bytes
            stages.append(Stage(label, self.judge.accuracy(said), apart, sum(paid.values())))
            whole = self.judge.gain(said, self.judge.reference).accuracy <= 0
            if whole or apart < LITTLE * self.judge.divergence(self.now) or not self.time_left():
                break
        return tuple(stages)

    def notes(self, idle: list[str]) -> tuple[str, ...]:
        """Return what could not be compared, and what gave nothing back when it was undone."""
        both = self.both
        lines = [f"{both.names[slot]}: {why}; it is left out" for slot, why in both.unlike.items()]
        if not both.trained and not both.unrounded and not both.unlike:
            apart = self.judge.divergence(self.scores(both.plain))
            if apart > 1e-3:
                lines.append(
                    f"with all float weights back it still answers differently (divergence {apart:.3g}): more than rounding has changed"
                )
        if both.unrounded:
            before = self.judge.accuracy(self.scores(both.plain))
            lines.append(f"before rounding, the weights that were trained for it reach {before:.4f}")
        if idle:
            lines.append(f"looked suspicious, but undoing it gave nothing back: {_several(idle)}")
        return tuple(lines)


def _matters(cause: Cause) -> bool:
    """Whether undoing a cause gave something back: 2 % of the divergence, or accuracy beyond the noise."""
    return any(one.gain.share >= LITTLE or one.gain.low > 0 for one in cause.undone)


def _rank(cause: Cause) -> float:
    return -(cause.best.gain.share if cause.best else 0.0)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−") if round(value, 4) else "±0.0000"


def _several(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def verdict(found: Diagnosis) -> str:
    """Return in a sentence or two whether accuracy dropped, by how much, and what most of it comes from."""
    gain = found.whole
    spread = f"on {found.n} samples of {found.split} (difference {_signed(-gain.accuracy)}, 95 % interval {_signed(-gain.high)} to {_signed(-gain.low)})"
    change = f"{found.float_accuracy:.4f} to {found.accuracy:.4f} {spread}"
    if not found.dropped:
        sense = (
            "Nothing dropped beyond the noise"
            if gain.high > 0
            else "Nothing dropped: it is better than the float network"
        )
        return f"{sense}: accuracy {change}."
    top = next((cause for cause in found.causes if cause.best and cause.best.gain.share > 0.1), None)
    if top is None or top.best is None:
        blind = any(cause.kind == "training" for cause in found.causes)
        add_up = "No single layer stands out: the errors of all of them add up."
        trained = "The weights were trained since: layer by layer, its part and the rounding's cannot be told apart."
        return f"Accuracy fell from {change}. {trained if blind else add_up}"
    undone = f"undone ({top.best.what}), accuracy changes by {_signed(top.best.gain.accuracy)}"
    return f"Accuracy fell from {change}. Mostly: {top.text}; {undone}."
