"""Whole residual branches removed: fewer layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.curves import BATCH
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.graph.residual import Branch, branches, without
from paredown.graph.spec import Node

SCORES = ("influence", "relative", "loss", "metric")


def influence(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 − cos(before, after) of each sample, over all its values (Men et al. 2024, equation 1)."""
    return 1 - torch.nn.functional.cosine_similarity(before.flatten(1), after.flatten(1))


def relative(before: Tensor, after: Tensor) -> Tensor:
    """Return ‖after − before‖ / ‖after‖ of each sample."""
    norms = after.flatten(1).norm(dim=1).clamp(min=1e-12)
    return (after - before).flatten(1).norm(dim=1) / norms


@torch.no_grad()
def changes(net: Net, found: list[Branch], x: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """Return for each branch the mean change between its shortcut and the sum, over the samples of x."""
    kept = {branch.kept for branch in found}
    at = {branch.name: branch for branch in found}
    total = dict.fromkeys(at, 0.0)
    for rows in x.split(BATCH):
        seen: dict[str, Any] = {net.spec.inputs[0][0]: rows}

        def watch(node: Node, value: Any, seen: dict[str, Any] = seen) -> None:
            if node.name in kept:
                seen[node.name] = value.clone()
            if node.name in at:
                total[node.name] += float(change(seen[at[node.name].kept], value).sum())

        net.eval().run(rows, watch=watch)
    return [total[branch.name] / len(x) for branch in found]


@part("prune.residual_blocks", Card(title="Residual branches removed by block influence", paper="arxiv:2403.03853", year=2024,
                           authors="Men, Xu, Zhang, Wang, Lin, Lu, Han, Chen",
                           source="ShortGPT: Layers in Large Language Models are More Redundant Than You Expect, section 3; "
                                  "leave one out: arxiv:1605.06431 (Veit, Wilber, Belongie), section 4.1",
                           changes={"params", "nonzero", "bits", "macs"}, needs={"calib", "evaluate"}))  # fmt: skip
@dataclass(frozen=True)
class ResidualBlocks:
    """Remove the residual branches without which the network changes least; their shortcuts stay.

    count: how many. score: "influence", 1 − cosine between shortcut and sum on the calibration split; "relative", the size
    of what is added by the size of the sum; "loss", the calibration loss without the branch; "metric", the error on
    validation without it. again: score the ones that are left after each removal. Branches within a removed one go with it.

    A network without residual branches is left as it is, and every layer is noted. Differs from the paper: a branch is what
    is added to a shortcut, so the attention and the feed-forward branch of a transformer's layer count separately; the
    cosine is over all of a sample's values, not token by token.
    """

    count: int = knob(1, low=1, high=10_000)
    score: str = knob("influence", among=SCORES)
    again: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` without the branches that matter least."""
        out, order = net.copy(), list[str]()
        for _ in range(self.count):
            found = branches(out)
            if not found:
                break
            if self.again or not order:
                values = self.values(out, found, work)
                order = [found[at].name for at in sorted(range(len(found)), key=lambda at: values[at])]
            there = {branch.name: branch for branch in found}
            name = next(name for name in order if name in there)
            out = without(out, there[name])
        self._noted(out, work)
        return out

    def values(self, net: Net, found: list[Branch], work: Work) -> list[float]:
        """Return the score of each branch; the lowest goes first."""
        if self.score in ("loss", "metric"):
            error = error_by(self.score, work)
            return [error(without(net, branch)) for branch in found]
        return changes(net, found, work.use("calib")[0], influence if self.score == "influence" else relative)

    def _noted(self, out: Net, work: Work) -> None:
        inside = {slot for branch in branches(out) for slot in branch.slots}
        for name, _ in out.weighted():
            why = "its branch matters more than those removed" if name in inside else "it is in no residual branch"
            work.skip(name, why)
