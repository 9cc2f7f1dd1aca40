"""Cross-layer equalization (A-S4-29), held to Part H's measurements."""

import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.pairs import pairs
from paredown.methods.edit.equalize import Equalize, equalizing, ranges
from paredown.methods.quantize.uniform import Uniform


class TestEqualize(StepContract):
    keeps_function = True

    def part(self) -> Equalize:
        return Equalize()

    def settings(self) -> list[Equalize]:
        return [Equalize(3)]

    def nets(self) -> dict[str, Net]:
        return {"conv": small_conv(), "mlp": small_mlp(), "folded": fold_batchnorm(small_conv())[0]}


class Chain(nn.Module):
    """A convolution, a depthwise one, a grouped one, pooling and a flattened linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.c, self.d = nn.Conv2d(6, 8, 3, groups=2), nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.d(torch.max_pool2d(torch.relu(self.c(x)), 2).flatten(1))


def chain(spread: float = 1.0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Chain()
        with torch.no_grad():
            for layer in (model.a, model.b, model.c):
                layer.weight.mul_(
                    torch.logspace(-spread, spread, len(layer.weight))[torch.randperm(len(layer.weight))].view(
                        -1, 1, 1, 1
                    )
                )
        return capture(model, torch.rand(2, 2, 8, 8))


def test_pairs_are_found_through_depthwise_grouped_and_flattened_layers() -> None:
    found, why = pairs(chain())
    assert [p.weights() for p in found] == [
        ("a.weight", "b.weight"),
        ("b.weight", "c.weight"),
        ("c.weight", "d.weight"),
    ]
    assert [(p.groups, p.repeat) for p in found] == [(6, 1), (2, 1), (1, 9)]
    assert list(why) == ["d.weight"]


def test_ranges_are_equal_afterwards_and_the_function_is_the_same() -> None:
    net = chain().eval()
    out = Equalize(200).apply(net, Work()).eval()
    x = torch.rand(8, 2, 8, 8)
    assert same(net(x), out(x), 1e-5)
    for before, after in zip(pairs(net)[0], pairs(out)[0], strict=True):
        made, read = ranges(out, after)
        assert (
            float((made / read).log().abs().max())
            < 1e-5
            < float((ranges(net, before)[0] / ranges(net, before)[1]).log().abs().max())
        )


def test_per_tensor_rounding_gains() -> None:
    net, x = chain().eval(), torch.rand(16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    errors = [
        float((Uniform(6, "tensor").apply(n, Work()).eval()(x) - net(x)).norm())
        for n in (net, Equalize().apply(net, Work()))
    ]
    assert errors[1] < 0.3 * errors[0]


def test_the_scale_by_hand() -> None:
    scale = equalizing(torch.tensor([4.0, 1.0, 0.0, 2.0]), torch.tensor([1.0, 9.0, 3.0, 0.0]))
    assert scale.tolist() == pytest.approx([2, 1 / 3, 1, 1])


def test_what_a_scale_does_not_pass_is_noted() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.a(x))
            return self.c(torch.sigmoid(self.b(y))) + y

    work = Work().scoped("edit.equalize", ())
    Equalize().apply(capture(Other(), torch.rand(2, 4)), work)
    notes = {n.layer: n.text for n in work.notes}
    assert notes.keys() == {"a.weight", "b.weight", "c.weight"}
    assert "sigmoid" in notes["b.weight"] and "alone" in notes["a.weight"]
    work = Work().scoped("edit.equalize", ())
    Equalize().apply(small_conv(), work)
    assert any("fold batch norms first" in n.text for n in work.notes)


def imbalanced(seed: int) -> Net:
    """Return Part H's network, the same function, with the hidden units' scales up to 1000 times apart."""
    net = mlp(seed)
    scale = 1000 ** torch.rand(100, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        net.slot("0.weight").value.mul_(scale[:, None])
        net.slot("0.bias").value.mul_(scale)
        net.slot("2.weight").value.div_(scale)
    return net


def test_a_planted_imbalance_of_a_thousand() -> None:
    """Part H: per-tensor w8 84.4, 82.9, 85.6 and w6 48.0, 51.3, 34.0; after equalization 96.4, 96.9, 96.2 and 96.9, 96.4, 96.4."""
    for seed in range(3):
        (train, test), net = digits(seed), imbalanced(seed)
        even = Equalize().apply(net, Work())
        (pair,) = pairs(even)[0]
        made, read = ranges(even, pair)
        assert float(((made - read).abs() / made.clamp(min=1e-3)).max()) < 1e-6 and same(
            net.eval()(train.x), even.eval()(train.x), 1e-5
        )
        full = accuracy(net, test)
        got = {b: [accuracy(Uniform(b, "tensor").apply(n, Work()), test) for n in (net, even)] for b in (8, 6)}
        assert got[8][1] >= full - 0.5 and got[6][1] >= got[6][0] + 25, (seed, full, got)
