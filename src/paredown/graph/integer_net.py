"""Whole networks in integers, in numpy: the reference that an exported file is held to, code by code.

It takes a network with a quantizer on every value between its operators and on its output (`quantize.activations` with
everywhere: true after `edit.fold_batchnorm`) and integer weights of at most 8 bits. rounding "float" is ONNX Runtime 1.31 on
x86-64 with AVX2 and VNNI, float multiplications of sums included; "fixed" is integers alone, as integer-only engines compute
(`graph.integers`). The runtime works in float, and may differ by one code, where it has no integer kernel: means over
dimensions, linear layers on more than two dimensions.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph import integer_rules  # noqa: F401  (registers the operators)
from paredown.graph.frozen import Frozen
from paredown.graph.integer_codes import RULES, Codes, Step
from paredown.graph.spec import references


@dataclass(frozen=True, eq=False)
class IntegerNet:
    """A finished network in integers. rounding: "float" (ONNX Runtime's arithmetic) or "fixed" (integers alone)."""

    frozen: Frozen
    rounding: str = "float"
    output: str = field(init=False)

    def __post_init__(self) -> None:
        spec, ends = self.frozen.spec, list(references(self.frozen.spec.output))
        if self.rounding not in ("float", "fixed"):
            raise BadInput(f"rounding {self.rounding!r} is unknown; allowed: float, fixed")
        if len(spec.inputs) != 1 or len(ends) != 1:
            raise BadInput(f"a network of {len(spec.inputs)} inputs and {len(ends)} outputs; allowed here: one of each")
        for node in spec.nodes:
            if node.op not in RULES:
                raise BadInput(
                    f"{node.op} at {node.name} cannot be computed in integers; allowed: {', '.join(sorted(RULES))}"
                )
        object.__setattr__(self, "output", str(ends[0]))

    def values(self, x: np.ndarray) -> dict[str, Codes]:
        """Return {node: its codes} for all values on levels. x: float32, [batch, …]. Raises BadInput naming a node."""
        known: dict[str, Any] = {self.frozen.spec.inputs[0][0]: np.asarray(x, np.float32)}
        for node in self.frozen.spec.nodes:
            known[node.name] = RULES[node.op](Step(node, known, self.frozen, self.rounding))
        if not isinstance(known[self.output], Codes):
            raise BadInput(f"the output {self.output} is not on levels; quantize everywhere")
        return {name: value for name, value in known.items() if isinstance(value, Codes)}

    def codes(self, x: np.ndarray, batch: int = 100) -> np.ndarray:
        """Return the output's codes, uint8, in batches."""
        starts = range(0, max(1, len(x)), batch)
        return np.concatenate([self.values(x[at : at + batch])[self.output].codes for at in starts])

    def scores(self, x: np.ndarray, batch: int = 100) -> np.ndarray:
        """Return the output as float32: step · (code − zero)."""
        starts = range(0, max(1, len(x)), batch)
        return np.concatenate([self.values(x[at : at + batch])[self.output].reals for at in starts])
