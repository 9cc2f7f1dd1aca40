"""What every conversion of a convolution is held to."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy
from contracts.nets import inputs_for
from contracts.pooled_digits import pictures, pooled
from paredown.core.plan import Plan
from paredown.core.work import Note, Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed
from paredown.train.fit import fit

SETTINGS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    {"kernel_size": 3, "padding": "same", "bias": False},
    {"kernel_size": (2, 3), "padding": "valid", "stride": 3},
    {"kernel_size": 4, "padding": "same"},
]
"""Ways in which a convolution may stand over its input."""


def one(into: int, out: int, dims: int = 2, **settings: Any) -> Net:
    """Return a network of one convolution of 12 × 13 places (or as many sides as `dims`), with drawn weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        return capture(nn.Sequential(layer(into, out, **settings)), torch.rand(1, into, *(12, 13, 6)[:dims])).eval()


def put(net: Net, weight: Tensor) -> Net:
    """Return the network of `one` with another weight."""
    made = net.copy()
    made.slot("0.weight").value.data = weight.clone()
    return made


class Awkward(nn.Module):
    """Convolutions of which only one can be converted."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(8, 8, 3)
        self.fine, self.deep, self.point = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 1)
        self.up, self.made, self.fc = nn.ConvTranspose2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.point(self.deep(self.fine(self.stem(x)))))
        x = nn.functional.conv2d(x, self.made.weight / self.made.weight.abs().sum())
        return self.fc(x.mean((2, 3)))


def awkward() -> Net:
    """Return a network of which only the layer `fine` can be converted."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Awkward().eval(), torch.rand(1, 8, 14, 14))


def held_to_what_cannot_be_converted(step: Any, done: dict[str, Any]) -> None:
    """Assert that all of `awkward` but `fine` is left alone with a reason. done: services."""
    work = Work(done)
    net = awkward()
    out = step.apply(net, work).eval()
    said = {note.layer: note.text for note in work.notes}
    reasons = {"stem": "first", "deep": "grouped", "point": "one place", "up": "transposed", "fc": "no kernel"}
    assert all(why in said[f"{layer}.weight"] for layer, why in reasons.items()), said
    assert [note for note in work.notes if "computed" in note.text] and "fine.weight" not in said
    assert all(isinstance(note, Note) for note in work.notes) and len(said) == 6
    (x,) = inputs_for(net)
    assert out(x).shape == net(x).shape


def held_to_files(net: Net, folder: Path) -> None:
    """Assert that the packed file and the ONNX file compute what the network does."""
    (x,) = inputs_for(net, 32, seed=1)
    with torch.no_grad():
        wanted = net.eval()(x).numpy()
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(net), folder).path))(x.numpy())
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * (1 + np.abs(wanted).max()))


def regained(step: Any, epochs: float = 10) -> tuple[float, float, float]:
    """Return the mean accuracies on the digits of a network, of what a step makes of it, and of that when trained: three seeds."""
    found = []
    for seed in range(3):
        net, (train, test) = pooled(seed), pictures(seed)
        out = step.apply(net, Work())
        before = accuracy(out, test)
        fit(out, train, CrossEntropy(), plan=Plan(epochs=epochs, lr=1e-2), seed=seed)
        found.append((accuracy(net, test), before, accuracy(out, test)))
    whole, before, after = (sum(column) / 3 for column in zip(*found, strict=True))
    return whole, before, after
