"""The sensitivity scan: one curve for each group, and shares read from them."""

import pytest
import torch

from contracts.judged import JudgedStepContract, labelled, on_digits
from contracts.nets import small_mlp
from contracts.pooled_digits import pooled
from contracts.step import macs
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.graph.slots import Free
from paredown.graph.thinning import thinning_of
from paredown.methods.prune.sensitivity import Scan, Sensitivity, scan
from paredown.methods.score.l1 import L1


class TestSensitivity(JudgedStepContract):
    def part(self) -> Sensitivity:
        return Sensitivity(0.05, budget=0.6, judge="loss", ratios=(0.2, 0.5, 0.9))

    def settings(self) -> list[Sensitivity]:
        return [Sensitivity(0.5), Sensitivity(0.0, 0.3, "nvidia_t4", judge="metric")]


def test_a_share_is_read_along_the_curve() -> None:
    curve = Scan(("a", "b", "c"), (0.2, 0.4, 0.8), 0.1, ((0.1, 0.2, 0.6), (0.3, 0.1, 0.1), (0.1, 0.05, 0.1)))
    assert [curve.reached(0, drop) for drop in (0.0, 0.05, 0.1, 0.3, 0.5, 9)] == pytest.approx(
        [0.2, 0.3, 0.4, 0.6, 0.8, 0.8]
    )
    assert curve.reached(1, 0.1) == pytest.approx(0.1), "not past a ratio at which too much is lost"
    assert curve.reached(2, 0.0) == 0.8


def test_groups_times_ratios_evaluations_and_each_of_one_group_alone() -> None:
    net = small_mlp()
    thinning, seen = thinning_of(net, L1(), Work()), list[tuple[int, int]]()

    def error(made: Net) -> float:
        seen.append((made.slot("0.weight")().shape[0], made.slot("2.weight")().shape[0]))
        return float(len(seen))

    found = scan(thinning, (0.25, 0.5), error)
    assert seen == [(24, 16), (16, 16), (32, 12), (32, 8), (32, 16)]
    assert found == Scan(("0.weight", "2.weight"), (0.25, 0.5), 5.0, ((1.0, 2.0), (3.0, 4.0)))


def test_each_groups_curve_is_noted_with_what_was_taken() -> None:
    """A-S4-12: what the report draws is what was measured; the share that went is the network's."""
    net = small_mlp()
    work, step = labelled(net), Sensitivity(0.1, judge="loss", ratios=(0.25, 0.5))
    out = step.apply(net, work)
    found = scan(thinning_of(net, L1(), work), step.ratios, error_by("loss", work))
    curves = {note.layer: note.curve for note in work.notes if note.curve}
    assert list(curves) == list(found.groups) == ["0.weight", "2.weight"]
    for at, (name, curve) in enumerate(curves.items()):
        assert curve.points == ((0.0, found.whole), *zip(step.ratios, found.errors[at], strict=True))
        before, after = net.slot(name)().shape[0], out.slot(name)().shape[0]
        assert curve.taken == 1 - after / before and "calibration" in curve.of


def with_dead(layer: int, share: float) -> Net:
    """Return the multilayer perceptron in which a share of one layer's units does nothing."""
    net = small_mlp()
    name, after = f"{layer}.weight", f"{layer + 2}.weight"
    weight, reads = net.slot(name)().detach().clone(), net.slot(after)().detach().clone()
    dead = int(share * len(weight))
    weight[:dead] *= 1e-3
    reads[:, :dead] = 0
    net.set_slot(name, Free(weight))
    net.set_slot(after, Free(reads))
    return net.eval()


@pytest.mark.parametrize("layer", [0, 2])
def test_the_planted_robust_layer_loses_more(layer: int) -> None:
    net = with_dead(layer, 0.75)
    work = labelled(net)
    thinning = thinning_of(net, L1(), work)
    step = Sensitivity(0.02)
    gone = step.counts(thinning, scan(thinning, step.ratios, error_by("metric", work)))
    shares = [n / len(g) for n, g in zip(gone, thinning.groups, strict=True)]
    robust, other = (0, 1) if layer == 0 else (1, 0)
    assert shares[robust] >= 0.6 and shares[other] < 0.3
    out = step.apply(net, work)
    assert out.slot(f"{layer}.weight")().shape[0] == len(thinning.groups[robust]) - gone[robust]


def test_a_budget_is_met_and_what_fits_stays() -> None:
    net, work = pooled(0), on_digits(0)
    out = Sensitivity(budget=0.5, judge="loss").apply(net, work)
    assert 0.45 * macs(net) < macs(out) <= 0.5 * macs(net)
    with pytest.raises(BadInput, match="takes more than the ratio"):
        Sensitivity(budget=0.1, ratios=(0.1,)).apply(net, work)


@pytest.mark.parametrize(
    "wrong", [{"max_drop": 2.0}, {"judge": "luck"}, {"ratios": (0.5, 0.1)}, {"ratios": (0.0, 0.1)}]
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Sensitivity(**wrong)


def test_the_loss_of_a_judge_is_the_cross_entropy() -> None:
    net = small_mlp().eval()
    work = labelled(net)
    x, y = work.use("calib")
    assert error_by("loss", work)(net) == pytest.approx(float(torch.nn.functional.cross_entropy(net(x), y)))
    assert error_by("metric", work)(net) == 0
