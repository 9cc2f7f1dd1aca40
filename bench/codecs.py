"""Bytes and speed of every integer code beside zstd -19 and xz -9, side by side in one run, on one thread.

    python bench/codecs.py             # about five minutes

The integers: 4-bit codes (a step a channel) of LeNet-300-100 and LeNet-5 trained here on digits (for LeNet-5 each pixel is 2 x 2), dense and with 70 % of
the weights pruned by size and the rest trained on; and made normal values, rounded, deviation 2.5, from −7 to 7, 10^5 and ten times as many: `per_value`
columns say that bytes and time grow with the number. Codecs and streams code layer by layer, each with its own table; zstd and xz get all layers in one piece,
a byte a code. MB/s counts a byte a code too, by the processor's time, the best of the rounds, in which every way takes its turn. "streams" are those of the packed
format, in C where `kernel` says so, otherwise in Python. `of_entropy` is bytes beside the order-0 entropy of each layer, tables not counted.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lzma
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import zstandard
from torch import nn
from torch.nn.functional import cross_entropy

import paredown.kernels.streams as native
from paredown.core.catalog import entries
from paredown.cost.measure import processor
from paredown.data.tasks import load
from paredown.methods.code.adaptive import FINE
from paredown.methods.code.eie import Eie
from paredown.methods.code.huffman import Huffman
from paredown.methods.quantize.uniform import grid
from paredown.targets.streams import read_levels, write_levels
from paredown.train.data import Data
from paredown.zoo.resolve import network
from tables import write

Layers = list[np.ndarray]
Way = tuple[Callable[[Layers], list[bytes]], Callable[[list[bytes], Layers], Layers]]
SPARSITY, EPOCHS = 0.7, 12


def codec(part: Any) -> Way:
    """Return a codec's two directions over layers."""
    return (lambda layers: [part.encode(layer) for layer in layers],
            lambda data, layers: [part.decode(one, layer.size) for one, layer in zip(data, layers, strict=True)])  # fmt: skip


def streams() -> Way:
    """Return the packed format's streams: one a layer."""

    def there(layers: Layers) -> list[bytes]:
        return [write_levels(v.reshape(1, -1), ["matrix"], v.size >= FINE, False) for v in layers]

    def back(data: list[bytes], layers: Layers) -> Layers:
        pairs = zip(data, layers, strict=True)
        return [read_levels(one, ["matrix"], v.size, v.size >= FINE, False).ravel() for one, v in pairs]

    return there, back


def general(press: Callable[[bytes], bytes], expand: Callable[[bytes], bytes]) -> Way:
    """Return a general compressor's two directions over all layers in one piece."""

    def there(layers: Layers) -> list[bytes]:
        return [press(b"".join(layer.astype(np.int8).tobytes() for layer in layers))]

    def back(data: list[bytes], layers: Layers) -> Layers:
        whole = np.frombuffer(expand(data[0]), np.int8).astype(np.int64)
        return np.split(whole, np.cumsum([layer.size for layer in layers])[:-1])

    return there, back


def ways() -> dict[str, Way]:
    """Return every way, by name."""
    found = {
        entry.name: codec(entry.cls()) for entry in entries("codec") if entry.cls.__module__.startswith("paredown.")
    }
    return found | {
        "code.eie, 64 elements": codec(Eie(64)),
        "code.huffman, limit 8": codec(Huffman(8)),
        "streams": streams(),
        "zstd -19": general(zstandard.ZstdCompressor(19).compress, zstandard.ZstdDecompressor().decompress),
        "xz -9": general(lambda data: lzma.compress(data, preset=9), lzma.decompress),
    }


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor, masks: dict[str, torch.Tensor]) -> None:
    """Train with Adam in batches of 64; what a mask holds stays at zero."""
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    order = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for at in torch.randperm(len(x), generator=order).split(64):
            adam.zero_grad()
            cross_entropy(net(x[at]), y[at]).backward()
            adam.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    net.get_parameter(name).mul_(mask)


