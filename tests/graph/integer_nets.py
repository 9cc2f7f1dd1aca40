"""Small networks quantized everywhere, and ONNX Runtime's codes of their every quantized value."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from paredown.core.work import Work
from paredown.graph.activations import CONSTANT, hold_activations, learn_activations
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Frozen
from paredown.graph.spec import Value, references
from paredown.methods.quantize.activations import Activations
from paredown.methods.quantize.uniform import Uniform
from paredown.targets.onnx import build

PICTURE = (3, 11, 12)


def conv(i: int, o: int, k: int = 3, **kw: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, bias=False, **kw), nn.BatchNorm2d(o), nn.ReLU())


class Plain(nn.Module):
    """Poolings of both kinds with padding, a convolution without rectifier, a flattened head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), nn.Conv2d(8, 6, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2))
        self.average, self.most = nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 3 * 2, 9), nn.ReLU(), nn.Linear(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.most(self.b(self.average(self.a(x)))))


class Residual(nn.Module):
    """Sums after a rectifier and before one, a downsampling branch, global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8), conv(8, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.down, self.fc = nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(8, 16, 1, 2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.b(self.a(x)) + x)
        x = self.c(x) + self.down(x)
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Joined(nn.Module):
    """Branches of different steps joined, one of them a pooling; an average that leaves the padding out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 4, 1), conv(3, 5), nn.Conv2d(12, 7, 3)
        self.pool, self.fc = nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(torch.cat([self.a(x), self.b(x), nn.functional.max_pool2d(x, 3, 1, 1)], 1))
        return self.fc(nn.functional.adaptive_avg_pool2d(self.pool(x), 1).flatten(1))


def depthwise() -> nn.Module:
    """MobileNet's blocks, with ReLU6."""
    layers = [conv(3, 8, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.Conv2d(8, 12, 1)]
    return nn.Sequential(*layers, conv(12, 12, groups=4), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(12, 4))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(396, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 6))


NETS = {"plain": Plain, "residual": Residual, "joined": Joined, "depthwise": depthwise, "mlp": mlp}


def pictures(count: int, seed: int = 1) -> np.ndarray:
    """Return inputs of both signs, so that zero points lie inside the codes."""
    return np.random.default_rng(seed).normal(0.3, 0.6, (count, *PICTURE)).astype(np.float32)


def quantized(model: nn.Module, bits: int = 7, activation: int = 8, learned: bool = False) -> Frozen:
    """Return a network in integers everywhere. Weights of 7 bits: of 8, processors without VNNI saturate pairs of products."""
    torch.manual_seed(0)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.3, 0.3)
        nn.init.uniform_(norm.running_var, 0.2, 2.0)
    x = torch.from_numpy(pictures(64, 0))
    work = Work({"calib": (x, None)})
    net = fold_batchnorm(capture(model.eval(), x[:2]))[0]
    if learned:
        learn_activations(net, activation, x, everywhere=True)
        hold_activations(net)
    else:
        net = Activations(activation, "min-max", everywhere=True).apply(net, work)
    return freeze(Uniform(bits).apply(net, work).eval())


def exposed(frozen: Frozen) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return (the exported model with the codes of all quantizers as outputs, {quantizer: that output})."""
    model = build(frozen)
    quantizers = [node.name for node in frozen.spec.nodes if node.op == CONSTANT]
    made = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    narrowed = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    names = {name: narrowed.get(codes, codes) for name, codes in zip(quantizers, made, strict=True)}
    shown = [onnx.ValueInfoProto(name=codes) for codes in names.values()]
    model.graph.output.extend(shown)
    return model, names


def session(model: onnx.ModelProto, folder: Path) -> tuple[onnxruntime.InferenceSession, Counter]:
    """Return a session, and how often each operator stands in the optimised graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.x64quantprecision", "1")  # without VNNI pairs of products saturate else
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return made, Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def peer_codes(frozen: Frozen, x: np.ndarray, folder: Path) -> tuple[dict[str, np.ndarray], Counter]:
    """Return ({quantizer: ONNX Runtime's codes}, how often each operator stands in its optimised graph)."""
    model, names = exposed(frozen)
    run, counts = session(model, folder)
    return dict(zip(names, run.run(list(names.values()), {run.get_inputs()[0].name: x}), strict=True)), counts


def final(frozen: Frozen) -> str:
    """Return the quantizer of the output."""
    return next(str(leaf) for leaf in references(frozen.spec.output) if isinstance(leaf, Value))
