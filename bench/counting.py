"""Our counter beside fvcore, ptflops, torchinfo, thop and torch's own on 30 networks; which operators make the difference; how fast.

    pip install fvcore ptflops torchinfo thop          # in an environment of their own, with paredown
    python bench/counting.py counts                    # about ten minutes on one core; bench/results/counting.csv
    python bench/counting.py speed                     # about five; bench/results/counting_speed.csv

`counts`: a row for each network and counter. `macs` is the counter's own total (FLOPs of torch's halved, as it counts a MAC as
two). `products` is its part in convolutions, linear layers, matrix products and recurrent layers, told by the names of operators
or layer classes that it lists; `brute_force` is how many products the traced network sums, found by running each such operator on
ones: each output is then the number of its products. `exact` says whether `products` is that; `because` is the difference of
`macs` from it by kind of operator. Nothing here knows which counter does what: all is computed from what they list.
"""

import contextlib
import io
import logging
import os
import platform
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.cost.count import count, layers
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.ops import CONVOLUTIONS
from paredown.graph.spec import Node, Slot
from paredown.verbs.analyze import analyze
from paredown.zoo.resolve import models
from tables import write

Kinds = dict[str, int]
PICTURE = (3, 224, 224)


class Recurrent(nn.Module):
    """A recurrent layer and a linear head on its last output."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.head = kind(40, 128, 2, batch_first=True), nn.Linear(128, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    """A block of an encoder on torch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.project = nn.LayerNorm(128), nn.Linear(128, 384), nn.Linear(128, 128)
        self.mix = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).unflatten(-1, (12, 32)).transpose(1, 2).chunk(3, 1)
        x = x + self.project(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return (x + self.mix(x)).mean(1)


class Functional(nn.Module):
    """Convolutions and a product called as functions, with weights that are bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.rand(16, 3, 3, 3)), nn.Parameter(torch.rand(32, 16, 3, 3))
        self.last = nn.Parameter(torch.rand(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.conv2d(F.relu(F.conv2d(x, self.first, stride=2)), self.second, stride=2))
        return y.mean((2, 3)) @ self.last


def decoder() -> nn.Sequential:
    """Return strided and transposed convolutions that give a picture back."""
    down = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*down, nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1))


ZOO: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "lenet_5": ({}, (1, 28, 28), 10), "alexnet": ({}, (3, 227, 227), 1000), "vgg_16": ({}, PICTURE, 1000),
    "googlenet": ({}, PICTURE, 1000), "inception_v3": ({}, (3, 299, 299), 1000), "xception": ({}, (3, 299, 299), 1000),
    "resnet_18": ({}, PICTURE, 1000), "resnet_50": ({}, PICTURE, 1000), "resnext_50": ({}, PICTURE, 1000),
    "se_resnet_50": ({}, PICTURE, 1000), "resnet_small": ({"option": "A"}, (3, 32, 32), 10),
    "densenet_121": ({}, PICTURE, 1000), "squeezenet_1_1": ({}, PICTURE, 1000), "mobilenet_v1": ({}, PICTURE, 1000),
    "mobilenet_v2": ({}, PICTURE, 1000), "mobilenet_v3_large": ({}, PICTURE, 1000), "mnasnet": ({}, PICTURE, 1000),
    "shufflenet_v1": ({}, PICTURE, 1000), "shufflenet_v2": ({}, PICTURE, 1000), "efficientnet_b0": ({}, PICTURE, 1000),
    "regnet_y": ({}, PICTURE, 1000), "deit_tiny": ({}, PICTURE, 1000), "swin_t": ({}, PICTURE, 1000),
    "efficientvit_b0": ({}, PICTURE, 1000), "ds_cnn": ({}, (1, 49, 10), 12), "autoencoder": ({}, (640,), 640),
}  # fmt: skip
OWN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "gru": (lambda: Recurrent(nn.GRU), (100, 40)), "encoder": (lambda: nn.Sequential(Encoder()), (64, 128)),
    "decoder": (decoder, (3, 64, 64)), "functional": (Functional, (3, 64, 64)),
}  # fmt: skip


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield (name, module in eval mode, one sample), one after the other."""
    torch.manual_seed(0)
    for name, (settings, shape, classes) in ZOO.items():
        yield name, models()[name](shape, classes, **settings).eval(), torch.rand(1, *shape)
    for name, (make, shape) in OWN.items():
        yield name, make().eval(), torch.rand(1, *shape)


KINDS = {
    "recurrent": r"rnn|gru|lstm", "convolution": r"conv", "product": r"matmul|bmm|einsum|attention|^dot",
    "linear": r"linear|addmm|^mm$", "normalisation": r"norm", "pooling": r"pool|mean", "elementwise": r"^(add|sub|mul|div|iadd|imul)\b",
    "activation": r"relu|sigmoid|tanh|elu|silu|swish|softmax|mish",
}  # fmt: skip
"""Which names of operators and layer classes are which kind, in this order."""
PRODUCTS = ("recurrent", "convolution", "product", "linear")


def kind_of(label: str) -> str:
    """Return the kind of an operator or layer class, by its name."""
    bare = label.lower().removeprefix("aten.").removeprefix("aten::").strip("_")
    return next((kind for kind, names in KINDS.items() if re.search(names, bare)), bare)


def by_kind(listed: dict[str, float]) -> Kinds:
    """Return counts by kind from counts by name."""
    kinds: Counter[str] = Counter()
    for label, value in listed.items():
        kinds[kind_of(label)] += int(value)
    return dict(kinds)


def ours(model: nn.Module, x: Tensor) -> Kinds:
    """Return paredown's MACs (convention "full": products that are summed)."""
    rows: Counter[str] = Counter()
    for row in layers(capture(model, x)):
        rows[row.op] += row.macs
    return by_kind(dict(rows))


def fvcore(model: nn.Module, x: Tensor) -> Kinds:
    """Return fvcore's counts."""
    from fvcore.nn import FlopCountAnalysis

    found = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return by_kind(found.by_operator())


def torchs(model: nn.Module, x: Tensor) -> Kinds:
    """Return half of the FLOPs of torch.utils.flop_counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return by_kind({str(op): flops / 2 for op, flops in counter.get_flop_counts()["Global"].items()})


def torchinfo(model: nn.Module, x: Tensor) -> Kinds:
    """Return torchinfo's mult-adds of its leaf layers."""
    from torchinfo import summary

    found: Counter[str] = Counter()
    for layer in summary(model, input_data=x, verbose=0).summary_list:
        found[layer.class_name] += layer.macs if layer.is_leaf_layer else 0
    return by_kind(dict(found))


def thop(model: nn.Module, x: Tensor) -> Kinds:
    """Return thop's MACs of its layers."""
    from thop import profile

    found: Counter[str] = Counter()

    def collect(tree: dict[str, Any], at: str) -> None:
        for name, (macs, _, inside) in tree.items():
            path = f"{at}.{name}".removeprefix(".")
            if inside:
                collect(inside, path)
            else:
                found[type(model.get_submodule(path)).__name__] += macs

    collect(profile(model, (x,), verbose=False, ret_layer_info=True)[2], "")
    return by_kind(dict(found))


def ptflops(model: nn.Module, x: Tensor) -> Kinds:
    """Return ptflops' MACs: of layers, read as the pass ends, and of functions, read as they are called."""
    from ptflops import get_model_complexity_info, pytorch_engine

    found: Counter[str] = Counter()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        flops = self.handler(*args, **kwargs)
        self.collector.append(flops)
        found[getattr(self.op, "__name__", str(self.op))] += flops
        return self.op(*args, **kwargs)

    def read(module: nn.Module, _: Any, __: Any) -> None:
        for layer in module.modules():
            found[type(layer).__name__] += getattr(layer, "__flops__", 0)

    kept, handle = pytorch_engine.torch_function_wrapper.__call__, model.register_forward_hook(read)
    pytorch_engine.torch_function_wrapper.__call__ = call
    try:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            total, _ = get_model_complexity_info(
                model, tuple(x.shape[1:]), print_per_layer_stat=False, as_strings=False
            )
    finally:
        pytorch_engine.torch_function_wrapper.__call__ = kept
        handle.remove()
    if total is None:
        raise RuntimeError("it gave up")
    return by_kind({**found, "unlisted": total - sum(found.values())})


COUNTERS: dict[str, Callable[[nn.Module, Tensor], Kinds]] = {
    "paredown": ours, "fvcore": fvcore, "torch": torchs, "torchinfo": torchinfo, "thop": thop, "ptflops": ptflops,
}  # fmt: skip


def brute_force(net: Net) -> Kinds:
    """Return how many products each operator sums, by kind: it is run on ones, and its outputs are added up."""
    shapes = net.shapes()
    found: Counter[str] = Counter()
    for node in net.spec.nodes:

        def ones(argument: str, node: Node = node) -> Tensor:
            given = node.args[argument]
            size = net.slot(given)().shape if isinstance(given, Slot) else shapes[given]
            return torch.ones(size, dtype=torch.float64)

        found[node.op] += round(products(node, net, ones))
    return by_kind(dict(found))


def products(node: Node, net: Net, ones: Callable[[str], Tensor]) -> float:
    """Return the sum of a node's outputs on ones; what is no sum of products gives 0."""
    if node.op in CONVOLUTIONS:
        return convolved(node, ones)
    if node.op == "linear":
        return float((ones("input") @ ones("weight").T).sum())
    if node.op in ("matmul", "bmm", "mm"):
        return float((ones("self") @ ones("mat2" if node.op != "matmul" else "other")).sum())
    if node.op == "addmm":
        return float((ones("mat1") @ ones("mat2")).sum())
    if node.op == "scaled_dot_product_attention":
        scores = ones("query") @ ones("key").transpose(-1, -2)
        return float(scores.sum() + (torch.ones_like(scores) @ ones("value")).sum())
    if node.op.startswith(("rnn", "gru", "lstm")):
        steps = ones("input").shape[1 if node.args["batch_first"] else 0]
        matrices = [held for slot in node.args["params"] if (held := net.slot(slot)()).dim() == 2]
        return float(steps * sum(torch.ones_like(m).sum() for m in matrices))
    return 0.0


def convolved(node: Node, ones: Callable[[str], Tensor]) -> float:
    """Return the sum of a convolution's outputs on ones, its padding ones too; a transposed one is not cropped."""
    x, weight = ones("input"), ones("weight")
    named = {key: node.get(key) for key in ("stride", "dilation", "groups")}
    call = getattr(F, node.op.split(".")[0])
    if "transpose" in node.op:
        return float(call(x, weight, **named).sum())
    around = [side for p in reversed(node.get("padding")) for side in (p, p)]
    return float(call(F.pad(x, around, value=1.0), weight, **named).sum())


def because(found: Kinds, truth: Kinds) -> str:
    """Return the difference by kind, the largest first."""
    gaps = {kind: found.get(kind, 0) - truth.get(kind, 0) for kind in {*found, *truth}}
    ordered = sorted(((gap, kind) for kind, gap in gaps.items() if gap), key=lambda pair: -abs(pair[0]))
    return "; ".join(f"{kind} {gap:+,}" for gap, kind in ordered)


def circumstances() -> dict[str, Any]:
    """Return what a row was made under."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = re.search(r"model name\s*: (.*)", described)
    return {
        "torch": torch.__version__, "cpu": cpu[1] if cpu else platform.machine(), "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def counts() -> list[dict[str, Any]]:
    """Return a row for each network and counter."""
    rows = []
    for name, model, x in networks():
        truth = brute_force(capture(model, x))
        params = sum(p.numel() for p in model.parameters())
        for counter, run in COUNTERS.items():
            row = {"network": name, "counter": counter, "version": version(counter), "params": params, "macs": "",
                   "products": "", "brute_force": sum(truth.values()), "exact": "", "because": "", "error": ""}  # fmt: skip
            try:
                found = run(model, x)
                made = sum(found.get(kind, 0) for kind in PRODUCTS)
                row |= {"macs": sum(found.values()), "products": made, "exact": made == row["brute_force"], "because": because(found, truth)}  # fmt: skip
            except Exception as error:  # noqa: BLE001  a counter that fails on a network is a finding about it
                row["error"] = (
                    f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error) else ''}"
                )
            rows.append({**row, **circumstances()})
            print(f"{name:20s} {counter:10s} {row['macs'] or 0:>16,}  {row['exact']} {row['because']} {row['error']}", flush=True)  # fmt: skip
    return rows


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def against_fvcore(name: str, repeats: int = 7) -> list[dict[str, Any]]:
    """Return rows of seconds, and the ratio to fvcore of the same round, for parts of our way; rounds are interleaved."""
    model, x = models()[name](PICTURE, 1000).eval(), torch.rand(1, *PICTURE)
    net = capture(model, x)
    ways: dict[str, Callable[[], Any]] = {
        "fvcore": lambda: fvcore(model, x), "forward": lambda: model(x), "capture": lambda: capture(model, x),
        "count of a captured network": lambda: count(net), "capture and count": lambda: count(capture(model, x)),
        "analyze of a captured network": lambda: analyze(net), "analyze": lambda: analyze(model, x),
    }  # fmt: skip
    for work in ways.values():
        work()
    rounds = [{way: seconds(work) for way, work in ways.items()} for _ in range(repeats)]
    return [
        timed(name, len(net.spec.nodes), way, [r[way] for r in rounds], [r["fvcore"] for r in rounds]) for way in ways
    ]


def timed(network: str, nodes: int, way: str, taken: list[float], beside: list[float]) -> dict[str, Any]:
    """Return a row of the median time, and of the ratio to the times `beside` with its quartiles."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(taken, beside, strict=True)], n=4)
    return {
        "network": network, "nodes": nodes, "way": way, "seconds": round(statistics.median(taken), 4),
        "ms_per_node": round(statistics.median(taken) / nodes * 1000, 3), "ratio": round(middle, 3), "ratio_low": round(low, 3),
        "ratio_high": round(high, 3), "repeats": len(taken), "fvcore": version("fvcore"),
        "load": round(os.getloadavg()[0], 2), **circumstances(),
    }  # fmt: skip


def chain(length: int) -> nn.Sequential:
    """Return `length` layers, half of them linear and half ReLU."""
    return nn.Sequential(*[layer for _ in range(length // 2) for layer in (nn.Linear(16, 16), nn.ReLU())])


def linearity(repeats: int = 5) -> list[dict[str, Any]]:
    """Return rows for chains of 125 to 1,000 layers; the ratio is to the shortest, eight times it where time is linear."""
    rows, shortest = [], {}
    x = torch.rand(1, 16)
    capture(chain(10), x)
    for length in (126, 250, 500, 1000):
        model = chain(length).eval()
        net = capture(model, x)
        ways = {
            "capture": lambda m=model: capture(m, x),
            "count": lambda n=net: count(n),
            "analyze": lambda n=net: analyze(n),
        }
        for way, work in ways.items():
            taken = [seconds(work) for _ in range(repeats)]
            rows.append(timed(f"chain of {length}", len(net.spec.nodes), way, taken, shortest.setdefault(way, taken)))
    return rows


def speed() -> list[dict[str, Any]]:
    """Return the rows of both timings."""
    logging.disable(logging.CRITICAL)
    rows = [*against_fvcore("mobilenet_v2"), *against_fvcore("resnet_50"), *linearity()]
    for row in rows:
        print(f"{row['network']:16s} {row['way']:30s} {row['seconds']:9.4f} s  {row['ratio']:7.2f} x  {row['ms_per_node']} ms a node")  # fmt: skip
    return rows


def main() -> None:
    """Run what is named on the command line, and write its table."""
    parts = {"counts": (counts, "counting.csv"), "speed": (speed, "counting_speed.csv")}
    for name in sys.argv[1:] or list(parts):
        run, file = parts[name]
        write(file, run())


if __name__ == "__main__":
    main()
