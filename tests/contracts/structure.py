"""What every structure promises. Inherit and override `part()`; optional: `most` (the highest sparsity), `slack()`."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.core.catalog import build, describe, entry
from paredown.core.errors import BadInput

SHAPES = {"conv": (8, 8, 3, 3), "point": (12, 8, 1, 1), "linear": (10, 16)}


def drawn(seed: int = 0) -> dict[str, Tensor]:
    """Return saliencies of three weights; those of the second are a hundred times smaller."""
    draw = torch.Generator().manual_seed(seed)
    found = {name: torch.rand(shape, generator=draw) for name, shape in SHAPES.items()}
    return found | {"point": found["point"] / 100}


class StructureContract:
    """Inherit for a structure; see the module's docstring."""

    most = 0.9

    def part(self) -> Any:
        """Return the structure under test."""
        raise NotImplementedError

    def slack(self, name: str) -> int:
        """Return by how many weights a weight may fall short of its sparsity: those of one unit, less one."""
        raise NotImplementedError

    def stays(self, sparsity: float, scope: str = "layer") -> dict[str, Tensor]:
        """Return what stays of the drawn saliencies."""
        return self.part().stays(drawn(), sparsity, scope)

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "structure"

    def test_a_mask_of_each_weights_shape_and_the_saliencies_left_alone(self) -> None:
        given = drawn()
        found = self.part().stays(given, self.most / 2, "layer")
        assert found.keys() == given.keys()
        assert all(found[name].shape == s.shape and found[name].dtype == torch.bool for name, s in given.items())
        assert all(torch.equal(s, drawn()[name]) for name, s in given.items())
        assert self.part().stays({}, 0.5, "global") == {}

    def test_no_more_goes_than_is_asked_for_and_less_only_by_a_unit(self) -> None:
        for sparsity in (0.0, self.most / 3, self.most / 2, self.most):
            for name, mask in self.stays(sparsity).items():
                asked = math.floor(sparsity * mask.numel() + 1e-9)
                assert asked - self.slack(name) <= int((~mask).sum()) <= asked, (name, sparsity)
            masks = self.stays(sparsity, "global").values()
            asked = math.floor(sparsity * sum(m.numel() for m in masks) + 1e-9)
            assert asked - max(map(self.slack, SHAPES)) <= sum(int((~m).sum()) for m in masks) <= asked

    def test_what_goes_at_one_sparsity_goes_at_every_higher_one(self) -> None:
        for scope in ("layer", "global"):
            before = self.stays(0.0, scope)
            for part in range(1, 9):
                after = self.stays(self.most * part / 8, scope)
                assert not any((after[name] & ~before[name]).any() for name in after)
                before = after

    def test_it_keeps_more_than_chance(self) -> None:
        given = drawn()
        for name, mask in self.stays(self.most / 2).items():
            assert float(given[name][mask].mean()) > 1.02 * float(given[name].mean())

    def test_the_global_scope_takes_the_weight_of_small_saliencies(self) -> None:
        gone = {name: float((~mask).float().mean()) for name, mask in self.stays(self.most / 8, "global").items()}
        assert gone["point"] > 2 * max(gone["conv"], gone["linear"])

    def test_a_scale_changes_nothing_and_saliencies_may_be_negative(self) -> None:
        twice = self.part().stays({name: 2 * s for name, s in drawn().items()}, self.most / 2, "global")
        assert all(torch.equal(twice[name], mask) for name, mask in self.stays(self.most / 2, "global").items())
        below = {name: s - 0.5 for name, s in drawn().items()}
        for name, mask in self.part().stays(below, self.most / 2, "layer").items():
            assert float(below[name][mask].mean()) > float(below[name].mean())

    def test_an_unknown_scope_is_refused(self) -> None:
        with pytest.raises(BadInput, match="scope"):
            self.part().stays(drawn(), 0.1, "network")
