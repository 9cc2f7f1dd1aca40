"""The training loop: one function, resumable to the bit."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.train.data import Data, batches
from paredown.train.scaling import FIRST_SCALE, next_scale, unscale_
from paredown.train.schedule import factor


class Stopped(Exception):
    """Training was told to stop by `watch`; the checkpoint, if there is one, is good."""


@dataclass(frozen=True)
class Extras:
    """What a training may have besides a plan.

    teacher: the network whose scores the loss is given. val: `val(net) -> float`, higher is better, for early stopping.
    watch: called with the progress 0…1 every sixteen steps; it may raise Stopped.
    checkpoint: a file written about every `checkpoint_s` seconds, and read if it is there.
    """

    teacher: nn.Module | None = None
    val: Callable[[nn.Module], float] | None = None
    watch: Callable[[float], None] | None = None
    checkpoint: Path | None = None
    checkpoint_epochs: int = 10


@dataclass
class _State:
    """Everything that a checkpoint must hold, beside the network and the optimiser."""

    epoch: int = 0
    step: int = 0
    habits: list[dict] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: float = -math.inf
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    loss_scale: float = FIRST_SCALE
    good_steps: int = 0


def fit(
    model: nn.Module,
    data: Data,
    loss: Any,
    habits: tuple[Any, ...] = (),
    plan: Plan | None = None,
    seed: int = 0,
    extras: Extras | None = None,
) -> dict[str, float]:
    """Train `model` in place and return {"epochs", "steps", "loss"}.

    loss: a Loss part (`of(student, target, teacher) -> scalar`). habits: Habit parts, in order; one may also have
    `penalty(net, state) -> scalar`, which is added to the loss, and `finish(net, state)`. The network is left in eval
    mode, with averaged weights if the plan asks for an EMA, or its best epoch's if it asks for patience.
    Raises BadInput if the loss stops being finite, Stopped if `extras.watch` says so.
    """
    plan, extras = plan or Plan(), extras or Extras()
    run = _Run(model, data, loss, habits, plan, seed, extras)
    run.resume()
    run.train()
    return run.finish()


def layout_for(device: torch.device) -> torch.memory_format:
    """Return the layout to train convolutions in: channels last, faster by 7 to 60 % of an epoch, where it is safe.

    It is not on processors without AVX-512: there the gradient of a convolution of, say, 6 channels in this layout writes
    beyond its memory (torch 2.13; guide 03 crashed).
    """
    safe = device.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.channels_last if safe else torch.contiguous_format


def lay_out_(model: nn.Module, layout: torch.memory_format) -> None:
    """Lay out the weights of two-dimensional convolutions in place: values and names stay.

    What the convolutions compute follows.
    """
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


class _Run:
    """One training: the loop's variables with names, so that each phase is a short method."""

    def __init__(
        self, model: nn.Module, data: Data, loss: Any, habits: tuple[Any, ...], plan: Plan, seed: int, extras: Extras
    ) -> None:
        self.model, self.data, self.loss, self.habits = model, data, loss, habits
        self.plan, self.seed, self.extras = plan, seed, extras
        lay_out_(model, layout_for(data.x.device))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise BadInput("this network has nothing left to train: all its weights are fixed; train before quantizing")
        self.steps_per_epoch = max(1, len(data) // min(plan.batch, len(data)))
        self.total = max(1, round(plan.epochs * self.steps_per_epoch))
        decayed = [p for p in self.parameters if p.dim() > 1]
        plain = [p for p in self.parameters if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=plan.lr, betas=(0.9, 0.98), fused=True
        )
        self.state = _State()
        self.last_loss = math.nan

    def resume(self) -> None:
        """Take up the checkpoint if there is one; else start the habits."""
        path = self.extras.checkpoint
        if path is None or not path.exists():
            self.state.habits = [habit.start(self.model) for habit in self.habits]
            return
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.state = _State(**saved["state"])

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        path = self.extras.checkpoint
        if path is None:
            return
        saved = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "state": vars(self.state)}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(saved, partial)
        partial.rename(path)

    def train(self) -> None:
        """Run the epochs that are left."""
        while self.state.step < self.total:
            self.epoch()
            self.state.epoch += 1
            if self.plan.patience and self.extras.val and not self.improving():
                break
            if self.state.step < self.total and self.state.epoch % self.extras.checkpoint_epochs == 0:
                self.save()

    def epoch(self) -> None:
        """Train one pass, or what is left of the last one."""
        self.model.train()
        state, plan = self.state, self.plan
        torch.manual_seed(self.seed * 7919 + state.epoch)  # dropout and other randomness inside the model
        loss = torch.tensor(math.nan)
        for x, y in batches(self.data, plan.batch, plan.augment, self.seed, state.epoch):
            if state.step >= self.total:
                break
            loss = self.one_step(x, y)
            if self.extras.watch and state.step % 16 == 0:
                self.extras.watch(state.step / self.total)
        self.last_loss = float(loss)
        if not math.isfinite(self.last_loss):
            raise BadInput(
                f"training diverged in epoch {state.epoch + 1}: the loss is {self.last_loss}; lower lr={plan.lr:g}"
            )

    def one_step(self, x: Tensor, y: Tensor) -> Tensor:
        """Take one optimiser step and let the habits see it."""
        state = self.state
        t = state.step / self.total
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.lr * factor(self.plan.schedule, t, self.plan.warmup)
        with self.autocast():
            teacher = self.taught(x)
            loss = self.loss.of(self.model(x), y, teacher)
            for habit, kept in zip(self.habits, state.habits, strict=True):
                if hasattr(habit, "penalty"):
                    loss = loss + habit.penalty(self.model, kept)
        self.descend(loss)
        state.step += 1
        t = state.step / self.total
        state.habits = [h.step(self.model, kept, t) for h, kept in zip(self.habits, state.habits, strict=True)]
        if self.plan.ema:
            self.blend()
        return loss.detach()

    def descend(self, loss: Tensor) -> None:
        """Take the optimiser's step; with 16-bit floats the gradients of a scaled loss, if they are all finite."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.plan.precision != "float16":
            loss.backward()
            self.optimiser.step()
            return
        size, good = self.state.loss_scale, self.state.good_steps
        (loss.float() * size).backward()
        finite = unscale_([p.grad for p in self.parameters if p.grad is not None], size)
        if finite:
            self.optimiser.step()
        self.state.loss_scale, self.state.good_steps = next_scale(size, good, finite)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context that the plan's precision asks for."""
        if self.plan.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.data.x.device.type, dtype=getattr(torch, self.plan.precision))

    def taught(self, x: Tensor) -> Tensor | None:
        """Return the teacher's scores, if there is a teacher."""
        if self.extras.teacher is None:
            return None
        with torch.no_grad():
            return self.extras.teacher(x)

    def blend(self) -> None:
        """Move the averaged weights towards the present ones; early on, over the steps there have been."""
        names = dict(self.model.named_parameters())
        if not self.state.average:
            self.state.average = {k: v.detach().clone() for k, v in names.items()}
            return
        decay = min(self.plan.ema, (1 + self.state.step) / (10 + self.state.step))
        averages = [self.state.average[k] for k in names]
        torch._foreach_lerp_(averages, [v.detach() for v in names.values()], 1 - decay)

    def improving(self) -> bool:
        """Judge the epoch on validation, keep the best weights, say whether patience is left."""
        assert self.extras.val is not None
        with self.averaged():
            value = self.extras.val(self.model.eval())
            if value > self.state.best:
                self.state.best, self.state.best_epoch = value, self.state.epoch
                self.state.best_state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        return self.state.epoch - self.state.best_epoch < self.plan.patience

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the model for a while."""
        kept = {k: v.detach().clone() for k, v in self.model.named_parameters()} if self.state.average else {}
        self.load_parameters(self.state.average)
        yield
        self.load_parameters(kept)

    @torch.no_grad()
    def load_parameters(self, values: dict[str, Tensor]) -> None:
        """Copy `values` into the parameters of those names."""
        for name, parameter in self.model.named_parameters():
            if name in values:
                parameter.copy_(values[name])

    def finish(self) -> dict[str, float]:
        """Leave the best or averaged weights in the model and drop the checkpoint."""
        if self.state.best_state:
            self.model.load_state_dict(self.state.best_state)
        else:
            self.load_parameters(self.state.average)
        for habit, kept in zip(self.habits, self.state.habits, strict=True):
            if hasattr(habit, "finish"):
                habit.finish(self.model, kept)
        if self.extras.checkpoint is not None:
            self.extras.checkpoint.unlink(missing_ok=True)
        lay_out_(self.model, torch.contiguous_format)
        self.model.eval()
        return {"epochs": self.state.step / self.steps_per_epoch, "steps": self.state.step, "loss": self.last_loss}
