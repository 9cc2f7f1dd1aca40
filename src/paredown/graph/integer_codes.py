"""Integer codes that flow through a network, and the register of functions that say what operators do to them.

Needs no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph.frozen import Frozen, Plain, Rounded
from paredown.graph.integers import bias_codes
from paredown.graph.spec import Node, Slot, Value


def unsigned_levels(node: Node) -> tuple[int, int, int]:
    """Return (lowest code, highest, zero point) of a quantizer in uint8; signed codes are shifted so that they begin at 0.

    Raises BadInput for levels that do not fit 8 bits.
    """
    low, high, zero = (int(node.args[name]) for name in ("quant_min", "quant_max", "zero_point"))
    shift = -min(low, 0)
    if not low <= zero <= high or high + shift > 255:
        raise BadInput(f"levels {low} to {high} around {zero} at {node.name} do not fit 8 bits")
    return low + shift, high + shift, zero + shift


@dataclass(frozen=True)
class Levels:
    """What uint8 codes stand for: step · (code − zero), the codes low … high."""

    step: np.float32
    zero: int
    low: int
    high: int

    def near(self, reals: np.ndarray) -> np.ndarray:
        """Return the whole numbers, not clipped, nearest to float32 values: QuantizeLinear's division."""
        return np.rint(reals.astype(np.float32) / self.step).astype(np.int64) + self.zero


@dataclass(frozen=True, eq=False)
class Codes:
    """A quantized value: its codes, with the batch first, and their levels."""

    codes: np.ndarray
    levels: Levels

    @property
    def centred(self) -> np.ndarray:
        """The codes without their zero point, int32."""
        return self.codes.astype(np.int32) - np.int32(self.levels.zero)

    @property
    def reals(self) -> np.ndarray:
        """The values that the codes stand for, float32."""
        return self.centred.astype(np.float32) * self.levels.step

    def moved(self, codes: np.ndarray) -> "Codes":
        """Return other codes on the same levels."""
        return Codes(codes, self.levels)


@dataclass(frozen=True, eq=False)
class Coming:
    """A value whose levels are not known yet. make: whole numbers on given levels, not clipped; least, most: bounds, real."""

    make: Callable[[Levels], np.ndarray]
    least: float = -np.inf
    most: float = np.inf

    def on(self, levels: Levels) -> Codes:
        """Return the codes on these levels, saturated: a rectifier in between is nothing but a narrower range."""
        ends = np.array([self.least, self.most], np.float32) / levels.step + levels.zero
        low, high = np.clip(np.rint(ends), levels.low, levels.high)
        return Codes(np.clip(self.make(levels), low, high).astype(np.uint8), levels)


Rule = Callable[["Step"], Any]
RULES: dict[str, Rule] = {}


def computes(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as what some operators do in integers: it returns Coming, or Codes for what only moves."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(frozen=True, eq=False)
class Step:
    """A node, the values that there are, and the stored ones."""

    node: Node
    values: Mapping[str, Any]
    frozen: Frozen
    rounding: str

    def error(self, why: str) -> BadInput:
        """Return the error that names the node."""
        return BadInput(f"{self.node.op} at {self.node.name} cannot be computed in integers: {why}")

    def get(self, name: str) -> Any:
        """Return an argument, given or default; a size that is computed from the batch as its number."""
        value = self.node.get(name)
        pick = self.values.get
        return [pick(v, v) if isinstance(v, Value) else v for v in value] if isinstance(value, list | tuple) else value

    def codes(self, name: str = "self") -> Codes:
        """Return the argument's codes. Raises BadInput for what is not on levels."""
        return self.quantized(self.node.args[name])

    def quantized(self, leaf: Any) -> Codes:
        """Return the codes of a reference. Raises BadInput for what is not on levels."""
        found = self.values.get(leaf) if isinstance(leaf, Value) else None
        if not isinstance(found, Codes):
            raise self.error(f"its input {leaf!s} is not on levels; quantize everywhere, after folding the norms")
        return found

    def weight(self) -> Rounded:
        """Return the layer's weight. Raises BadInput for other forms than integers of at most 8 bits."""
        stored = self.frozen.tensors.get(str(self.node.args["weight"]))
        if not isinstance(stored, Rounded) or stored.bits > 8:
            raise self.error("its weight is not held as integers of at most 8 bits")
        return stored

    def bias(self, step: np.ndarray) -> np.ndarray | None:
        """Return the layer's bias as int32 codes of the step S_x · S_w, or None."""
        slot = self.node.args.get("bias")
        if slot is None:
            return None
        if not isinstance(slot, Slot) or not isinstance(stored := self.frozen.tensors[str(slot)], Plain | Rounded):
            raise self.error("its bias is computed, or shared from a codebook")
        try:
            return bias_codes(np.asarray(stored.value), step)
        except BadInput as error:
            raise self.error(str(error)) from error
