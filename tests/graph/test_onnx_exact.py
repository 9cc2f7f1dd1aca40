"""Files that multiply in integers run with exact products; what would fail with them is left as it is."""

import numpy as np

from contracts.nets import small_conv
from paredown.core.work import Work
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.onnx_exact import exact_allowed
from paredown.methods.quantize.activations import Activations
from paredown.methods.quantize.uniform import Uniform
from paredown.targets.lower import build
from paredown.targets.runtime import predictor


def test_weights_alone_are_not_multiplied_in_integers() -> None:
    net = Uniform(bits=8).apply(fold_batchnorm(small_conv())[0], Work())
    model = build(freeze(net))
    (x,) = net.example(5)
    assert not exact_allowed(model)
    np.testing.assert_array_equal(predictor(model, exact=True)(x.numpy()), predictor(model)(x.numpy()))


def test_our_integers_are_and_only_with_zero_points() -> None:
    net = fold_batchnorm(small_conv())[0]
    (x,) = net.example(64)
    net = Uniform(bits=8).apply(net, Work())
    net = Activations().apply(net, Work({"calib": (x, None)}))
    model = build(freeze(net))
    assert exact_allowed(model) and np.isfinite(predictor(model, exact=True)(x.numpy())).all()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0].startswith("w"):
            del node.input[2:]
    assert not exact_allowed(model) and np.isfinite(predictor(model, exact=True)(x.numpy())).all()
