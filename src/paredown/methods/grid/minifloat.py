"""Floating point of 4 to 16 bits."""

from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.blocks import Blocked, in_blocks
from paredown.graph.number import FLOATS

NAMES = ("fp8_e4m3", "fp8_e5m2", "fp6_e3m2", "fp6_e2m3", "fp4_e2m1", "fp16", "bf16")


@part("grid.minifloat", Card(title="FP8 formats for deep learning", paper="arxiv:2209.05433", year=2022,
                             authors="Micikevicius, Stosic, Burgess, Cornea, Dubey, Grisenthwaite, Ha, Heinecke, Judd, "
                                     "Kamalu, Mellempudi, Oberman, Shoeybi, Siu, Wu",
                             source="FP8 Formats for Deep Learning, section 3; FP6 and FP4: OCP MX 1.0, section 5.3"))  # fmt: skip
@dataclass(frozen=True)
class Minifloat:
    """Small floating point, cast to nearest even with saturation.

    number: the format. scale: "largest" divides by a step so that the largest |w| is the format's largest value (for
    the 4- to 8-bit formats; the 16-bit ones have the range), "none" casts as it is.

    The codes are the format's bit patterns, in memory and in files. Those that stand for no number are never used.
    """

    number: str = knob("fp8_e4m3", among=NAMES)
    scale: str = knob("largest", among=("largest", "none"))

    def fit(self, weight: Tensor) -> Blocked:
        """Return the weight's codes, which are the format's bit patterns."""
        number, plain = FLOATS[self.number], weight.detach()
        row, scaled = in_blocks(plain, 0).shape[2], number.bits <= 8 and self.scale == "largest"
        largest = float(plain.abs().max()) if scaled else 0.0
        step = plain.new_full((1, 1), largest / number.largest if largest else 1.0)
        return Blocked.rounding(plain, step, self.number, row, 32 if scaled else 0)
