"""OCP microscaling: MXFP8, MXFP6, MXFP4 and MXINT8."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.blocks import Blocked, in_blocks
from paredown.graph.number import FLOATS, power

BLOCK = 32
ELEMENTS = {
    "mxfp8_e4m3": "fp8_e4m3", "mxfp8_e5m2": "fp8_e5m2", "mxfp6_e3m2": "fp6_e3m2", "mxfp6_e2m3": "fp6_e2m3",
    "mxfp4": "fp4_e2m1", "mxint8": "q2.6",
}  # fmt: skip


def block_scales(largest: Tensor, highest: int) -> Tensor:
    """Return E8M0 codes of X = 2^(⌊log₂ largest⌋ − highest), 0 … 254 (OCP MX 1.0, section 6.3). A block of zeros has 0.

    highest: the exponent of the element format's largest value (fp4 2, e4m3 8, int8 0). Not finite gives 255, NaN.
    """
    exponent = torch.frexp(largest).exponent.long() - 1 - highest + 127
    code = torch.where(largest > 0, exponent, 0).clamp(0, 254)
    return torch.where(torch.isfinite(largest), code, 255)


def scale_values(codes: Tensor) -> Tensor:
    """Return 2^(code − 127) in float64; of 255, NaN (OCP MX 1.0, section 5.4.1)."""
    return torch.where(codes == 255, torch.nan, power(codes - 127))


@part("grid.ocp_mx", Card(title="OCP microscaling formats", paper="arxiv:2310.10537", year=2023,
                          authors="Rouhani, Zhao, More, Hall, Khodamoradi, Deng, Choudhary, Cornea, Dellinger, Denolf, Dusan, "
                                  "Elango, Golub, Heinecke, James-Roxby, Jani, Kolhe, Langhammer, Li, Melnick, "
                                  "Mesmakhosroshahi, Rodriguez, Schulte, Shafipour, Shao, Siu, Dubey, Micikevicius, "
                                  "Naumov, Verrilli, Wittig, Burger, Chung",
                          source="OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6.3"))  # fmt: skip
@dataclass(frozen=True)
class OcpMx:
    """Blocks of 32 elements with one power of two (E8M0): 8.25, 6.25 or 4.25 bits a value.

    element: the format's name. Elements are cast to nearest even and saturate; of MXINT8 the code −2 is left unused,
    as the specification allows. Not to be confused with shared microexponents (`grid.shared_microexponents`).
    """

    element: str = knob("mxfp4", among=tuple(ELEMENTS))

    def fit(self, weight: Tensor) -> Blocked:
        """Return the weight's codes with a power of two for each block."""
        name = ELEMENTS[self.element]
        highest = FLOATS[name].highest_exponent if name in FLOATS else 0
        codes = block_scales(in_blocks(weight.detach(), BLOCK).abs().amax(2), highest)
        return Blocked.rounding(weight, scale_values(codes), name, BLOCK, 8)
