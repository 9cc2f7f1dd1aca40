"""The zoo beside timm and torchvision, where these are installed: the same tensors, as a multiset of shapes."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from paredown.zoo.resolve import models

NO_SIDE: dict[str, Any] = {"aux_logits": False, "init_weights": False}
TORCHVISION: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("alexnet_one_tower", {}, "alexnet", {}),
    ("vgg_11", {}, "vgg11", {}),
    ("vgg_13", {"norm": True}, "vgg13_bn", {}),
    ("vgg_16", {}, "vgg16", {}),
    ("vgg_19", {}, "vgg19", {}),
    ("googlenet", {}, "googlenet", NO_SIDE),
    ("inception_v3", {}, "inception_v3", NO_SIDE),
    ("resnet_18", {}, "resnet18", {}),
    ("resnet_34", {}, "resnet34", {}),
    ("resnet_50", {}, "resnet50", {}),
    ("resnet_101", {}, "resnet101", {}),
    ("resnet_152", {}, "resnet152", {}),
    ("resnext_50", {}, "resnext50_32x4d", {}),
    ("densenet_121", {}, "densenet121", {}),
    ("squeezenet_1_0", {}, "squeezenet1_0", {}),
    ("squeezenet_1_1", {}, "squeezenet1_1", {}),
    ("mobilenet_v2", {}, "mobilenet_v2", {}),
    ("mobilenet_v2", {"width": 1.4}, "mobilenet_v2", {"width_mult": 1.4}),
    ("mobilenet_v3_large", {}, "mobilenet_v3_large", {}),
    ("mobilenet_v3_small", {}, "mobilenet_v3_small", {}),
    ("mobilenet_v3_small", {"width": 0.75}, "mobilenet_v3_small", {"width_mult": 0.75}),
    ("shufflenet_v2", {}, "shufflenet_v2_x1_0", {}),
    ("shufflenet_v2", {"width": 2.0}, "shufflenet_v2_x2_0", {}),
    ("efficientnet_b0", {}, "efficientnet_b0", {}),
    ("efficientnet_b0", {"width": 1.2, "depth": 1.4}, "efficientnet_b3", {}),
    ("mnasnet", {}, "mnasnet1_0", {}),
    ("vit_b_16", {}, "vit_b_16", {}),
    ("swin_t", {}, "swin_t", {}),
]
TIMM = [
    ("xception", {}, "legacy_xception"),
    ("se_resnet_50", {}, "seresnet50"),
    ("senet_154", {}, "legacy_senet154"),
    ("regnet_x", {}, "regnetx_002"),
    ("regnet_y", {}, "regnety_004"),
    ("nasnet_a", {}, "nasnetalarge"),
    ("pnasnet_5", {}, "pnasnet5large"),
    ("deit_tiny", {}, "deit_tiny_patch16_224"),
    ("efficientvit_b0", {}, "efficientvit_b0"),
    ("efficientvit_b1", {}, "efficientvit_b1"),
]


def sizes(model: nn.Module) -> Counter[tuple[int, ...]]:
    """Return how often each shape stands among what is trained; 1 x 1 kernels and matrices are the same."""
    shapes = (tuple(p.shape[:2]) if p.shape[2:] == (1, 1) else tuple(p.shape) for p in model.parameters())
    return Counter(tuple(side for side in shape if side > 1) for shape in shapes)


def ours(name: str, settings: dict[str, Any]) -> Counter[tuple[int, ...]]:
    with torch.device("meta"):
        return sizes(models()[name]((3, 299, 299) if "ception" in name else (3, 224, 224), 1000, **settings))


@pytest.mark.parametrize(("name", "settings", "theirs", "options"), TORCHVISION)
def test_torchvision_has_the_same_tensors(name: str, settings: dict, theirs: str, options: dict) -> None:
    library = pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    with torch.device("meta"):
        model = library.models.get_model(theirs, weights=None, **options)
    assert ours(name, settings) == sizes(model)


@pytest.mark.parametrize(("name", "settings", "theirs"), TIMM)
def test_timm_has_the_same_tensors(name: str, settings: dict, theirs: str) -> None:
    library = pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    with torch.device("meta"):
        model = library.create_model(theirs, pretrained=False)
    assert ours(name, settings) == sizes(model)
