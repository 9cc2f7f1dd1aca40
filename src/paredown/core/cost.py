"""Three kinds of number that never share a heading: counted, modelled, observed."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """Counted, exact, for one sample. A MAC is one multiply-accumulate; `bits` are all stored widths summed, uncoded.

    `macs_nonzero` leaves out products with a stored zero. `mults` and `adds` contain the MACs; `specials` are divisions,
    roots, exponentials and other functions. `activations` are the values of all tensors made, the input's too, pointwise
    operators working in place. `ram_bytes` is the largest sum of live tensors with nothing in place,
    `ram_inplace_bytes` with pointwise operators in place; `traffic_bytes` reads and writes every tensor once a layer.
    """

    params: int = 0
    nonzero: int = 0
    bits: int = 0
    macs: int = 0
    macs_nonzero: int = 0
    mults: int = 0
    adds: int = 0
    compares: int = 0
    specials: int = 0
    bops: int = 0
    activations: int = 0
    ram_bytes: int = 0
    ram_inplace_bytes: int = 0
    traffic_bytes: int = 0
    macs_by_bits: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the cost as a JSON object."""
        return {**vars(self), "macs_by_bits": dict(self.macs_by_bits), "uncounted": list(self.uncounted)}


KINDS = (
    "convolution", "depthwise", "pointwise", "linear", "product", "recurrent", "embedding",
    "normalisation", "activation", "pooling", "elementwise", "data",
)  # fmt: skip
"""What a layer is, for tables, plots and models of latency; "data" only moves, reshapes or compares nothing."""


@dataclass(frozen=True)
class Geometry:
    """The loops of a convolution, linear layer or product: output channels × output places × (inputs / groups) × kernel.

    A linear layer has kernel (1,) and as many places as rows it is applied to; places and kernel are per dimension.
    """

    channels_in: int
    channels_out: int
    kernel: tuple[int, ...]
    places: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class Layer:
    """One node's counted cost for one sample. A MAC counts once in `macs`, and once each in `mults` and `adds`.

    `specials` are divisions, roots, exponentials and other functions; `compares` are maxima and thresholds. `reads` and
    `writes` are activation values into and out of the node; `weights` are those that it multiplies by, also where another
    layer stores them; bits are widths of single values, except `stored_bits`,
    which is all that the node's weights, masks, codebooks, steps and biases take, uncoded. Where output channels have
    widths of their own, `weight_bits` is the widest and `code_bits` the sum over the weights.
    """

    name: str
    op: str
    kind: str
    shape: tuple[int, ...]
    slot: str = ""
    params: int = 0
    nonzero: int = 0
    stored_bits: int = 0
    weight_bits: int = 32
    activation_bits: int = 32
    macs: int = 0
    mults: int = 0
    adds: int = 0
    compares: int = 0
    specials: int = 0
    reads: int = 0
    writes: int = 0
    weights: int = 0
    weights_nonzero: int = 0
    geometry: Geometry | None = None
    code_bits: int | None = None

    @property
    def bops(self) -> int:
        """MACs × weight bits × activation bits, each channel's at its own width. All weights take part in equally many."""
        if self.code_bits is not None and self.weights:
            return self.macs * self.code_bits // self.weights * self.activation_bits
        return self.macs * self.weight_bits * self.activation_bits

    @property
    def macs_nonzero(self) -> int:
        """MACs without the products with a stored zero. Every weight takes part in equally many."""
        return self.macs * self.weights_nonzero // self.weights if self.weights else self.macs

    @property
    def traffic_bits(self) -> int:
        """What moves to and from memory when nothing is reused between layers: weights, inputs and outputs once each."""
        return self.stored_bits + (self.reads + self.writes) * self.activation_bits

    def to_json(self) -> dict[str, object]:
        """Return the layer as a JSON object; `width` is the weights' and `bits` is all that is stored."""
        fields = {
            key: value
            for key, value in vars(self).items()
            if key not in ("weight_bits", "stored_bits", "geometry", "code_bits")
        }
        more = {"shape": list(self.shape), "width": self.weight_bits, "bits": self.stored_bits, "bops": self.bops}
        return {**fields, **more, "macs_nonzero": self.macs_nonzero, "traffic_bits": self.traffic_bits}


@dataclass(frozen=True)
class Estimate:
    """Modelled: a value, and the model's name and version behind it."""

    what: str
    value: float
    model: str
    version: str


@dataclass(frozen=True)
class Measurement:
    """Observed: a value with its spread and the circumstances it was seen in."""

    what: str
    value: float
    low: float
    high: float
    repeats: int
    device: str
    toolchain: str
    date: str
    command: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the measurement as a JSON object."""
        return dict(vars(self))
