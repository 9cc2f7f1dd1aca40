"""Counting by hooks on a model that has shapes only: no counter of ours. And settings that make a model quick to test."""

from typing import Any

import torch
from torch import Tensor, nn

from paredown.zoo.resolve import models

WEIGHTED = (nn.Conv2d, nn.Linear)


@torch.no_grad()
def counts_of(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return parameters, and MACs of the convolutions and linear layers that a sample passes."""
    total = 0

    def watch(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        total += out.numel() * layer.weight[0].numel()

    handles = [m.register_forward_hook(watch) for m in model.modules() if isinstance(m, WEIGHTED)]
    model(torch.empty(1, *shape))
    for handle in handles:
        handle.remove()
    return sum(p.numel() for p in model.parameters()), total


def counted(name: str, settings: dict[str, Any], shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    """Return parameters and MACs of a model of the zoo that has shapes only, by hooks on its layers: no counter of ours."""
    with torch.device("meta"):
        model = models()[name](shape, classes, **settings).eval()
        assert model(torch.empty(1, *shape)).shape == (1, classes)
        return counts_of(model, shape)


QUARTER = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "mnasnet",
    "shufflenet_v1",
    "squeezenext",
)
SMALLER: dict[str, dict[str, Any]] = {
    **{name: {"width": 0.25} for name in QUARTER},
    "alexnet": {"hidden": 8}, "alexnet_one_tower": {"hidden": 8}, "vgg_11": {"width": 4, "hidden": 8},
    "resnet_small": {"depth": 8, "width": 4}, "resnet_18": {"width": 4}, "resnet_50": {"width": 4},
    "se_resnet_50": {"width": 16}, "resnext_50": {"groups": 4, "each": 2}, "wide_resnet": {"depth": 10, "widen": 1},
    "densenet_small": {"depth": 16, "growth": 4}, "shufflenet_v2": {"width": 0.5},
    "deit_tiny": {"patch": 8, "width": 16, "depth": 2, "heads": 2}, "swin_t": {"width": 16, "window": 4, "depths": (2, 2)},
    "ds_cnn": {"width": 8}, "autoencoder": {"width": 8}, "cp_mobile": {"width": 8},
    "nasnet_a": {"cells": 1, "features": 96, "stem": 4}, "capsnet": {"width": 8, "capsules": 2, "rounds": 2},
}  # fmt: skip
"""Settings that make a model quick to test."""

SIDE = {"alexnet": 67, "alexnet_one_tower": 63}
"""The least sides above 32."""

SIBLINGS = {
    "resnet_34", "resnet_101", "resnet_152", "senet_154", "vgg_13", "vgg_16", "vgg_19", "vit_b_16", "efficientvit_b1",
    "squeezenet_1_0", "mobilenet_v3_large", "mobilenet_v1_vww", "densenet_121", "inception_v3", "xception", "pnasnet_5",
    "resnext_50", "mnasnet", "regnet_x", "googlenet",
}  # fmt: skip
"""Deeper or wider forms of what is tested already: counted, and not captured."""

PRODUCTS = {
    "capsnet": 128 * 7 * 16 * 8,
    "deit_tiny": sum(2 * 17 * 17 * 16 for _ in range(2)),
    "swin_t": sum(2 * 2 * side**2 * 4**2 * width for side, width in ((8, 16), (4, 32))),
    "efficientvit_b0": sum(2 * 2 * side**2 * 17 * 2 * width for side, width in ((2, 64), (1, 128))),
}
"""MACs of attention's products in these forms on 32 x 32: 2 n² width a block in ViT, 2 n side² width in windows of `side`, and
2 n (d + 1) width in linear attention with heads of d = 16, twice as wide for its two scales.
"""
