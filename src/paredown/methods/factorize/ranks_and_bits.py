"""A rank and a width for each layer together: the fewest bits at a given change of the layers' outputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.allocate import Sum, allocate
from paredown.graph.chains import exchange_, named, pair, refusal_on_data
from paredown.graph.low_rank import as_matrix, as_weights, directions, output_error, projected, rank_by_energy, root
from paredown.graph.moments import gathered
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid
from paredown.graph.storing import storing
from paredown.graph.widths import coded, held

WIDEST = 8

FITS = ("max", "mse")
"""Ways to choose a step, see `widths.coded`."""


@dataclass(frozen=True, eq=False)
class Choice:
    """One way to hold a layer: a rank (0 is whole), a width, the slots, their stored bits and the outputs' relative error."""

    rank: int
    width: int
    slots: tuple[Grid, ...]
    error: float

    @property
    def bits(self) -> int:
        """What codes and steps take, uncoded."""
        return sum(slot.stored_bits() for slot in self.slots)


def rounded_factors(matrix: Tensor, basis: Tensor, half: Tensor, width: int, fit: str = "mse") -> tuple[Grid, Grid]:
    """Return (left m×r, right r×n) as codes of `width` bits, with a step for each row.

    right is B Bᵀ-projection's Bᵀ W, whose rows bring a step each for their sizes; left is then refit by least squares to the
    rounded right, min ‖(W − L R) C^{1/2}‖, before it is rounded too. basis: B, [m, r], orthonormal. half: C^{1/2}.
    """
    right = held(projected(matrix, basis, balance=False)[1], [width], fit)
    seen, wanted = right().double() @ half, matrix.double() @ half
    left = torch.linalg.lstsq(seen.T, wanted.T, driver="gelsd").solution.T
    return held(left.to(matrix), [width], fit), right


@torch.no_grad()
def choices(weight: Tensor, half: Tensor, energies: Sequence[float], widths: Sequence[int]) -> list[Choice]:
    """Return every way to hold a layer: whole or at the rank of each energy of its outputs where that saves weights, at each width.

    half: C^{1/2} of its inputs, [n, n]. Of steps by largest value and by least squared error those are taken that change the
    outputs less. An error is ‖(W − Ŵ) C^{1/2}‖² / ‖W C^{1/2}‖².
    """
    matrix = as_matrix(weight)
    basis, values = directions(matrix, half)
    scale = output_error(matrix, half) or 1.0
    ranks = sorted({rank_by_energy(values, energy) for energy in energies})
    found = []
    for width in widths:
        ways: list[list[tuple[Grid, ...]]] = [[(held(weight, [width], fit),) for fit in FITS]]
        able = [rank for rank in ranks if rank * sum(matrix.shape) < matrix.numel()]
        ways += [[rounded_factors(matrix, basis[:, :rank], half, width, fit) for fit in FITS] for rank in able]
        for rank, slots in zip((0, *able), ways, strict=True):
            errors = [output_error(matrix - _product(some), half) / scale for some in slots]
            best = errors.index(min(errors))
            found.append(Choice(rank, width, slots[best], errors[best]))
    return found


def _product(slots: Sequence[Grid]) -> Tensor:
    """Return the matrix that a layer's one or two slots multiply with."""
    return as_matrix(slots[0]()) if len(slots) == 1 else slots[0]() @ slots[1]()


def fewest(table: Sequence[Sequence[Choice]], most_error: float) -> list[Choice]:
    """Return a choice for each layer with the fewest bits whose errors sum to at most that much. Raises BadInput."""
    errors, bits = _columns(table)
    return _taken(table, allocate(bits, [Sum("relative output error", errors, most_error)]))


def nearest(table: Sequence[Sequence[Choice]], most_bits: float) -> list[Choice]:
    """Return a choice for each layer with the least sum of errors within a budget of stored bits. Raises BadInput."""
    errors, bits = _columns(table)
    return _taken(table, allocate(errors, [Sum("bits", bits, most_bits)]))


def _columns(table: Sequence[Sequence[Choice]]) -> tuple[list[list[float]], list[list[float]]]:
    return [[c.error for c in row] for row in table], [[float(c.bits) for c in row] for row in table]


def _taken(table: Sequence[Sequence[Choice]], at: Sequence[int]) -> list[Choice]:
    return [row[k] for row, k in zip(table, at, strict=True)]


