"""What every score promises. Inherit and override `part()`; optional: `net()`, `work()`, `finds_dead`."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts.nets import small_conv
from paredown.core.catalog import build, describe, entry
from paredown.core.work import Work
from paredown.graph.groups import Group, groups
from paredown.graph.importance import importances
from paredown.graph.net import Net
from paredown.graph.shrink import mask_channels


class ScoreContract:
    """Inherit for a score; see the module's docstring. finds_dead: a channel of zeros scores 0, the lowest."""

    finds_dead = True

    def part(self) -> Any:
        """Return the score under test."""
        raise NotImplementedError

    def net(self) -> Net:
        """Return the network whose channels are scored."""
        return small_conv()

    def work(self) -> Work:
        """Return the work: random samples with labels for `calib`."""
        draw = torch.Generator().manual_seed(0)
        x = torch.rand((32, *self.net().spec.inputs[0][1]), generator=draw)
        return Work({"calib": (x, torch.randint(0, 10, (32,), generator=draw))})

    def scores(self, net: Net) -> list[tuple[Group, Tensor]]:
        """Return (group, its scores) for every group that has units."""
        return self.noted(net)[0]

    def noted(self, net: Net) -> tuple[list[tuple[Group, Tensor]], set[str]]:
        """Return (group, its scores) for every group that has units, and the weights about which something was said."""
        score = self.part()
        work = self.work().scoped(score.part_name, score.card.needs)
        found = [(group, score.importance(net, group, work)) for group in groups(net) if len(group)]
        return found, {note.layer for note in work.notes}

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "score"

    def test_one_value_for_each_unit(self) -> None:
        """Finite, or infinite for what must stay; then the group's weights are noted."""
        found, noted = self.noted(self.net())
        assert any(torch.isfinite(values).all() for _, values in found)
        for group, values in found:
            assert values.shape == (len(group),) and (values >= 0).all() and not values.isnan().any()
            assert torch.isfinite(values).all() or noted >= {slot for slot, _ in group.makers}
            assert not values.requires_grad

    def test_all_groups_at_once_score_like_one_by_one(self) -> None:
        net, score = self.net(), self.part()
        alone = self.scores(net)
        together = importances(score, net, [group for group, _ in alone], self.work())
        for (_, one), other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other)

    def test_it_leaves_the_network_alone(self) -> None:
        net = self.net()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        self.scores(net)
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters())

    def test_it_repeats(self) -> None:
        first, second = self.scores(self.net()), self.scores(self.net())
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))

    def test_a_dead_channel_scores_lowest(self) -> None:
        if not self.finds_dead:
            pytest.skip("this score does not claim it")
        net = self.net()
        group = next(g for g in groups(net) if len(g) > 1)
        dead = mask_channels(net, group, [1])
        values = dict((g.name, v) for g, v in self.scores(dead))[group.name]
        assert values[1] == values.min() == 0
