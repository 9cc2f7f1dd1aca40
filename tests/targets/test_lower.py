"""Every operator that can be written as ONNX computes there what it computes in torch."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from op_cases import CASES, call
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Frozen
from paredown.graph.net import Net
from paredown.graph.ops import OPS
from paredown.graph.spec import Node, Spec, Value
from paredown.targets.lower import LOWERINGS, build
from paredown.targets.runtime import predictor, session


def samples(shape: tuple[int, ...], count: int) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(count))


@functools.cache
def captured(name: str) -> Net:
    module, shape = CASES[name]
    return capture(module, samples(shape, 2)).eval()


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_torch_computes(name: str) -> None:
    module, shape = CASES[name]
    predict = predictor(build(freeze(captured(name))))
    for count in (1, 2, 5):
        x = samples(shape, count)
        with torch.no_grad():
            wanted = module.eval()(x).numpy()
        got = predict(x.numpy())
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


def test_every_lowering_is_compared() -> None:
    """The cases above, between them, reach every operator that has a lowering."""
    reached = {node.op for name in CASES for node in captured(name).spec.nodes}
    assert not set(LOWERINGS) - reached and set(LOWERINGS) <= set(OPS)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.pixel_unshuffle(x, 2),
        lambda x: 1 - x,
    ],
)
def test_an_operator_without_a_lowering_is_named(function: Callable[[Tensor], Tensor]) -> None:
    net = capture(call(function), samples((2, 4, 4), 2))
    unknown = next(node.op for node in net.spec.nodes if node.op not in LOWERINGS)
    with pytest.raises(BadInput, match=unknown.replace(".", r"\.")):
        build(freeze(net))


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("adaptive_max_pool2d", {"output_size": [4, 4]}),
        ("adaptive_avg_pool2d", {"output_size": [0, 0]}),
        ("avg_pool2d", {"kernel_size": [2, 2], "ceil_mode": True, "divisor_override": 3}),
        ("fake_quantize_per_tensor_affine", {"scale": 0.1, "zero_point": 0, "quant_min": -1, "quant_max": 255}),
        ("max_pool2d", {"kernel_size": ["a"]}),
        ("max_pool2d", {"kernel_size": [0, 0]}),
        ("permute", {"dims": [0, 0, 0, 0]}),
        ("permute", {"dims": None}),
        ("reshape", {"shape": [7, 7, 7]}),
        ("cat", {"tensors": []}),
        ("softmax.int", {"dim": 9}),
        ("pad", {"pad": [1], "mode": "nowhere"}),
        ("mul.Tensor", {"other": Value("nobody")}),
        ("getitem", {"index": "t"}),
        ("chunk", {"chunks": 0}),
    ],
)
def test_arguments_that_make_no_sense_are_bad_input(op: str, args: dict) -> None:
    args = args if op == "cat" else {"self": Value("x"), **args}
    spec = Spec.__new__(Spec)  # past Spec's own checks, as no file can be
    object.__setattr__(spec, "inputs", (("x", (2, 6, 6)),))
    object.__setattr__(spec, "nodes", (Node("y", op, args),))
    object.__setattr__(spec, "output", Value("y"))
    with pytest.raises(BadInput) as error:
        predictor(build(Frozen(spec, {})))(np.ones((1, 2, 6, 6), np.float32))
    assert "\n" not in str(error.value)


class Names(nn.Module):
    """Inputs and outputs with the names that a model's own values have."""

    def forward(self, t0: Tensor, c0: Tensor) -> dict[str, object]:
        both = t0 + 2 * c0
        return {"t0": both, "not a name": (F.relu(both), [both * 3]), "scores": both - 1, "": both / 2}


def test_all_outputs_are_there_whatever_they_are_called() -> None:
    x, y = samples((3,), 2), samples((3,), 2) - 1
    model = build(freeze(capture(Names(), (x, y))))
    run = session(model)
    names = [i.name for i in run.get_inputs()]
    got = run.run(None, dict(zip(names, (x.numpy(), y.numpy()), strict=True)))
    both = x + 2 * y
    for value, wanted in zip(got, (both, F.relu(both), both * 3, both - 1, both / 2), strict=True):
        np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-6)
    assert "scores" in [o.name for o in run.get_outputs()]


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_factor_that_moves_the_picture_and_leaves_its_size_is_refused(mode: str) -> None:
    """ONNX Runtime would return the picture as it is."""
    net = capture(call(lambda x: F.interpolate(x, scale_factor=1.05, mode=mode)), samples((2, 6, 6), 2))
    with pytest.raises(BadInput, match="to the size there is; give the size instead"):
        build(freeze(net))


def test_repeating_samples_as_often_as_there_are_is_refused() -> None:
    net = capture(call(lambda x: x.repeat(x.shape[0], 1).reshape(x.shape[0], -1, 3)), samples((3,), 2))
    with pytest.raises(BadInput, match="as often as the batch is large"):
        build(freeze(net))


def test_uneven_windows_are_two_products() -> None:
    """One for each side that changes, with rows that sum to 1."""
    model = build(freeze(captured("adaptive2d parts")))
    assert [node.op_type for node in model.graph.node].count("MatMul") == 2
    shares = [numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 2]
    assert sorted(s.shape for s in shares) == [(4, 6), (7, 3)]
    for matrix, along in zip(shares, (0, 1), strict=True):
        np.testing.assert_allclose(matrix.sum(along), 1, rtol=1e-6)


def test_the_batch_size_as_a_number_is_refused() -> None:
    spec = Spec(
        (("x", (3,)),),
        (
            Node("n", "sym_size.int", {"self": Value("x"), "dim": 0}),
            Node("y", "mul.Tensor", {"self": Value("x"), "other": Value("n")}),
        ),
        Value("y"),
    )
    with pytest.raises(BadInput, match="batch size"):
        build(Frozen(spec, {}))
