"""Where a width is chosen, what each width makes of the values there, and networks in which only that is rounded."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.graph.activations import insert
from paredown.graph.latent import signs
from paredown.graph.linear import symmetric
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Grid, short_float
from paredown.graph.spec import Node

SHARES = 40
"""Steps that are tried for the least squared error, evenly from 1/SHARES of the largest value to all of it."""


def coded(rows: Tensor, bits: int, fit: str = "mse") -> tuple[Tensor, Tensor]:
    """Return (codes, step) of each row of [rows, values]: codes · step ≈ rows. Steps have four significant bits.

    0 bits: the codes are 0 and the step 1. 1 bit: −1 and +1, the step is mean |w| (Rastegari et al. 2016, section 3.1).
    More: −(2^(bits−1) − 1) … 2^(bits−1) − 1, and the step maps the largest |w| to the largest code (fit="max"), or is
    the one of SHARES shares of that with the least squared error (fit="mse"). codes: float, [rows, values].
    """
    if bits == 0:
        return torch.zeros_like(rows), rows.new_ones(len(rows), 1)
    if bits == 1:
        return signs(rows), short_float(rows.abs().mean(1, keepdim=True).clamp(min=1e-8))
    largest = rows.abs().amax(1, keepdim=True)
    best, least = _nearest(rows, largest, bits), None
    for share in range(1, SHARES) if fit == "mse" else ():
        least = _error(rows, best) if least is None else least
        tried = _nearest(rows, largest * share / SHARES, bits)
        error = _error(rows, tried)
        better = (error < least)[:, None]
        best = torch.where(better, tried[0], best[0]), torch.where(better, tried[1], best[1])
        least = torch.minimum(error, least)
    return best


def _nearest(rows: Tensor, clip: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    high = 2 ** (bits - 1) - 1
    step = short_float(symmetric(clip, bits).step)
    return (rows / step).round().clamp(-high, high), step


def _error(rows: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
    return (found[0] * found[1] - rows).square().sum(1)


def held(weight: Tensor, widths: list[int], fit: str = "mse") -> Grid:
    """Return the slot of a weight whose output channels have `widths`: one for all, or one each; a step each."""
    rows = weight.detach().reshape(len(weight), -1)
    each = torch.tensor(widths if len(widths) > 1 else widths * len(rows))
    codes, steps = torch.zeros_like(rows), rows.new_ones(len(rows), 1)
    for bits in sorted(set(each.tolist())):
        here = (each == bits).to(rows.device)
        codes[here], steps[here] = coded(rows[here], bits, fit)
    return slot_of(codes.view(weight.shape), steps.view(-1, *[1] * (weight.dim() - 1)), each.tolist())


def slot_of(codes: Tensor, step: Tensor, widths: list[int]) -> Grid:
    """Return the slot of codes whose channels have those widths; they are kept in it only where they differ, or are 0."""
    plain = len(set(widths)) == 1 and widths[0] > 0
    most = max(widths) if plain else max(2, *widths)
    return Grid(codes, step, most, None if plain else torch.tensor(widths))


@dataclass(frozen=True)
class Place:
    """Where one width is chosen: a stored weight, one of its output channels, or (`flows`) a value by its name."""

    name: str
    channel: int | None = None
    flows: bool = False


Quantizer = Callable[[str, int], Node]
"""Makes the node that rounds a value of that name to that many bits."""


@dataclass(frozen=True, eq=False)
class Trials:
    """The places of a network, the widths to choose from at each, and how values are rounded.

    net: in float where the places are. widths: one tuple for each place, ascending. fit: of the weights' steps, see
    `coded`. quantizer: of the values that flow; not needed where no place flows.
    """

    net: Net
    places: tuple[Place, ...]
    widths: tuple[tuple[int, ...], ...]
    fit: str = "mse"
    quantizer: Quantizer | None = None
    _kept: dict[tuple[Place, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @torch.no_grad()
    def value(self, place: Place) -> Tensor:
        """Return a stored place's values: the whole weight, or one channel's with its first dimension kept."""
        weight = self.net.slot(place.name)().detach()
        return weight if place.channel is None else weight[place.channel : place.channel + 1]

    @torch.no_grad()
    def codes(self, place: Place, bits: int) -> tuple[Tensor, Tensor]:
        """Return (codes, step) of a stored place at a width, the codes as [channels, values]."""
        if (place, bits) not in self._kept:
            whole = Place(place.name)
            if place.channel is None:
                rows = self.value(place)
                self._kept[place, bits] = coded(rows.reshape(len(rows), -1), bits, self.fit)
            else:
                codes, steps = self.codes(whole, bits)
                return codes[place.channel, None], steps[place.channel, None]
        return self._kept[place, bits]

    @torch.no_grad()
    def rounded(self, place: Place, bits: int) -> Tensor:
        """Return a stored place's values at a width, in the shape of `value`."""
        return torch.mul(*self.codes(place, bits)).view(self.value(place).shape)

    def error(self, place: Place, bits: int) -> Tensor:
        """Return what rounding a stored place changes: `rounded` − `value`."""
        return self.rounded(place, bits) - self.value(place)

    def node(self, place: Place, bits: int) -> Node:
        """Return the node that rounds a value that flows."""
        assert self.quantizer is not None, "a value that flows needs a quantizer"
        return self.quantizer(place.name, bits)

    def net_with(self, place: Place, bits: int) -> Net:
        """Return a network in eval mode in which this place alone is rounded. It shares all other slots with `net`."""
        if place.flows:
            made = Net(self.net.spec, {name: self.net.slot(name) for name in self.net.slot_names()}).eval()
            insert(made, {place.name: self.node(place, bits)})
            return made
        weight = self.value(Place(place.name)).clone()
        at = slice(None) if place.channel is None else slice(place.channel, place.channel + 1)
        weight[at] = self.rounded(place, bits)
        return with_slots(self.net, {place.name: weight})

    @torch.no_grad()
    def code_bits(self, place: Place, bits: int) -> float:
        """Return what a stored place's codes take in an entropy coder, in bits: Σ −log2 of each code's frequency.

        The frequencies are those in the whole weight at this width, plus a half (Krichevsky & Trofimov 1981).
        """
        if bits == 0:
            return 0.0
        whole, reach = self.codes(Place(place.name), bits)[0].long(), 2 ** max(0, bits - 1)
        counts = torch.bincount(whole.flatten() + reach, minlength=2 * reach + 1).double() + 0.5
        lengths = -(counts / counts.sum()).log2()
        return float(lengths[self.codes(place, bits)[0].long() + reach].sum())

    def size(self, place: Place) -> int:
        """Return how many stored values a place has; none where it flows."""
        return 0 if place.flows else math.prod(self.value(place).shape)


def with_slots(net: Net, values: Mapping[str, Tensor]) -> Net:
    """Return a network in eval mode with other values in some slots; it shares all other slots with `net`."""
    slots = {name: net.slot(name) for name in net.slot_names()}
    return Net(net.spec, {**slots, **{name: Fixed(value) for name, value in values.items()}}).eval()
