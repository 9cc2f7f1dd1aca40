"""Product quantization that keeps what a layer makes, not what its weights are."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.clusters import CELLS, clustered, obstacle
from paredown.graph.latent import learnable
from paredown.graph.moments import TOGETHER, columns, value_at
from paredown.graph.net import Net
from paredown.graph.spec import Node
from paredown.graph.vectors import VectorCodebook
from paredown.graph.windows import LAYERS

NOISE = 1e-8
"""How far from the largest cluster's centroid an empty one begins, in standard deviations of the weights."""


@torch.no_grad()
def block_moments(node: Node, x: Tensor, kernel: tuple[int, ...], length: int) -> Tensor:
    """Return the mean of x xᵀ over a layer's windows for each block of `length` of what a row is multiplied with.

    [places, length, length], float64, the blocks of the first group first: X̃ᵀX̃ of the paper, kept apart by place.
    """
    total, count = torch.zeros((), dtype=torch.float64, device=x.device), 0
    for some in x.split(TOGETHER):
        laid = columns(node, some, kernel).double()
        blocks = laid.reshape(-1, length, laid.shape[2])
        total, count = total + blocks @ blocks.transpose(1, 2), count + laid.shape[2]
    return total / max(1, count)


def output_error(blocks: Tensor, moments: Tensor, instead: Tensor) -> float:
    """Return Σ (v − c)ᵀ M (v − c) over all vectors: blocks and what stands for them, [places, vectors, length]."""
    apart = blocks - instead
    return float((apart @ moments * apart).sum())


