"""Energy of an inference: counted work × a table of what single operations and memory accesses take.

The table is data (`tables/`): Horowitz's figures for 45 nm. It knows no leakage, no control and no clock, so it says what a
network asks of any hardware, not what a board draws; for that, see `mcu.energy`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, PositiveFloat

from paredown.core.cost import Estimate, Layer

Memory = Literal["register", "sram", "dram"]


class Table(BaseModel):
    """Energies in pJ: adders and multipliers by width in bits, memories for 32 bits moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    source: str
    int_add_pj: dict[int, PositiveFloat]
    int_mult_pj: dict[int, PositiveFloat]
    float_add_pj: dict[int, PositiveFloat]
    float_mult_pj: dict[int, PositiveFloat]
    binary_mac_pj: PositiveFloat
    register_pj: PositiveFloat
    sram_pj: PositiveFloat
    dram_pj: PositiveFloat

    def move_pj(self, bits: float, memory: Memory) -> float:
        """Return the pJ of moving so many bits to or from a memory."""
        return {"register": self.register_pj, "sram": self.sram_pj, "dram": self.dram_pj}[memory] * bits / 32


@cache
def table(name: str = "horowitz_45nm") -> Table:
    """Return a table of energies that comes with the package."""
    file = resources.files("paredown.cost") / "tables" / f"{name}.yaml"
    return Table.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def at_width(known: dict[int, float], bits: float) -> float:
    """Return the energy at a width that need not be in the table.

    A power law through the two nearest tabled widths (their slope beyond the ends): multipliers grow with about the square
    of the width (0.2 to 3.1 pJ from 8 to 32 bits is an exponent of 1.98), adders a little less than linearly.

    >>> at_width({8: 0.2, 32: 3.1}, 8), round(at_width({8: 0.2, 32: 3.1}, 4), 4)
    (0.2, 0.0508)
    """
    if bits in known:
        return known[int(bits)]
    widths = sorted(known)
    above = next((i for i, width in enumerate(widths) if width > bits), len(widths) - 1)
    low, high = widths[max(above, 1) - 1], widths[max(above, 1)]
    slope = math.log(known[high] / known[low]) / math.log(high / low)
    return known[low] * (bits / low) ** slope


def is_float(weight_bits: int, activation_bits: int) -> bool:
    """Whether operands of these widths are taken for floating point: where either has 16 bits or more."""
    return max(weight_bits, activation_bits) >= 16


def multiply_pj(weight_bits: int, activation_bits: int, energies: Table) -> float:
    """Return the pJ of one multiplication; of integers of two widths, at their geometric mean."""
    if is_float(weight_bits, activation_bits):
        return at_width(energies.float_mult_pj, max(weight_bits, activation_bits))
    return at_width(energies.int_mult_pj, math.sqrt(weight_bits * activation_bits))


def add_pj(weight_bits: int, activation_bits: int, energies: Table) -> float:
    """Return the pJ of one accumulation: integers into 32 bits, floats at their own width."""
    if is_float(weight_bits, activation_bits):
        return at_width(energies.float_add_pj, max(weight_bits, activation_bits))
    return energies.int_add_pj[32]


def mac_pj(weight_bits: int, activation_bits: int, energies: Table | None = None) -> float:
    """Return the pJ of one multiply-accumulate. One bit by one bit is an XNOR and its share of a population count.

    >>> round(mac_pj(8, 8), 3), round(mac_pj(16, 16), 3), round(mac_pj(32, 32), 3)
    (0.3, 1.5, 4.6)
    """
    energies = energies or table()
    if weight_bits == activation_bits == 1:
        return energies.binary_mac_pj
    return multiply_pj(weight_bits, activation_bits, energies) + add_pj(weight_bits, activation_bits, energies)


@dataclass(frozen=True)
class Placement:
    """Where weights and activations are read from and written to, and whether products with a stored zero are skipped."""

    weights: Memory = "dram"
    activations: Memory = "sram"
    skip_zeros: bool = False


@dataclass(frozen=True)
class Parts:
    """A layer's modelled energy in µJ, by what takes it."""

    name: str
    macs_uj: float
    other_uj: float
    weights_uj: float
    activations_uj: float

    @property
    def total_uj(self) -> float:
        """All parts together."""
        return self.macs_uj + self.other_uj + self.weights_uj + self.activations_uj


def parts(layer: Layer, place: Placement = Placement(), energies: Table | None = None) -> Parts:
    """Return one layer's energy: MACs, other arithmetic, and weights and activations moved once each.

    A comparison counts as an addition; roots, divisions and exponentials are not in the table and are left out.
    """
    energies = energies or table()
    widths = layer.weight_bits, layer.activation_bits
    macs = layer.macs_nonzero if place.skip_zeros else layer.macs
    own = layer.activation_bits, layer.activation_bits
    other = (layer.mults - layer.macs) * multiply_pj(*own, energies)
    other += (layer.adds - layer.macs + layer.compares) * add_pj(*own, energies)
    moved = (layer.reads + layer.writes) * layer.activation_bits
    return Parts(
        layer.name, macs * mac_pj(*widths, energies) / 1e6, max(other, 0.0) / 1e6,
        energies.move_pj(layer.stored_bits, place.weights) / 1e6, energies.move_pj(moved, place.activations) / 1e6,
    )  # fmt: skip


def energy(layers: Sequence[Layer], place: Placement = Placement(), energies: Table | None = None) -> Estimate:
    """Return the modelled energy of one inference in µJ."""
    energies = energies or table()
    value = sum(parts(layer, place, energies).total_uj for layer in layers)
    model = f"{energies.name}, weights from {place.weights}, activations from {place.activations}"
    return Estimate("energy_uj", value, model, energies.version)
