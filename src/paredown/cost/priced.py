"""One number for what a network costs, by name: for methods that spend a budget."""

from collections.abc import Callable

from paredown.core.errors import BadInput
from paredown.cost.count import layers
from paredown.cost.devices import device
from paredown.cost.modelled import estimates
from paredown.graph.net import Net

COUNTED = {"macs": "macs", "params": "params", "bits": "stored_bits", "bops": "bops"}
"""Name of a cost to the field of a layer that is summed."""


def priced(name: str) -> Callable[[Net], float]:
    """Return a function from a network to its cost: a counted sum over its layers, or the latency that is modelled.

    name: "macs", "params", "bits" (all that is stored) or "bops"; or a device, by name or file, whose model says how many
    milliseconds the layers take. Raises BadInput for anything else, and for a device that has no model of latency.
    """
    if name in COUNTED:
        key = COUNTED[name]
        return lambda net: float(sum(getattr(row, key) for row in layers(net)))
    known = device(name)

    def latency(net: Net) -> float:
        found = [e.value for e in estimates(layers(net), known) if e.what.startswith(("latency", "cycles"))]
        if not found:
            raise BadInput(f"device {name!r} has no model of latency")
        return float(found[0])

    return latency
