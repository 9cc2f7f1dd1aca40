"""`paredown analyze`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.catalog import entries
from paredown.core.errors import BadInput
from paredown.cost.count import count, layers
from paredown.graph.capture import capture
from paredown.graph.from_onnx import from_onnx
from paredown.graph.groups import groups
from paredown.graph.net import Net
from paredown.zoo.resolve import network


def analyze(model: Any, example_inputs: Tensor | tuple[int, ...] | None = None, classes: int = 10) -> dict[str, Any]:
    """Return the counted cost of a model, by layer and in total, as the JSON of `paredown analyze`.

    model: a torch module, a Net, or what `find` takes as a model. example_inputs: a batch, or the shape of one sample;
    a module needs one, an ONNX file brings its own. Each layer's `can` says what the families of methods could do with
    it. Raises BadInput.
    """
    net = _captured(model, example_inputs, classes)
    cost = count(net)
    frozen = {layer: why for group in groups(net) for layer, why in _frozen(group)}
    rows = []
    for row in layers(net):
        rows.append({**{k: v for k, v in row.items() if k != "slot"}, "can": _possible(row, frozen)})
    total = {k: v for k, v in cost.to_json().items() if k != "uncounted"}
    return {
        "schema": "paredown/analyze/1", "convention": "papers: a MAC is one multiply-accumulate; batch 1",
        "total": {**total, "peak_bytes": cost.ram_bytes}, "layers": rows, "uncounted": list(cost.uncounted),
    }  # fmt: skip


def _captured(model: Any, example_inputs: Any, classes: int) -> Net:
    if isinstance(model, Net):
        return model
    if isinstance(model, nn.Module):
        if example_inputs is None:
            raise BadInput("example_inputs is missing; give a batch, or the shape of one sample like (3, 32, 32)")
        batch = example_inputs if isinstance(example_inputs, Tensor) else torch.rand(2, *example_inputs)
        return capture(model, batch)
    given = tuple(example_inputs.shape[1:]) if isinstance(example_inputs, Tensor) else example_inputs
    if str(model).endswith(".onnx"):
        return from_onnx(model, given)
    shape = tuple(given or (3, 32, 32))
    spec = dict(model) if isinstance(model, Mapping) else {"model": str(model)}
    return network(spec, shape, classes)


def _frozen(group: Any) -> list[tuple[str, str]]:
    reasons = getattr(group, "frozen", None) or {}
    return list(reasons.items()) if isinstance(reasons, Mapping) else []


def _possible(row: Mapping[str, Any], frozen: Mapping[str, str]) -> dict[str, str]:
    """Return, for each family of steps, "yes" or why not."""
    families = sorted({e.name.split(".")[0] for e in entries("step")} & {"quantize", "prune", "factorize", "share"})
    weighted = bool(row["slot"])
    held = row["width"] < 32
    possible = {}
    for family in families:
        if not weighted:
            possible[family] = "it stores no weight"
        elif held:
            possible[family] = "its weights are held as integers"
        elif family == "prune" and row["slot"] in frozen:
            possible[family] = f"single weights, not channels: {frozen[row['slot']]}"
        else:
            possible[family] = "yes"
    return possible
