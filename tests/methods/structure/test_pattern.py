"""Four weights of nine, in a few patterns; then whole kernels."""

import torch

from contracts.structure import StructureContract, drawn
from paredown.methods.structure.pattern import ALL, CENTRE, Pattern, chosen, fitted, natural


class TestPattern(StructureContract):
    def part(self) -> Pattern:
        return Pattern()

    def slack(self, name: str) -> int:
        return 4 if name == "conv" else 0

    def test_the_global_scope_takes_the_weight_of_small_saliencies(self) -> None:
        """Patterns come before whole kernels go, so the 3 × 3 kernels are the first."""
        gone = {name: int((~mask).sum()) for name, mask in self.stays(0.3, "global").items()}
        assert gone["point"] == gone["linear"] == 0 < gone["conv"]
        beyond = {name: float((~mask).float().mean()) for name, mask in self.stays(0.5, "global").items()}
        assert beyond["point"] == 1 and beyond["conv"] < 0.6 and beyond["linear"] < 0.2


def kernels(stays: torch.Tensor) -> torch.Tensor:
    return stays.reshape(-1, 9)


def test_all_patterns_hold_the_centre_and_three_others() -> None:
    assert len({tuple(row) for row in ALL.tolist()}) == 56
    assert (ALL.sum(1) == 4).all() and ALL[:, CENTRE].all()


def test_at_five_ninths_every_kernel_has_one_of_eight_patterns() -> None:
    given = drawn()
    stays = kernels(Pattern().stays(given, 5 / 9, "layer")["conv"])
    found = {tuple(row) for row in stays.tolist()}
    assert (stays.sum(1) == 4).all() and stays[:, CENTRE].all() and 2 <= len(found) <= 8
    allowed = {tuple(row) for row in chosen(given["conv"].reshape(-1, 9), 8).tolist()}
    assert found <= allowed


def test_beyond_it_whole_kernels_go_and_the_weakest() -> None:
    weight = drawn()["conv"].reshape(-1, 9)
    patterned = fitted(weight, chosen(weight, 8))
    stays = kernels(Pattern().stays({"conv": drawn()["conv"]}, 0.8, "layer")["conv"])
    counts = stays.sum(1)
    assert set(counts.tolist()) == {0, 4}
    worth = (weight * patterned).sum(1)
    assert worth[counts == 0].max() <= worth[counts == 4].min()
    assert 0.79 < float((~stays).float().mean()) <= 0.8


def test_patterns_are_the_ones_that_occur_most() -> None:
    """Kernels planted with three patterns, seven, five and one time: the two most frequent are chosen."""
    draw, planted = torch.Generator().manual_seed(0), [5] * 7 + [40] * 5 + [20]
    weight = 0.1 * torch.rand(len(planted), 9, generator=draw) + ALL[planted].float()
    assert natural(weight).tolist() == planted
    assert torch.equal(chosen(weight, 2), ALL[[5, 40]])
    assert torch.equal(fitted(weight, ALL[[5, 40]])[:12], ALL[planted[:12]])


def test_each_kernel_takes_the_pattern_that_keeps_most_of_it() -> None:
    weight = torch.rand(50, 9, generator=torch.Generator().manual_seed(1))
    patterns = ALL[::9]
    best = torch.stack([(weight * p).sum(1) for p in patterns]).max(0).values
    torch.testing.assert_close((weight * fitted(weight, patterns)).sum(1), best)


def test_other_kernels_lose_whole_kernels_only() -> None:
    weight = torch.rand(6, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    stays = Pattern().stays({"w": weight}, 0.5, "layer")["w"].flatten(2)
    assert torch.equal(stays.all(2), stays.any(2)) and float(stays.float().mean()) == 0.5
