"""The expectation with a timer that counts: cutting a file, the cache, the sum, and each reason from its numbers."""

import json

import numpy as np
import onnx
import pytest

from paredown.core.cost import Estimate, Geometry, Layer, Measurement
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.fold import fold_batchnorm
from paredown.methods.prune.channels import Channels
from paredown.targets.classes import ANEW, SCHEMA, Book, Seen, in_turn, one_layer, seen, timed
from paredown.targets.expected import Expectation, Plan, Row, Side, Twin, expected
from paredown.targets.pieces import pieces
from paredown.targets.reasons import reasons, verdict
from paredown.targets.runtime import session
from paredown.verbs.expect import side
from paredown.zoo.resolve import network

NOW = "2026-01-01"


@pytest.fixture(scope="module")
def sides():
    """A small residual network before and after half of its channels went."""
    net = fold_batchnorm(network({"model": "resnet_8"}, (3, 16, 16), 10))[0].eval()
    return side(net), side(Channels(0.5).apply(net, Work()).eval())


def by_size(calls):
    """Return one millisecond for each class, 20 for the whole file, half a millisecond for a call, 1.5 for a chain of 50."""
    fixed = {"yardstick": 2.0, "empty": 0.5, "chain": 1.5, "whole": 20.0}
    return {name: [fixed.get(name, 1.5)] * 4 for name in calls}


def test_the_pieces_compute_what_the_file_does_and_name_every_layer(sides):
    before, _ = sides
    found = before.cut()
    assert {piece.label for piece in found} >= set(before.order)
    for piece in found:
        piece.call()()
    last = dict(found[-1].made)
    whole = session(before.model).run(None, dict(before.feeds))[0]
    assert any(np.array_equal(whole, value) for value in last.values())


def test_equal_nodes_are_one_class_and_others_are_not(sides):
    assert [piece.key for piece in sides[0].cut()] == [piece.key for piece in sides[0].cut()]
    draw = np.random.default_rng(1)
    inputs = [draw.random((1, 16, 8, side), dtype=np.float32) for side in (8, 8, 9)]
    keys = [one_layer(x, (16, 16, 3, 3), pads=[1, 1, 1, 1]).key for x in inputs]
    assert keys[0] == keys[1] != keys[2]
    assert one_layer(inputs[0], (16, 16, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]).key not in keys


def test_a_class_is_measured_once_in_all(sides):
    asked = []

    def counting(calls):
        asked.append(set(calls))
        return by_size(calls)

    book = Book(None)
    first = expected(*sides, "onnx", book, counting)
    again = expected(*sides, "onnx", book, counting)
    assert first.fresh == first.classes == len(book.known) and again.fresh == 0
    assert {"yardstick", "empty", "chain", "whole"} < asked[1] and len(asked[1]) == 4 + ANEW


def test_the_expectation_is_the_sum_of_classes_and_of_what_no_layer_takes(sides):
    found = expected(*sides, "onnx", Book(None), by_size)
    counts = [len(side.cut()) for side in sides]
    fixed = [0.5 + 0.02 * count for count in counts]
    assert found.fixed_ms == pytest.approx(fixed)
    rest, sizes = 20 - fixed[0] - counts[0], [sum(piece.bytes for piece in one.cut()) for one in sides]
    assert found.memory_ms == pytest.approx((rest, rest * sizes[1] / sizes[0]))
    assert found.before.value == pytest.approx(20)
    assert found.after.value == pytest.approx(fixed[1] + counts[1] + found.memory_ms[1])
    assert isinstance(found.ratio, Estimate) and isinstance(found.whole, Measurement)
    assert found.ratio.value == pytest.approx(20 / found.after.value)


def test_layers_that_take_longer_alone_than_the_whole_file_are_scaled_down(sides):
    found = expected(*sides, "onnx", Book(None), lambda calls: {**by_size(calls), "whole": [7.0] * 4})
    assert found.memory_ms == (0, 0) and found.before.value == pytest.approx(7)


def test_a_slow_hour_is_taken_out_by_the_yardstick(sides):
    book = Book(None)
    expected(*sides, "onnx", book, by_size)
    slow = expected(*sides, "onnx", book, lambda calls: {k: [2 * v for v in vs] for k, vs in by_size(calls).items()})
    assert slow.before.value == pytest.approx(40) and sum(r.before_ms for r in slow.rows) == pytest.approx(
        2 * len(sides[0].cut())
    )


def test_kept_classes_follow_what_a_few_of_them_take_now(sides):
    book, wanted = Book(None), {piece.key: piece for piece in sides[0].cut()}
    first = timed(book, wanted, {}, by_size)
    fixed = {"yardstick", "empty", "chain"}
    again = timed(
        book, wanted, {}, lambda calls: {k: [3.5] * 4 if k not in fixed else v for k, v in by_size(calls).items()}
    )
    assert set(first.ms.values()) == {1.0} and list(again.ms.values()) == pytest.approx([3.0] * len(wanted))


def test_the_cache_is_json_survives_and_is_built_again_when_damaged(tmp_path, sides):
    wanted = {piece.key: piece for piece in sides[0].cut()}
    book = Book(tmp_path)
    assert timed(book, wanted, {}, by_size).fresh == len(wanted)
    data = json.loads(book.path.read_text())
    assert data["schema"] == SCHEMA and set(data["classes"]) == set(wanted)
    assert not Book(tmp_path).missing(wanted)
    assert Book(tmp_path, runtime="another").missing(wanted) == wanted
    for text in ("{", '{"schema": "paredown/classes/9"}', json.dumps({**data, "classes": {"a": {"ms": -1}}}), "[]"):
        book.path.write_text(text)
        damaged = Book(tmp_path)
        assert damaged.missing(wanted) == wanted and "damaged" in damaged.damaged and str(book.path) in damaged.damaged
    timed(damaged, wanted, {}, by_size)
    assert not Book(tmp_path).missing(wanted)


