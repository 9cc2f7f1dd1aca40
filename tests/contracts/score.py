"""What every score promises. Inherit and override `part()`; optional: `net()`, `work()`."""

import json
from typing import Any

import torch
from torch import Tensor

from contracts.nets import small_conv
from paredown.core.catalog import build, describe, entry
from paredown.core.work import Work
from paredown.graph.groups import Group, groups
from paredown.graph.net import Net


class ScoreContract:
    """Inherit for a score; see the module's docstring."""

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
        score = self.part()
        work = self.work().scoped(score.part_name, score.card.needs)
        return [(group, score.importance(net, group, work)) for group in groups(net) if len(group)]

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "score"

    def test_one_finite_value_for_each_unit(self) -> None:
        found = self.scores(self.net())
        assert found
        for group, values in found:
            assert values.shape == (len(group),) and torch.isfinite(values).all() and (values >= 0).all()
            assert not values.requires_grad

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
        from paredown.graph.shrink import mask_channels

        net = self.net()
        group = next(g for g in groups(net) if len(g) > 1)
        dead = mask_channels(net, group, [1])
        values = dict((g.name, v) for g, v in self.scores(dead))[group.name]
        assert values[1] == values.min() == 0
