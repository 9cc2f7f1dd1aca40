"""Every count of a network that an official rule may ask for, by the name it has in the rules' evidence."""

from typing import Any

from paredown.cost import micronet, nessi
from paredown.graph.net import Net


def evidence(net: Net) -> dict[str, Any]:
    """Return {name: count} for one sample: MicroNet's values, products and sums by width, DCASE's sizes and MACs."""
    return {
        **micronet.together(micronet.count(net).values()).to_json(), "uncounted": micronet.uncounted(net),
        "params": nessi.params(net), "param_bytes": nessi.param_bytes(net), "nonzero_bytes": nessi.nonzero_bytes(net),
        "macs": sum(nessi.count(net).values()), "macs_quirk": sum(nessi.count(net, quirk=True).values()),
        "weight_bits": nessi.weight_bits(net),
    }  # fmt: skip
