"""How to train: one frozen value that steps, habits and the loop share."""

from dataclasses import dataclass

from paredown.core.knob import check_fields, knob

SCHEDULES = ("cosine", "onecycle", "linear", "constant")


@dataclass(frozen=True)
class Plan:
    """A training plan.

    epochs: passes over the train split. lr: peak learning rate. augment: 0 (none) to 1 (strong) over the task's own
    label-preserving moves. ema: decay per step of the averaged weights that are kept at the end (0: none).
    patience: epochs without a better validation value before stopping early (0: never).
    precision: "float32", or "bfloat16" or "float16" for autocast where the device has it; the weights stay float32, and the
    loss of "float16" is scaled so that small gradients survive.
    """

    epochs: float = knob(20, low=0.1, high=10_000, log=True)
    lr: float = knob(3e-3, low=1e-6, high=1.0, log=True)
    batch: int = knob(64, low=1, high=65_536, log=True)
    schedule: str = knob("cosine", among=SCHEDULES)
    warmup: float = knob(0.05, low=0.0, high=0.9)
    weight_decay: float = knob(0.0, low=0.0, high=1.0)
    augment: float = knob(0.0, low=0.0, high=1.0)
    ema: float = knob(0.0, low=0.0, high=0.99999)
    patience: int = knob(0, low=0, high=10_000)
    precision: str = knob("float32", among=("float32", "bfloat16", "float16"))

    def __post_init__(self) -> None:
        check_fields(self)