def assigned(blocks: Tensor, moments: Tensor, centroids: Tensor) -> Tensor:
    """Return for each vector the centroid with the least (v − c)ᵀ M (v − c), [places, vectors]: the E-step (eq. 6)."""
    own = torch.einsum("kd,pde,ke->pk", centroids, moments, centroids)
    step = max(1, CELLS // (blocks.shape[1] * len(centroids)))
    found = []
    for some, moment, base in zip(blocks.split(step), moments.split(step), own.split(step), strict=True):
        found.append((base[:, None] - 2 * (some @ moment @ centroids.T)).argmin(2))
    return torch.cat(found)


def fitted(blocks: Tensor, moments: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """Return the centroids of least squares for these codes, (Σ M)⁺ Σ M v: the M-step (eq. 7); those without vectors stay."""
    count, length = centroids.shape
    places = torch.arange(len(blocks), device=blocks.device)[:, None].expand_as(codes)
    share = torch.zeros(count, len(blocks), dtype=blocks.dtype, device=blocks.device)
    share.index_put_((codes, places), share.new_ones(()), accumulate=True)
    left = (share @ moments.flatten(1)).view(count, length, length)
    right = torch.zeros_like(centroids).index_add_(0, codes.flatten(), (blocks @ moments).reshape(-1, length))
    found = (torch.linalg.pinv(left, hermitian=True) @ right[:, :, None])[:, :, 0]
    return torch.where(share.sum(1, keepdim=True) > 0, found, centroids)


def split_empty(codes: Tensor, centroids: Tensor, draw: torch.Generator, size: float) -> Tensor:
    """Return the centroids with each that has no vectors put beside that of the largest cluster, by a noise of `size`."""
    counts = torch.bincount(codes.flatten(), minlength=len(centroids))
    empty = (counts == 0).nonzero().flatten()
    if not len(empty):
        return centroids
    noise = torch.randn(len(empty), centroids.shape[1], generator=draw, dtype=centroids.dtype).to(centroids)
    return centroids.index_copy(0, empty, centroids[counts.argmax()] + size * noise)


def em(
    blocks: Tensor, moments: Tensor, clusters: int, rounds: int, seed: int = 0
) -> tuple[Tensor, Tensor, list[float]]:
    """Return (codes [places, vectors], centroids, output error after each round) of weighted k-means; the errors never rise.

    blocks: the vectors, [places, vectors, length], float64. moments: what they are multiplied with, [places or 1, length,
    length] (`block_moments`). It starts from the k-means of the vectors themselves.
    """
    moments = moments.expand(len(blocks), -1, -1)
    flat, draw = blocks.flatten(0, 1), torch.Generator().manual_seed(seed)
    codes, centroids = clustered(flat, clusters, seed)
    codes = codes.view(blocks.shape[:2])
    errors = [output_error(blocks, moments, centroids[codes])]
    for _ in range(rounds):
        before = codes
        centroids = split_empty(codes, centroids, draw, NOISE * float(flat.std()))
        codes = assigned(blocks, moments, centroids)
        centroids = fitted(blocks, moments, codes, centroids)
        errors.append(output_error(blocks, moments, centroids[codes]))
        if torch.equal(before, codes):
            break
    return codes, centroids, errors


def places_first(weight: Tensor, groups: int, length: int) -> Tensor:
    """Return a weight's vectors as [places, vectors, length]: a place is a group and a block of its inputs."""
    pieces = weight.reshape(groups, len(weight) // groups, -1, length)
    return pieces.transpose(1, 2).reshape(-1, len(weight) // groups, length)


def storage_bytes(shape: tuple[int, ...], length: int, clusters: int) -> tuple[float, int]:
    """Return (bytes of the codes, bytes of the table in float16) as the paper counts them (section 4.1)."""
    return math.prod(shape) / length * math.log2(clusters) / 8, 2 * clusters * length


@part("share.bit_goes_down", Card(title="And the bit goes down", paper="arxiv:1907.05686", year=2020,
                                  authors="Stock, Joulin, Gribonval, Graham, Jégou",
                                  source="And the Bit Goes Down: Revisiting the Quantization of Neural Networks, section 3",
                                  changes={"bits", "bytes"}, needs={"calib"},
                                  forbids={"quantized", "shared", "masked"}, gives={"shared"}))  # fmt: skip
@dataclass(frozen=True)
class BitGoesDown:
    """Share vectors between the rows of a weight so that the layer's output on the calibration split changes least.

    clusters: 2 to 4096 centroids for each layer, at most a quarter of its vectors, as in the paper. kernels: a vector of a
    layer with kernels is that many whole ones (9 numbers of 3×3; 1 are the paper's small blocks, 2 its large). length: of
    a vector of a 1×1 convolution or a linear layer, 4 or 8 there. rounds: of E-step and M-step, at most. activations:
    "place", vectors are weighed by what they themselves are multiplied with, or "stacked", by what all of the layer's
    vectors are, as in the paper. real_first: leave the first layer real, as the paper does.

    Layers are done in order, each on what the layers before, already quantized, make of the samples. Fine-tune the
    centroids afterwards by distillation: they are the trained parameter (section 3.4). That is a `train.finetune` whose loss
    names its teacher, as "self" would be the network with its shared vectors; `habit.centroids` with half stores their tables in
    float16.

    Differs from the paper: "place" instead of "stacked"; EM starts from k-means instead of random vectors and stops where
    the codes do; an empty cluster goes beside the largest, whose centroid stays where it is; the first layer is shared
    unless `real_first`; layer-wise fine-tuning between layers is left to the training after.
    """

    clusters: int = knob(256, low=2, high=4096, log=True)
    kernels: int = knob(1, among=(1, 2))
    length: int = knob(4, among=(2, 4, 8, 16))
    rounds: int = knob(100, low=1, high=10_000, log=True, search=False)
    activations: str = knob("place", among=("place", "stacked"))
    real_first: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are tables of vectors; weights that are left alone are noted."""
        held, x = net.copy(), work.use("calib")[0]
        able, nodes = list(learnable(held, work.skip)), dict(net.weighted())
        first = next(iter(nodes), None) if self.real_first else None
        for name in able:
            node, weight = nodes[name], held.slot(name)().detach()
            length = self.length_of(weight)
            clusters = max(2, min(self.clusters, weight.numel() // length // 4))
            if name == first:
                work.skip(str(name), "the first layer stays real")
            elif node.op not in LAYERS:
                work.skip(str(name), f"what {node.op} multiplies is not laid out as windows")
            elif why := obstacle(weight.shape, length, clusters):
                work.skip(str(name), why)
            else:
                inputs = value_at(held, x, str(node.args["input"]))
                held.set_slot(name, self._shared(node, weight, inputs, clusters, work.seed))
        return held

    def length_of(self, weight: Tensor) -> int:
        """Return how many numbers of a weight make a vector."""
        taps = math.prod(weight.shape[2:])
        return taps * self.kernels if taps > 1 else self.length

    def _shared(self, node: Node, weight: Tensor, inputs: Tensor, clusters: int, seed: int) -> VectorCodebook:
        length = self.length_of(weight)
        groups = 1 if node.op == "linear" else int(node.get("groups"))
        moments = block_moments(node, inputs, tuple(weight.shape[2:]), length)
        if self.activations == "stacked":
            moments = moments.mean(0, keepdim=True)
        codes, centroids, _ = em(places_first(weight.double(), groups, length), moments, clusters, self.rounds, seed)
        in_order = codes.view(groups, -1, len(weight) // groups).transpose(1, 2)
        return VectorCodebook(in_order, centroids[None].to(weight.dtype), weight.shape).to(weight.device)
