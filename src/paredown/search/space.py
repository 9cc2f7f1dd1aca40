"""What a search may try: settings drawn one by one, turned into candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paredown.core.candidate import Candidate
from paredown.core.recipe import Recipe

Settings = dict[str, Any]


class Draw(Protocol):
    """Chooses a value for a named setting."""

    def choice(self, name: str, options: Sequence[Any]) -> Any: ...
    def number(self, name: str, low: float, high: float) -> float: ...


class Space(Protocol):
    """A set of candidates: how to draw settings, where to start, and what settings mean."""

    def draw(self, draw: Draw) -> Settings: ...
    def starts(self) -> list[Settings]: ...
    def candidate(self, settings: Settings, effort: float) -> Candidate: ...
    def baseline(self, effort: float) -> Candidate: ...


@dataclass(frozen=True)
class Measure:
    """What sets the lengths of a task's trainings: passes of a whole training at effort 1, in samples seen."""

    samples: int
    pixels: int

    def epochs(self, effort: float) -> float:
        """Return the epochs of a whole training: 300 on a thousand samples, falling as the data grow (35 on MNIST)."""
        passes = 300_000 * max(1.0, self.samples / 1000) ** 0.45
        return max(1.0, effort * passes / self.samples)

    def seconds(self, effort: float) -> float:
        """Return a rough time for one training on one core, to plan by; nothing is stopped because of it."""
        return self.epochs(effort) * self.samples * (self.pixels + 64) / 1.2e7

    @property
    def batch(self) -> int:
        """The batch size."""
        return 128 if self.samples >= 1000 else max(8, self.samples // 10)


def replica_seed(seed: int, settings: Mapping[str, Any]) -> int:
    """Return the seed of a candidate: the search's own, or another one for a replica."""
    return seed + 1_009 * int(settings.get("replica", 0))


def recipe(settings: Mapping[str, Any], measure: Measure, effort: float) -> Recipe:
    """Return the recipe that settings stand for: train, perhaps prune and mend, fold, quantize towards a coded size."""
    augment = float(settings.get("augment", 0.3))
    loss = {"part": "loss.cross_entropy", "smoothing": 0.05}

    def plan(share: float, lr: float, **more: float) -> dict[str, Any]:
        epochs = round(share * measure.epochs(effort), 2)
        return {"epochs": epochs, "lr": lr, "batch": measure.batch, "augment": augment, **more}

    steps: list[dict[str, Any]] = [
        {"part": "train.finetune", "loss": loss, "plan": plan(0.22, 1e-2, weight_decay=0.01, warmup=0.15)}
    ]
    if settings.get("prune"):
        steps.append(pruning(float(settings["prune"]), settings.get("how", "uniform")))
        steps.append({"part": "train.finetune", "loss": loss, "plan": plan(0.15, 4e-3, weight_decay=0.01)})
    steps.append({"part": "edit.fold_batchnorm"})
    if settings.get("bytes"):
        habits = [{"part": "habit.coded_size", "bytes": float(round(settings["bytes"]))}]
        steps.append(
            {"part": "quantize.learned_step", "bits": int(settings.get("bits", 4)), "bias_bits": 6, "loss": loss,
             "habits": habits, "plan": plan(0.78, 4e-3)}
        )  # fmt: skip
    return Recipe.of_json(steps)


PRUNINGS = ("uniform", "global", "sensitivity")
"""How much goes where: the same share of every group, the lowest of all by a Taylor score, or by each group's own curve."""


def pruning(ratio: float, how: str) -> dict[str, Any]:
    """Return the step that takes about `ratio` of the channels; by curves, what that leaves of the MACs."""
    if how == "sensitivity":
        return {"part": "prune.sensitivity", "budget": round((1 - ratio) ** 2, 4), "judge": "loss"}
    if how == "global":
        return {"part": "prune.channels", "ratio": ratio, "scope": "global", "score": {"part": "score.taylor"}}
    return {"part": "prune.channels", "ratio": ratio}


STEMS = ((3, 1), (5, 1), (5, 2), (7, 2))


@dataclass(frozen=True)
class _Family:
    """What the spaces over a family of networks share: the coded sizes to try, and the way from settings to a candidate."""

    measure: Measure
    seed: int
    data: str
    least_bytes: float
    most_bytes: float

    def spec(self, settings: Settings) -> dict[str, Any]:
        """Return the model that settings describe."""
        raise NotImplementedError

    def starts(self) -> list[Settings]:
        """Return settings to begin with."""
        raise NotImplementedError

    def candidate(self, settings: Settings, effort: float) -> Candidate:
        """Return the candidate that settings describe, trained with `effort` (1: a whole training)."""
        return Candidate(
            self.spec(settings), recipe(settings, self.measure, effort), replica_seed(self.seed, settings), self.data
        )

    def baseline(self, effort: float) -> Candidate:
        """Return the first start's network in float."""
        return Candidate(self.spec(self.starts()[0]), recipe({}, self.measure, effort), self.seed, self.data)


@dataclass(frozen=True)
class DenseSpace(_Family):
    """The small dense family for pictures: widths, depth, kernels, stem, resolution, head; and the recipe's settings."""

    shape: tuple[int, ...] = ()

    def draw(self, draw: Draw) -> Settings:
        """Return settings, each drawn; sizes that do not fit the picture are not offered."""
        side = min(self.shape[1:])
        depth = draw.choice("depth", (1, 2, 3) if side >= 16 else (1, 2))
        stems = [s for s in STEMS if s[0] * s[1] * 2 <= side + 1]
        settings: Settings = {"depth": depth, "stem": draw.choice("stem", stems)}
        for at in range(depth):
            settings[f"width{at}"] = draw.choice(f"width{at}", (4, 6, 8, 12, 16, 24, 32))
        settings["reduce"] = draw.choice("reduce", (1, 2)) if side >= 24 else 1
        settings["head"] = draw.choice("head", ("flat", "pool")) if depth > 1 else "flat"
        settings["bits"] = draw.choice("bits", (3, 4, 5))
        settings["augment"] = draw.choice("augment", (0.15, 0.3, 0.5))
        settings["bytes"] = round(draw.number("bytes", self.least_bytes, self.most_bytes))
        return settings

    def starts(self) -> list[Settings]:
        """Return settings that did well on small pictures, over the range of sizes, from the middle outwards."""
        if min(self.shape[1:]) >= 24:
            nets = [
                {"depth": 3, "stem": (5, 2), "width0": 8, "width1": 16, "width2": 16},
                {"depth": 3, "stem": (5, 1), "width0": 6, "width1": 16, "width2": 16},
                {"depth": 2, "stem": (5, 2), "width0": 8, "width1": 16},
            ]
        else:
            nets = [{"depth": 1, "stem": (3, 1), "width0": 16}, {"depth": 1, "stem": (3, 1), "width0": 12}]
        ratio = self.most_bytes / self.least_bytes
        sizes = [round(self.least_bytes * ratio**power) for power in (0.5, 0.3, 0.65, 0.4, 0.8)]
        common = {"reduce": 1, "head": "flat", "bits": 4, "augment": 0.3}
        return [{**common, **net, "bytes": size} for size in sizes for net in nets]

    def spec(self, settings: Settings) -> dict[str, Any]:
        """Return the model that settings describe."""
        widths = [settings[f"width{at}"] for at in range(settings["depth"])]
        return {
            "model": "dense",
            "widths": widths,
            "stem": list(settings["stem"]),
            "reduce": settings["reduce"],
            "head": settings["head"],
        }


@dataclass(frozen=True)
class VectorSpace(_Family):
    """Fully connected networks for vectors: depth and widths; and the recipe's settings."""

    def draw(self, draw: Draw) -> Settings:
        """Return settings, each drawn."""
        depth = draw.choice("depth", (0, 1, 2))
        settings: Settings = {"depth": depth}
        for at in range(depth):
            settings[f"width{at}"] = draw.choice(f"width{at}", (4, 8, 16, 32, 64))
        settings["bits"] = draw.choice("bits", (3, 4, 5))
        settings["augment"] = 0.0
        settings["bytes"] = round(draw.number("bytes", self.least_bytes, self.most_bytes))
        return settings

    def starts(self) -> list[Settings]:
        """Return a network of one hidden layer and none, over the range of sizes."""
        ratio = self.most_bytes / self.least_bytes
        sizes = [round(self.least_bytes * ratio**power) for power in (0.5, 0.25, 0.75)]
        nets: list[Settings] = [{"depth": 1, "width0": 16}, {"depth": 0}, {"depth": 1, "width0": 32}]
        return [{"bits": 4, "augment": 0.0, **net, "bytes": size} for size in sizes for net in nets]

    def spec(self, settings: Settings) -> dict[str, Any]:
        """Return the model that settings describe."""
        return {"model": "mlp", "widths": [settings[f"width{at}"] for at in range(settings["depth"])]}


@dataclass(frozen=True)
class ModelSpace(_Family):
    """Recipes for one given network: how many channels go, how wide the codes are, how many bytes they may take."""

    model: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, draw: Draw) -> Settings:
        """Return settings, each drawn."""
        ratio = draw.choice("prune", (0.0, 0.25, 0.5, 0.7))
        return {
            "prune": ratio,
            **({"how": draw.choice("how", PRUNINGS)} if ratio else {}),
            "bits": draw.choice("bits", (3, 4, 5)),
            "augment": draw.choice("augment", (0.15, 0.3, 0.5)),
            "bytes": round(draw.number("bytes", self.least_bytes, self.most_bytes)),
        }

    def starts(self) -> list[Settings]:
        """Return a few sizes with and without pruning, from the middle outwards."""
        ratio = self.most_bytes / self.least_bytes
        sizes = [round(self.least_bytes * ratio**power) for power in (0.5, 0.35, 0.65, 0.2, 0.8)]
        return [{"prune": prune, "bits": 4, "augment": 0.3, "bytes": size} for size in sizes for prune in (0.0, 0.5)]

    def spec(self, settings: Settings) -> dict[str, Any]:
        """Return the given model."""
        return dict(self.model)
