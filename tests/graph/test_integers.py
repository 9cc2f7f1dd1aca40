"""Integer-only inference: part E 12's numbers, and every output code against ONNX Runtime's (A-S4-24, A-S0-15)."""

from fractions import Fraction
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from paredown.core.errors import BadInput
from paredown.graph.integers import (
    IntegerLayer,
    absorbed_bias,
    by_fixed_point,
    conv2d,
    fixed_multiplier,
    linear,
)


def test_the_papers_fixed_point_factor() -> None:
    """M = 0.0072 = 0.9216 · 2^−7; M0 in Q31 is 1,979,120,930."""
    whole, shift = fixed_multiplier(0.0072)
    assert (whole, shift) == (1_979_120_930, 7) and whole / 2**31 == pytest.approx(0.9216)


@given(st.floats(1e-9, 1e3))
@settings(max_examples=200, deadline=None)
def test_a_factor_is_a_normal_fraction_and_a_shift(real: float) -> None:
    whole, shift = fixed_multiplier(real)
    assert 2**30 <= whole < 2**31 and whole * 2.0 ** (-31 - shift) == pytest.approx(real, rel=2**-30)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_other_factors_are_refused(wrong: float) -> None:
    with pytest.raises(BadInput, match="factor"):
        fixed_multiplier(wrong)


@given(st.integers(-(2**24), 2**24), st.floats(1e-6, 4.0))
@settings(max_examples=300, deadline=None)
def test_fixed_point_is_the_exact_product_rounded(total: int, real: float) -> None:
    """Within one half, and the first rounding's 2^−shift / 2, of the exact rational product."""
    whole, shift = fixed_multiplier(real)
    found = int(by_fixed_point(np.array([total], np.int32), np.array([whole]), np.array([shift]))[0])
    exact = Fraction(total) * Fraction(whole, 2**31) / Fraction(2) ** shift
    assert abs(found - exact) <= Fraction(1, 2) + Fraction(1, 2) / 2 ** max(shift, 0)


