"""A captured network computes what the module computes, in training too, and leaves the module as it was."""

import copy
from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from example_nets import NETS
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.capture import capture
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Value


def leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def close(a: Any, b: Any) -> bool:
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-5) for x, y in pairs)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETS)
def test_awkward_networks_with_any_batch(name: str) -> None:
    module, shape = NETS[name]
    net = capture(module, rand(*shape)).eval()
    for batch in (1, 2, 5):
        x = rand(batch, *shape[1:], seed=batch)
        assert close(net(x), module.eval()(x))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += 1
        y.mul_(2).clamp_(-1, 3)
        z = F.relu(y, inplace=True)
        z = F.hardtanh(z, -0.5, 2.0, inplace=True)
        return F.dropout(z, 0.5, self.training, inplace=True).flatten(1)


class Constants(nn.Module):
    """Buffers (kept and not kept), a constant tensor, a parameter behind two names, an expression of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.arange(4.0))
        self.register_buffer("lost", torch.tensor([2.0]), persistent=False)
        self.one = nn.Parameter(torch.randn(4, 4))
        self.other = self.one
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.unused = nn.Parameter(torch.randn(9))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
        x = x @ self.one + self.kept * self.lost
        y = F.linear(x, self.other.t() * 2, self.frozen) + torch.tensor([0.5])
        return x, {"y": y, "none": None}


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 3)

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return [self.fc(torch.cat([a, b], -1)), a.sum(-1)]


class Views(nn.Module):
    """Two views of one memory: a square buffer and its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.randn(3, 3))
        self.register_buffer("b", self.a.t())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.a @ self.b


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (InPlace(), (rand(2, 1, 6, 6),)),
        (Constants(), (rand(2, 4),)),
        (TwoInputs(), (rand(2, 3), rand(2, 4))),
        (Views(), (rand(2, 3),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_more_of_them(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    kept = [x.clone() for x in inputs]
    net = capture(module, inputs).eval()
    assert close(net(*inputs), module.eval()(*inputs))
    assert all(torch.equal(a, b) for a, b in zip(kept, inputs, strict=True))
    one = tuple(x[:1] for x in inputs)
    assert close(net(*one), module(*one))


def test_slots_are_parameters_once_each_and_constants() -> None:
    net = capture(Constants(), rand(2, 4))
    free = {name for name in net.slot_names() if isinstance(net.slot(name), Free)}
    assert free in ({"one", "frozen"}, {"other", "frozen"})
    assert {"kept", "lost"} <= set(net.slot_names()) - free and "unused" not in net.slot_names()
    assert all(isinstance(net.slot(n), Fixed) for n in net.slot_names() if n not in free)


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(48, 2))
    module.train()
    module[1].eval()  # frozen statistics, as in fine-tuning
    module[4].weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    pointers = [p.data_ptr() for p in module.parameters()]
    net = capture(module, rand(2, 1, 6, 6))
    assert [m.training for m in module.modules()] == [True, True, False, True, True, True]
    assert [p.requires_grad for p in module.parameters()][-2:] == [False, True]
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.zero_()
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert pointers == [p.data_ptr() for p in module.parameters()]


def test_a_module_that_cannot_be_traced_is_left_as_it_was() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("two\nlines")

    module = nn.Sequential(nn.BatchNorm1d(3), Bad()).train()
    module[0].eval()
    with pytest.raises(BadInput):
        capture(module, rand(2, 3))
    assert [m.training for m in module.modules()] == [True, False, True]


@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_training_updates_statistics_exactly_as_the_module_does(momentum: float) -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.BatchNorm1d(6),
    )
    net = capture(module, rand(2, 2, 6, 6)).train()
    module.train()
    for step in range(3):
        x = rand(5, 2, 6, 6, seed=step)
        a, b = module(x), net(x)
        assert torch.equal(a, b)
        for loss, model in ((a.square().mean(), module), (b.square().mean(), net)):
            model.zero_grad()
            loss.backward()
        theirs = {k: p.grad for k, p in module.named_parameters()}
        assert all(torch.equal(net.slot(name).value.grad, grad) for name, grad in theirs.items())
    for name, value in module.named_buffers():
        if "running" in name:
            assert torch.equal(net.slot(name)(), value)
    x = rand(4, 2, 6, 6, seed=9)
    assert torch.equal(module.eval()(x), net.eval()(x))


@pytest.mark.parametrize(
    "norm",
    [nn.InstanceNorm2d(3), nn.InstanceNorm2d(3, affine=True), nn.BatchNorm2d(3, track_running_stats=False)],
    ids=str,
)
def test_norms_without_statistics_use_the_batchs_in_both_modes(norm: nn.Module) -> None:
    net = capture(norm, rand(4, 3, 5, 5))
    x = rand(6, 3, 5, 5, seed=1) * 3
    for flag in (True, False):
        assert torch.equal(net.train(flag)(x), norm.train(flag)(x))


def test_dropout_follows_the_training_flag() -> None:
    module = nn.Sequential(nn.Linear(50, 50), nn.Dropout(0.4), nn.Dropout1d(0.3), nn.ReLU())
    net, x = capture(module, rand(2, 50)), rand(8, 50)
    for flag in (True, False):
        module.train(flag)
        net.train(flag)
        torch.manual_seed(1)
        wanted = module(x)
        torch.manual_seed(1)
        assert torch.equal(net(x), wanted)
    assert torch.equal(net.eval()(x), net(x)) and not torch.equal(net.train()(x), net(x))


def test_gradients_flow_to_every_parameter() -> None:
    module, shape = NETS["functional"]
    net = capture(module, rand(*shape)).train()
    net(rand(3, *shape[1:])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_batch_is_fixed_only_where_the_model_fixes_it() -> None:
    class Fixed3(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(3, 2, 2).sum(1)

    net = capture(Fixed3(), rand(3, 4))
    assert net(rand(3, 4)).shape == (3, 2)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while x.max() > 1:
            x = x / 2
        return x


class Item(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.max().item())


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Strange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x.T @ x)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.a(x).view(x.shape[0], 2, 3).sum(1) + others[0][:, :3] * others[1][:, 1:]


def test_the_batch_is_free_with_any_number_of_inputs() -> None:
    module, inputs = Several(), (rand(2, 4), rand(2, 4), rand(2, 4))
    net = capture(module, inputs)
    more = tuple(rand(5, 4) for _ in inputs)
    torch.testing.assert_close(net.eval()(*more), module.eval()(*more))
    assert net.shapes()["add"] == (1, 3)


class Lines(nn.Module):
    """A recurrent layer over the lines of a picture: its first state is as large as the batch times their number."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lines = x.reshape(-1, x.shape[2], x.shape[3])
        return self.rnn(lines)[0].reshape(x.shape[0] * x.shape[1], -1).view(x.shape[0], -1)


def test_a_computed_size_is_taken_from_a_value_that_has_it() -> None:
    module, x = Lines(), rand(2, 5, 6, 3)
    net = capture(module, x)
    more = rand(4, 5, 6, 3)
    torch.testing.assert_close(net.eval()(more), module.eval()(more))
    sizes = [node.args for node in net.spec.nodes if node.op == "sym_size.int"]
    assert {"self": Value("reshape"), "dim": 0} in sizes


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0] * 2, -1) + torch.ones(x.shape[0] * 2, 2)


class Hidden(nn.Module):
    """Adds a number that changes from call to call."""

    count = 0

    def forward(self, x: Tensor) -> Tensor:
        Hidden.count += 1
        return x + Hidden.count


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"x": x, "why": "text"}


@pytest.mark.parametrize(
    "module", [Branch(), Loop(), Item(), Random(), Strange(), Sizes(), Hidden(), Odd()], ids=lambda m: type(m).__name__
)
def test_what_cannot_be_captured_is_said_in_one_line(module: nn.Module) -> None:
    with pytest.raises(BadInput) as error:
        capture(module, rand(4, 4))
    text = str(error.value)
    assert "\n" not in text and 20 < len(text) < 400


def test_named_tuples_and_ordered_dicts_become_plain() -> None:
    pair = namedtuple("pair", "a b")

    class Named(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return pair(x + 1, [x * 2])

    out = capture(Named(), rand(2, 3))(rand(2, 3))
    assert type(out) is tuple and close(out, (rand(2, 3) + 1, [rand(2, 3) * 2]))


def test_a_net_is_copied() -> None:
    net = capture(nn.Linear(3, 2), rand(2, 3))
    twin = capture(net, rand(2, 3))
    assert (
        twin is not net
        and twin.spec == net.spec
        and twin.slot("weight").value.data_ptr() != net.slot("weight").value.data_ptr()
    )


def test_slices_to_the_end_say_so() -> None:
    net = capture(NETS["resnet_pad"][0], rand(2, 3, 8, 8))
    ends = [node.args.get("end") for node in net.spec.nodes if node.op == "slice.Tensor"]
    assert ends and all(end is None or end < 1000 for end in ends)


class Standardised(nn.Module):
    """A weight that is standardised as a user writes it, in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.weight, self.way = nn.Parameter(torch.randn(4, 3, 3, 3)), way

    def forward(self, x: Tensor) -> Tensor:
        w, dims = self.weight, (1, 2, 3)
        if self.way == "std":
            w = (w - w.mean(dims, keepdim=True)) / (w.std(dims, keepdim=True) + 1e-5)
        elif self.way == "var":
            w = w / (w.flatten(1).var(1, unbiased=False).view(-1, 1, 1, 1) + 1e-5).sqrt() / w.std()
        else:
            deviation, mean = torch.std_mean(w, dim=dims, keepdim=True, correction=2)
            w = (w - mean) / deviation
        return F.conv2d(x, w) / x.std(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize("way", ["std", "var", "std_mean"])
def test_variances_and_deviations_are_means_of_squares(way: str) -> None:
    module, x = Standardised(way).eval(), rand(3, 3, 6, 6)
    net = capture(module, x)
    assert close(net(x), module(x)) and close(net(x[:1]), module(x[:1]))
    assert not any("var" in node.op or "std" in node.op for node in net.spec.nodes)
