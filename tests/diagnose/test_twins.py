"""Twins: layers are found by name, or by order where a file renames them; norms fold; values are what they are called."""

import pytest
import torch
from tests.diagnose.planted import CONV2, pictures, trained
from tests.diagnose.planted import rounded as quantized_by
from torch import nn

from paredown.core.catalog import build
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.diagnose.drop import diagnose
from paredown.diagnose.errors import layer_errors, watch
from paredown.diagnose.twins import is_quantizer, twins
from paredown.diagnose.undo import all_activations, all_weights, clipped, rounded
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.slots import LearnedStep
from paredown.graph.unrounded import load_unrounded, save_unrounded, unrounded
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.clipped import least_squares_clip
from paredown.targets.container import write
from paredown.train.data import Data
from paredown.train.fit import fit
from paredown.verbs.score import network_of


def normed():
    torch.manual_seed(1)
    net = capture(
        nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10)),
        torch.rand(4, 1, 8, 8),
    )
    net.train()(pictures()[0].x[:64])
    return net.eval()


def test_the_plain_twin_is_the_float_network_also_where_norms_were_folded():
    net, x = normed(), pictures()[1].x[:50]
    folded = build({"part": "edit.fold_batchnorm"}).apply(net, Work())
    both = twins(quantized_by(folded, bits=8, activation_bits=8), net)
    assert not any(map(is_quantizer, both.plain.spec.nodes)) and not both.trained and not both.unlike
    torch.testing.assert_close(both.plain(x), net(x), rtol=1e-4, atol=1e-4)
    undone = all_activations(both).make(all_weights(both).make(both.quantized))
    torch.testing.assert_close(undone(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_file_that_renames_everything_gives_the_same_diagnosis(tmp_path):
    test, quantized = pictures()[1], quantized_by(trained(), bits=3, activation_bits=8, bias_bits=6)
    for name, net in (("q", quantized), ("f", trained())):
        (tmp_path / f"{name}.pdn").write_bytes(write(freeze(net))[0])
    here = diagnose(quantized, trained(), test, "test")
    there = diagnose(network_of(tmp_path / "q.pdn"), network_of(tmp_path / "f.pdn"), test, "test")
    mixed = diagnose(network_of(tmp_path / "q.pdn"), trained(), test, "test")
    for found in (there, mixed):
        assert [row.local_db for row in found.layers] == pytest.approx([row.local_db for row in here.layers], rel=1e-3)
        assert [cause.kind for cause in found.causes] == [cause.kind for cause in here.causes]
    assert [row.name for row in mixed.layers] == ["layer 0", "layer 2", "layer 6", "layer 8"]


def test_local_errors_are_those_of_one_layer_alone():
    quantized, x = quantized_by(trained(), bits=4), pictures()[1].x[:100]
    both = twins(quantized, trained())
    row = layer_errors(both, watch(both, x))[1]
    single = trained()
    single.set_slot(CONV2, quantized.slot(CONV2))
    seen = []
    for net in (trained(), single):
        net.run(x, watch=lambda node, value: seen.append(value.detach().double()) if node.name == row.node else None)
    error = 10 * torch.log10(seen[0].square().sum() / (seen[1] - seen[0]).square().sum())
    assert row.local_db == pytest.approx(float(error), abs=1e-4)
    weight = trained().slot(CONV2)().double()
    noise = (quantized.slot(CONV2)().double() - weight).square().sum()
    assert row.weight_db == pytest.approx(float(10 * torch.log10(weight.square().sum() / noise)), abs=1e-4)


def test_other_roundings_are_those_of_the_methods():
    weight = trained().slot(CONV2)().detach()
    torch.testing.assert_close(rounded(weight, 4, True)(), quantized_by(trained(), bits=4).slot(CONV2)())
    ours, best = clipped(weight, 3, True), least_squares_clip(weight.flatten(1), 3)
    torch.testing.assert_close(ours.step.flatten() * 3, best.flatten(), rtol=0.06, atol=0)


def test_values_before_rounding_are_kept_and_belong_to_one_network_only(tmp_path):
    net, train = trained(), pictures()[0]
    net.set_slot(CONV2, LearnedStep(net.slot(CONV2)().detach(), 4, torch.tensor(0.05)))
    fit(net, Data(train.x[:256], train.y[:256]), CrossEntropy(), plan=Plan(epochs=1, lr=1e-3))
    values = unrounded(net)
    assert list(values) == [CONV2]
    save_unrounded(values, tmp_path)
    assert torch.equal(load_unrounded(tmp_path)[CONV2], values[CONV2]) and load_unrounded(tmp_path / "none") == {}
    held = net.copy()
    held.set_slot(CONV2, net.slot(CONV2).held())
    both = twins(held, trained(), values)
    assert both.unrounded and torch.equal(both.plain.slot(CONV2)(), values[CONV2])
    assert not twins(held, trained(), {CONV2: values[CONV2] + 1}).unrounded


def test_what_was_trained_with_its_norm_is_kept_at_the_scale_of_the_folded_weight():
    net, kept = normed(), {}
    train = pictures()[0]

    def fitting(learning, loss, habits, plan):
        fit(learning, Data(train.x[:256], train.y[:256]), loss, habits, plan)
        kept.update(unrounded(learning))

    work = Work({"fit": fitting, "calib": (train.x[:64], train.y[:64])})
    quantized = build({"part": "quantize.aware", "bits": 4, "plan": {"epochs": 1}}).apply(net, work)
    both = twins(quantized, net, kept)
    assert both.unrounded and len(kept) == 2
    assert all(row.codes_used > 4 and row.moved == 0 for row in layer_errors(both, watch(both, pictures()[1].x[:64])))
