"""A linear layer as a chain of small ones: its weight as a matrix in tensor-train format."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensorly.decomposition import tensor_train_matrix
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import bias_of, exchange_, named, refusal
from paredown.graph.low_rank import energy_rank
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Value

Modes = tuple[tuple[int, ...], tuple[int, ...]]
"""(factors of the outputs, factors of the inputs), as many of both."""


def factors_of(number: int, count: int) -> tuple[int, ...]:
    """Return `count` factors of a number, rising, of the least sum: as even as its primes allow; ones where it has too few."""
    if count == 1:
        return (number,)
    found = [
        tuple(sorted((first, *factors_of(number // first, count - 1))))
        for first in range(1, math.isqrt(number) + 1)
        if number % first == 0
    ]
    return min(found, key=sum)


def modes_of(outputs: int, inputs: int, cores: int) -> Modes:
    """Return the factors of both sides: the outputs' rising, the inputs' falling, so that the cores are of like size."""
    return factors_of(outputs, cores), factors_of(inputs, cores)[::-1]


def rearranged(matrix: Tensor, modes: Modes) -> Tensor:
    """Return the weight [∏ m, ∏ n] as a tensor [m₁ n₁, m₂ n₂, …]: equation 3 of the paper."""
    count = len(modes[0])
    order = [k for pair in zip(range(count), range(count, 2 * count), strict=True) for k in pair]
    shape = [m * n for m, n in zip(*modes, strict=True)]
    return matrix.reshape(*modes[0], *modes[1]).permute(order).reshape(shape)


def tensor_train(matrix: Tensor, modes: Modes, ranks: Sequence[int]) -> list[Tensor]:
    """Return the cores G_k, [r_{k−1}, m_k, n_k, r_k] with r_0 = r_d = 1, by TT-SVD in float64 (tensorly).

    W(i, j) ≈ G₁[i₁, j₁] G₂[i₂, j₂] … G_d[i_d, j_d] (Novikov et al. 2015, equation 4). ranks: r_1 … r_{d−1}.
    """
    array = matrix.detach().double().cpu().numpy().reshape(*modes[0], *modes[1])
    made = tensor_train_matrix(array, [1, *ranks, 1])
    return [torch.from_numpy(np.ascontiguousarray(core)).to(matrix) for core in made.factors]


def composed(cores: Sequence[Tensor]) -> Tensor:
    """Return the matrix that the cores make together."""
    made = cores[0]
    for core in cores[1:]:
        made = torch.einsum("aijb,bklc->aikjlc", made, core)
        made = made.reshape(1, made.shape[1] * made.shape[2], made.shape[3] * made.shape[4], -1)
    return made[0, :, :, 0]


def size(modes: Modes, ranks: Sequence[int]) -> int:
    """Return the weights of all cores: Σ r_{k−1} m_k n_k r_k."""
    ends = [1, *ranks, 1]
    return sum(a * m * n * b for a, m, n, b in zip(ends, *modes, ends[1:], strict=False))


def most_ranks(modes: Modes) -> list[int]:
    """Return the ranks with which every matrix is met exactly: the smaller side of each unfolding."""
    sides = [m * n for m, n in zip(*modes, strict=True)]
    return [min(math.prod(sides[:k]), math.prod(sides[k:])) for k in range(1, len(sides))]


def ranks_by_energy(matrix: Tensor, modes: Modes, keep: float) -> list[int]:
    """Return ranks at which at least that share of the squared weights is kept: each unfolding leaves out an equal part.

    The squared error of TT-SVD is at most the sum of what the unfoldings leave out (Oseledets 2011, theorem 2.2).
    """
    tensor = rearranged(matrix, modes)
    each = 1 - (1 - keep) / (tensor.dim() - 1)
    return [energy_rank(tensor.flatten(0, k - 1).flatten(1), each) for k in range(1, tensor.dim())]


def ranks_by_share(modes: Modes, share: float) -> list[int]:
    """Return the largest common rank, less where a core cannot have it, of at most that share of the weights; at least 1."""
    most, whole = most_ranks(modes), math.prod(modes[0]) * math.prod(modes[1])
    low, high = 1, max(most)
    while low < high:
        middle = (low + high + 1) // 2
        fits = size(modes, [min(middle, m) for m in most]) <= share * whole
        low, high = (middle, high) if fits else (low, middle - 1)
    return [min(low, m) for m in most]


@part("factorize.tensor_train", Card(title="Tensor-train format of linear layers", paper="arxiv:1509.06569", year=2015,
                                     authors="Novikov, Podoprikhin, Osokin, Vetrov; decomposition: Oseledets",
                                     source="Tensorizing Neural Networks, sections 3 and 4; TT-SVD: Oseledets, Tensor-Train Decomposition, SIAM J. Sci. Comput. 33, 2011",
                                     changes={"params"}, gives={"factored"},
                                     forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class TensorTrain:
    """Hold a linear layer's weight as a train of small cores, and multiply with them one after another.

    by: "energy" keeps at least that share of the squared weights; "params" takes the largest common rank of at most that
    share of the weights; "rank" takes `rank` for all. keep: the share. cores: how many, 2 to 6; both sides of the weight are
    factorised into as many, as evenly as their primes allow.

    Each core is a linear layer over the last dimension, with permutations between, so any runtime has what it takes;
    operations can rise where parameters fall. Convolutions are left alone, as are layers where no weights are saved. Differs from the paper: the format of a
    trained weight (it also trains layers that begin so), and one core is multiplied after the other from the last to the first.
    """

    by: str = knob("energy", among=("energy", "params", "rank"))
    keep: float = knob(0.9, low=0.01, high=0.999)
    rank: int = knob(8, low=1, high=4096, log=True)
    cores: int = knob(3, low=2, high=6)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some linear layers in the format; those left alone are noted by their weight's name."""
        out, shapes = net.copy(), net.shapes()
        for name, node in net.weighted():
            if why := refusal(net, name, node) or ("" if node.op == "linear" else "a convolution is no matrix"):
                work.skip(name, why)
                continue
            weight = net.slot(name)().detach()
            modes = modes_of(weight.shape[0], weight.shape[1], self.cores)
            ranks = self._ranks(weight, modes)
            if size(modes, ranks) >= weight.numel():
                work.skip(name, f"cores of ranks {ranks} would not have fewer weights than its {weight.numel()}")
                continue
            made = tensor_train(weight, modes, ranks)
            slots: dict[Slot, nn.Module] = {named(name, f"core{k}"): Free(_layer(core)) for k, core in enumerate(made)}
            exchange_(out, name, slots, lambda node, fresh, c=made: _train(node, fresh, c, shapes))  # type: ignore[misc]
        return out

    def _ranks(self, weight: Tensor, modes: Modes) -> list[int]:
        if self.by == "energy":
            return ranks_by_energy(weight, modes, self.keep)
        return (
            ranks_by_share(modes, self.keep) if self.by == "params" else [min(self.rank, m) for m in most_ranks(modes)]
        )


