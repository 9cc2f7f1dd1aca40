"""Every architecture of the zoo has the parameters and MACs of its paper, to the unit (papers' convention: conv + linear)."""

from typing import Any

import pytest

from paredown.zoo.resolve import models
from zoo.by_hooks import counted

BIG, SMALL, LARGE, GREY = (3, 224, 224), (3, 32, 32), (3, 299, 299), (1, 28, 28)
Row = tuple[str, dict[str, Any], tuple[int, ...], int, int, int]
ROWS: list[Row] = [
    ("lenet_5_full", {}, (1, 32, 32), 10, 61_706, 416_520),
    ("lenet_5", {}, GREY, 10, 431_080, 2_293_000),
    ("lenet_300_100", {}, GREY, 10, 266_610, 266_200),
    ("alexnet", {}, (3, 227, 227), 1000, 60_965_224, 724_406_816),
    ("alexnet_one_tower", {}, BIG, 1000, 61_100_840, 714_188_480),
    ("vgg_11", {}, BIG, 1000, 132_863_336, 7_609_090_048),
    ("vgg_13", {}, BIG, 1000, 133_047_848, 11_308_466_176),
    ("vgg_16", {}, BIG, 1000, 138_357_544, 15_470_264_320),
    ("vgg_19", {}, BIG, 1000, 143_667_240, 19_632_062_464),
    ("googlenet", {}, BIG, 1000, 6_624_904, 1_498_376_192),
    ("inception_v3", {}, LARGE, 1000, 23_834_568, 5_713_216_096),
    ("xception", {}, LARGE, 1000, 22_855_952, 8_357_403_496),
    ("resnet_18", {}, BIG, 1000, 11_689_512, 1_814_073_344),
    ("resnet_34", {}, BIG, 1000, 21_797_672, 3_663_761_408),
    ("resnet_50", {}, BIG, 1000, 25_557_032, 4_089_184_256),
    ("resnet_101", {}, BIG, 1000, 44_549_160, 7_801_405_440),
    ("resnet_152", {}, BIG, 1000, 60_192_808, 11_513_626_624),
    ("resnet_small", {"depth": 20, "option": "A"}, SMALL, 10, 269_722, 40_551_040),
    ("resnet_small", {"depth": 32, "option": "A"}, SMALL, 10, 464_154, 68_862_592),
    ("resnet_small", {"depth": 44, "option": "A"}, SMALL, 10, 658_586, 97_174_144),
    ("resnet_small", {"depth": 56, "option": "A"}, SMALL, 10, 853_018, 125_485_696),
    ("resnet_small", {"depth": 110, "option": "A"}, SMALL, 10, 1_727_962, 252_887_680),
    ("wide_resnet", {}, SMALL, 100, 36_536_884, 5_243_386_368),
    ("wide_resnet", {"depth": 16, "widen": 4}, SMALL, 100, 2_772_020, 392_635_392),
    ("densenet_121", {}, BIG, 1000, 7_978_856, 2_834_161_664),
    ("densenet_small", {}, SMALL, 10, 769_162, 287_929_692),
    ("densenet_small", {"depth": 40, "bottleneck": False}, SMALL, 10, 1_019_722, 264_812_928),
    ("resnext_50", {}, BIG, 1000, 25_028_904, 4_230_479_872),
    ("se_resnet_50", {}, BIG, 1000, 28_088_024, 4_091_699_200),
    ("senet_154", {}, BIG, 1000, 115_088_984, 20_688_363_520),
    ("squeezenet_1_0", {}, BIG, 1000, 1_248_424, 818_924_576),
    ("squeezenet_1_1", {}, BIG, 1000, 1_235_496, 349_151_936),
    ("squeezenext", {}, (3, 227, 227), 1000, 718_280, 281_916_416),
    ("mobilenet_v1", {}, BIG, 1000, 4_231_976, 568_740_352),
    ("mobilenet_v1", {"width": 0.75}, BIG, 1000, 2_585_560, 325_400_448),
    ("mobilenet_v1", {"width": 0.5}, BIG, 1000, 1_331_592, 149_497_088),
    ("mobilenet_v1", {"width": 0.25}, BIG, 1000, 470_072, 41_030_272),
    ("mobilenet_v1", {}, (3, 160, 160), 1000, 4_231_976, 290_675_200),
    ("mobilenet_v2", {}, BIG, 1000, 3_504_872, 300_774_272),
    ("mobilenet_v2", {"width": 1.4}, BIG, 1000, 6_108_776, 582_195_824),
    ("mobilenet_v3_large", {}, BIG, 1000, 5_483_032, 216_589_760),
    ("mobilenet_v3_small", {}, BIG, 1000, 2_542_856, 56_510_400),
    ("shufflenet_v1", {"groups": 1}, BIG, 1000, 1_531_936, 143_078_976),
    ("shufflenet_v1", {"groups": 2}, BIG, 1000, 1_733_848, 140_836_512),
    ("shufflenet_v1", {"groups": 3}, BIG, 1000, 1_865_728, 137_460_672),
    ("shufflenet_v1", {"groups": 4}, BIG, 1000, 1_968_344, 134_339_776),
    ("shufflenet_v1", {"groups": 8}, BIG, 1000, 2_434_768, 138_365_952),
    ("shufflenet_v2", {}, BIG, 1000, 2_278_604, 144_907_992),
    ("efficientnet_b0", {}, BIG, 1000, 5_288_548, 385_814_752),
    ("mnasnet", {}, BIG, 1000, 4_383_312, 314_415_872),
    ("regnet_x", {}, BIG, 1000, 2_684_792, 199_039_872),
    ("regnet_y", {}, BIG, 1000, 4_344_144, 401_842_848),
    ("nasnet_a", {}, (3, 331, 331), 1000, 88_753_150, 23_783_414_658),
    ("nasnet_a", {"cells": 4, "features": 1056, "stem": 32}, BIG, 1000, 5_289_978, 563_638_816),
    ("pnasnet_5", {}, (3, 331, 331), 1000, 86_057_668, 24_937_395_792),
    ("vit_b_16", {}, BIG, 1000, 86_567_656, 16_848_500_736),
    ("deit_tiny", {}, BIG, 1000, 5_717_416, 1_074_851_328),
    ("swin_t", {}, BIG, 1000, 28_288_354, 4_350_425_088),
    ("efficientvit_b0", {}, BIG, 1000, 3_410_008, 97_674_240),
    ("efficientvit_b1", {}, BIG, 1000, 9_102_024, 510_684_672),
    ("capsnet", {}, GREY, 10, 6_804_224, 199_397_376),
    ("cp_mobile", {}, (1, 256, 65), 10, 61_148, 29_416_448),
    ("ds_cnn", {}, (1, 49, 10), 12, 23_756, 2_656_768),
    ("mobilenet_v1_vww", {}, (3, 96, 96), 2, 216_322, 7_489_664),
    ("resnet_8", {}, SMALL, 10, 78_186, 12_501_632),
    ("autoencoder", {}, (640,), 640, 267_928, 264_192),
]
"""Id, settings, shape, classes, parameters, MACs of convolutions and linear layers."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join([row[0], *(str(v) for v in row[1].values())]))
def test_parameters_and_macs_are_the_papers(row: Row) -> None:
    name, settings, shape, classes, params, macs = row
    assert counted(name, settings, shape, classes) == (params, macs)
    said = models()[name].__doc__ or ""
    if not settings and shape != (3, 160, 160):
        assert f"{params:,}" in said and (f"{macs:,}" in said or name in ("lenet_5", "lenet_300_100", "capsnet"))


def test_every_fixed_architecture_has_a_row() -> None:
    assert set(models()) - {row[0] for row in ROWS} == {"dense", "mlp", "logistic"}


@pytest.mark.parametrize(
    ("name", "params_with_running_statistics"),
    [("ds_cnn", 24_908), ("mobilenet_v1_vww", 221_794), ("resnet_8", 78_666), ("autoencoder", 269_992)],
)
def test_mlperf_tiny_also_lists_what_keras_counts(name: str, params_with_running_statistics: int) -> None:
    shape, classes = next((row[2], row[3]) for row in ROWS if row[0] == name)
    state = models()[name](shape, classes).state_dict()
    assert sum(v.numel() for k, v in state.items() if "num_batches" not in k) == params_with_running_statistics
