"""What every grid promises. Inherit and override `part()`; optional: `weights()`."""

import json
from typing import Any

import torch
from torch import Tensor

from paredown.core.catalog import build, describe, entry


class GridContract:
    """Inherit for a grid: `fit(weight)` returns a slot that holds integer codes and calls to the rounded weight."""

    def part(self) -> Any:
        """Return the grid under test."""
        raise NotImplementedError

    def weights(self) -> list[Tensor]:
        """Return weights to round: plain, tiny, all zero, of one value, with an outlier."""
        draw = torch.Generator().manual_seed(0)
        plain = torch.randn((6, 4, 3, 3), generator=draw)
        outlier = plain[:, :, 0, 0].clone()
        outlier[0, 0] = 100.0
        return [plain, plain * 1e-6, torch.zeros(3, 5), torch.full((2, 2), 0.3), outlier]

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "grid"

    def test_codes_are_integers_that_fit_their_width(self) -> None:
        for weight in self.weights():
            slot = self.part().fit(weight)
            assert not slot.codes.is_floating_point() and slot.codes.shape == weight.shape
            assert int(slot.codes.max()) - int(slot.codes.min()) < 2**slot.bits

    def test_values_are_finite_and_not_further_than_zero_is(self) -> None:
        for weight in self.weights():
            rounded = self.part().fit(weight)().detach()
            assert rounded.shape == weight.shape and torch.isfinite(rounded).all()
            assert (rounded - weight).norm() <= weight.norm() * (1 + 1e-6)

    def test_it_leaves_the_weight_alone_and_repeats(self) -> None:
        for weight in self.weights():
            before = weight.clone()
            first, second = self.part().fit(weight), self.part().fit(weight)
            assert torch.equal(weight, before)
            assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
