"""Biases that make up for what quantization shifts."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Step
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.pairs import own_bias_
from paredown.graph.ranges import by_channel, moments
from paredown.graph.slots import Free, Masked
from paredown.graph.spec import Node
from paredown.methods.quantize.uniform import Uniform


def clipped_normal_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return E[max(0, x)] of normal x: γ φ(−β/γ) + β (1 − Φ(−β/γ)) (Nagel et al. 2019, section 4.2)."""
    ratio = mean / deviation
    density = (-ratio.square() / 2).exp() / math.sqrt(2 * math.pi)
    return deviation * density + mean * 0.5 * torch.erfc(-ratio / math.sqrt(2))


def expected_shift(error: Tensor, mean: Tensor) -> Tensor:
    """Return E[y~] − E[y] = ε E[x] of each output (Nagel et al. 2019, section 4.2).

    error: W~ − W, [out, in, …kernel]. mean: E[x] of each input channel, the same at every place.
    """
    return error.flatten(2).sum(2) @ mean if error.dim() > 2 else error @ mean


@torch.no_grad()
def correct_(net: Net, like: Net, x: Tensor, work: Work) -> None:
    """Give the layers of `net` biases with which each channel's mean over `x` is that of `like`, in place.

    One pass over each network: each layer's output is shifted as soon as it is known, so that later ones see it corrected.
    """
    wanted, shifts = moments(like, x), dict[str, Tensor]()
    able = {n.name for n in net.spec.nodes if n.op in WEIGHTED and n.name in wanted and _able(net, n, work)}

    def watch(node: Node, value: Tensor) -> Tensor | None:
        if node.name not in able:
            return None
        shift = wanted[node.name][0] - by_channel(node, value).mean(1)
        slot = node.slot("bias")
        if slot is not None and isinstance(net.slot(slot), Masked):
            shift = shift * net.slot(slot).mask
        shifts[node.name] = shift
        return value + (shift if node.op == "linear" else shift.view(-1, *[1] * (value.dim() - 2)))

    net.eval().run(x, watch=watch)
    for name, shift in shifts.items():
        net.slot(own_bias_(net, net.spec.node(name))).value.add_(shift)


def _able(net: Net, node: Node, work: Work) -> bool:
    """Return whether a layer may be given another bias; else say why not."""
    slot, layer = node.slot("bias"), str(node.slot("weight") or node.name)
    if node.slot("weight") is None or (slot is None and node.args.get("bias") is not None):
        work.skip(f"{layer}.bias", "its weight or bias is computed")
    elif slot is not None and len(net.spec.slot_users()[slot]) > 1:
        work.skip(str(slot), "several layers share it")
    elif slot is not None and not isinstance(net.slot(slot), Free | Masked):
        work.skip(str(slot), "it is held as integers already; use bias_bits=0")
    else:
        return True
    return False


@part("quantize.correct_bias", Card(title="Quantization with bias correction", paper="arxiv:1906.04721", year=2019,
                                    authors="Nagel, van Baalen, Blankevoort, Welling",
                                    source="Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.2",
                                    changes={"bits"}, needs={"calib"}, forbids={"quantized", "shared"},
                                    gives={"quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class CorrectBias:
    """Quantize with another step, then correct each layer's bias by the shift that this caused in its outputs.

    step: a step that needs no training and leaves biases in float. samples: how many calibration samples are looked at.
    The paper's empirical variant: layers are corrected in order, each with the earlier ones corrected,
    so that every channel's mean over the samples is what it was.
    """

    step: Step = field(default_factory=lambda: Uniform(bits=4))
    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        needs = getattr(self.step, "card", Card("")).needs
        if not needs <= {"calib"}:
            raise BadInput(
                f"CorrectBias.step needs {', '.join(sorted(needs))}; only a step without training can stand there"
            )

    def apply(self, net: Net, work: Work) -> Net:
        """Return a quantized copy of `net` whose layers have the means that they had."""
        held = self.step.apply(net, work)
        correct_(held, net, work.use("calib")[0][: self.samples], work)
        return held