@part("factorize.ranks_and_bits", Card(title="Ranks and widths chosen together", year=2021, paper="arxiv:2011.10680",
                                       authors="choice by integer programming: Yao, Dong, Zheng, Gholami, Yu, Tan, Wang, Huang, Wang, Mahoney, Keutzer",
                                       source="HAWQ-V3, section 3.4, equation 11, over pairs of rank and width; factors: arxiv:1505.06798, section 3.1",
                                       changes={"bits", "bytes"}, needs={"calib"}, gives={"factored", "quantized"},
                                       forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class RanksAndBits:
    """Hold each layer whole or as two factors, at a width of its own: the pairs of rank and width that serve best together.

    mean_bits: what a weight of the network as it comes takes on average, at most, steps included; the sum of the layers'
    relative output errors on calibration is then the least. If 0, max_error decides: the fewest bits at which that sum is no
    more. energies: of a layer's outputs, which name the ranks to choose from. widths: to choose from, 1 to 8; the two factors
    of a layer have one. bias_bits: of the biases' codes, or 0 to leave them in float. samples: of the calibration split.

    A factor's rows have a step each, of least squared error; the second factor is refit to the rounded first one. Layers that
    several share, grouped and transposed ones are rounded but stay whole, their error that of the weight.
    Differs from the paper, which chooses widths alone, by second-order sensitivity: the harm here is ‖(W − Ŵ) C^{1/2}‖² /
    ‖W C^{1/2}‖² of what is stored, and errors of layers are taken to add up.
    """

    mean_bits: float = knob(4.0, low=0.0, high=16.0)
    max_error: float = knob(0.0, low=0.0, high=100.0)
    energies: tuple = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    widths: tuple = (2, 3, 4, 5, 6, 8)
    bias_bits: int = knob(8, among=(0, 4, 5, 6, 7, 8), search=False)
    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if bool(self.mean_bits) == bool(self.max_error):
            raise BadInput("RanksAndBits needs either mean_bits or max_error above 0, the other one 0")
        if not all(isinstance(e, float) and 0 < e < 1 for e in self.energies):
            raise BadInput(f"RanksAndBits.energies={self.energies!r} is not allowed; shares between 0 and 1")
        if not self.widths or not all(type(b) is int and 1 <= b <= WIDEST for b in self.widths):
            raise BadInput(f"RanksAndBits.widths={self.widths!r} is not allowed; whole numbers from 1 to {WIDEST}")

    @torch.no_grad()
    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with layers split and rounded. Raises BadInput where the budget cannot be met."""
        table = self.table(net, work)
        size = sum(math.prod(net.slot(name)().shape) for name in table)
        rows = list(table.values())
        chosen = nearest(rows, self.mean_bits * size) if self.mean_bits else fewest(rows, self.max_error)
        out = net.copy()
        for name, choice in zip(table, chosen, strict=True):
            put_(out, name, choice)
        for slot, bits in storing(out, {"bias": self.bias_bits}, (Free, Grid), work.skip):
            if isinstance(out.slot(slot), Free):
                codes, step = coded(out.slot(slot)().detach().view(1, -1), bits, "max")
                out.set_slot(slot, Grid(codes.view(-1), step.view(()), bits))
        return out

    def table(self, net: Net, work: Work) -> dict[str, list[Choice]]:
        """Return {weight: the ways to hold it}; weights that cannot be held otherwise are noted."""
        able = dict.fromkeys(str(slot) for slot, _ in storing(net, {"weight": 1}, (Free,), work.skip))
        first = {name: node for name, node in net.weighted() if name in able}
        why = {name: refusal_on_data(net, name, node) for name, node in first.items()}
        moments = gathered(net, [n for name, n in first.items() if not why[name]], work.use("calib")[0][: self.samples])
        table = {}
        for name, node in first.items():
            weight = net.slot(name)().detach()
            if why[name]:
                work.skip(name, f"it is rounded whole: {why[name]}")
                half = torch.eye(weight[0].numel(), dtype=torch.float64, device=weight.device)
            else:
                half = root(moments[node.name][0], 1e-6)
            table[name] = choices(weight, half, () if why[name] else self.energies, sorted(set(self.widths)))
        return table


def put_(net: Net, name: str, choice: Choice) -> None:
    """Hold a layer as chosen, in place."""
    if not choice.rank:
        net.set_slot(name, choice.slots[0])
        return
    left, right = choice.slots
    first, second = as_weights(left.codes, right.codes, tuple(net.slot(name)().shape))
    slots = (named(name, "first"), named(name, "second"))
    grids = [
        Grid(codes, grid.step.view(-1, *[1] * (codes.dim() - 1)), grid.bits)
        for codes, grid in ((first, right), (second, left))
    ]
    exchange_(
        net,
        name,
        dict(zip(slots, grids, strict=True)),
        lambda node, fresh: pair(node, slots, "channel", fresh("first")),
    )
