"""Convolutions that learn which one weight of each kernel to keep, and are shifts in the end."""

from dataclasses import dataclass, field

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.attended import NORMALISED, Attended, attended
from paredown.graph.chains import kernels
from paredown.graph.net import Net
from paredown.methods.factorize.shift import shift_
from paredown.methods.habit.sharpen import Sharpen
from paredown.methods.loss.cross_entropy import CrossEntropy


@part("factorize.shift_attention", Card(title="Shift Attention Layers", paper="arxiv:1905.12300", year=2019,
                                        authors="Hacene, Lassance, Gripon, Courbariaux, Bengio",
                                        source="Attention Based Pruning for Shift Networks, section 3, algorithm 1",
                                        changes={"nonzero"}, needs={"fit"}, gives={"masked", "factored"},
                                        forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class ShiftAttention:
    """Train with each kernel's weights times an attention that narrows to one of them; then hold that one weight.

    W̃ = W · softmax(T · A / sd(A)), with an A of the weight's shape that is trained along and a sharpness T that `sharpen` raises with
    every step. normalised: sd over each kernel's "slice" of A, or over the whole "tensor". per: "kernel" has an attention for
    each pair of filter and input channel, as the paper does; "channel" one for each input channel that all filters share.

    A layer all of whose filters keep the same place of each input channel becomes moved channels and a 1×1 convolution
    (`factorize.shift`), which is always so with "channel"; any other keeps its shape with a mask: one weight of each kernel,
    which saves bytes and, on a dense runtime, no operations. first: convert the network's first layer too.

    Differs from the paper: begins at a network that is there, with A at the sizes of its weights and large enough that
    AdamW's steps do not toss it about while T is high; in eval mode the one weight that would stay counts, from the first
    step on; T is set by the progress of the training, not by a factor for each step.
    """

    normalised: str = knob("slice", among=NORMALISED)
    per: str = knob("kernel", among=("kernel", "channel"))
    sharpen: Sharpen = field(default_factory=Sharpen)
    first: bool = knob(False, among=(False, True), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan(lr=1e-2)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a trained copy of `net` with one weight in each kernel; weights left alone are noted."""
        learning = net.copy()
        for name, _, weight in kernels(net, work.skip, self.first):
            made = Attended(weight, self.per == "channel", self.sharpen.initial, self.normalised)
            learning.set_slot(name, made)
        work.use("fit")(learning, loss=self.loss, habits=(self.sharpen, *self.habits), plan=self.plan)
        for name, slot in attended(learning).items():
            held = slot.held()
            if (places := agreed(held.mask)) is None:
                learning.set_slot(name, held)
            else:
                shift_(learning, name, held().detach(), places)
        return learning


def agreed(mask: Tensor) -> Tensor | None:
    """Return the place that all filters keep of each input channel, [in, 1], or None where they keep different ones."""
    places = mask.flatten(2).long().argmax(2)
    return None if (places != places[0]).any() else places[0][:, None].cpu()
