"""What every sensitivity promises. Inherit and override `part()`; optional: `net()`, `work()`."""

import json
import math
from typing import Any

import torch

from contracts.nets import small_conv
from paredown.core.catalog import build, describe, entry
from paredown.core.work import Work
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.ranges import calibrate
from paredown.graph.widths import Place, Trials
from paredown.methods.quantize.activations import quantizer

WIDTHS = (0, 2, 4, 8)


class SensitivityContract:
    """Inherit for a sensitivity; see the module's docstring."""

    def part(self) -> Any:
        """Return the sensitivity under test."""
        raise NotImplementedError

    def net(self) -> Net:
        """Return the network whose places are tried."""
        return fold_batchnorm(small_conv())[0].eval()

    def work(self) -> Work:
        """Return the work: random samples with the labels that the network gives them, for `calib`."""
        draw = torch.Generator().manual_seed(0)
        x = torch.rand((32, *self.net().spec.inputs[0][1]), generator=draw)
        return Work({"calib": (x, self.net()(x).argmax(1))})

    def trials(self, net: Net) -> Trials:
        """Return the trials: every weight, the first weight's channels, and two values that flow."""
        weights = [name for name, _ in net.weighted()]
        ranges = calibrate(net, self.work().use("calib")[0])
        places = [Place(name) for name in weights] + [Place(weights[0], c) for c in range(len(net.slot(weights[0])()))]
        flowing = [Place(name, flows=True) for name in list(ranges)[:2]]
        widths = [WIDTHS] * len(places) + [(2, 4, 8)] * len(flowing)
        return Trials(
            net,
            (*places, *flowing),
            tuple(widths),
            "mse",
            lambda name, bits: quantizer(name, ranges[name].extremes, bits),
        )

    def harms(self, net: Net) -> list[list[float]]:
        """Return what the part says."""
        part = self.part()
        return part.harms(self.trials(net), self.work().scoped(part.part_name, part.card.needs))

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "sensitivity"

    def test_a_finite_harm_for_each_width_of_each_place_and_the_widest_harm_least_in_all(self) -> None:
        trials, found = self.trials(self.net()), self.harms(self.net())
        assert [len(row) for row in found] == [len(widths) for widths in trials.widths]
        assert all(math.isfinite(harm) for row in found for harm in row)
        for column in (0, 1):
            assert sum(abs(row[-1]) for row in found) < 0.1 * sum(abs(row[column]) for row in found)

    def test_what_is_on_the_levels_already_is_not_harmed(self) -> None:
        net = self.net()
        name = next(name for name, _ in net.weighted())
        codes = torch.tensor([-7, 7, 3, -1, 0, 5, 2, -4, 1])
        with torch.no_grad():
            net.slot(name).value.copy_((codes * 0.125).view(1, 1, 3, 3).expand(8, 1, 3, 3))
        assert self.harms(net)[0][WIDTHS.index(4)] == 0

    def test_it_leaves_the_network_alone_and_repeats(self) -> None:
        net = self.net()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        first, second = self.harms(net), self.harms(net)
        assert first == second
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters())
