"""A linear layer or convolution as two smaller ones, by singular value decomposition."""

from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import refusal, split_
from paredown.graph.low_rank import as_matrix, as_weights, energy_rank, share_rank, truncated
from paredown.graph.net import Net


@part("factorize.svd", Card(title="Low-rank factorization by SVD", paper="arxiv:1404.0736", year=2014,
                            authors="Denton, Zaremba, Bruna, LeCun, Fergus; spatial: Jaderberg, Vedaldi, Zisserman",
                            source="arxiv:1404.0736, section 3.2.1; arxiv:1405.3866, section 2.2 (scheme 2)",
                            changes=frozenset({"params", "macs"}), gives=frozenset({"factored"}),
                            forbids=frozenset({"masked", "quantized", "shared"})))  # fmt: skip
@dataclass(frozen=True)
class Svd:
    """Split linear layers and convolutions in two where that saves parameters.

    by: "energy" keeps that share of the squared singular values; "params" keeps at most that share of the weights.
    keep: the share, 0.01 to 0.999. scheme: "channel" makes a k×k convolution to `rank` channels and a 1×1 one;
    "spatial" a k×1 and a 1×k convolution (two-dimensional kernels larger than 1×1; others are split by channel).

    The second layer has the bias. A layer is left alone when two smaller ones would not have fewer weights.
    Differs from the papers: the plain truncated SVD of the weight, weighted neither by data nor by the loss.
    """

    by: str = knob("energy", among=("energy", "params"))
    keep: float = knob(0.9, low=0.01, high=0.999)
    scheme: str = knob("channel", among=("channel", "spatial"))

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some layers split; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, node in net.weighted():
            if why := refusal(net, name, node):
                work.skip(name, why)
                continue
            weight = net.slot(name)().detach()
            scheme = self.scheme if weight.dim() == 4 and min(weight.shape[2:]) > 1 else "channel"
            matrix = as_matrix(weight, scheme)
            rank = self._rank(matrix)
            if rank < 1 or rank * sum(matrix.shape) >= weight.numel():
                work.skip(name, f"at rank {rank} two layers would not have fewer weights than its {weight.numel()}")
                continue
            split_(out, name, as_weights(*truncated(matrix, rank), tuple(weight.shape), scheme), scheme)
        return out

    def _rank(self, matrix: Tensor) -> int:
        if self.by == "energy":
            return energy_rank(matrix, self.keep)
        return share_rank(tuple(matrix.shape), self.keep)
