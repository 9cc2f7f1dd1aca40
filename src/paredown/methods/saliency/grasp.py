"""What a connection adds to the flow of gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slopes import bent, slopes


@part("saliency.grasp", Card(title="GraSP: gradient signal preservation", paper="arxiv:2002.07376", year=2020,
                             authors="Wang, Zhang, Grosse",
                             source="Picking Winning Tickets Before Training by Preserving Gradient Flow, section 4.2, equation 8",
                             needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Grasp:
    """θ ⊙ H g: half of what the squared norm of the gradient loses when a weight is taken away, to first order.

    The paper's score is −θ ⊙ H g and it removes the highest; this is its negative, so that here too the lowest go.
    Negative where gradients flow better without the weight. temperature: what the logits are divided by, which keeps
    the softmax from saturating. samples: of the calibration split, in one batch.

    Differs from the paper: gradients of the weights that are judged, no others; norms in eval mode.
    """

    temperature: float = knob(200.0, low=1e-3, high=1e6, log=True, search=False)
    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return θ ⊙ H g for each weight, H g by differentiating twice."""
        x, y = (part[: self.samples] for part in work.use("calib"))

        def loss(held: Net) -> Tensor:
            scores = torch.utils._pytree.tree_leaves(held(x))[0]
            return torch.nn.functional.cross_entropy(scores / self.temperature, y)

        at, found = slopes(net, names, loss, bend=True)
        products = bent(found, at, found)
        return {name: (w * hg).detach() for name, w, hg in zip(names, at, products, strict=True)}
