"""What each shape class takes in a runtime on this machine: timed once, in turn with the others, and kept as JSON. Needs no torch."""

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from paredown.core.store import write_whole
from paredown.cost.measure import processor
from paredown.targets.pieces import Piece, opened, pieces

SCHEMA = "paredown/classes/1"
WARM, LEAST_ROUNDS, MOST_ROUNDS, BUDGET_S = 2, 11, 31, 1.5
"""Untimed runs of a call before each timed one, and how many rounds there are."""
YARDSTICK, EMPTY, CHAIN = "yardstick", "empty", "chain"
LINKS = 50
ANEW = 6
"""Nodes of the chain beyond the first; and how many kept classes are timed again, to see how the machine's speed has moved."""
UNSTEADY, GRAIN_MS = 0.3, 0.002
"""Quartiles further apart than this share of the median, or than what the clock tells apart, are not kept."""

Calls = Mapping[str, Callable[[], object]]
Timer = Callable[[Calls], Mapping[str, list[float]]]
"""From calls to what each took, in ms, once a round."""


def in_turn(calls: Calls) -> dict[str, list[float]]:
    """Return what each call takes in ms, round after round, one after the other; all of them warm.

    By the clock of this thread: what other processes take from it does not count. So many rounds as BUDGET_S allows.
    """
    spent = sum(_warm(call) for _ in range(2) for call in calls.values()) / 2
    rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(1e3 * BUDGET_S / max((1 + WARM) * spent, 1e-6))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_warm(call))
    return found


def _warm(call: Callable[[], object]) -> float:
    for _ in range(WARM):
        call()
    return _once(call)


def _once(call: Callable[[], object]) -> float:
    start = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - start) / 1e6


@dataclass(frozen=True)
class Seen:
    """A class as it was measured: ms with quartiles, beside what a fixed yardstick took in the same rounds."""

    ms: float
    low: float
    high: float
    repeats: int
    yardstick_ms: float
    date: str
    text: str = ""

    @property
    def steady(self) -> bool:
        """Whether the repeats agree."""
        return self.high - self.low <= max(UNSTEADY * self.ms, GRAIN_MS)


def seen(values: list[float], yardstick_ms: float, empty_ms: float = 0.0, text: str = "") -> Seen:
    """Return the median and quartiles of repeats, less what calling the runtime takes."""
    low, middle, high = (max(0.0, q - empty_ms) for q in statistics.quantiles(values, n=4))
    return Seen(middle, low, high, len(values), yardstick_ms, datetime.now(UTC).isoformat(timespec="seconds"), text)


