"""`paredown expect`: what a recipe's pruning is expected to gain in a runtime, before anything is trained."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from paredown.core.catalog import entry
from paredown.core.cost import Layer
from paredown.core.errors import BadInput
from paredown.core.metric import Quality
from paredown.core.recipe import Recipe
from paredown.core.store import Store
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.cost.host import cache_folder
from paredown.cost.index_cost import entropy_bits
from paredown.data.tasks import load
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Masked
from paredown.methods.prune.weights import Weights
from paredown.methods.saliency.magnitude import Magnitude
from paredown.methods.score.l1 import L1
from paredown.methods.structure.n_m import NM
from paredown.targets.classes import Book, Timer, in_turn
from paredown.targets.container import write
from paredown.targets.expected import RUNTIMES, Expectation, Plan, Side, Told, check_runtime
from paredown.targets.lower import build
from paredown.targets.reasons import reasons, verdict
from paredown.train.data import Data
from paredown.verbs.diagnose import is_run
from paredown.verbs.export import located
from paredown.zoo.resolve import network

SAMPLES = 64
"""How many calibration samples a step that looks at data is shown."""
PACKED = 500_000
"""Networks with more values than this get the predicted bytes of their file instead of a written one."""
GLIMPSE_S, A_CLASS_S = 2.0, 0.02
"""What a line before `apply` may take, and about what one class takes to measure."""
GLIMPSED = 1_000_000
"""Above so many values, `apply` only points to `expect`: pruning a copy and checking it would take too long."""
TUNED = {"fit", "evaluate"}
"""Services of which a step decides by training or by accuracy how much goes from where."""


@dataclass(frozen=True)
class Means:
    """How calls are timed, and who is told how far it is."""

    timer: Timer = in_turn
    told: Told = lambda _: None


MEANS = Means()


def expect(
    model: Any,
    recipe: Recipe | str | Path,
    task: Any = None,
    *,
    shape: tuple[int, ...] | None = None,
    classes: int = 10,
    runtime: str = "onnx",
    means: Means = MEANS,
) -> dict[str, Any]:
    """Return the expected latency of a network after a recipe's pruning, with reasons, as the JSON of `paredown expect`.

    model: a Net, the folder of a saved one, a run or "folder:candidate", or what `find` takes as a model. task: gives the
    samples' shape and classes, and what steps that look at data are shown; else `shape` (3 × 32 × 32) and `classes`, and
    random samples. runtime: "onnx" or "packed".

    Nothing is trained: what a layer takes does not depend on its weights' values. `expected` is modelled from shape classes,
    each measured once and kept in the cache folder (PAREDOWN_CACHE); `measured` is the whole file before. Raises BadInput.
    """
    check_runtime(runtime)
    steps = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    steps.check()
    means.told({"progress": 0.05, "doing": "reading the network"})
    data = None if task is None else load(task)
    net = _network(model, data.shape if data else shape, len(data.classes) if data else classes)
    means.told({"progress": 0.3, "doing": "pruning a copy"})
    before, after, notes = pruned(net, steps, _work(net, data))
    means.told({"progress": 0.6, "doing": "measuring shape classes"})
    sides = side(before), side(after)
    found = Plan.of(*sides, runtime, Book(cache_folder())).carried_out(means.timer)
    return document(found, sides, notes)


def glimpse(
    recipe: Recipe | str | Path, model: Any, task: Any, targets: Any = (), timer: Timer = in_turn
) -> str | None:
    """Return the line that `apply` says before it trains: what the pruning is expected to gain, or how to find out.

    None where the recipe prunes nothing, can remove nothing, or is no sound one: `apply` says that itself. It takes about two seconds
    at most; where more classes would have to be measured, the line says which command does it.
    """
    try:
        steps = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
        model = "dense" if model is None else model
        if not any(map(prunes, steps)):
            return None
        runtime = next((name for name in targets if name in RUNTIMES), RUNTIMES[0])
        hint = f"before training: `paredown expect {model} --recipe {recipe} --task {task}` says what this pruning gains in speed"
        said = _within(steps, _network(model, (data := load(task)).shape, len(data.classes)), runtime, timer)
        return hint if said is None else said or None
    except (BadInput, RuntimeError, ArithmeticError, LookupError, OSError):
        return None


def _within(steps: Recipe, net: Net, runtime: str, timer: Timer) -> str | None:
    """Return the line, nothing where nothing is removed, or None where it would take longer than GLIMPSE_S."""
    start = time.monotonic()
    heavy = any(prunes(step) and TUNED & set(step.card.needs) for step in steps)
    if heavy or sum(p.numel() for p in net.parameters()) > GLIMPSED:
        return None
    before, after, _ = pruned(net, steps, _work(net, None))
    old, new = before.state_dict(), after.state_dict()
    alike = before.spec == after.spec and old.keys() == new.keys()
    if alike and all(torch.equal(value, new[name]) for name, value in old.items()):
        return ""
    sides = side(before), side(after)
    plan = Plan.of(*sides, runtime, Book(cache_folder()))
    if time.monotonic() - start + A_CLASS_S * plan.missing > GLIMPSE_S:
        return None
    found = plan.carried_out(timer)
    return f"before training: {verdict(found, reasons(found, *sides))}"


def document(found: Expectation, sides: tuple[Side, Side], notes: list[str]) -> dict[str, Any]:
    """Return an expectation as JSON; what is modelled and what was measured stand apart."""
    why = reasons(found, *sides)
    modelled = {"before": found.before, "after": found.after, "speedup": found.ratio}
    before, after = sides
    return {
        "schema": "paredown/expect/1", "runtime": found.runtime, "verdict": verdict(found, why),
        "expected": {name: vars(one) for name, one in modelled.items()}, "measured": found.whole.to_json(),
        "reasons": [one.to_json() for one in why],
        "layers": [{**row.to_json(), "zeros": after.zeros.get(row.layer, 0.0)} for row in found.rows],
        "twins": [vars(one) for one in found.twins], "memory_ms": {"before": found.memory_ms[0], "after": found.memory_ms[1]},
        "fixed_ms": {"before": found.fixed_ms[0], "after": found.fixed_ms[1]},
        "file_bytes": {"before": before.file_bytes, "after": after.file_bytes, "predicted": before.predicted or after.predicted},
        "classes": found.classes, "measured_now": found.fresh, "notes": [*notes, *found.notes],
    }  # fmt: skip


def _network(model: Any, shape: tuple[int, ...] | None, classes: int) -> Net:
    if isinstance(model, Net):
        return model
    if is_run(model):
        folder, candidate = located(model)
        return Net.load(Store(folder).candidate_folder(candidate) / "net")
    if not isinstance(model, Mapping) and (Path(str(model)) / "net.json").exists():
        return Net.load(Path(str(model)))
    spec = dict(model) if isinstance(model, Mapping) else {"model": str(model)}
    if classes < 1:
        raise BadInput(f"classes {classes} must be at least 1")
    return network(spec, tuple(shape or (3, 32, 32)), classes)


def _work(net: Net, data: Any) -> Work:
    """Return services that train and judge nothing: real calibration samples where there is a task, else random ones."""
    if data is not None:
        calib = Data.of(data, "calib")
        x, y = calib.x[:SAMPLES], calib.y[:SAMPLES]
    else:
        x = net.example(SAMPLES)[0]
        y = torch.zeros(len(x), dtype=torch.long)
    flat = Quality("accuracy", "val", 0.5, 0.5, 0.5, len(x))
    return Work({"calib": (x, y), "fit": lambda *_, **__: {}, "evaluate": lambda _: flat})


def prunes(step: Any) -> bool:
    """Return whether a step removes channels, or holds weights at zero, by itself or while it trains."""
    return step.part_name.startswith("prune.") or bool(_habits(step))


def _habits(step: Any) -> list[Weights]:
    """Return stand-ins for the habits of a training that mask weights."""
    found = []
    for habit in getattr(step, "habits", ()):
        if habit.part_name == "habit.sr_ste":
            found.append(Weights(1 - habit.n / habit.m, structure=NM(habit.n, habit.m)))
        elif hasattr(habit, "sparsity"):
            structure = {"structure": habit.structure} if hasattr(habit, "structure") else {}
            found.append(Weights(habit.sparsity, **structure))
    return found


def pruned(net: Net, recipe: Recipe, work: Work) -> tuple[Net, Net, list[str]]:
    """Return (the network before, the same pruned, what was left out or stands in), neither of them trained.

    Steps that edit or factorize are taken on both sides, those that prune on one; training changes no shape, and what
    rounding gains is not asked here. Raises BadInput for a recipe that prunes nothing.
    """
    if not any(map(prunes, recipe)):
        names = ", ".join(step.part_name for step in recipe) or "nothing"
        raise BadInput(
            f"this recipe prunes nothing (it has {names}); add a step such as prune.channels; `paredown methods` lists them"
        )
    before, after, notes = net, net, []
    for step in recipe:
        family = step.part_name.split(".")[0]
        if family in ("edit", "factorize"):
            before, after = (step.apply(one, _scoped(work, step)) for one in (before, after))
        elif family == "prune":
            step, said = data_free(step)
            notes += said
            after = step.apply(after, _scoped(work, step))
        else:
            notes.append(f"{step.part_name}: left out; it changes no shape" if family == "train" else
                         f"{step.part_name}: left out; the expectation is of the pruning alone")  # fmt: skip
        for habit in _habits(step):
            after = habit.apply(after, work)
            notes.append(f"{step.part_name}: its habit's zeros are those of the smallest weights here")
    return before.eval(), after.eval(), notes


def _scoped(work: Work, step: Any) -> Work:
    return work.scoped(step.part_name, step.card.needs)


def data_free(step: Any) -> tuple[Any, list[str]]:
    """Return a step that prunes without looking at data where the same counts go anyway, and what stands in for what."""
    stands: dict[str, Any] = {"score": L1, "saliency": Magnitude}
    changes: dict[str, Any] = {}
    for field in fields(step) if is_dataclass(step) else ():
        piece = getattr(step, field.name)
        if field.name in stands and hasattr(piece, "part_name") and entry(piece.part_name).card.needs:
            changes[field.name] = stands[field.name]()
        elif field.name == "repair" and piece is True:
            changes["repair"] = False
    said = [
        f"{step.part_name}: {_named(step, name)} is replaced by {_named(replace(step, **changes), name)}"
        for name in changes
    ]
    if TUNED & set(step.card.needs):
        said.append(f"{step.part_name}: how much goes from where is decided by training or accuracy there; here nothing is trained, so this is rough")  # fmt: skip
    return replace(step, **changes) if changes else step, said


def _named(step: Any, name: str) -> str:
    piece = getattr(step, name)
    return str(getattr(piece, "part_name", f"{name}={piece}"))


def side(net: Net) -> Side:
    """Return a network as the expectation sees it: its file's model, its inputs, its counted layers and its zeros."""
    model = build(freeze(net))
    rows = {row.name: row for row in layers(net) if row.op != "batch_norm"}
    order = tuple(str(node.slot("weight")).removesuffix(".weight") for node in net.spec.nodes if _weighted(node))
    feeds = {i.name: x.detach().cpu().numpy() for i, x in zip(model.graph.input, net.example(), strict=True)}
    size, predicted = file_bytes(net)
    return Side(model, feeds, rows, order, _zeros(rows), size, predicted)


def _weighted(node: Any) -> bool:
    return node.slot("weight") is not None and (node.op.startswith("conv") or node.op == "linear")


def _zeros(rows: Mapping[str, Layer]) -> dict[str, float]:
    return {name: 1 - row.weights_nonzero / row.weights for name, row in rows.items() if row.weights}


def file_bytes(net: Net) -> tuple[int, bool]:
    """Return (bytes of the packed file, False), or, of a large network, (what its values and indices cost at least, True)."""
    if sum(p.numel() for p in net.parameters()) <= PACKED:
        return len(write(freeze(net))[0]), False
    bits = 0.0
    for name in net.slot_names():
        slot = net.slot(name)
        value = slot()
        if isinstance(slot, Masked):
            staying = int(slot.mask.sum())
            bits += 32 * staying + entropy_bits(value.numel(), staying)
        else:
            bits += float(value.numel() * getattr(slot, "bits", 8 * value.element_size()))
    return round(bits / 8), True