def _layer(core: Tensor) -> Tensor:
    """Return a core as the weight of a linear layer from (n_k, r_k) to (m_k, r_{k−1})."""
    before, outputs, inputs, after = core.shape
    return core.permute(1, 0, 2, 3).reshape(outputs * before, inputs * after)


def _train(node: Node, fresh: Callable[[str], str], cores: Sequence[Tensor], shapes: dict) -> list[Node]:
    """Return the nodes that multiply with the cores, the last one first.

    Between them the value is [lead…, n_1 … n_{k−1}, m_{k+1} … m_d as one, (n_k, r_k)], without the middle one at first.
    """
    name, source = str(node.args["weight"]), Value(node.args["input"])
    lead, count = len(shapes[source]) - 1, len(cores)
    made: list[Node] = []

    def add(op: str, label: str, **args: object) -> Value:
        """Append a node that reads the one before it."""
        first = "input" if op == "linear" else "self"
        before = Value(made[-1].name) if made else source
        made.append(Node(fresh(label), op, {first: before, **args}))
        return Value(made[-1].name)

    add("unflatten.int", "modes", dim=-1, sizes=[core.shape[2] for core in cores])
    for k in range(count - 1, 0, -1):
        add("linear", f"core{k}", weight=named(name, f"core{k}"))
        add("unflatten.int", f"rank{k}", dim=-1, sizes=[cores[k].shape[1], cores[k].shape[0]])
        add("permute", f"turn{k}", dims=_order(lead, k, k == count - 1))
        add("flatten.using_ints", f"join{k}", start_dim=-2, end_dim=-1)
        if k < count - 1:
            add("flatten.using_ints", f"outputs{k}", start_dim=-3, end_dim=-2)
    add("linear", "core0", weight=named(name, "core0"))
    add("transpose.int", "turn0", dim0=-1, dim1=-2)
    end = add("flatten.using_ints", "outputs0", start_dim=-2, end_dim=-1)
    if bias := bias_of(node).get("bias"):
        made.append(Node(node.name, "add.Tensor", {"self": end, "other": bias}))
        return made
    return [*made[:-1], Node(node.name, made[-1].op, made[-1].args)]


def _order(lead: int, k: int, first: bool) -> list[int]:
    """Return how the dimensions go after core k: m_k before what is made already, and n_{k−1} beside the rank.

    Before: lead…, n_1 … n_{k−1}, [made already,] m_k, r. After: lead…, n_1 … n_{k−2}, m_k, [made already,] n_{k−1}, r.
    Where this is the last core nothing is made already.
    """
    kept, beside = list(range(lead + k - 1)), lead + k - 1
    if first:
        return [*kept, beside + 1, beside, beside + 2]
    return [*kept, beside + 2, beside + 1, beside, beside + 3]
