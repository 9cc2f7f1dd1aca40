"""Post-training quantization in whole recipes: what they find is what the written file computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contracts.digits_task import accuracy, digits
from methods.quantize.test_zeroq import images, trained
from paredown.core.recipe import Recipe
from paredown.core.work import Work
from paredown.graph.activations import CONSTANT
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed
from paredown.targets.runtime import predictor

FOLD, EQUALIZE, ABSORB = ({"part": f"edit.{name}"} for name in ("fold_batchnorm", "equalize", "absorb_bias"))
UNIFORM = {"part": "quantize.uniform", "granularity": "tensor"}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "data-free quantization": [
        FOLD,
        EQUALIZE,
        ABSORB,
        {"part": "quantize.correct_bias", "step": UNIFORM | {"bits": 8}},
    ],
    "calibrated": [FOLD, {"part": "quantize.activations", "method": "kl"}, {"part": "quantize.clipped", "bits": 8}],
    "adaptive": [FOLD, {"part": "quantize.activations"}, {"part": "quantize.adaround", "bits": 4, "iterations": 100}],
    "zeroq": [{"part": "quantize.zeroq", "mean_bits": 5, "iterations": 100}],
    "fp8": [FOLD, {"part": "quantize.to_grid", "grid": {"part": "grid.minifloat"}}],
    "fp6": [FOLD, {"part": "quantize.to_grid", "grid": {"part": "grid.minifloat", "number": "fp6_e2m3"}}],
    "normal float": [FOLD, {"part": "quantize.to_grid", "grid": {"part": "grid.table"}}],
    "fixed point": [FOLD, {"part": "quantize.to_grid", "grid": {"part": "grid.fixed_point"}}],
}


def run(recipe: Recipe, net: Net, seed: int = 0) -> Net:
    """Return what the steps make of `net`, each with the services that its card names."""
    work = Work({"calib": (images(digits(seed)[0]).x[:256], None)}, seed)
    for step in recipe:
        net = step.apply(net, work.scoped(step.part_name, step.card.needs))
    return net.eval()


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_computes_what_the_network_does(name: str, tmp_path: Path) -> None:
    """To float accuracy; with quantized activations, up to single levels: 0.5 / (1/255) is a tie, and runtimes differ there."""
    recipe = Recipe.of_json(RECIPES[name])
    assert recipe.check() & {"quantized", "shared"}
    net, test = trained(0), images(digits(0)[1])
    held = run(recipe, net)
    assert accuracy(held, test) >= accuracy(net, test) - 4
    with torch.no_grad():
        wanted = held(test.x).numpy()
    limit = 0.05 if any(node.op == CONSTANT for node in held.spec.nodes) else 1e-4
    for backend in (Packed(), Onnx()):
        model = backend.model(Path(backend.write(freeze(held), tmp_path).path))
        got = predictor(model, exact=True)(test.x.numpy())
        error = np.abs(got - wanted).max() / np.abs(wanted).max()
        assert error < limit and (got.argmax(1) == wanted.argmax(1)).mean() > 0.98


def test_equalization_and_correction_win_back_what_one_step_for_the_tensor_loses() -> None:
    """Nagel et al. 2019 in miniature: channels 1000 times apart, six bits, three seeds."""
    for seed in range(3):
        net, test = trained(seed).copy(), images(digits(seed)[1])
        scale = 1000 ** torch.rand(8, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():  # the scale and shift of the first norm, undone in what reads it
            net.slot("1.weight").value.mul_(scale)
            net.slot("1.bias").value.mul_(scale)
            net.slot("4.weight").value.div_(scale.view(1, -1, 1, 1))
        corrected = {"part": "quantize.correct_bias", "step": UNIFORM | {"bits": 6}}
        got = [
            accuracy(run(Recipe.of_json(steps), net, seed), test)
            for steps in ([FOLD], [FOLD, UNIFORM | {"bits": 6}], [FOLD, EQUALIZE, corrected])
        ]
        assert got[1] <= got[0] - 10 and got[2] >= got[0] - 2, (seed, got)
