"""A convolution as four: to R channels, along one side of the kernel, along the other, and to the outputs."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tensorly.decomposition import parafac
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import along, bias_of, exchange_, kernel_refusal, named, pointwise, refusal
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Value

LARGE = 1e3
"""How many times the weight's norm the terms may have together before they are taken to cancel (Lebedev et al., section 4.2)."""

LEAST = 1e-10
"""The ridge of least squares that is always there: more terms than a weight has leave it singular."""


def cp(weight: Tensor, rank: int, iterations: int = 200, seed: int = 0) -> list[Tensor]:
    """Return one factor [size, rank] for each dimension of the weight: W ≈ Σ_r a_r ∘ b_r ∘ c_r …, by alternating least squares.

    Each term's size is spread evenly over its factors. Starts from singular vectors, and once more at random, in float64, by
    tensorly; the better of the two. Terms that cancel each other are avoided by a ridge where they grow beyond LARGE.
    """
    array = weight.detach().double().cpu().numpy()
    scale = float((array**2).mean()) ** 0.5 or 1.0
    found: list[list[Tensor]] = []
    for start, ridge in (("svd", LEAST), ("random", LEAST), ("svd", 1e-3), ("random", 1e-3)):
        if ridge > LEAST and min(map(sizes_of, found)) <= LARGE:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = parafac(
                array / scale, rank, n_iter_max=iterations, init=start, tol=1e-10, l2_reg=ridge, random_state=seed
            )
        found.append(_even([torch.from_numpy(factor.copy()) for factor in made.factors], made.weights, scale))
    able = [factors for factors in found if sizes_of(factors) <= LARGE] or found
    best = min(able, key=lambda factors: float((composed(factors) - weight.detach().double().cpu()).norm()))
    return [factor.to(weight) for factor in best]


def _even(factors: list[Tensor], weights: Sequence[float], scale: float) -> list[Tensor]:
    """Return factors whose columns of one term have the same norm."""
    norms = torch.stack([factor.norm(dim=0) for factor in factors])
    size = norms.prod(0) * torch.as_tensor(weights).double().abs() * scale
    each = size ** (1 / len(factors))
    unit = [f / torch.where(n > 0, n, torch.ones_like(n)) * each for f, n in zip(factors, norms, strict=True)]
    unit[0] = unit[0] * torch.as_tensor(weights).double().sign()
    return unit


def sizes_of(factors: Sequence[Tensor]) -> float:
    """Return the root of the terms' summed squared norms over the norm of their sum: large where terms cancel."""
    terms = torch.stack([factor.double().norm(dim=0) for factor in factors]).prod(0).norm()
    return float(terms / composed(factors).norm().clamp(min=1e-300)) if terms > 0 else 0.0


def composed(factors: Sequence[Tensor]) -> Tensor:
    """Return the weight that the factors make together."""
    letters = "oihw"[: len(factors)]
    return torch.einsum(",".join(f"{at}r" for at in letters) + "->" + letters, *factors)


def size(shape: Sequence[int], rank: int) -> int:
    """Return the weights of all layers: R · (out + in + height + width)."""
    return rank * sum(shape)


@part("factorize.cp", Card(title="CP decomposition of convolutions", paper="arxiv:1412.6553", year=2015,
                           authors="Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky",
                           source="Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition, section 3",
                           changes={"params", "macs"}, gives={"factored"},
                           forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Cp:
    """Make a convolution a 1×1 one to R channels, a k×1 and a 1×k one on each channel alone, and a 1×1 one to its outputs.

    by: "params" takes the largest R of at most that share of the weights; "energy" the smallest R found by halving whose
    error leaves that share of the squared weights. keep: the share. iterations: of alternating least squares, at most.

    Stride, padding and dilation of each side go to the layer along it, the bias to the last one. One-dimensional
    convolutions become three layers. Linear layers and 1×1 convolutions have no kernel, and are left alone, as are layers
    where no weights are saved. A large R trains badly at a high learning rate (section 4.2 of the paper). Differs from the
    paper: alternating least squares, from two starts, in place of non-linear least squares.
    """

    by: str = knob("params", among=("params", "energy"))
    keep: float = knob(0.5, low=0.01, high=0.999)
    iterations: int = knob(200, low=1, high=10_000, log=True, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some convolutions split; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, node in net.weighted():
            weight = net.slot(name)().detach()
            why = refusal(net, name, node) or kernel_refusal(weight) or _many(weight)
            factors = [] if why else self._factors(weight, work.seed)
            if not factors:
                work.skip(name, why or f"no rank with fewer weights than its {weight.numel()} keeps that much of it")
                continue
            parts = _parts(factors)
            slots: dict[Slot, nn.Module] = {named(name, key): Free(value) for key, value in parts.items()}
            exchange_(out, name, slots, lambda node, fresh, n=name, p=parts: _chain(node, fresh, n, p))  # type: ignore[misc]
        return out

    def _factors(self, weight: Tensor, seed: int) -> list[Tensor]:
        """Return the factors at the rank that was asked for; none where no weights are saved."""
        most = (weight.numel() - 1) // sum(weight.shape)
        if self.by == "params":
            rank = min(most, math.floor(self.keep * weight.numel() / sum(weight.shape) + 1e-9))
            return cp(weight, rank, self.iterations, seed) if rank else []
        low, best = 0, list[Tensor]()
        while most > low:
            rank = (low + most + 1) // 2
            made = cp(weight, rank, self.iterations, seed)
            if (composed(made) - weight).square().sum() <= (1 - self.keep) * weight.square().sum():
                best, most = made, rank - 1
            else:
                low = rank
        return best


def _many(weight: Tensor) -> str:
    return "a three-dimensional kernel is not split" if weight.dim() > 4 else ""


def _parts(factors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return {part: the layer's weight}, in order: to R channels, along each side, to the outputs."""
    last, first, *sides = (factor.contiguous() for factor in factors)
    ones = [1] * len(sides)
    made = {"first": first.T.reshape(first.shape[1], -1, *ones)}
    for dim, side in enumerate(sides):
        shape = [len(side) if d == dim else 1 for d in range(len(sides))]
        made[("height", "width")[dim]] = side.T.reshape(side.shape[1], 1, *shape)
    return {**made, "last": last.reshape(*last.shape, *ones)}


def _chain(node: Node, fresh: Callable[[str], str], name: str, parts: dict[str, Tensor]) -> list[Node]:
    nodes = [pointwise(node, fresh("first"), Value(node.args["input"]), named(name, "first"))]
    for dim, key in enumerate([key for key in parts if key not in ("first", "last")]):
        args = {"input": Value(nodes[-1].name), "weight": named(name, key), **along(node, dim)}
        nodes.append(Node(fresh(key), node.op, {**args, "groups": len(parts["first"])}))
    last = pointwise(node, node.name, Value(nodes[-1].name), named(name, "last"))
    return [*nodes, last.with_args(**bias_of(node))]
