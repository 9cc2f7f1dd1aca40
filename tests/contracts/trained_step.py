"""What every step promises that trains something in the place of a weight, and holds it at the end."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from contracts.nets import inputs_for
from contracts.step import StepContract
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.latent import Latent
from paredown.graph.net import Net
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed
from paredown.targets.runtime import predictor
from paredown.train.data import Data
from paredown.train.fit import fit


def trainer(data: Data, seed: int = 0, seen: list[Net] | None = None) -> Any:
    """Return a `fit` service on `data`; a copy of each trained network goes into `seen`."""

    def train(net: Net, loss: Any, habits: Any, plan: Plan) -> Any:
        done = fit(net, data, loss, habits, plan, seed)
        if seen is not None:
            seen.append(net.copy().eval())
        return done

    return train


def samples(net: Net, count: int = 32) -> Data:
    """Return random inputs of a network, with labels that mean nothing."""
    return Data(inputs_for(net, count)[0], torch.arange(count) % 10)


def deep_mlp(seed: int) -> Net:
    """Return 64-256-256-10 with batch norms, untrained: one inner layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for wide in (64, 256):
            layers += [nn.Linear(wide, 256), nn.BatchNorm1d(256), nn.ReLU()]
        return capture(nn.Sequential(*layers, nn.Linear(256, 10)).eval(), torch.rand(2, 64))


class TrainedStepContract(StepContract):
    """Inherit for a step that trains through `fit`; `flips`: the share of scores that may differ in a file."""

    flips = 0.0

    def work(self, seed: int = 0) -> Work:
        work = super().work(seed)

        def train(net: Net, loss: Any, habits: Any, plan: Plan) -> Any:
            return fit(net, samples(net), loss, habits, plan, seed)

        return Work({**work.services, "fit": train}, seed)

    def trained(self, net: Net) -> tuple[Net, Net]:
        """Return (the network as its last training left it, the network that the step returned)."""
        seen: list[Net] = []
        data = samples(net)
        out = self.part().apply(net, Work({"fit": trainer(data, 0, seen), "calib": (data.x, data.y)}))
        return seen[-1], out.eval()

    def test_what_is_held_is_what_training_computed(self) -> None:
        for net in self.nets().values():
            learning, out = self.trained(net)
            assert not [name for name in out.slot_names() if isinstance(out.slot(name), Latent)]
            for name in out.slot_names():
                assert torch.equal(out.slot(name)(), learning.slot(name)()), name

    def test_its_files_hold_it(self, tmp_path: Path) -> None:
        for net in self.nets().values():
            out = self.trained(net)[1]
            (x,) = inputs_for(net, 256, seed=1)
            with torch.no_grad():
                wanted = out(x).numpy()
            for target in (Packed(), Onnx()):
                model = target.model(Path(target.write(freeze(out), tmp_path).path))
                got = predictor(model, exact=True)(x.numpy())
                off = np.abs(got - wanted) > 1e-4 * (1 + np.abs(wanted).max())
                assert off.mean() <= self.flips, (target.part_name, off.mean())
