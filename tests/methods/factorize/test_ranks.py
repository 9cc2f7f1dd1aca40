"""Ranks chosen by measured errors: the best sum within a budget, the cheapest network within a drop."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contracts.digits_task import digits, mlp
from contracts.judged import JudgedStepContract, labelled, on_digits
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pooled
from contracts.step import macs, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.methods.factorize.ranks import Ranks, ranks_of, scan
from paredown.methods.factorize.svd import Svd
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestRanks(JudgedStepContract):
    def part(self) -> Ranks:
        return Ranks(0.7)

    def settings(self) -> list[Any]:
        return [Ranks(), Ranks(0.0, 0.02, judge="metric"), Ranks(cost="macs", shares=(0.25, 0.5), whiten=False)]


def test_ranks_are_those_that_save_weights() -> None:
    assert ranks_of((10, 20), (0.1, 0.3, 0.31, 0.999)) == (2, 6)
    assert ranks_of((3, 2), (0.5,)) == () and ranks_of((4, 4), (0.99,)) == (1,)


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_no_choice_within_the_budget_has_less_harm(cost: str) -> None:
    """Every combination, enumerated; the cost is that of the network that comes out."""
    for net in (small_mlp().eval(), small_conv().eval()):
        work, step = labelled(net), Ranks(0.6, cost=cost, shares=(0.2, 0.5, 0.8))
        made, ranks = step.maker(net, work)
        curves = scan(ranks, made, (error_by("loss", work), priced(cost)))
        chosen = step.choose(curves, made, work)
        found = []
        for picks in itertools.product(*[range(len(row) + 1) for row in curves.ranks]):
            harm = sum(row[k] for row, k in zip(curves.rises, picks, strict=True) if k < len(row))
            saved = sum(row[k] for row, k in zip(curves.falls, picks, strict=True) if k < len(row))
            split = {n: r[k] for n, r, k in zip(curves.names, curves.ranks, picks, strict=True) if k < len(r)}
            if curves.whole[1] - saved <= 0.6 * curves.whole[1]:
                found.append((harm, split))
        least = min(found, key=lambda item: item[0])[0]
        mine = sum(
            row[r.index(chosen[n])]
            for n, r, row in zip(curves.names, curves.ranks, curves.rises, strict=True)
            if n in chosen
        )
        assert mine == pytest.approx(least, abs=1e-5)
        out = step.apply(net, work)
        assert {"params": params, "macs": macs}[cost](out) <= 0.6 * {"params": params, "macs": macs}[cost](net)


def test_on_digits_it_harms_less_than_one_share_for_all() -> None:
    for seed in range(3):
        for net in (mlp(seed), pooled(seed)):
            work = digits_work(seed, net)
            error = error_by("loss", work)
            one = Svd("params", 0.4).apply(net, Work()).eval()
            budget = params(one) / params(net)
            out = Ranks(budget).apply(net, work).eval()
            assert params(out) <= params(one)
            assert error(out) <= error(one), (seed, error(out), error(one))


def digits_work(seed: int, net: Net) -> Work:
    """Return services on the digits in the shape that a network wants."""
    if len(net.spec.inputs[0][1]) > 1:
        return on_digits(seed)
    train = digits(seed)[0]
    return Work({"calib": (train.x[:256], train.y[:256]), "evaluate": on_digits(seed).services["evaluate"]})


def test_within_a_drop_it_is_the_cheapest_that_was_judged() -> None:
    net, work = pooled(0), on_digits(0)
    error = error_by("loss", work)
    sizes = []
    for drop in (0.0, 0.02, 0.5):
        out = Ranks(0.0, drop).apply(net, work).eval()
        assert error(out) <= error(net) + drop
        sizes.append(params(out))
    assert sizes[0] >= sizes[1] >= sizes[2] and sizes[2] < params(net)


def test_budgets_out_of_reach_and_layers_that_cannot_be_split_are_named() -> None:
    net = small_mlp().eval()
    with pytest.raises(BadInput, match="least possible is"):
        Ranks(0.01).apply(net, labelled(net))
    with pytest.raises(BadInput, match="ascending"):
        Ranks(shares=(0.5, 0.2))
    torch.manual_seed(0)
    other = capture(
        nn.Sequential(nn.Conv1d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(48, 40), nn.Linear(40, 2)),
        torch.rand(1, 4, 8),
    )
    work = labelled(other.eval())
    out = Ranks(0.6, shares=(0.1, 0.3)).apply(other, work)
    said = {note.layer: note.text for note in work.notes}
    assert "grouped" in said["0.weight"] and "no share" in said["3.weight"] and "2.weight" not in out.slot_names()


def test_its_files_compute_it(tmp_path: Path) -> None:
    net, x = pooled(0), on_digits(0).services["calib"][0]
    out = Ranks(0.5).apply(net, on_digits(0)).eval()
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(x.numpy())
        assert np.allclose(got, out(x).detach().numpy(), atol=1e-4)
    assert not same(out(x), net(x), 1e-4)