def trained(name: str) -> dict[str, tuple[Layers, float]]:
    """Return {"dense" and "70 % sparse": (codes of each layer as a matrix, accuracy with them on test)}."""
    task, side = load("digits"), 2 if name == "lenet_5" else 1
    train_x, test_x = (_sized(Data.of(task, role).x, side) for role in ("train", "test"))
    train_y, test_y = (Data.of(task, role).y for role in ("train", "test"))
    net = network({"model": name}, tuple(train_x.shape[1:]), len(task.classes), 0)
    weights = [key for key, value in net.named_parameters() if value.dim() > 1]
    train(net, train_x, train_y, {})
    found = {"dense": _coded(net, weights, test_x, test_y)}
    masks = {}
    for key in weights:
        size = net.get_parameter(key).detach().abs()
        masks[key] = (size > size.flatten().kthvalue(int(SPARSITY * size.numel())).values).to(size.dtype)
    train(net, train_x, train_y, masks)
    return found | {"70 % sparse": _coded(net, weights, test_x, test_y)}


def _sized(x: torch.Tensor, by: int) -> torch.Tensor:
    return x.repeat_interleave(by, -1).repeat_interleave(by, -2)


@torch.no_grad()
def _coded(net: nn.Module, weights: list[str], x: torch.Tensor, y: torch.Tensor) -> tuple[Layers, float]:
    kept = {key: net.get_parameter(key).clone() for key in weights}
    layers = []
    for key, value in kept.items():
        codes, step = grid(value, 4)
        layers.append(codes.flatten(1).numpy().astype(np.int64))
        net.get_parameter(key).copy_(codes * step)
    accuracy = float((net.eval()(x).argmax(1) == y).double().mean())
    for key, value in kept.items():
        net.get_parameter(key).copy_(value)
    net.train()
    return layers, accuracy


def sources() -> dict[str, tuple[Layers, float | str]]:
    """Return {name: (integers of each layer, accuracy)}."""
    draw = np.random.default_rng(0)
    found: dict[str, tuple[Layers, float | str]] = {}
    for name in ("lenet_300_100", "lenet_5"):
        found |= {f"{name}, {kind}": pair for kind, pair in trained(name).items()}
    for count in (10**5, 10**6):
        values = np.round(draw.normal(0, 2.5, count)).clip(-7, 7).astype(np.int64)
        found[f"normal, {count}"] = [values.reshape(-1, 1000)], ""
    return found


def entropy(layers: Layers) -> float:
    """Return the bytes of each layer's order-0 entropy, in all."""
    counts = [np.unique(layer, return_counts=True)[1] for layer in layers]
    return sum(float(-(n * np.log2(n / n.sum())).sum()) for n in counts) / 8


def measured(layers: Layers, rounds: int) -> dict[str, tuple[int, float, float]]:
    """Return {way: (bytes, least processor seconds to encode, to decode)}; every way gives the integers back in every round."""
    found: dict[str, tuple[int, float, float]] = {}
    for _ in range(rounds):
        for name, (there, back) in ways().items():
            start = time.process_time()
            data = there(layers)
            middle = time.process_time()
            again = back(data, layers)
            end = time.process_time()
            assert all((a == v.ravel()).all() for a, v in zip(again, layers, strict=True)), name
            _, to, fro = found.get(name, (0, np.inf, np.inf))
            found[name] = sum(map(len, data)), min(to, middle - start), min(fro, end - middle)
    return found


def main() -> None:
    """Measure, print and write the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for source, (layers, accuracy) in sources().items():
        count = sum(layer.size for layer in layers)
        rounds, least = (1 if count >= 10**6 else 3), entropy(layers)
        for name, (size, to, fro) in measured(layers, rounds).items():
            rows.append({"source": source, "values": count, "nonzero": round(sum(map(np.count_nonzero, layers)) / count, 4), "accuracy": accuracy,
                         "way": name, "bytes": size, "bits_per_value": round(8 * size / count, 4), "of_entropy": round(size / least, 4),
                         "encode_mb_s": round(count / to / 1e6, 3), "decode_mb_s": round(count / fro / 1e6, 3),
                         "encode_ns_per_value": round(to / count * 1e9, 1), "decode_ns_per_value": round(fro / count * 1e9, 1),
                         "kernel": "C" if name == "streams" and native.built() else "", "rounds": rounds, "threads": 1, "cpu": processor(),
                         "zstandard": zstandard.__version__, "load": round(os.getloadavg()[0], 2),
                         "date": datetime.now(UTC).date().isoformat()})  # fmt: skip
            print(f"{source:28s} {name:24s} {size:9d} B {rows[-1]['bits_per_value']:7.3f} bits {rows[-1]['of_entropy']:7.3f} x entropy "
                  f"{rows[-1]['encode_mb_s']:8.2f} {rows[-1]['decode_mb_s']:8.2f} MB/s", flush=True)  # fmt: skip
    write("codecs.csv", rows)


if __name__ == "__main__":
    main()
