"""A layer as a low-rank branch and a sparse one, added."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.chains import exchange_, named, node_without_bias, pair, refusal_on_data
from paredown.graph.low_rank import as_matrix, as_weights
from paredown.graph.moments import crossed, value_at
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked
from paredown.graph.spec import Node, Slot, Value

STAGES = 4
"""In how many steps the rank grows."""

REFITS = 30
"""Conjugate gradients, at most, by which the sparse part's values are fit."""

EXCHANGES = (0.3, 0.05)
"""Shares of the sparse part's entries that may be exchanged for others at a time; the better of them is taken."""


@dataclass(frozen=True, eq=False)
class Parts:
    """W ≈ U V + S: left U [m, r], right V [r, n], sparse S [m, n]; and ‖(W − U V − S) X‖² after every update."""

    left: Tensor
    right: Tensor
    sparse: Tensor
    errors: tuple[float, ...]


def bilateral(rest: Tensor, second: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return (U, V) after one update of each: least squares for U given V, made orthonormal by QR, then V given U.

    rest: E = W − S. U spans E C Vᵀ, of which argmin_U ‖(E − U V) X‖² is a basis' multiple; then V = Uᵀ E. No singular value
    decomposition, no inverse, and the error never grows.
    """
    left, _ = torch.linalg.qr(rest @ second @ right.T)
    return left, left.T @ rest


def grown(rest: Tensor, second: Tensor, parts: tuple[Tensor, Tensor], more: int, draw: torch.Generator) -> Tensor:
    """Return V with `more` rows: the directions in which what is left changes the outputs most, by two power steps."""
    left, right = parts
    lost = rest - left @ right
    sketch = torch.randn(len(rest), more, generator=draw, dtype=rest.dtype).to(rest)
    for _ in range(2):
        sketch, _ = torch.linalg.qr(lost @ (second @ (lost.T @ sketch)))
    return torch.cat([right, sketch.T @ lost])


def largest(scores: Tensor, count: int) -> Tensor:
    """Return True at the `count` largest entries; of equal ones at the first."""
    stays = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    stays[scores.flatten().argsort(descending=True, stable=True)[:count]] = True
    return stays.view_as(scores)


def refit(wanted: Tensor, second: Tensor, start: Tensor, stays: Tensor) -> Tensor:
    """Return S, zero where nothing stays, with a small ‖(wanted − S) X‖²: conjugate gradients, all rows at once."""
    sparse = start * stays
    left = ((wanted - sparse) @ second) * stays
    step, size = left, left.square().sum(1, keepdim=True)
    enough = 1e-24 * size.clamp(min=1e-300)
    for _ in range(REFITS):
        if bool((size <= enough).all()):
            break
        turned = (step @ second) * stays
        curve = (step * turned).sum(1, keepdim=True)
        far = torch.where(curve > 0, size / curve.clamp(min=1e-300), torch.zeros_like(size))
        sparse, left = sparse + far * step, left - far * turned
        before, size = size, left.square().sum(1, keepdim=True)
        step = left + step * size / before.clamp(min=1e-300)
    return sparse


def emptied(wanted: Tensor, second: Tensor, count: int) -> Tensor:
    """Return S of at most `count` entries by pruning: the least S² C_jj go, a fifth at a time, the rest refit after each."""
    sparse, left = wanted, wanted.numel()
    while left > count:
        left = max(count, math.floor(0.8 * left))
        stays = largest(sparse.square() * second.diagonal(), left)
        sparse = refit(wanted, second, sparse, stays)
    return sparse


def exchanged(wanted: Tensor, second: Tensor, sparse: Tensor, count: int, most: int) -> Tensor:
    """Return S with up to `most` entries exchanged for others, and refit: those in by S² C_jj, those out by G² / C_jj.

    G: the gradient (wanted − S) C. The first is what losing an entry costs, the second what one alone gains, where C is
    diagonal.
    """
    diagonal = second.diagonal().clamp(min=1e-300)
    inside = largest(torch.where(sparse != 0, sparse.square() * diagonal, -1.0), count)
    worth = ((sparse + ((wanted - sparse) @ second) / diagonal).square()) * diagonal
    new = largest(torch.where(inside, -1.0, worth), most) & ~inside
    kept = inside & ~largest(torch.where(inside, -worth, -torch.inf), most)
    return refit(
        wanted,
        second,
        sparse,
        kept | largest(torch.where(new | (inside & ~kept), worth, -1.0), count - int(kept.sum())),
    )


def thresholded(wanted: Tensor, second: Tensor, sparse: Tensor, count: int) -> Tensor:
    """Return the best of several S of at most `count` entries: the one there is, and hard thresholds with values refit.

    One keeps the largest (W − L)² C_jj, the saliency of optimal brain surgery with a diagonal Hessian, which is exact where
    C = I. Two exchange entries of S, many or few. Where there is no S yet, one is found by pruning step by step.
    """
    if not count:
        return torch.zeros_like(wanted)
    found = [sparse, refit(wanted, second, wanted, largest(wanted.square() * second.diagonal(), count))]
    if sparse.any():
        found += [exchanged(wanted, second, sparse, count, max(1, math.ceil(part * count))) for part in EXCHANGES]
    else:
        found.append(emptied(wanted, second, count))
    errors = [error_of(wanted - s, second) for s in found]
    return found[errors.index(min(errors))]


def error_of(change: Tensor, second: Tensor) -> float:
    """Return ‖Δ X‖² = tr(Δ C Δᵀ), a mean over inputs where C is one."""
    return max(0.0, float(((change @ second) * change).sum()))


def low_rank_sparse(matrix: Tensor, second: Tensor, rank: int, count: int, sweeps: int = 30, seed: int = 0) -> Parts:
    """Return U V of that rank and S of at most `count` entries with a small ‖(W − U V − S) X‖²: greedy bilateral decomposition.

    second: C, the mean of x xᵀ over the inputs, [n, n]. The rank grows in STAGES steps; after each U, V and S are updated in
    turn, `sweeps` times at most in all after the last. The error never grows. In float64; U and V carry equal sizes.
    """
    whole, second = matrix.detach().double(), second.to(matrix.device).double()
    draw = torch.Generator().manual_seed(seed)
    left, right, sparse = whole[:, :0], whole[:0], torch.zeros_like(whole)
    errors = [error_of(whole, second)]
    targets = sorted({math.ceil(rank * k / STAGES) for k in range(1, STAGES + 1)})
    for target in targets:
        if target > len(right):
            right = grown(whole - sparse, second, (left, right), target - len(right), draw)
        for _ in range(sweeps if target == targets[-1] else 3):
            if len(right):
                left, right = bilateral(whole - sparse, second, right)
            sparse = thresholded(whole - left @ right, second, sparse, count)
            errors.append(error_of(whole - left @ right - sparse, second))
            if errors[-2] - errors[-1] <= 1e-12 * errors[0]:
                break
    size = right.norm(dim=1).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return Parts(left * size, right / size[:, None], sparse, tuple(errors))


@part("factorize.low_rank_sparse", Card(title="Low-rank and sparse decomposition", paper="doi:10.1109/CVPR.2017.15", year=2017,
                                        authors="Yu, Liu, Wang, Tao",
                                        source="On Compressing Deep Models by Low Rank and Sparse Decomposition, CVPR 2017; greedy bilateral updates: "
                                               "Zhou & Tao, Greedy Bilateral Sketch, Completion & Smoothing, AISTATS 2013",
                                        changes={"nonzero", "bits"}, needs={"calib"}, gives={"factored", "masked"},
                                        forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class LowRankSparse:
    """Put two branches in a layer's place that are added: two layers of low rank, and a sparse one like the layer itself.

    keep: share of the weights that may stay, r (m + n) + c of m n; positions of the sparse ones are not counted. shares: of
    that budget for the low-rank branch, of which the best is taken for each layer; 0 is pruning alone (no branches), 1 the
    low rank alone. asymmetric: each layer is given what the compressed layers before it make of the calibration split, and
    wants what the original layer made of the original inputs; else both are the original's. damp: added to the diagonal of
    the inputs' second moment, as a share of its mean. sweeps: updates of all parts, at most. samples: of the split.

    Minimises ‖Y − (L + S) X‖² with rank(L) ≤ r and card(S) ≤ c by `low_rank_sparse(…)`. Linear layers and one- and
    two-dimensional convolutions whose weight they alone use. Differs from the paper: the ranks come from a budget, not by
    hand; the sparse part's values are refit by conjugate gradients; what a mask holds at zero stays so in later training.
    """

    keep: float = knob(0.3, low=0.01, high=0.9)
    shares: tuple = (0.0, 0.3, 0.6, 1.0)
    asymmetric: bool = True
    damp: float = knob(1e-4, low=0.0, high=1.0, search=False)
    sweeps: int = knob(30, low=1, high=10_000, log=True, search=False)
    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.shares or not all(isinstance(s, float) and 0 <= s <= 1 for s in self.shares):
            raise BadInput(f"LowRankSparse.shares={self.shares!r} is not allowed; shares from 0.0 to 1.0")

    @torch.no_grad()
    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with branches; layers left alone are noted by their weight's name."""
        out, x = net.copy().eval(), work.use("calib")[0][: self.samples]
        for name, node in net.weighted():
            weight = net.slot(name)().detach()
            why = refusal_on_data(net, name, node)
            if why or math.floor(self.keep * weight.numel()) < 1:
                work.skip(name, why or f"{self.keep:g} of its {weight.numel()} weights is none")
                continue
            put_(out, name, self._best(*self._moments(net, out, node, x), work.seed))
        return out.train(net.training)

    def _moments(self, net: Net, out: Net, node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (the matrix that is wanted, the inputs' second moment); where inputs differ, by least squares."""
        weight = net.slot(str(node.args["weight"]))().detach()
        matrix, kernel, source = as_matrix(weight).double(), tuple(weight.shape[2:]), str(node.args["input"])
        own = value_at(net, x, source)
        given = value_at(out, x, source) if self.asymmetric else own
        second = crossed(node, given, given, kernel)[0]
        damped = second + (self.damp * second.diagonal().mean()).clamp(min=1e-12) * torch.eye(len(second)).to(second)
        if self.asymmetric:
            shift = matrix @ (crossed(node, own, given, kernel)[0] - second)
            matrix = matrix + torch.linalg.solve(damped, shift, left=False)
        return matrix, damped

    def _best(self, matrix: Tensor, second: Tensor, seed: int) -> Parts:
        most, sides = math.floor(self.keep * matrix.numel()), sum(matrix.shape)
        found = []
        for rank in sorted({min(*matrix.shape, math.floor(share * most / sides + 1e-9)) for share in self.shares}):
            count = 0 if rank and self.shares == (1.0,) else most - rank * sides
            found.append(low_rank_sparse(matrix, second, rank, count, self.sweeps, seed))
        return min(found, key=lambda parts: parts.errors[-1])


def put_(net: Net, name: str, parts: Parts) -> None:
    """Put the branches that there are in the place of a layer."""
    held = net.slot(name)()
    sparse = parts.sparse.to(held.dtype).view(held.shape)
    if not len(parts.right):
        net.set_slot(name, Masked(sparse, sparse != 0))
        return
    names = named(name, "first"), named(name, "second"), named(name, "sparse")
    first, second = as_weights(parts.left.to(held.dtype), parts.right.to(held.dtype), tuple(held.shape))
    slots: dict[Slot, nn.Module] = {names[0]: Free(first), names[1]: Free(second)}
    some = bool((sparse != 0).any())
    if some:
        slots[names[2]] = Masked(sparse, sparse != 0)

    def expand(node: Node, fresh: Callable[[str], str]) -> list[Node]:
        pieces = pair(node, (names[0], names[1]), "channel", fresh("first"))
        if not some:
            return list(pieces)
        low = Node(fresh("second"), pieces[1].op, pieces[1].args)
        rest = node_without_bias(node, fresh("sparse")).with_args(weight=names[2])
        added = Node(node.name, "add.Tensor", {"self": Value(low.name), "other": Value(rest.name)})
        return [pieces[0], low, rest, added]

    exchange_(net, name, slots, expand)
