"""Every disease is planted by itself, and has to be ranked first, in the right words, with a gain near the truth."""

import json

import pytest
import torch
from tests.diagnose.planted import CONV1, CONV2, FULL, LAST, pictures, rescaled, rounded, trained, uneven
from torch import nn

from paredown.core.diagnosis import Diagnosis
from paredown.core.errors import BadInput
from paredown.diagnose.drop import Bounds, diagnose
from paredown.graph.capture import capture
from paredown.graph.slots import Codebook, Free, Grid
from paredown.train.data import Data
from paredown.train.evaluate import scores


def found(quantized, given=None, **more):
    return diagnose(quantized, given or trained(), pictures()[1], "test", **more)


def accuracy(net):
    test = pictures()[1]
    return float((scores(net, test).argmax(1) == test.y.numpy()).mean())


def first(diagnosis, kind, layer, share=0.9):
    """Check the first cause, and that undoing it gives nearly everything back, as the networks themselves say."""
    assert diagnosis.dropped and diagnosis.float_accuracy == pytest.approx(accuracy(trained()), abs=0.005)
    cause = diagnosis.causes[0]
    assert (cause.kind, cause.layer) == (kind, layer), [(c.kind, c.layer) for c in diagnosis.causes]
    assert cause.best.gain.share > share
    drop = diagnosis.float_accuracy - diagnosis.accuracy
    assert cause.best.gain.accuracy == pytest.approx(drop, abs=0.012) and cause.best.gain.low > 0
    assert cause.text in diagnosis.verdict and diagnosis.verdict.startswith("Accuracy fell from")
    assert diagnosis.together[-1].accuracy >= diagnosis.float_accuracy - 0.012
    return cause


def test_uneven_channels_under_one_step():
    net = uneven(trained())
    cause = first(found(rounded(net, bits=8, granularity="tensor"), net), "channel_ranges", "layer 0")
    ratio = found(rounded(net, bits=8, granularity="tensor"), net).layers[0]
    assert (
        f"one step for 8 channels whose ranges differ {ratio.ranges_ratio:,.0f} times" in cause.text
        and ratio.ranges_ratio > 500
    )
    assert "round to zero" in cause.text and ratio.zeroed > 0
    assert cause.best.what == "edit.equalize before the rounding" and cause.best.bytes == 0
    assert "granularity: channel" in cause.remedy and "edit.equalize" in cause.remedy
    assert cause.undone[0].what == "one step for each channel" and cause.undone[0].bytes == 4 * 7  # seven more steps


def test_values_cut_off_by_a_narrow_range():
    quantized = rescaled(rounded(trained(), bits=8, activation_bits=8), "relu_quantized", 0.08)
    cause = first(found(quantized), "clipped_values", "relu")
    assert "are cut off: the range is [0, 0.187]" in cause.text and "read by layer 2" in cause.text
    assert "wider range" in cause.remedy and cause.best.what == "a range that holds all values"


def test_levels_that_nothing_uses():
    quantized = rescaled(rounded(trained(), bits=8, activation_bits=8), "relu_quantized", 170.0)
    cause = first(found(quantized), "dead_levels", "relu")
    assert "only 3 of 256 levels are used" in cause.text


def test_outliers_that_stretch_a_range():
    """One feature that no layer reads is large in a few samples: it takes the whole range."""
    net = trained()
    test = pictures()[1]
    with torch.no_grad():
        weight, bias = net.slot(FULL).value, net.slot("6.bias").value
        weight[5] = 0
        weight[5, 7] = 900.0
        bias[5] = -900.0 * quantile(net, test, 7)
        net.slot(LAST).value[:, 5] = 0
    cause = found(rounded(net, bits=8, activation_bits=8), net).causes[0]
    assert (cause.kind, cause.layer) == ("outlier_values", "relu_2") and cause.best.gain.share > 0.8
    assert "outliers stretch the range" in cause.text and "percentile" in cause.remedy
    assert any(way.what.startswith("a range without the outliers") for way in cause.undone)


def quantile(net, data, feature):
    seen = {}
    net.run(data.x, watch=lambda node, value: seen.__setitem__(node.name, value))
    return float(seen["flatten"][:, feature].quantile(0.97))


def test_rounding_that_always_goes_down_shifts_the_mean():
    quantized = rounded(trained(), bits=8)
    step = rounded(trained(), bits=4).slot(FULL).step
    codes = (trained().slot(FULL)().detach() / step).floor().clamp(-8, 7)
    quantized.set_slot(FULL, Grid(codes, step, 4))
    cause = first(found(quantized), "mean_shift", "layer 6")
    assert cause.best.what == "its bias corrected (quantize.correct_bias)" and cause.remedy == "quantize.correct_bias"
    assert cause.best.bytes == 0 and "of its error is the same for all samples" in cause.text


def test_one_layer_of_two_bits_among_eight():
    quantized = rounded(trained(), bits=8)
    quantized.set_slot(CONV2, rounded(trained(), bits=2).slot(CONV2))
    cause = first(found(quantized), "few_bits", "layer 2")
    assert "2 bits are few" in cause.text and "more bits" in cause.remedy
    assert {"4 bits for it", "8 bits for it", "its float weights"} <= {way.what for way in cause.undone}
    eight = next(way for way in cause.undone if way.what == "8 bits for it")
    assert eight.bytes == 16 * 8 * 9 * (8 - 2) / 8


