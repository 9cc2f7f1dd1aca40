"""Why a quantized network does worse than the float one: errors by layer, causes, and what undoing each was measured to give."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from paredown.core.errors import BadInput

SCHEMA = "paredown/diagnosis/1"

Range = tuple[float, float]


@dataclass(frozen=True)
class LayerError:
    """One convolution or linear layer beside its float twin, measured on the same samples.

    `weight_db`, `local_db`, `accumulated_db`: signal to quantization noise (10 · log10 of the power ratio) of the stored
    weight, of the output when the layer reads what the float network makes, and of the output as the network runs; None
    where there is no error at all, or nothing to compare with (`unlike` then says why). `noise`: the local error's power
    over the signal's, as the mean over the output channels, each at most 1: a small channel counts as much as a large one.
    `bits`: width of a code, `steps`: how many steps the weight has (1 is one for the tensor; 0: it is on no grid).
    `range`: least and largest float weight; `grid`: of the values that have a code, None for no grid. Shares lie in 0…1:
    `clipped`, float weights beyond the grid; `zeroed`, output channels that have become all zero; `moved`, weights more
    than one step from where they were, which rounding alone does not do. `codes_used` of `codes` there are.
    `ranges_ratio`: largest over smallest max |w| of the output channels. `shift`: root mean square over the channels of the
    mean output error, in standard deviations of the output; `constant`: its share of the local error's power.
    `place`: "first layer", "last layer", "depthwise" or nothing.
    """

    name: str
    node: str
    op: str
    place: str = ""
    params: int = 0
    bits: int = 32
    steps: int = 0
    weight_db: float | None = None
    local_db: float | None = None
    accumulated_db: float | None = None
    noise: float = 0.0
    range: Range = (0.0, 0.0)
    grid: Range | None = None
    clipped: float = 0.0
    codes_used: int = 0
    codes: int = 0
    ranges_ratio: float | None = None
    zeroed: float = 0.0
    shift: float = 0.0
    constant: float = 0.0
    moved: float = 0.0
    unlike: str = ""


@dataclass(frozen=True)
class ActivationError:
    """One quantizer of values that flow. Fields as in `LayerError`; `local_db` is of the quantizer on float values.

    `noise`: the error's power over that of the values without the outermost per cent. `outliers`: the largest size over the
    99.9th percentile. `stretch`: how many times wider the grid is than the range that holds nearly all values (0.01 to 1 %
    are beyond it at either end), `tail`: the share of values more than twice beyond that range.
    """

    name: str
    node: str
    feeds: str = ""
    bits: int = 8
    local_db: float | None = None
    accumulated_db: float | None = None
    noise: float = 0.0
    range: Range = (0.0, 0.0)
    grid: Range = (0.0, 0.0)
    clipped: float = 0.0
    codes_used: int = 0
    codes: int = 0
    outliers: float = 1.0
    tail: float = 0.0
    stretch: float = 1.0


@dataclass(frozen=True)
class Gain:
    """What a change gave on the same `n` samples: the accuracy's difference with its paired 95 % interval.

    `mended` samples became right and `broken` ones wrong. `loss`: change of the mean cross entropy, in nats; `divergence`:
    change of the mean KL divergence from the float network's answers, in nats (below 0: nearer), and `share`, what part of
    the whole divergence that took away.
    """

    accuracy: float
    low: float
    high: float
    n: int
    mended: int
    broken: int
    loss: float
    divergence: float
    share: float


@dataclass(frozen=True)
class Undone:
    """One way of undoing a cause, and what it was measured to give. `bytes`: of weights, uncoded, that it costs."""

    what: str
    gain: Gain
    bytes: int = 0


@dataclass(frozen=True)
class Cause:
    """One cause: its kind, the layer, what is wrong in words with numbers, and what would help.

    `undone`: the ways of undoing it, cheapest first; `best` is the one to take. Empty where none was measured.
    """

    kind: str
    layer: str
    text: str
    remedy: str
    undone: tuple[Undone, ...] = ()

    @property
    def best(self) -> Undone | None:
        """The cheapest way that takes away nearly as much of the divergence (80 %) as the best of them; None if none was measured.

        Where every way adds divergence (other layers' errors had made up for this one's), the one that adds least.
        """
        most = max((one.gain.share for one in self.undone), default=0.0)
        return next((one for one in self.undone if one.gain.share >= min(0.8 * most, most)), None)


@dataclass(frozen=True)
class Stage:
    """After undoing the causes so far, in order: what came last, accuracy, divergence, and the bytes spent in all."""

    what: str
    accuracy: float
    divergence: float
    bytes: int


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found. `dropped`: the accuracy is lower than the float network's beyond the noise.

    `float_accuracy`, `accuracy`: of both networks on the `n` samples of `split`; `whole`: what undoing everything gives,
    the drop with its sign turned. `verdict`: in one sentence. `causes`: ranked, the largest measured gain first.
    `halves`: all weights, and all activations, in float again. `together`: the causes undone one after the other. `unmeasured`: suspects for which there was no time. `notes`: what could not be
    compared, and other remarks. Layers and quantizers are in order of execution.
    """

    split: str
    n: int
    float_accuracy: float
    accuracy: float
    whole: Gain
    dropped: bool
    verdict: str
    divergence: float = 0.0
    layers: tuple[LayerError, ...] = ()
    activations: tuple[ActivationError, ...] = ()
    causes: tuple[Cause, ...] = ()
    halves: tuple[Undone, ...] = ()
    together: tuple[Stage, ...] = ()
    unmeasured: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    twin: str = field(default="the float network")

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as JSON; `of_json` is the inverse. A cause's `best` is the place of that way in `undone`."""
        data: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        for row, cause in zip(data["causes"], self.causes, strict=True):
            row["best"] = None if cause.best is None else cause.undone.index(cause.best)
        return data

    @staticmethod
    def of_json(data: Mapping[str, Any]) -> "Diagnosis":
        """Return the diagnosis that `to_json` wrote. Raises BadInput for anything else."""
        if data.get("schema") != SCHEMA:
            raise BadInput(f"this diagnosis has the schema {data.get('schema')!r}; this version reads {SCHEMA}")
        try:
            known = {key: value for key, value in data.items() if key in Diagnosis.__dataclass_fields__}
            return Diagnosis(**{
                **known,
                "whole": Gain(**data["whole"]),
                "layers": tuple(LayerError(**_ranges(row)) for row in data["layers"]),
                "activations": tuple(ActivationError(**_ranges(row)) for row in data["activations"]),
                "causes": tuple(_cause(row) for row in data["causes"]),
                "halves": tuple(_undone(row) for row in data["halves"]),
                "together": tuple(Stage(**row) for row in data["together"]),
                "notes": tuple(data["notes"]),
            })  # fmt: skip
        except (KeyError, TypeError) as error:
            raise BadInput(f"this diagnosis is malformed: {error}") from error


def _ranges(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if k in ("range", "grid") and v is not None else v for k, v in row.items()}


def _cause(row: Mapping[str, Any]) -> Cause:
    undone = tuple(_undone(one) for one in row["undone"])
    return Cause(row["kind"], row["layer"], row["text"], row["remedy"], undone)


def _undone(row: Mapping[str, Any]) -> Undone:
    return Undone(row["what"], Gain(**row["gain"]), row["bytes"])
