"""Every operator that can be written as ONNX computes there what it computes in torch."""

import numpy as np
import pytest
import torch
from ops import CASES
from torch import nn

from paredown.core.errors import BadInput
from paredown.export.lower import LOWERINGS, build
from paredown.export.runtime import predictor
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.ops import OPS

def samples(shape: tuple[int, ...], count: int) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_torch_computes(name: str) -> None:
    module, shape = CASES[name]
    net = capture(module, samples(shape, 2)).eval()
    predict = predictor(build(freeze(net)))
    for count in (1, 2, 5):
        x = samples(shape, count)
        with torch.no_grad():
            wanted = module.eval()(x).numpy()
        got = predict(x.numpy())
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)
