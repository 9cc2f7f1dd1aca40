"""Rounding one input's weights after another, the rest making up for each error."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.moments import crossed, value_at
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid
from paredown.graph.storing import storing
from paredown.graph.windows import LAYERS
from paredown.methods.quantize.clipped import step_within


def round_in_order(rows: Tensor, second: Tensor, step: Tensor, high: int, damp: float = 0.01) -> Tensor:
    """Return codes of −high … high such that tr((W − step · codes) H (W − step · codes)ᵀ) is small; greedy, column by column.

    rows: W, [outputs, inputs]. second: H, the mean of x xᵀ, [inputs, inputs]. step: [outputs, 1]. damp: what is added to the diagonal,
    as a share of its mean. Columns go by falling diagonal; each column's error is spread over those that are left by
    −e / [H⁻¹]_qq · [H⁻¹]_q,: , which is the least-squares repair (Frantar et al. 2023, equations 2 and 3). H⁻¹ of the
    columns that are left is read off the Cholesky factor of the whole inverse (step 3 of section 3).
    """
    left, second = rows.double().clone(), second.double().clone()
    diagonal = second.diagonal()
    dead = diagonal == 0
    second[dead, dead] = 1
    left[:, dead] = 0
    diagonal += damp * diagonal.mean()
    order = diagonal.argsort(descending=True, stable=True)
    inverse = torch.linalg.inv(second[order][:, order])
    factor = torch.linalg.cholesky((inverse + inverse.T) / 2, upper=True)
    left, codes = left[:, order], torch.zeros_like(left)
    for at in range(left.shape[1]):
        code = (left[:, at : at + 1] / step).round().clamp(-high, high)
        error = (left[:, at : at + 1] - code * step) / factor[at, at]
        left[:, at:] -= error * factor[at : at + 1, at:]
        codes[:, order[at]] = code[:, 0]
    return codes


@part("quantize.gptq", Card(title="GPTQ", paper="arxiv:2210.17323", year=2023,
                            authors="Frantar, Ashkboos, Hoefler, Alistarh",
                            source="GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, section 3",
                            changes={"bits", "bytes"}, needs={"calib"}, forbids={"quantized", "shared", "masked"},
                            gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class Gptq:
    """Round weights so that each layer's output over the calibration split stays near, by second-order error feedback.

    bits: width of a code, 2 to 8. reach: the largest code's share of a channel's largest weight, or 0 for the share whose
    nearest rounding has the least squared error. damp: added to the diagonal of the mean x xᵀ, as a share of its mean.
    Layers are rounded in order, each on what the rounded ones before make of the samples. Linear layers and one- and
    two-dimensional convolutions; others are rounded to nearest, and noted. Biases stay in float.

    Differs from the paper: convolutions too, their windows as rows; symmetric steps, one for each output channel; the columns
    with the largest inputs first, as in the authors' code; no lazy batches of updates.
    """

    bits: int = knob(4, among=range(2, 9))
    reach: float = knob(0.0, low=0.0, high=1.0)
    damp: float = knob(0.01, low=1e-6, high=1.0, log=True)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with integer weights."""
        held, x = net.copy(), work.use("calib")[0]
        able = {str(slot) for slot, _ in storing(held, {"weight": self.bits}, (Free,), work.skip)}
        for name, node in list(net.weighted()):
            if name in able and isinstance(held.slot(name), Free):
                weight = held.slot(name)().detach()
                if node.op in LAYERS:
                    inputs = value_at(held, x, str(node.args["input"]))
                    second = crossed(node, inputs, inputs, tuple(weight.shape[2:]))
                else:
                    work.skip(name, f"{node.op} is rounded to nearest")
                    second = torch.eye(weight[0].numel(), device=weight.device)[None]
                held.set_slot(name, self._rounded(weight, second))
        return held

    def _rounded(self, weight: Tensor, second: Tensor) -> Grid:
        high, step = 2 ** (self.bits - 1) - 1, step_within(weight, self.bits, self.reach)
        groups = weight.flatten(1).chunk(len(second)), second, step.flatten(1).chunk(len(second))
        each = zip(*groups, strict=True)
        codes = torch.cat([round_in_order(some, moment, own, high, self.damp) for some, moment, own in each])
        return Grid(codes.reshape(weight.shape), step, self.bits)
