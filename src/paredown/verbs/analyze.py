"""`paredown analyze`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.catalog import entries
from paredown.core.cost import Layer
from paredown.core.errors import BadInput
from paredown.core.store import Store
from paredown.cost import micronet, nessi
from paredown.cost.count import layers, papers, total
from paredown.cost.devices import device as device_named
from paredown.cost.findings import findings
from paredown.cost.host import host
from paredown.cost.memory import peak_bytes, timeline
from paredown.cost.modelled import energies, estimates, roof
from paredown.diagnose.drop import Bounds, Told
from paredown.graph.from_onnx import from_onnx
from paredown.graph.glance import glance
from paredown.graph.groups import frozen
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.verbs.diagnose import is_run, of_network, of_run
from paredown.verbs.export import located
from paredown.verbs.score import network_of
from paredown.zoo.resolve import made


def analyze(
    model: Any,
    example_inputs: Tensor | tuple[int, ...] | None = None,
    classes: int = 10,
    device: str | Path | None = None,
    task: Any = None,
    against: Any = None,
    told: Told = lambda _: None,
) -> dict[str, Any]:
    """Return the counted cost of a model, by layer and in total, as the JSON of `paredown analyze`.

    model: a torch module, a Net, what `find` takes as a model, a `.pdn` file; or a run, or "folder:candidate". example_inputs: a batch, or the shape of one sample;
    a module needs one, an ONNX file brings its own. Each layer's `can` says what the families of methods could do with
    it; `conventions` are the totals as others count them; `memory` is the peak by what is done in place, and its course
    over the schedule; `findings` say where most of the cost is. Counted and modelled stay apart: `estimates` hold the
    energy by a table, and, with a device ("host", a name, or a YAML file of your own), its modelled latency and energy;
    `roofline` is there for devices with a peak and a bandwidth.

    `diagnosis` says why accuracy dropped (`core.diagnosis`): for a quantized candidate of a run, and for a Net or a file when
    `task` and `against`, the float network, are given (`verbs.diagnose.float_network` says how); else it is None, and for a run
    `undiagnosed` says why. Raises BadInput.
    """
    if classes < 1:
        raise BadInput(f"classes {classes} must be at least 1")
    named = None if device is None else host() if str(device) == "host" else device_named(device)
    net = _seen(model, example_inputs, classes)
    diagnosis, why = _drop(model, task, against, Bounds(told=told))
    rows = layers(net)
    cost = total(net, rows)
    stays = frozen(net)
    moments = timeline(net, inplace="pointwise")
    deepest = peak_bytes(net, inplace="depthwise")
    peaks = {"none": cost.ram_bytes, "pointwise": cost.ram_inplace_bytes, "depthwise": deepest}
    return {
        "schema": "paredown/analyze/1", "convention": "full: see docs/counting.md; a MAC is one multiply-accumulate; batch 1",
        "total": {**{k: v for k, v in cost.to_json().items() if k != "uncounted"}, "peak_bytes": cost.ram_bytes},
        "layers": [{**row.to_json(), "can": _possible(row, stays)} for row in rows],
        "conventions": _conventions(net, rows), "uncounted": list(cost.uncounted),
        "memory": {"peaks": peaks, "timeline": [{"node": m.node, "bytes": m.bytes, "live": m.live} for m in moments]},
        "device": named and named.title, "estimates": [vars(one) for one in estimates(rows, named)],
        "energy_by_layer": energies(rows), "roofline": roof(rows, named),
        "findings": [vars(line) for line in findings(rows, moments, deepest)], "diagnosis": diagnosis, "undiagnosed": why,
    }  # fmt: skip


def _drop(model: Any, task: Any, against: Any, bounds: Bounds) -> tuple[dict[str, Any] | None, str | None]:
    """Return (the diagnosis as JSON, why there is none)."""
    asked = task is not None or against is not None
    if not is_run(model):
        return (of_network(model, task, against, bounds).to_json(), None) if asked else (None, None)
    try:
        return of_run(model, task, against, bounds).to_json(), None
    except BadInput as error:
        if asked:
            raise
        return None, str(error)


def _conventions(net: Net, rows: tuple[Layer, ...]) -> dict[str, Any]:
    """Return the totals as papers, MicroNet's reference counter and DCASE's NeSsi count them."""
    tally = micronet.together(micronet.count(net).values())
    return {
        "papers": papers(rows),
        "micronet": {
            "params": tally.values, "mults": tally.mults, "adds": tally.adds, "uncounted": micronet.uncounted(net),
        },
        "nessi": {"params": nessi.params(net), "macs": sum(nessi.count(net).values())},
    }  # fmt: skip


def _seen(model: Any, example_inputs: Any, classes: int) -> Net:
    if isinstance(model, Net):
        return model
    if isinstance(model, nn.Module):
        if example_inputs is None:
            raise BadInput("example_inputs is missing; give a batch, or the shape of one sample like (3, 32, 32)")
        return glance(model, example_inputs if isinstance(example_inputs, Tensor) else torch.rand(1, *example_inputs))
    if is_run(model):
        folder, candidate = located(model)
        Store(folder).candidate(candidate)
        return Net.load(Store(folder).candidate_folder(candidate) / "net")
    if str(model).endswith(".pdn"):
        return network_of(Path(str(model)))
    given = tuple(example_inputs.shape[1:]) if isinstance(example_inputs, Tensor) else example_inputs
    if str(model).endswith(".onnx"):
        return from_onnx(model, given)
    shape = tuple(given or (3, 32, 32))
    spec = dict(model) if isinstance(model, Mapping) else {"model": str(model)}
    return glance(made(spec, shape, classes), torch.rand(1, *shape))


def _possible(row: Layer, stays: Mapping[str, str]) -> dict[str, str]:
    """Return, for each family of steps, "yes" or why not."""
    families = sorted({e.name.split(".")[0] for e in entries("step")} & {"quantize", "prune", "factorize", "share"})
    possible = {}
    for family in families:
        if row.op not in WEIGHTED or not row.weights:
            possible[family] = "it stores no weight"
        elif row.weight_bits < 32:
            possible[family] = "its weights are held as integers"
        elif family == "prune" and row.slot in stays:
            possible[family] = f"single weights, not channels: {stays[row.slot]}"
        else:
            possible[family] = "yes"
    return possible
