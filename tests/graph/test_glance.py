"""A glance counts what a full capture counts; where it cannot look, the capture does."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.cost.count import count
from paredown.graph.capture import capture
from paredown.graph.glance import glance
from paredown.graph.groups import frozen, groups
from paredown.zoo.resolve import module_of

ZOO = (
    ("lenet_5", (1, 28, 28)),
    ("resnet_8", (3, 32, 32)),
    ("mobilenet_v3_small", (3, 64, 64)),
    ("ds_cnn", (1, 49, 10)),
)


@pytest.mark.parametrize(("name", "shape"), ZOO)
def test_a_glance_counts_what_a_capture_counts(name: str, shape: tuple[int, ...]) -> None:
    module = module_of(name, shape, 10, {})
    seen, traced = glance(module, torch.rand(1, *shape)), capture(module, torch.rand(2, *shape))
    assert count(seen) == count(traced)
    assert [n.op for n in seen.spec.nodes] == [n.op for n in traced.spec.nodes]
    assert (
        frozen(seen) == frozen(traced) == {slot: why for group in groups(traced) for slot, why in group.frozen.items()}
    )


def test_what_was_seen_computes_the_same_and_shares_the_weights() -> None:
    module = module_of("resnet_8", (3, 32, 32), 10, {}).eval()
    x = torch.rand(1, 3, 32, 32)
    seen = glance(module, x).eval()
    with torch.no_grad():
        assert torch.equal(seen(x), module(x))
    assert {p.data_ptr() for p in seen.parameters()} == {p.data_ptr() for p in module.parameters()}
    assert seen.shapes()["x"] == (1, 3, 32, 32) and seen.shapes()[str(seen.spec.output)] == (1, 10)


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    glance(module, torch.rand(3, 4))
    assert module.training and all(torch.equal(before[k], v) for k, v in module.state_dict().items())


class Outputs(nn.Module):
    """Several outputs of one operator, a tuple and a dict returned, a tensor used twice, in-place operators."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Any:
        y, (h, _) = self.lstm(x)
        a, b = y.chunk(2, 1)
        return {"score": self.fc(h[-1]) * self.scale, "both": (F.relu_(a + b), y)}


def test_structures_tuples_and_in_place() -> None:
    seen, traced = glance(Outputs(), torch.rand(2, 6, 4)), capture(Outputs(), torch.rand(2, 6, 4))
    assert count(seen).macs == count(traced).macs > 0 and count(seen).params == count(traced).params
    assert set(seen.spec.output) == {"score", "both"}


class Tokens(nn.Module):
    """An encoder layer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(50, 16), nn.Linear(16, 5)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(self.embed(x)).mean(1))


def test_an_encoder_layer_over_tokens_is_seen_through() -> None:
    n, d = 7, 16
    seen = glance(Tokens(), torch.randint(0, 50, (1, n)))
    wanted = n * d * 3 * d + 2 * n * n * d + n * d * d + 2 * n * d * 32 + d * 5
    assert count(seen).macs == wanted and count(seen).uncounted == ()
    assert count(seen).params == sum(p.numel() for p in Tokens().parameters())
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_a_glance_cannot_take_is_told_by_the_capture() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.inv(x)

    with pytest.raises(BadInput, match="rewrite the layer"):
        glance(Odd(), torch.rand(1, 3, 3))
    with pytest.raises(BadInput):
        glance(nn.Linear(3, 3), torch.rand(1, 4))
