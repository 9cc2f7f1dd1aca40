"""Latency and energy of a network on a microcontroller, from what boards publish for MLPerf Tiny's four networks.

The model: a layer takes its MACs ÷ the throughput of its kind, plus the values it makes ÷ the rate at which values are
requantised and stored; what has no MACs takes the second term alone. What runtimes fuse (normalisation, activation) or do not run (data) is free. Four published
latencies cannot fix a board's five constants, so boards share the *ratios* between them and differ in speed; where a board
has published something, its own constants may lean away from the shared ones. All published results are of int8 networks, so
any network is predicted as if it were int8. How far the model is off stands in
`leave_one_out`, which predicts each board's every network without having seen that board run it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import nnls

from paredown.core.cost import Estimate, Layer
from paredown.core.errors import BadInput
from paredown.cost.devices import TASKS, Device, Throughputs, devices
from paredown.cost.tiny import tiny

VERSION = "1"
COLUMNS = ("convolution", "depthwise", "pointwise", "linear", "values")
FREE = frozenset({"normalisation", "activation", "data", "embedding"})
LEAN = 1.0
"""Weight of the shared constants against a board's own measurements (all errors relative); 0 would be the board alone."""
EVEN = 1e-2
"""Weight of "all kinds of MAC cost the same" in the shared ratios, for kinds that nothing measured tells apart."""
ROBUST = 0.15
"""Relative error above which a measurement counts less (Huber), so that one odd board does not bend the ratios."""
ROUNDS = 12


def columns(layers: Sequence[Layer]) -> np.ndarray:
    """Return what a network asks of a board, as (5,): MACs by kind, and values made (millions of each).

    Products and recurrent layers count as linear ones.
    """
    asked = dict.fromkeys(COLUMNS, 0)
    for layer in layers:
        if layer.macs:
            asked[layer.kind if layer.kind in COLUMNS else "linear"] += layer.macs
        if layer.kind not in FREE:
            asked["values"] += layer.writes
    return np.array(list(asked.values())) / 1e6


@dataclass(frozen=True)
class Seen:
    """What boards published: asked (boards, tasks, 5), ms (boards, tasks), known (boards, tasks) of 0 and 1."""

    asked: np.ndarray
    ms: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, boards: Sequence[Device]) -> "Seen":
        """Return the published latencies of the boards; what was not published is unknown."""
        asked = np.array([[columns(tiny(task, b.skips_dead_channels)) for task in TASKS] for b in boards])
        ms = np.array([[b.published[t].latency_ms if t in b.published else 1.0 for t in TASKS] for b in boards])
        known = np.array([[float(task in b.published) for task in TASKS] for b in boards])
        return cls(asked, ms, known)

    def without(self, board: int | slice, task: int) -> "Seen":
        """Return the same with one measurement, or a task of all boards, unknown."""
        known = self.known.copy()
        known[board, task] = 0
        return Seen(self.asked, self.ms, known)


def shared_ratios(seen: Seen) -> np.ndarray:
    """Return the cost of each column relative to the mean of the kinds of MAC, as (5,), shared by all boards.

    Alternates between each board's speed (closed form) and non-negative least squares for the ratios, on relative errors.
    """
    ratios = np.ones(len(COLUMNS))
    for _ in range(ROUNDS):
        speed, weights = speeds(seen, ratios)
        rows = (speed[:, None, None] * seen.asked / seen.ms[:, :, None] * np.sqrt(weights)[:, :, None]).reshape(-1, 5)
        even = np.sqrt(EVEN * len(seen.ms)) * np.eye(5)[:4]
        target = np.concatenate([np.sqrt(weights).ravel(), even.sum(1)])
        ratios = _least_squares(np.vstack([rows, even / ratios[:4].mean()]), target)
        ratios = ratios / ratios[:4].mean()
    return ratios


