"""Which inputs each output is wired to, chosen before anything is known: at random, evenly, or as a small world."""

import torch
from torch import Tensor


def expander(outputs: int, inputs: int, degree: int, draw: torch.Generator) -> Tensor:
    """Return True where an output reads an input, [outputs, inputs]: for each output `degree` different ones, drawn."""
    chosen = torch.rand(outputs, inputs, generator=draw).topk(degree, 1).indices
    return torch.zeros(outputs, inputs, dtype=torch.bool).scatter(1, chosen, True)


def regular(outputs: int, inputs: int, degree: int, draw: torch.Generator) -> Tensor:
    """Return True where an output reads an input: `degree` different ones each, and every input as often as any other.

    Outputs take in turn, in a drawn order, those that were taken least often so far; of equal ones drawn ones.
    """
    wired, often = torch.zeros(outputs, inputs, dtype=torch.bool), torch.zeros(inputs)
    for output in torch.randperm(outputs, generator=draw):
        taken = (often + torch.rand(inputs, generator=draw) / 2).topk(degree, largest=False).indices
        wired[output, taken], often[taken] = True, often[taken] + 1
    return wired


def small_world(outputs: int, inputs: int, degree: int, rewired: float, draw: torch.Generator) -> Tensor:
    """Return True where an output reads an input: its `degree` nearest on a ring, some of them moved to drawn ones.

    rewired: with which probability an edge is moved (Watts & Strogatz 1998); every output keeps `degree` different inputs.
    """
    ring = (torch.arange(outputs) * inputs) // outputs
    near = (ring[:, None] + torch.arange(degree) - degree // 2) % inputs
    stays = torch.rand(outputs, degree, generator=draw) >= rewired
    rank = torch.rand(outputs, inputs, generator=draw)
    rank.scatter_(1, near, torch.where(stays, 2.0, -1.0))  # what is moved goes elsewhere, while there is elsewhere
    chosen = rank.topk(degree, 1).indices
    return torch.zeros(outputs, inputs, dtype=torch.bool).scatter(1, chosen, True)


def reached(layers: list[Tensor]) -> Tensor:
    """Return True where an output of the last layer depends on an input of the first, [outputs, inputs]."""
    found = layers[0]
    for layer in layers[1:]:
        found = (layer.double() @ found.double()) > 0
    return found


def path_length(wired: Tensor) -> float:
    """Return the mean number of layers, all wired alike and as wide as high, in which an output first sees an input."""
    seen = torch.eye(len(wired), dtype=torch.bool)
    total, depth = 0, 0
    while not seen.all():
        depth += 1
        now = seen | ((wired.double() @ seen.double()) > 0)
        if torch.equal(now, seen):
            return float("inf")
        total, seen = total + depth * int((now & ~seen).sum()), now
    return total / (len(wired) * (len(wired) - 1))
