"""Follow the channels of a whole network."""

from paredown.graph import rules_layer, rules_move, rules_product, rules_recurrent  # noqa: F401  (each registers its rules)
from paredown.graph.flow import RULES, Flow
from paredown.graph.net import Net
from paredown.graph.probe import probed
from paredown.graph.spec import references


def trace(net: Net, heads: bool = False) -> Flow:
    """Return how channels flow through `net`, whose inputs and outputs keep all of theirs.

    heads: attention loses whole heads; else mostly width, the same in all heads.
    """
    flow = Flow(net, heads)
    for name, shape in net.spec.inputs:
        flow.values[name] = flow.frozen((1, *shape), f"{name} is an input")
    for node in net.spec.nodes:
        known = RULES.get(node.op, probed)
        made = known(flow, node)
        flow.values[node.name] = flow.stop(node, "mixes channels") if made is None and known is probed else made
    for leaf in references(net.spec.output):
        flow.hold(leaf, f"{leaf} is returned by the network")
    return flow