@dataclass
class Book:
    """The classes that were measured on this machine, in one JSON file; `damaged` says why one could not be read.

    folder: None keeps nothing. A file of another schema, or one that is no JSON, is measured again and replaced.
    """

    folder: Path | None
    runtime: str = field(default_factory=lambda: f"onnxruntime {onnxruntime.__version__}, CPU, 1 thread")
    known: dict[str, Seen] = field(default_factory=dict)
    damaged: str = ""

    def __post_init__(self) -> None:
        self.known = self._read() | self.known

    @property
    def path(self) -> Path | None:
        """The file, named after the runtime, the processor and the number of threads."""
        name = hashlib.sha256(f"{self.runtime}|{processor()}".encode()).hexdigest()[:12]
        return None if self.folder is None else self.folder / f"classes-{name}.json"

    def missing(self, wanted: Mapping[str, Piece]) -> dict[str, Piece]:
        """Return the classes that are not known yet."""
        return {key: piece for key, piece in wanted.items() if key not in self.known}

    def add(self, found: Mapping[str, Seen]) -> None:
        """Keep classes, beside those that another process has added in the meantime; unsteady ones serve this time only."""
        self.known = {**self._read(), **self.known, **found}
        if self.path is None:
            return
        rows = {key: vars(one) for key, one in self.known.items() if one.steady}
        whole = {"schema": SCHEMA, "runtime": self.runtime, "processor": processor(), "classes": rows}
        write_whole(self.path, json.dumps(whole, indent=1))

    def _read(self) -> dict[str, Seen]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r}")
            return {str(key): _sound(row) for key, row in data["classes"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            self.damaged = f"{self.path} is damaged ({type(error).__name__}); its classes are measured again"
            return {}


def _sound(row: Any) -> Seen:
    one = Seen(**row)
    numbers = (one.ms, one.low, one.high, one.yardstick_ms)
    if not all(isinstance(n, int | float) and 0 <= n < 1e7 for n in numbers) or one.yardstick_ms <= 0:
        raise ValueError("a time that is none")
    return one


@dataclass(frozen=True)
class Timed:
    """Classes in ms as of now, how many of them were measured just now, and the rounds of other calls beside them.

    call_ms, node_ms: what calling the runtime takes, and each node of a file beside what it computes.
    """

    ms: Mapping[str, float]
    fresh: int
    call_ms: float
    node_ms: float
    others: Mapping[str, list[float]]


def timed(book: Book, wanted: Mapping[str, Piece], others: Calls, timer: Timer = in_turn) -> Timed:
    """Return what every wanted class takes, measuring the missing ones and `others` in the same rounds.

    A class that was kept is scaled by what the yardstick takes now over what it took then, and by how the ANEW largest of them,
    timed again, compare with that.
    """
    missing = book.missing(wanted)
    kept = sorted(set(wanted) - set(missing), key=lambda key: -book.known[key].ms)
    calls: dict[str, Callable[[], object]] = {YARDSTICK: yardstick(), EMPTY: idle(0), CHAIN: idle(LINKS), **others}
    calls |= {key: wanted[key].call() for key in (*missing, *kept[:ANEW])}
    took = timer(calls)
    yard, none, chain = (statistics.median(took[name]) for name in (YARDSTICK, EMPTY, CHAIN))
    then = {key: book.known[key].ms * yard / book.known[key].yardstick_ms for key in kept}
    now = sum(max(0.0, statistics.median(took[key]) - none) for key in kept[:ANEW])
    drift = now / sum(then[key] for key in kept[:ANEW]) if now and any(then.values()) else 1.0
    fresh = {key: seen(took[key], yard, none, piece.text) for key, piece in missing.items()}
    if fresh:
        book.add(fresh)
    ms = {key: fresh[key].ms if key in fresh else then[key] * drift for key in wanted}
    return Timed(ms, len(missing), none, max(0.0, chain - none) / LINKS, {name: took[name] for name in others})


def one_layer(inputs: np.ndarray, weight: tuple[int, ...], **attributes: Any) -> Piece:
    """Return one convolution with weights of some shape as the runtime runs it: its node alone, without what brings it there."""
    draw = np.random.default_rng(0)
    stored = numpy_helper.from_array(draw.standard_normal(weight).astype(np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", inputs.shape), ("y", None))]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return next(p for p in pieces(model, {"x": inputs}, ("one",)) if p.label == "one")


def yardstick() -> Callable[[], object]:
    """Return the call that tells a slow hour of the machine from a fast one: a 3 × 3 convolution of 32 channels, 16 × 16."""
    x = np.random.default_rng(0).random((1, 32, 16, 16), dtype=np.float32)
    return one_layer(x, (32, 32, 3, 3), pads=[1, 1, 1, 1]).call()


def idle(links: int) -> Callable[[], object]:
    """Return a call of a file that computes next to nothing, in 1 + `links` nodes."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("v0", f"v{links + 1}")]
    nodes = [helper.make_node("Neg", [f"v{at}"], [f"v{at + 1}"]) for at in range(links + 1)]
    graph = helper.make_graph(nodes, "idle", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    one = np.zeros(1, np.float32)
    return Piece("", "", "", bytes(model.SerializeToString()), {"v0": one}, ((f"v{links + 1}", one),)).call()


def whole(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Callable[[], object]:
    """Return the call of a whole file, as a user runs it."""
    run = opened(model.SerializeToString())
    return partial(run.run, None, dict(feeds))