def speeds(seen: Seen, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each board's ms per million average MACs, as (boards,), and each measurement's weight, (boards, tasks).

    Least squares on relative errors, those above ROBUST counting less.
    """
    relative, weights = seen.asked @ ratios / seen.ms, seen.known
    for _ in range(ROUNDS):
        speed = (relative * weights).sum(1) / (relative**2 * weights).sum(1)
        errors = np.abs(speed[:, None] * relative - 1)
        weights = seen.known * np.minimum(1, ROBUST / np.maximum(errors, 1e-9))
    return np.asarray(speed), weights


def constants(seen: Seen, board: int, ratios: np.ndarray, lean: float = LEAN) -> np.ndarray:
    """Return a board's ms per million of each column, as (5,): its own measurements, leaning on the shared ratios."""
    prior = speeds(seen, ratios)[0][board] * ratios
    told = seen.known[board] > 0
    rows = seen.asked[board][told] / seen.ms[board][told][:, None]
    pull = np.sqrt(lean) * np.diag(1 / np.maximum(prior, 1e-12))[prior > 0]
    return _least_squares(np.vstack([rows, pull]), np.concatenate([np.ones(len(rows)), np.full(len(pull), lean**0.5)]))


def _least_squares(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the non-negative least-squares solution, columns brought to one scale first."""
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1
    return np.asarray(nnls(rows / scale, target)[0] / scale)


@cache
def _shipped_ratios() -> np.ndarray:
    return shared_ratios(Seen.of([d for d in devices().values() if d.kind == "mcu" and d.published]))


def throughputs(device: Device) -> Throughputs:
    """Return what a board does in a second: as its file says, else fitted on what it published. Raises BadInput."""
    if device.throughputs:
        return device.throughputs
    if device.kind != "mcu" or not device.published:
        raise BadInput(
            f"device {device.name!r} ({device.kind}) has neither throughputs nor an MCU's published latencies"
        )
    ms = constants(Seen.of([device]), 0, _shipped_ratios())
    # A constant of zero would be an infinite throughput: one that costs nothing measurable is held at a thousandth.
    per_second = 1e9 / np.maximum(ms, ms.max() * 1e-3)
    return Throughputs.model_validate(dict(zip(COLUMNS, per_second.tolist(), strict=True)))


def latency(layers: Sequence[Layer], device: Device) -> Estimate:
    """Return the predicted latency of one sample in ms. Raises BadInput for a device without constants."""
    return Estimate(
        "latency_ms", float(sum(layer_ms(layers, device))), f"mcu:{device.name}, int8{_off(device)}", VERSION
    )


def layer_ms(layers: Sequence[Layer], device: Device) -> tuple[float, ...]:
    """Return each layer's predicted ms, in order; the fixed time of an inference stands in the first."""
    rates = throughputs(device)
    per_million = 1e9 / np.array([getattr(rates, name) for name in COLUMNS])
    found = [float(columns([layer]) @ per_million) for layer in layers]
    return tuple(ms + (rates.fixed_ms if i == 0 else 0.0) for i, ms in enumerate(found))


def power_mw(device: Device) -> float:
    """Return a board's power while it infers: as its file says, else the median of what it published. BadInput if none."""
    if device.power_mw:
        return device.power_mw.value
    published = [one.power_mw for one in device.published.values() if one.power_mw]
    if not published:
        raise BadInput(f"device {device.name!r} has published no power")
    return float(np.median(published))


def energy(layers: Sequence[Layer], device: Device) -> Estimate:
    """Return the predicted energy of one inference in µJ: board power × predicted latency. Raises BadInput."""
    value = power_mw(device) * latency(layers, device).value
    return Estimate("energy_uj", value, f"mcu:{device.name}, int8, board power × time", VERSION)


@dataclass(frozen=True)
class Held:
    """One network on one board, predicted without it: the model, published and predicted ms, and their relative error."""

    device: str
    task: str
    model: str
    published_ms: float
    predicted_ms: float

    @property
    def error(self) -> float:
        """Predicted ÷ published − 1."""
        return self.predicted_ms / self.published_ms - 1


def leave_one_out(boards: Sequence[Device], model: str = "lean") -> tuple[Held, ...]:
    """Return every published latency beside its prediction from everything but itself.

    model: "lean" (the one in use), "shared" (the board's speed only), "own" (the board's other networks alone), "one rate"
    (one throughput for all MACs), "unseen" (as lean, and no board has ever run the network). One thing a held vww is not
    hidden from: whether the board skips dead channels was read off its vww.
    """
    seen = Seen.of(boards)
    found = []
    for b, board in enumerate(boards):
        for t, task in enumerate(TASKS):
            if task in board.published:
                ms = float(seen.asked[b, t] @ _held_constants(seen, b, t, model))
                found.append(Held(board.name, task, model, board.published[task].latency_ms, ms))
    return tuple(found)


@cache
def held_out_errors() -> dict[str, float]:
    """Return {board: mean absolute relative error on its networks, each held out} of the boards that come with the package."""
    boards = [board for board in devices().values() if board.kind == "mcu" and board.published]
    errors: dict[str, list[float]] = {}
    for held in leave_one_out(boards):
        errors.setdefault(held.device, []).append(abs(held.error))
    return {name: sum(each) / len(each) for name, each in errors.items()}


def _off(device: Device) -> str:
    """Return how far the model is off for a board, in words; empty for one that nobody published results of."""
    error = held_out_errors().get(device.name) if device.name in devices() else None
    return "" if error is None else f", {100 * error:.0f} % off on networks held out"


def _held_constants(seen: Seen, b: int, t: int, model: str) -> np.ndarray:
    hidden = seen.without(slice(None) if model == "unseen" else b, t)
    if model in ("one rate", "own"):
        plain = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
        return constants(hidden, b, plain, lean=1e6 if model == "one rate" else 1e-9)
    ratios = shared_ratios(hidden)
    return constants(hidden, b, ratios, lean=1e6 if model == "shared" else LEAN)
