"""Shared values that are zero stay zero."""

import torch

from contracts.digits_task import digits, mlp
from contracts.habit import HabitContract
from contracts.nets import inputs_for, small_mlp
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.methods.habit.centroids import Centroids
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.prune.weights import Weights
from paredown.methods.share.kmeans import Kmeans
from paredown.methods.share.product_quantization import Product
from paredown.train.fit import fit


def shared() -> Net:
    return Kmeans(8).apply(Weights(0.7).apply(small_mlp(), Work()), Work())


class TestCentroids(HabitContract):
    def part(self) -> Centroids:
        return Centroids()

    def net(self) -> Net:
        return shared()


def test_zeros_stay_and_the_other_values_move() -> None:
    contract, net = TestCentroids(), shared()
    zero, before = net.slot("0.weight")() == 0, net.slot("0.weight").centroids.clone()
    contract.train(net, Centroids().start(net), range(10))
    assert (net.slot("0.weight")()[zero] == 0).all() and zero.float().mean() > 0.69
    assert (net.slot("0.weight").centroids != before).sum() == len(before) - 1
    drifting = shared()
    loss = torch.nn.functional.cross_entropy(drifting(*inputs_for(drifting, 8)), torch.arange(8))
    loss.backward()
    grad = drifting.slot("0.weight").centroids.grad
    assert grad[drifting.slot("0.weight").centroids == 0].abs().max() > 0, "without the habit zeros would drift"


def test_tables_end_in_half_precision() -> None:
    train, _ = digits(0)
    for step in (Kmeans(8), Product(4, 8)):
        net = step.apply(mlp(0), Work())
        fit(net, train, CrossEntropy(), (Centroids(half=True),), Plan(epochs=0.1), 0)
        tables = [net.slot(name).centroids for name, _ in net.weighted()]
        assert len(tables) > 1 and all(torch.equal(table, table.half().float()) for table in tables)
