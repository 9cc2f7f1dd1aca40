"""Layers that read signs: their inputs become −1 or +1 before any rectifier, with the size of the input put back or not."""

from collections.abc import Collection
from dataclasses import replace

from paredown.graph.activations import CONSTANT
from paredown.graph.latent import Skip
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Spec, Value, references

_NEVER_NEGATIVE = frozenset({"relu", "relu6", "sigmoid", "hardsigmoid", "softplus"})
_PASSING = frozenset(
    {"flatten.using_ints", "view", "reshape", "dropout", "feature_dropout", "mean.dim", "permute", "transpose.int"}
)
_POOLS = {"conv1d": "avg_pool1d", "conv2d": "avg_pool2d", "conv3d": "avg_pool3d"}


def read_signs_(
    net: Net, weights: Collection[str], scaled: bool, skip: Skip, steepness: float | Slot = 0.0
) -> list[str]:
    """Make the layers with these weights read sign(x) in place of x, and return the values whose signs are read.

    The sign is that of the value before a rectifier, which has none itself; it is −1 at zero. Its gradient is 1 for |x| < 1
    and 0 beyond (Rastegari et al. 2016, section 3.2), or with a `steepness`, a number or a slot that learns it, the
    derivative of SignSwish.
    scaled: multiply the layer's product by K, the mean of |x| over what each output sees (equation 11).
    skip: told the layer and the reason for every input that stays real, and for every product that is not scaled.
    """
    done: list[Node] = []
    sources: list[str] = []
    for at, node in enumerate(net.spec.nodes):
        if node.op not in WEIGHTED or node.args["weight"] not in weights:
            done.append(node)
        elif reason := _obstacle(net, node):
            skip(f"{node.name}.input", reason)
            done.append(node)
        else:
            earlier = {n.name: n for n in net.spec.nodes[:at]}
            ahead, source = _unrectified(earlier, node.args["input"])
            ahead += sign_nodes(source, steepness)
            there = {n.name for n in done}
            done += [n for n in ahead if n.name not in there]
            sources.append(str(source))
            signed = node.with_args(input=Value(f"{source}_sign"))
            done += _scaled(net, signed, source, skip) if scaled else [signed]
    net.rewire(_alive(Spec(net.spec.inputs, tuple(done), net.spec.output)))
    return list(dict.fromkeys(sources))


def sign_nodes(source: str, steepness: float | Slot = 0.0) -> list[Node]:
    """Return the nodes that make `{source}_sign`, −1 or +1, of a value: two levels of a quantizer, less one."""
    raised, level = f"{source}_raised", f"{source}_level"
    args = {"self": Value(raised), "scale": 2.0, "zero_point": 0, "quant_min": 0, "quant_max": 1}
    tail = [Node(level, CONSTANT, args), Node(f"{source}_sign", "sub.Tensor", {"self": Value(level), "other": 1})]
    if steepness:
        return _swish(source, raised, steepness) + tail
    kept = f"{source}_kept"
    add = Node(raised, "add.Tensor", {"self": Value(kept), "other": 1})
    return [Node(kept, "hardtanh", {"self": Value(source)}), add, *tail]


def _swish(source: str, made: str, steepness: float | Slot) -> list[Node]:
    """Return the nodes that make 1 + SignSwish(x) = 2 σ(bx) (1 + bx (1 − σ(bx))), whose sign is x's (Darabi et al. 2019)."""
    bx, sigma, rest, term, inner, half = (Value(f"{source}_swish{at}") for at in range(6))
    return [
        Node(bx, "mul.Tensor", {"self": Value(source), "other": steepness}),
        Node(sigma, "sigmoid", {"self": bx}),
        Node(rest, "rsub.Scalar", {"self": sigma, "other": 1}),
        Node(term, "mul.Tensor", {"self": bx, "other": rest}),
        Node(inner, "add.Tensor", {"self": term, "other": 1}),
        Node(half, "mul.Tensor", {"self": sigma, "other": inner}),
        Node(made, "mul.Tensor", {"self": half, "other": 2}),
    ]


