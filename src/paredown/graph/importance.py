"""The importance of many groups at once, by a score part."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from paredown.core.work import Work
from paredown.graph.groups import Group
from paredown.graph.net import Net


def importances(score: Any, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
    """Return the importance of each group's units by `score`, with the services that its card needs.

    A score that looks at data may have `importances(net, groups, work)` beside `importance`; it then does so in one pass
    for all groups. An infinite importance says that a unit must stay.
    """
    own = work.scoped(score.part_name, score.card.needs)
    if hasattr(score, "importances"):
        return list(score.importances(net, groups, own)) if groups else []
    return [score.importance(net, group, own) for group in groups]


def comparable(score: Any) -> bool:
    """Return whether the score says that its values compare across groups as they are (a class attribute, else False)."""
    return bool(getattr(type(score), "comparable", False))


def refused(group: Group, work: Work, why: str) -> Tensor:
    """Return infinite importances, having noted for each weight that makes the group's channels `why` they must stay."""
    for slot in dict.fromkeys(slot for slot, _ in group.makers):
        work.skip(slot, why)
    return torch.full((len(group),), torch.inf, dtype=torch.float64)
