"""The pruners of bench/pruning_cifar.py: ours by recipe, and Torch-Pruning 1.6.1 as its authors' CIFAR recipe calls it (reproduce/main.py, "group_sl", "group_norm").

GroupNormPruner over all groups together, group magnitude of degree 2, 400 steps towards nothing until the MACs are within
the budget; before that, where asked, training under its regulariser ("sparse learning"): in our loop, where the regulariser adds to
the gradients before each step, or in its authors' (SGD, momentum 0.9, a tenth of the rate after 60 and 80 %, no weight decay).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.importance import comparable, importances
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.graph.repair import repair_
from paredown.graph.thinning import Price, Thinning, filled, price_of, reachable, thinning_of, uniform
from paredown.methods.prune.amc import Amc
from paredown.methods.prune.channels import balanced
from paredown.methods.prune.sensitivity import Sensitivity, scan
from paredown.methods.score.bn_scale import BnScale
from paredown.methods.score.curvature import Curvature
from paredown.methods.score.group_norm import GroupNorm
from paredown.methods.score.l2 import L2
from paredown.methods.score.taylor import Taylor
from paredown.train.data import Data, batches

STEPS, TRIES = 400, 12


@dataclass(frozen=True)
class Recipe:
    """Ours. how: which counts. share: the teacher's part of the loss. rounds: prunings, a fifth of the epochs after each but the last.

    slim: share of the epochs with Network Slimming's penalty before pruning.
    """

    how: str
    score: Any
    repair: bool = True
    share: float = 0.7
    rounds: int = 1
    slim: float = 0.0


def ranked(thinning: Thinning, recipe: Recipe, work: Work, price: Price, most: float) -> list[int]:
    """Return the counts of the fewest units, lowest score first over all groups, within the budget. "worth": score by MAC."""
    scores = importances(recipe.score, thinning.net, thinning.groups, work)
    whole = price([0] * len(scores))
    if recipe.how == "worth":
        saved = [whole - price(thinning.alone(at, 1)) for at in range(len(scores))]
        scores = [own / max(1.0, macs) for own, macs in zip(scores, saved, strict=True)]
    elif not comparable(recipe.score):
        scores = [balanced(own) for own in scores]
    units = sorted(
        (float(own[unit]), at, place)
        for at, (own, order) in enumerate(zip(scores, thinning.orders, strict=True))
        for place, unit in enumerate(order)
    )

    def counts(total: int) -> list[int]:
        return np.bincount([at for _, at, _ in units[:total]], minlength=len(scores)).tolist()

    low, high = 0, len(units)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if price(counts(middle)) <= most else (middle + 1, high)
    return counts(high)


def thin(recipe: Recipe, net: Net, most: float, work: Work, episodes: int) -> Net:
    """Return a network within `most` MACs, compared by `remove_channels` with the masked one, and repaired."""
    thinning = thinning_of(net, recipe.score, work)
    price = price_of(thinning, priced("macs"))
    reachable(thinning, price, most, "macs")
    share = most / price([0] * len(thinning.groups))
    if recipe.how == "uniform":
        gone = uniform(thinning, price, most)
    elif recipe.how == "sensitivity":
        step = Sensitivity(budget=share, judge="loss")
        gone = step.counts(thinning, scan(thinning, step.ratios, error_by("loss", work)))
    elif recipe.how == "amc":
        amc = Amc(share, repair=False, episodes=episodes, warm=episodes // 3, judge="loss")
        gone = list(max(amc.tries(thinning, work), key=lambda episode: episode.reward).gone)
    else:
        gone = ranked(thinning, recipe, work, price, most)
    out, went = thinning.removed(filled(thinning, price, gone, most), work.skip)
    if recipe.repair:
        repair_(out, net, went, work.use("calib")[0], work.skip, work.seed)
    return out


@dataclass(frozen=True)
class Setting:
    """How Torch-Pruning is asked. reg, sparse: strength, and share of the epochs under it. loop: "ours" or "own" (SGD)."""

    normalizer: str = "max"
    reg: float = 5e-4
    sparse: float = 0.0
    loop: str = "ours"
    lr: float = 0.01


def pruner_of(model: nn.Module, x: Tensor, setting: Setting) -> Any:
    """Return the pruner of a model, which it holds and will change in place; the last linear layer is left alone."""
    heads = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer=setting.normalizer)
    return torch_pruning.pruner.GroupNormPruner(
        model, x[:1], importance, reg=setting.reg, global_pruning=True, pruning_ratio=1.0, iterative_steps=STEPS,
        ignored_layers=heads,
    )  # fmt: skip


@contextmanager
def regularized(pruner: Any) -> Iterator[None]:
    """Let the pruner add to the gradients before every optimiser's step."""
    handle = register_optimizer_step_pre_hook(lambda *_: pruner.regularize(pruner.model))
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def macs_of(model: nn.Module, x: Tensor) -> int:
    """Return the MACs of the convolutions and linear layers for one sample, fast; the table counts by `cost.count`."""
    total = 0

    def hook(layer: Any, _: Any, made: Tensor) -> None:
        nonlocal total
        places = made[0].numel() // layer.weight.shape[0]
        total += layer.weight.numel() * places

    kinds = (nn.Conv2d, nn.Linear)
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    model.eval()(x[:1])
    for handle in handles:
        handle.remove()
    return total


