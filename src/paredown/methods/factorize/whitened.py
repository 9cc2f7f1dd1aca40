"""A layer as two smaller ones that change least what it makes of the calibration samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import refusal_on_data, split_
from paredown.graph.low_rank import as_matrix, as_weights, directions, projected, rank_by_energy, root, share_rank
from paredown.graph.moments import gathered
from paredown.graph.net import Net
from paredown.graph.pairs import own_bias_
from paredown.graph.slots import Free


def whitened(matrix: Tensor, second: Tensor, rank: int, damp: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return (left m×rank, right rank×n) with the least ‖(W − left · right) C^{1/2}‖, C the inputs' second moment, [n, n].

    That is the root of the mean squared change of W x over the inputs. With U, s of W C^{1/2}, the product is U_r U_rᵀ W, and
    the error the root of the sum of the squared s left out (Eckart & Young in the space of outputs). C is not inverted, so it
    may have any rank. damp: added to C's diagonal, as a share of its mean. With C = I it is the plain truncated SVD.
    """
    basis, _ = directions(matrix, root(second, damp))
    return projected(matrix, basis[:, :rank])


@part("factorize.whitened", Card(title="Low-rank factorization of a layer's outputs", paper="arxiv:1505.06798", year=2016,
                                 authors="Zhang, Zou, He, Sun; whitening for large models: Wang, Zheng, Wan, Zhang",
                                 source="Accelerating Very Deep Convolutional Networks for Classification and Detection, section 3.1; "
                                        "whitening: SVD-LLM, arxiv:2403.07378, section 3.1",
                                 changes={"params", "macs"}, needs={"calib"}, gives={"factored"},
                                 forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Whitened:
    """Split linear layers and convolutions in two, by what their outputs on the calibration split need.

    by: "energy" keeps that share of the squared singular values of W C^{1/2}, which is the outputs' energy; "params" keeps at
    most that share of the weights. keep: the share. center: C is the covariance, and the layer's bias takes up the mean of
    what is lost; else C is the mean of x xᵀ. damp: added to the diagonal of C, as a share of its mean; it says what to keep
    where the samples say nothing. samples: of the calibration split.

    A k×k convolution becomes one to `rank` channels and a 1×1 one. Linear layers and one- and two-dimensional convolutions;
    layers that share a weight are left alone, and those where two layers would not have fewer weights. Differs from the
    papers: what a layer is given is what the uncompressed network makes (the papers' symmetric case), responses are those
    before the activation function, and the factors come from a projection, not from an inverse Cholesky factor.
    """

    by: str = knob("energy", among=("energy", "params"))
    keep: float = knob(0.9, low=0.01, high=0.999)
    center: bool = True
    damp: float = knob(1e-6, low=0.0, high=1.0, search=False)
    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    @torch.no_grad()
    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some layers split; those left alone are noted by their weight's name."""
        out, nodes = net.copy(), []
        for name, node in net.weighted():
            if why := refusal_on_data(net, name, node):
                work.skip(name, why)
            else:
                nodes.append(node)
        found = gathered(net, nodes, work.use("calib")[0][: self.samples])
        for node in nodes:
            self._split(out, str(node.args["weight"]), node.name, found[node.name], work)
        return out

    def _split(self, out: Net, name: str, node: str, moments: tuple[Tensor, Tensor], work: Work) -> None:
        (second, mean), weight = moments, out.slot(name)().detach()
        matrix = as_matrix(weight)
        basis, values = directions(matrix, root(second - torch.outer(mean, mean) if self.center else second, self.damp))
        shape = tuple(matrix.shape)
        rank = rank_by_energy(values, self.keep) if self.by == "energy" else share_rank(shape, self.keep)
        if rank < 1 or rank * sum(shape) >= weight.numel():
            work.skip(name, f"at rank {rank} two layers would not have fewer weights than its {weight.numel()}")
            return
        left, right = projected(matrix, basis[:, :rank])
        split_(out, name, as_weights(left, right, tuple(weight.shape)), "channel")
        if self.center:
            shift_bias_(out, node, (matrix.double() - left.double() @ right.double()) @ mean, work)


def shift_bias_(net: Net, node: str, shift: Tensor, work: Work) -> None:
    """Add to a layer's bias in place; a bias that is not its own, or not in float, is left alone and noted."""
    layer = net.spec.node(node)
    slot = layer.slot("bias")
    if slot is not None and (len(net.spec.slot_users()[slot]) > 1 or not isinstance(net.slot(slot), Free)):
        work.skip(str(slot), "it is shared or not in float, and does not take up the mean of what is lost")
        return
    value = net.slot(own_bias_(net, layer)).value
    value.add_(shift.to(value))
