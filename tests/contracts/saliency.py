"""What every saliency promises. Inherit and override `part()`; optional: `nets()`, `work()`."""

import json
from typing import Any

import torch
from torch import Tensor

from contracts.nets import small_conv, small_mlp
from paredown.core.catalog import build, describe, entry
from paredown.core.work import Work
from paredown.graph.masks import mask_, mask_of
from paredown.graph.net import Net


class SaliencyContract:
    """Inherit for a saliency; see the module's docstring."""

    def part(self) -> Any:
        """Return the saliency under test."""
        raise NotImplementedError

    def nets(self) -> dict[str, Net]:
        """Return the networks whose weights are judged: plain ones, and one with masks."""
        masked = small_mlp()
        mask_(masked, "0.weight", torch.rand(32, 64, generator=torch.Generator().manual_seed(7)) < 0.5)
        return {"conv": small_conv(), "mlp": small_mlp(), "masked": masked}

    def work(self, net: Net, seed: int = 0) -> Work:
        """Return the work: random samples with labels for `calib`."""
        draw = torch.Generator().manual_seed(0)
        x = torch.rand((32, *net.spec.inputs[0][1]), generator=draw)
        return Work({"calib": (x, torch.randint(0, 10, (32,), generator=draw))}, seed)

    def found(self, net: Net, names: list[str]) -> dict[str, Tensor]:
        """Return what the part says about these weights, with no service but those of its card."""
        part = self.part()
        return part.saliencies(net, names, self.work(net).scoped(part.part_name, part.card.needs))

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "saliency"

    def test_a_finite_value_for_each_weight_that_is_asked_for_and_no_other(self) -> None:
        for net in self.nets().values():
            names = [name for name, _ in net.weighted()]
            for some in (names, names[1:2], []):
                values = self.found(net, some)
                assert list(values) == some
                for name, value in values.items():
                    assert value.shape == net.slot(name)().shape and torch.isfinite(value).all()
                    assert not value.requires_grad and value.unique().numel() > 1

    def test_masked_weights_are_worth_nothing(self) -> None:
        net = self.nets()["masked"]
        value = self.found(net, ["0.weight"])["0.weight"]
        assert (value[~mask_of(net, "0.weight")] == 0).all() and (value[mask_of(net, "0.weight")] != 0).any()

    def test_it_leaves_the_network_alone_and_repeats(self) -> None:
        for net in self.nets().values():
            net.train()
            before = {k: v.clone() for k, v in net.state_dict().items()}
            names = [name for name, _ in net.weighted()]
            first = self.found(net, names)
            torch.manual_seed(5)
            second = self.found(net, names)
            assert all(torch.equal(first[name], second[name]) for name in names)
            assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
            assert net.training and all(p.grad is None for p in net.parameters())