def test_repeats_that_disagree_are_used_but_not_kept(tmp_path):
    book = Book(tmp_path)
    book.add({"a": seen([1.0, 1.0, 3.0, 3.0], 1.0), "b": seen([1.0] * 4, 1.0)})
    assert set(book.known) == {"a", "b"} and set(Book(tmp_path).known) == {"b"}


def test_in_turn_times_every_call_in_every_round():
    order = []
    found = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert order[:6] == ["a", "a", "a", "b", "b", "b"] and len(found["a"]) == len(found["b"]) >= 11
    assert all(value >= 0 for value in found["a"])


def test_other_runtimes_are_refused_before_anything_is_cut(sides):
    with pytest.raises(BadInput, match=r"'kernels'.*onnx, packed"):
        Plan.of(*sides, "kernels", Book(None))


def test_a_wider_twin_is_measured_for_layers_cut_to_odd_channels():
    net = fold_batchnorm(network({"model": "resnet_8"}, (3, 16, 16), 10))[0].eval()
    plan = Plan.of(side(net), side(Channels(0.3).apply(net, Work()).eval()), "onnx", Book(None))
    assert 1 <= len(plan.pairs) <= 3
    for own, wider, a, b in plan.pairs.values():
        assert own != wider and all(int(n) % 16 == 0 or int(n) <= 4 for n in wider.split(" to "))
        a.call()(), b.call()()


def test_pieces_of_a_file_that_runtimes_refuse(sides):
    broken = onnx.ModelProto()
    with pytest.raises(BadInput, match="refuses"):
        pieces(broken, sides[0].feeds)


def layer(name, kind, macs, weights=100, zeros=0):
    return Layer(name, "conv2d", kind, (1,), macs=macs, weights=weights, weights_nonzero=weights - zeros, geometry=Geometry(8, 8, (3, 3), (4, 4)))  # fmt: skip


def told(rows, before, after, **more):
    """Return the reasons about made-up rows, by what they are about, and the verdict."""
    total = [sum(row.before_ms for row in rows), sum(row.after_ms for row in rows)]
    values = [Estimate("latency_ms", value, "m", "1") for value in total]
    ratio = Estimate("speedup", total[0] / total[1], "m", "1")
    seen_ = Measurement("latency_ms", total[0], total[0], total[0], 4, "", "", NOW)
    fields = {"fixed_ms": (0.0, 0.0), "memory_ms": (0.0, 0.0), "twins": (), "classes": 3, "fresh": 3, **more}
    found = Expectation("onnx", *values, ratio, seen_, rows=tuple(rows), **fields)
    why = reasons(found, before, after)
    return {one.about: one for one in why}, verdict(found, why)


def made(layers, zeros=None, size=0):
    return Side(onnx.ModelProto(), {}, {one.name: one for one in layers}, (), zeros or {}, size)


def test_each_reason_comes_with_its_numbers():
    layers = [layer("a", "convolution", 900), layer("b", "depthwise", 100)]
    rows = [Row("a", 1.0, 1.0, 900, 900, untouched=True), Row("b", 3.0, 2.0, 100, 50)]
    why, line = told(
        rows, made(layers), made(layers), fixed_ms=(1.0, 1.0), twins=(Twin("b", "8 to 27", "8 to 32", 1.0, 1.0),)
    )
    assert set(why) == {"width", "untouched", "overhead", "memory", "macs"}
    assert why["untouched"].numbers == {"ms": 1.0, "share": 0.25} and "a 1e+03 µs" in why["untouched"].text
    assert why["overhead"].numbers["share"] == pytest.approx(1 / 3)
    assert why["memory"].numbers == pytest.approx({"macs_share": 0.1, "time_share": 0.75, "left": 2 / 3})
    assert "8 to 27 channels" in why["width"].text and "8 to 32" in why["width"].text
    assert line.startswith("expected 1.33 times as fast in ONNX Runtime here: 4 to 3 ms")


def test_masks_layouts_and_norms_are_named():
    layers = [layer("a", "convolution", 900)]
    rows = [Row("a", 4.0, 4.0, 900, 900, untouched=True), Row("(ReorderOutput)", 0.0, 1.0), Row("(BatchNormalization)", 1.0, 1.0)]  # fmt: skip
    why, line = told(rows, made(layers, size=500), made(layers, {"a": 0.5}, 300))
    assert {"masks", "layouts", "norms"} <= set(why)
    assert "500 to 300 bytes" in why["masks"].text and why["masks"].numbers["zeros"] == 50
    assert line.startswith("slower here (0.83 times") and ", because a mask is dense" in line


def test_a_narrower_layer_that_gains_is_not_blamed():
    rows = [Row("a", 4.0, 2.0, 900, 450)]
    why, _ = told(rows, made([]), made([]), twins=(Twin("a", "8 to 27", "8 to 32", 0.8, 1.0),))
    assert set(why) == {"macs"}


def test_a_kept_class_is_what_it_was():
    one = Seen(1.0, 0.9, 1.1, 4, 2.0, NOW)
    assert Book(None, known={"k": one}).known == {"k": one}