def thinned(model: nn.Module, x: Tensor, most: float, setting: Setting) -> nn.Module:
    """Return a copy within `most` MACs, and within 1 % below if that takes no more than leaving out a few groups.

    A group that takes the network more than 1 % below at the end is passed over then, and the pruner goes on without it.
    """
    passed: dict[str, int] = {}
    found: list[tuple[int, nn.Module]] = []
    while len(found) < TRIES and (not found or found[-1][0] < 0.99 * most):
        made = _attempt(model, x, most, setting, passed)
        if made is None:
            break
        found.append((macs_of(made[0], x), made[0]))
        passed.setdefault(*made[1])
    if not found:
        raise ValueError(f"{STEPS} steps do not reach {most:g} MACs")
    return max(found, key=lambda pair: pair[0])[1]


def _attempt(
    model: nn.Module, x: Tensor, most: float, setting: Setting, passed: dict[str, int]
) -> tuple[nn.Module, tuple[str, int]] | None:
    """Return a copy that lost group after group, in the pruner's order, until it met the budget, and the last to go; or None.

    passed: {the first layer of a group: the step from which it is left alone}.
    """
    pruner = pruner_of(copy.deepcopy(model).eval(), x, setting)
    for step in range(STEPS - 1):
        for group in pruner.step(interactive=True):
            name = str(group[0].dep.target.name)
            if step >= passed.get(name, STEPS):
                continue
            group.prune()
            if macs_of(pruner.model, x) <= most:
                return pruner.model, (name, step)
    return None


def own_fit(model: nn.Module, data: Data, plan: Plan, seed: int, pruner: Any, setting: Setting) -> dict[str, float]:
    """Train in place as the authors' script does, for the plan's epochs over the plan's batches; under the pruner if there is one."""
    decay = 5e-4 if pruner is None else 0.0
    optimiser = torch.optim.SGD(model.parameters(), lr=setting.lr, momentum=0.9, weight_decay=decay)
    total = max(1, round(plan.epochs * (len(data) // plan.batch)))
    step = 0
    model.train()
    while step < total:
        for x, y in batches(data, plan.batch, plan.augment, seed, step // (len(data) // plan.batch)):
            if step >= total:
                break
            for group in optimiser.param_groups:
                group["lr"] = setting.lr * 0.1 ** ((step >= 0.6 * total) + (step >= 0.8 * total))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.precision == "bfloat16"):
                loss = nn.functional.cross_entropy(model(x), y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if pruner is not None:
                pruner.regularize(model)
            optimiser.step()
            step += 1
    model.eval()
    return {"steps": float(step), "loss": float(loss.detach())}


CANDIDATES: dict[str, dict[str, Any]] = {
    "paredown": {
        "uniform-l2": Recipe("uniform", L2()),
        "uniform-hessian": Recipe("uniform", Curvature()),
        "global-norm": Recipe("global", GroupNorm()),
        "global-taylor": Recipe("global", Taylor("weight")),
        "global-hessian": Recipe("global", Curvature()),
        "worth-taylor": Recipe("worth", Taylor("weight")),
        "worth-hessian": Recipe("worth", Curvature()),
        "worth-hessian-2": Recipe("worth", Curvature(), rounds=2),
        "sensitivity": Recipe("sensitivity", Curvature()),
        "amc": Recipe("amc", Curvature()),
        "slimming": Recipe("global", BnScale(), slim=0.3),
    },
    "torch_pruning": {
        "mean": Setting("mean"),
        "max": Setting(),
        "mean-own": Setting("mean", loop="own"),
        "mean-own-hot": Setting("mean", loop="own", lr=0.05),
    },
    "torch_pruning_sparse": {
        "reg5e-4": Setting(sparse=0.5),
        "reg5e-5": Setting(sparse=0.5, reg=5e-5),
        "reg5e-4-third": Setting(sparse=0.3),
        "own": Setting(sparse=0.5, loop="own"),
        "own-hot": Setting(sparse=0.5, loop="own", lr=0.05),
    },
}
"""What each tool's recipe is chosen from."""