def run(op: str, inputs: dict[str, np.ndarray], outputs: int, **attributes: Any) -> np.ndarray:
    """Return ONNX Runtime's output of one quantized operator. inputs: by name, in order; `x` is fed, the others stored."""
    kinds = {np.dtype(np.int8): TensorProto.INT8, np.dtype(np.uint8): TensorProto.UINT8}
    stored = [numpy_helper.from_array(v, k) for k, v in inputs.items() if k != "x"]
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", kinds[inputs["x"].dtype], inputs["x"].shape)],
        [helper.make_tensor_value_info("y", kinds[inputs["y_zero"].dtype], [None] * outputs)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": inputs["x"]})[0]


CONVOLUTIONS = [
    ({}, (4, 3, 3, 3), 3),
    ({"stride": (2, 2), "padding": (1, 1)}, (5, 3, 3, 3), 3),
    ({"padding": (2, 1), "dilation": (2, 1)}, (4, 6, 3, 2), 6),
    ({"groups": 6, "padding": (1, 1)}, (6, 1, 3, 3), 6),
    ({"groups": 2}, (8, 3, 1, 1), 6),
]


def convolution(
    seed: int, shape: tuple, channels: int, kind: type, rounding: str
) -> tuple[np.ndarray, IntegerLayer, dict]:
    """Return (x, layer, the operands as ONNX wants them) of a random convolution whose outputs use all codes."""
    draw = np.random.default_rng(seed)
    info = np.iinfo(kind)
    x = draw.integers(info.min, info.max + 1, (3, channels, 9, 8)).astype(kind)
    weight = draw.integers(-64, 64, shape).astype(np.int8)  # 7 bits: some kernels saturate pairs of 8-bit products
    scales = draw.uniform(0.001, 0.01, shape[0]).astype(np.float32)
    x_scale, y_scale = np.float32(0.02), np.float32(0.02 * 0.006 * 30 * np.sqrt(np.prod(shape[1:])))
    zeros = (int(draw.integers(info.min, info.max)), int(draw.integers(info.min // 2, info.max // 2 + 1)))
    bias = draw.integers(-5000, 5000, shape[0]).astype(np.int32)
    layer = IntegerLayer(weight, x_scale * scales / y_scale, bias, zeros, 0, kind, rounding)
    operands = {"x": x, "x_scale": x_scale, "x_zero": np.array(zeros[0], kind), "w": weight, "w_scale": scales,
                "w_zero": np.zeros(shape[0], np.int8), "y_scale": y_scale, "y_zero": np.array(zeros[1], kind),
                "bias": bias}  # fmt: skip
    return x, layer, {k: np.asarray(v) for k, v in operands.items()}


def peer(operands: dict, how: dict) -> np.ndarray:
    pads = [*how.get("padding", (0, 0))] * 2
    return run(
        "QLinearConv", operands, 4, strides=how.get("stride", (1, 1)), pads=pads,
        dilations=how.get("dilation", (1, 1)), group=how.get("groups", 1),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_a_convolution_is_onnx_runtimes_in_every_code(case: int, kind: type) -> None:
    how, shape, channels = CONVOLUTIONS[case]
    for seed in range(4):
        x, layer, operands = convolution(seed, shape, channels, kind, "float")
        ours = conv2d(x, layer, **how)
        assert ours.dtype == kind and len(np.unique(ours)) > 40
        np.testing.assert_array_equal(ours, peer(operands, how))


def test_with_integers_alone_only_near_ties_differ_by_one() -> None:
    """The mismatches explained: a code differs only where the exact value lies within 1 % of a step of a half."""
    how, shape, channels = CONVOLUTIONS[1]
    differing = total = 0
    for seed in range(20):
        x, layer, operands = convolution(seed, shape, channels, np.int8, "fixed")
        ours, theirs = conv2d(x, layer, **how).astype(int), peer(operands, how).astype(int)
        wide = IntegerLayer(layer.weight, np.float32(1), layer.bias, layer.zeros, 0, np.int32)
        exact = (conv2d(x, wide, **how) - layer.zeros[1]) * layer.factor.astype(float).reshape(-1, 1, 1)
        off = ours != theirs
        assert (np.abs(ours - theirs) <= 1).all()
        assert (np.abs(np.abs(exact[off] % 1) - 0.5) < 0.01).all()
        differing, total = differing + int(off.sum()), total + off.size
    assert differing < 0.005 * total


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_a_linear_layer_is_onnx_runtimes_in_every_code(kind: type) -> None:
    for seed in range(6):
        draw = np.random.default_rng(seed)
        info = np.iinfo(kind)
        x = draw.integers(info.min, info.max + 1, (7, 33)).astype(kind)
        middle = 0 if kind is np.int8 else 64
        weight = (draw.integers(-64, 64, (12, 33)) + middle).astype(kind)
        weight_zero = int(draw.integers(-5, 6)) + middle
        zeros = (int(draw.integers(info.min + 99, info.max - 99)), int(draw.integers(info.min + 99, info.max - 99)))
        scales = np.float32([0.02, 0.004, 0.11])
        layer = IntegerLayer(weight, scales[0] * scales[1] / scales[2], None, zeros, weight_zero, kind)
        operands = {"x": x, "x_scale": scales[0], "x_zero": np.array(zeros[0], kind), "w": weight.T.copy(),
                    "w_scale": scales[1], "w_zero": np.array(weight_zero, kind), "y_scale": scales[2],
                    "y_zero": np.array(zeros[1], kind)}  # fmt: skip
        ours = linear(x, layer)
        assert len(np.unique(ours)) > 10
        np.testing.assert_array_equal(ours, run("QLinearMatMul", {k: np.asarray(v) for k, v in operands.items()}, 2))


@pytest.mark.parametrize("rounding", ["float", "fixed"])
def test_the_pipeline_is_fake_quantization_within_one_code(rounding: str) -> None:
    """A-S0-15: the integers against a convolution of the dequantized values, in float64."""
    how, shape, channels = CONVOLUTIONS[1]
    for seed in range(5):
        x, layer, o = convolution(seed, shape, channels, np.uint8, rounding)
        real = torch.from_numpy((x.astype(float) - layer.zeros[0]) * float(o["x_scale"]))
        weight = torch.from_numpy(layer.weight * o["w_scale"].astype(float).reshape(-1, 1, 1, 1))
        bias = torch.from_numpy(layer.bias * o["w_scale"].astype(float) * float(o["x_scale"]))
        wanted = torch.nn.functional.conv2d(real, weight, bias, stride=2, padding=1) / float(o["y_scale"])
        codes = (wanted.round() + layer.zeros[1]).clamp(0, 255).numpy()
        assert np.abs(conv2d(x, layer, **how) - codes).max() <= 1


def test_the_input_zero_point_goes_into_the_bias() -> None:
    """Jacob et al. 2018, equation 7: Σ q_w (q_x − Z_x) + q_b = Σ q_w q_x + (q_b − Z_x Σ q_w)."""
    x, layer, _ = convolution(0, (4, 3, 3, 3), 3, np.uint8, "float")
    folded = IntegerLayer(layer.weight, layer.factor, absorbed_bias(layer), (0, layer.zeros[1]), 0, np.uint8)
    np.testing.assert_array_equal(conv2d(x, layer), conv2d(x, folded))


def test_ties_go_to_the_even_code_as_in_onnx_runtime() -> None:
    """With a factor of one half every odd sum is a tie."""
    x = np.arange(-60, 60, dtype=np.int8).reshape(-1, 1)
    layer = IntegerLayer(np.ones((1, 1), np.int8), np.float32(0.5))
    operands = {"x": x, "x_scale": np.float32(1), "x_zero": np.int8(0), "w": layer.weight, "w_scale": np.float32(1),
                "w_zero": np.int8(0), "y_scale": np.float32(2), "y_zero": np.int8(0)}  # fmt: skip
    ours = linear(x, layer)
    np.testing.assert_array_equal(ours, run("QLinearMatMul", {k: np.asarray(v) for k, v in operands.items()}, 2))
    assert ours[[61, 63, 65], 0].tolist() == [0, 2, 2]
    fixed = linear(x, IntegerLayer(layer.weight, np.float32(0.5), rounding="fixed"))
    assert fixed[[61, 63, 59, 57], 0].tolist() == [1, 2, 0, -1]