def settle_signs_(net: Net, sources: Collection[str]) -> None:
    """Make the signs of these values in the plain way, in place, once no gradient is needed any more."""
    plain = {f"{source}_raised": sign_nodes(source)[:2] for source in sources}
    nodes = [new for node in net.spec.nodes for new in plain.get(node.name, [node])]
    net.rewire(_alive(Spec(net.spec.inputs, tuple(nodes), net.spec.output)))


def _obstacle(net: Net, node: Node) -> str:
    if node.op != "linear" and node.get("groups") > 1:
        return "the inputs of grouped convolutions stay real"
    return "it reads the network's input, which stays real" if node.args["input"] in dict(net.spec.inputs) else ""


def _unrectified(nodes: dict[str, Node], value: Value) -> tuple[list[Node], Value]:
    """Return (new nodes, a value): the value as it is without the rectifier that it comes through, if there is one."""
    node = nodes.get(value)
    if node is None:
        return [], value
    source = Value(node.args.get("self", node.args.get("input")))
    if node.op in _NEVER_NEGATIVE or (node.op == "hardtanh" and node.get("min_val") >= 0):
        return [], source
    if not (node.op in _PASSING or "_pool" in node.op):
        return [], value
    ahead, before = _unrectified(nodes, source)
    if before == source:
        return [], value
    argument = "self" if "self" in node.args else "input"
    twin = replace(node, name=f"{node.name}_real", args={**node.args, argument: before})
    return [*ahead, twin], Value(twin.name)


def _scaled(net: Net, node: Node, source: str, skip: Skip) -> list[Node]:
    """Return a layer's nodes with its product multiplied by K before the bias is added."""
    if node.op != "linear" and (node.op not in _POOLS or not _poolable(net, node)):
        skip(f"{node.name}.input", "its products are not scaled by K: no average pooling has its windows")
        return [node]
    name, bias = Value(node.name), node.args.get("bias")
    product, size, seen = (Value(f"{name}_{word}") for word in ("product", "size", "seen"))
    nodes = [Node(size, "abs", {"self": Value(source)})]
    dims = [-1] if node.op == "linear" else [1]
    nodes.append(Node(seen, "mean.dim", {"self": size, "dim": dims, "keepdim": True}))
    if node.op != "linear":
        window = {"kernel_size": _kernel(net, node), "stride": node.get("stride"), "padding": node.get("padding")}
        nodes.append(Node(f"{name}_k", _POOLS[node.op], {"self": seen, **window}))
        seen = Value(f"{name}_k")
    nodes.append(replace(node.with_args(bias=None), name=product))
    times = {"self": product, "other": seen}
    if not isinstance(bias, Slot):
        return [*nodes, Node(name, "mul.Tensor", times)]
    value = net.slot(bias)().detach()
    apart = Slot(f"{name}.bias_apart")
    net.set_slot(apart, Free(value.view(-1, *[1] * (len(_kernel(net, node)) if node.op != "linear" else 0))))
    whole = Node(f"{name}_sized", "mul.Tensor", times)
    return [*nodes, whole, Node(name, "add.Tensor", {"self": Value(whole.name), "other": apart})]


def _kernel(net: Net, node: Node) -> list[int]:
    return list(net.slot(node.args["weight"])().shape[2:])


def _poolable(net: Net, node: Node) -> bool:
    padding = list(node.get("padding"))
    fits = all(2 * pad <= size for pad, size in zip(padding, _kernel(net, node), strict=False))
    return fits and set(node.get("dilation")) == {1} and not isinstance(node.args.get("bias"), Value)


def _alive(spec: Spec) -> Spec:
    """Return the architecture without the nodes whose values nobody reads."""
    wanted = set(references(spec.output))
    kept: list[Node] = []
    for node in reversed(spec.nodes):
        if Value(node.name) in wanted:
            kept.insert(0, node)
            wanted |= set(node.values())
    return Spec(spec.inputs, tuple(kept), spec.output)
