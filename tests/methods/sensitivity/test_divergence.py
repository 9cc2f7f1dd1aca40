"""KL sensitivities (A-S4-32): against torch's own KL, and on distilled samples."""

import pytest
import torch

from contracts.nets import small_conv
from contracts.sensitivity import SensitivityContract
from paredown.graph.widths import Place, Trials
from paredown.methods.quantize.zeroq import WIDTHS, distil, sensitivities
from paredown.methods.sensitivity.divergence import Divergence, divergences


class TestDivergence(SensitivityContract):
    def part(self) -> Divergence:
        return Divergence()

    def test_it_is_never_below_zero(self) -> None:
        assert min(harm for row in self.harms(self.net()) for harm in row) >= -1e-6


def test_distilled_samples_give_the_sensitivities_of_zeroq() -> None:
    """On the grids that ZeroQ rounds to: steps by the largest weight, with four significant bits here."""
    net = small_conv().eval()
    x, names = distil(net, 16, 20, 0.1), [name for name, _ in net.weighted()]
    found = divergences(Trials(net, tuple(map(Place, names)), (WIDTHS,) * len(names), "max"), x)
    wanted = sensitivities(net, x, names)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine[:2] == pytest.approx(theirs[:2], rel=0.5, abs=1e-4)


def test_it_is_torchs_kl() -> None:
    net = small_conv().eval()
    name = next(name for name, _ in net.weighted())
    trials = Trials(net, (Place(name),), ((2,),))
    x = torch.rand((16, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, given = net(x).log_softmax(1), trials.net_with(Place(name), 2)(x).log_softmax(1)
    kl = torch.nn.functional.kl_div(given, wanted, reduction="batchmean", log_target=True)
    assert divergences(trials, x)[0][0] == pytest.approx(float(kl), rel=1e-4)
