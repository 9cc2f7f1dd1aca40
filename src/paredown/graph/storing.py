"""Which stored values of the convolutions and linear layers a step may take, and why it may not take the others."""

from collections.abc import Callable, Iterator, Mapping

from torch import nn

from paredown.graph.net import Net
from paredown.graph.ops import OPS, WEIGHTED
from paredown.graph.spec import Slot, Value


def storing(
    net: Net, widths: Mapping[str, int], forms: tuple[type[nn.Module], ...], skip: Callable[[str, str], None]
) -> Iterator[tuple[Slot, int]]:
    """Yield (slot, width) for every weight and bias that may be given a width, each slot as often as it is read.

    widths: bits by argument ("weight", "bias"); an argument with 0 bits is not asked for. forms: the slots that the
    step can take. skip: told the layer and the reason for every value that is asked for and left alone.
    """
    for node in list(net.spec.nodes):
        for argument, bits in widths.items():
            slot = node.args.get(argument) if argument in OPS[node.op].names else None
            if slot is None or not bits:
                continue
            if node.op not in WEIGHTED:
                skip(f"{node.name}.{argument}", f"{node.op} keeps float values; fold batch norms before this step")
            elif isinstance(slot, Value):
                skip(f"{node.name}.{argument}", "it is computed, not stored")
            elif not isinstance(net.slot(slot), forms):
                skip(f"{node.name}.{argument}", f"it is {net.slot(slot).form or 'constant'}, not a plain weight")
            else:
                yield slot, bits