def test_weights_cut_off_and_codes_that_nothing_uses():
    quantized, held = rounded(trained(), bits=8), rounded(trained(), bits=4)
    weight = trained().slot(CONV2)().detach()
    for factor, kind, said in (
        (0.15, "clipped_weights", "are cut off: the grid ends at"),
        (6.0, "dead_codes", "of 16 codes are used"),
    ):
        step = held.slot(CONV2).step * factor
        quantized.set_slot(CONV2, Grid((weight / step).round().clamp(-8, 7), step, 4))
        cause = found(quantized).causes[0]
        assert (cause.kind, cause.layer) == (kind, "layer 2") and said in cause.text
        assert cause.undone[0].bytes == 0 and cause.undone[0].gain.share > 0.8


def test_weights_of_one_bit_and_shared_values_are_seen_too():
    quantized, weight = rounded(trained(), bits=8), trained().slot(CONV2)().detach()
    size = weight.abs().mean((1, 2, 3), keepdim=True)
    quantized.set_slot(CONV2, Grid((weight >= 0) * 2 - 1, size, 1))
    cause = found(quantized).causes[0]
    assert (cause.kind, cause.layer) == ("few_bits", "layer 2") and "1 bit is few for it" in cause.text
    table = torch.linspace(float(weight.min()), float(weight.max()), 4)
    quantized.set_slot(CONV2, Codebook((weight.unsqueeze(-1) - table).abs().argmin(-1), table))
    diagnosis = found(quantized)
    assert diagnosis.causes[0].kind == "few_values" and diagnosis.layers[1].codes == 4
    assert diagnosis.causes[0].best.gain.share > 0.9


def test_a_sound_network_of_eight_bits_has_nothing_wrong_with_it():
    diagnosis = found(rounded(trained(), bits=8, activation_bits=8))
    assert not diagnosis.dropped and diagnosis.causes == () and diagnosis.together == ()
    assert diagnosis.verdict.startswith("Nothing dropped beyond the noise")
    assert all(row.local_db > 40 and row.accumulated_db > 35 for row in (*diagnosis.layers, *diagnosis.activations))
    assert [row.place for row in diagnosis.layers] == ["first layer", "", "", "last layer"]


def test_weights_that_were_trained_on_are_not_blamed_on_the_rounding():
    older, newer = trained(), trained()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in (CONV1, CONV2, FULL, LAST):
            value = newer.slot(name).value
            value.add_(0.6 * value.std() * torch.randn(value.shape, generator=draw))
    quantized = rounded(newer, bits=8)
    plain = found(quantized, older)
    assert [c.kind for c in plain.causes] == ["training"] and "most of their change is the training's" in plain.causes[
        0
    ].text
    known = {name: newer.slot(name)().detach() for name in (CONV1, CONV2, FULL, LAST)}
    told = found(quantized, older, unrounded=known)
    assert told.causes[0].kind == "training" and told.causes[0].text.startswith("the training, not the rounding")
    assert told.causes[0].best.gain.accuracy == pytest.approx(accuracy(older) - accuracy(newer), abs=1e-6)
    assert all(row.local_db > 40 for row in told.layers)


def test_the_work_is_bounded_and_what_is_left_is_said():
    quantized = rounded(trained(), bits=2, granularity="tensor")
    seen = []
    short = found(quantized, bounds=Bounds(samples=100, suspects=1, told=seen.append))
    assert short.n == 100 and len(short.causes) <= 1 and short.unmeasured == 3
    assert all(0 <= event["progress"] <= 1 and event["doing"].startswith("undoing") for event in seen) and seen
    assert found(quantized, bounds=Bounds(allowance_s=1e-6)).unmeasured == 4


def test_a_diagnosis_survives_json_and_no_number_is_infinite():
    diagnosis = found(rounded(trained(), bits=2, activation_bits=4, bias_bits=6))
    text = json.dumps(diagnosis.to_json(), allow_nan=False)
    assert Diagnosis.of_json(json.loads(text)) == diagnosis


def test_neither_network_is_changed():
    given, quantized = trained(), rounded(trained(), bits=3, activation_bits=8)
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (given, quantized)]
    specs = given.spec, quantized.spec
    found(quantized, given)
    for net, was in zip((given, quantized), before, strict=True):
        assert all(torch.equal(value, was[key]) for key, value in net.state_dict().items())
    assert (given.spec, quantized.spec) == specs


def test_what_cannot_be_compared_is_refused_in_one_line():
    with pytest.raises(BadInput, match="nothing in this network is quantized"):
        found(trained())
    other = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.rand(2, 1, 8, 8))
    with pytest.raises(BadInput, match="no layer"):
        found(rounded(trained(), bits=8), other)
    with pytest.raises(BadInput, match="do not run on samples"):
        test = pictures()[1]
        diagnose(rounded(trained(), bits=8), trained(), Data(test.x[:, :, :3], test.y), "test")


def test_layers_that_were_cut_are_named_and_left_out():
    net = trained()
    small = trained()
    small.set_slot(LAST, Free(net.slot(LAST)().detach()[:, :20]))
    small.set_slot(FULL, Free(net.slot(FULL)().detach()[:20]))
    small.set_slot("6.bias", Free(net.slot("6.bias")().detach()[:20]))
    diagnosis = found(rounded(small, bits=8), net)
    assert any(
        "layer 6: the float network's weight is 32×256, this one 20×256; it is left out" in n for n in diagnosis.notes
    )
