"""A network some of whose values pass through modules of a method while it is trained."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from paredown.graph.net import Net
from paredown.graph.spec import Node


class Watched(Net):
    """A form for training: the value of each node in `passes` is what its module returns for it.

    The modules' parameters are trained and their state is saved with the network's. The slots are those of the network
    it was made of, not copies; `plain()` returns a network without the modules.
    """

    def __init__(self, net: Net, passes: Mapping[str, nn.Module]) -> None:
        super().__init__(net.spec, {name: net.slot(name) for name in net.slot_names()})
        self.train(net.training)
        self.passes = nn.ModuleDict({_key(name): module for name, module in passes.items()})

    def passing(self, name: str) -> Any:
        """Return the module that the value of the node `name` passes through, or None."""
        key = _key(name)
        if key in self.passes:
            return self.passes[key]
        return None

    def run(self, *inputs: Tensor, watch: Callable[[Node, Any], Any] | None = None) -> Any:
        """Return the output; `watch` sees the values behind the modules, as in `Net.run`."""

        def through(node: Node, value: Any) -> Any:
            module = self.passing(node.name)
            made = value if module is None else module(value)
            instead = None if watch is None else watch(node, made)
            return made if instead is None else instead

        return super().run(*inputs, watch=through)

    def plain(self) -> Net:
        """Return the network without the modules, with the same slots."""
        return Net(self.spec, {name: self.slot(name) for name in self.slot_names()}).train(self.training)


def _key(name: str) -> str:
    return f"{name.replace('.', '/')}/"
