"""Scores in eval mode, whatever the batch; the metric over them."""

import numpy as np
import pytest
import torch

from contracts.nets import small_conv
from paredown.core.metric import accuracy, metric_named, wilson
from paredown.train.data import Data
from paredown.train.evaluate import evaluate, scores


def data(n: int = 50) -> Data:
    draw = torch.Generator().manual_seed(0)
    return Data(torch.rand((n, 1, 8, 8), generator=draw), torch.randint(0, 10, (n,), generator=draw))


@pytest.mark.parametrize("training", [True, False])
def test_scores_are_of_eval_mode_and_leave_the_network_as_it_was(training: bool) -> None:
    net = small_conv().train(training)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = scores(net, data())
    assert net.training is training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with torch.no_grad():
        np.testing.assert_array_equal(found, net.eval()(data().x).numpy())
    assert found.dtype == np.float32 and found.shape == (50, 10)


def test_the_batch_makes_no_difference() -> None:
    whole = scores(small_conv(), data())
    for size in (1, 7, 50):
        np.testing.assert_allclose(scores(small_conv(), data(), size), whole, rtol=1e-5, atol=1e-6)


def test_half_precision_scores_come_as_float32() -> None:
    net = small_conv().bfloat16()
    assert scores(net, Data(data().x.bfloat16(), data().y)).dtype == np.float32


def test_the_quality_is_the_metrics() -> None:
    found = evaluate(small_conv(), data(), metric_named("accuracy"), "val")
    wanted = accuracy(scores(small_conv(), data()), data().y.numpy())
    assert (found.value, found.split, found.n, found.metric) == (wanted, "val", 50, "accuracy")
    assert (found.low, found.high) == wilson(wanted, 50)
