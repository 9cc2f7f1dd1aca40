"""Where the energy of a layer goes on a row-stationary accelerator, for deciding what to prune.

T.-J. Yang, Y.-H. Chen, V. Sze, Designing energy-efficient CNNs using energy-aware pruning, CVPR 2017 (1611.05128): energy is
that of the MACs which no zero spares plus, at each level, the bits moved × the cost of the level; what is sparse is moved
coded. In units of one 16-bit MAC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from paredown.core.cost import Estimate, Layer
from paredown.cost.hierarchy import MAC, Chip, Shape, best_split
from paredown.cost.rlc import expected_ratio

VERSION = "1"
MOST_BITS = 16


@dataclass(frozen=True)
class Share:
    """A layer's energy in 16-bit MACs: computing, and moving inputs, weights and sums."""

    name: str
    macs: float
    inputs: float
    weights: float
    sums: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.macs + self.inputs + self.weights + self.sums


@dataclass(frozen=True)
class Setting:
    """How many images share a weight fetch, the fraction of nonzero activations, and the chip."""

    images: int = 1
    activation_density: float = 1.0
    chip: Chip = Chip()


def share(layer: Layer, setting: Setting = Setting()) -> Share:
    """Return one layer's energy per image. Raises BadInput for a layer that has no MACs.

    A MAC's energy goes with the product of the widths, a move's with the width; zeros in either operand spare the MAC.
    Sums are moved plain at full width. Floats count as 16 bits, which is what the chip computes in.
    """
    shape = Shape.of(layer, setting.images)
    groups = layer.geometry.groups if layer.geometry else 1
    scale = groups / setting.images
    inputs, weights, sums = (part * scale for part in best_split(shape, "row stationary", setting.chip))
    density = layer.weights_nonzero / layer.weights if layer.weights else 1.0
    weight_width = min(layer.weight_bits, MOST_BITS) / MOST_BITS
    activation_width = min(layer.activation_bits, MOST_BITS) / MOST_BITS
    done = layer.macs * density * setting.activation_density * MAC
    return Share(
        layer.name, done * weight_width * activation_width,
        inputs * activation_width * expected_ratio(setting.activation_density),
        weights * weight_width * expected_ratio(density), sums,
    )  # fmt: skip


def shares(layers: Sequence[Layer], setting: Setting = Setting()) -> tuple[Share, ...]:
    """Return the layers that have MACs, most energy first: the order in which the paper prunes them."""
    found = [share(layer, setting) for layer in layers if layer.macs]
    return tuple(sorted(found, key=lambda one: -one.total))


def energy(layers: Sequence[Layer], setting: Setting = Setting()) -> Estimate:
    """Return the modelled energy of one inference, in 16-bit MACs."""
    value = sum(one.total for one in shares(layers, setting))
    return Estimate("energy_macs", value, "row-stationary hierarchy, energy-aware pruning", VERSION)
