"""Quantizers beside ours, each as its own documentation says: NNCF, torchao (PT2E) and Brevitas. Used by quantization.py.

All take the same trained module, the same calibration pictures and, for training, the same loop, batches and learning rate.
Activations are rounded where each tool rounds them by itself; weights by output channel, symmetric. A tool returns None
for what it cannot do. Settings that a tool leaves open were chosen on validation of the first seed (README of the CSV).
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Width:
    """What is asked for: lowest and highest weight code (of −1 and 1 without 0: binary), and bits of an activation."""

    name: str
    low: int
    high: int
    activation: int
    binary: bool = False

    @property
    def bits(self) -> int:
        """The bits of a weight's code."""
        return 1 if self.binary else (self.high - self.low).bit_length()


WIDTHS = (
    Width("w8a8", -127, 127, 8),
    Width("w4a8", -7, 7, 8),
    Width("w4a4", -7, 7, 4),
    Width("w3a8", -3, 3, 8),
    Width("w2a8", -2, 1, 8),
    Width("ternary", -1, 1, 8),
    Width("binary", -1, 1, 8, binary=True),
)

Fit = Callable[[nn.Module], None]


class Chain(nn.Module):
    """The layers of a Sequential, called one after the other; NNCF's own child would be called as a layer in a Sequential."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(model.children())

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def nncf(model: nn.Module, calib: Tensor, width: Width, fit: Fit | None) -> nn.Module | None:
    """NNCF: fast bias correction is its default; below 8 bits only its NPU setup has codes, of 4 bits."""
    import nncf as tool
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    if width.name not in ("w8a8", "w4a8", "w4a4"):
        return None
    settings: dict[str, Any] = {"subset_size": len(calib)}
    if width.name != "w8a8":
        settings["target_device"] = tool.TargetDevice.NPU
        settings["ignored_scope"] = tool.IgnoredScope(types=["adaptive_avg_pool2d", "__add__"], validate=False)
        settings["advanced_parameters"] = AdvancedQuantizationParameters(
            weights_quantization_params=QuantizationParameters(num_bits=width.bits),
            activations_quantization_params=QuantizationParameters(num_bits=width.activation),
        )
    made = tool.quantize(Chain(copy.deepcopy(model)).eval(), tool.Dataset(list(calib.split(1))), **settings)
    if fit:
        fit(made)
    return made.eval()


def torchao(model: nn.Module, calib: Tensor, width: Width, fit: Fit | None) -> nn.Module | None:
    """Torchao's PT2E flow with the XNNPACK quantizer, which takes any range of codes; none without zero."""
    from torchao.quantization.pt2e import allow_exported_model_train_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    if width.binary:
        return None
    half = 2 ** (width.activation - 1)
    config = get_symmetric_quantization_config(
        is_per_channel=True, is_qat=fit is not None, act_qmin=-half, act_qmax=half - 1,
        weight_qmin=width.low, weight_qmax=width.high,
    )  # fmt: skip
    quantizer = XNNPACKQuantizer().set_global(config)
    batch = {"x": {0: torch.export.Dim("batch", min=2, max=4096)}}
    model = Chain(copy.deepcopy(model)).train(fit is not None)
    graph = torch.export.export(model, (calib[:4],), dynamic_shapes=batch, strict=True).module()
    made = (prepare_qat_pt2e if fit else prepare_pt2e)(graph, quantizer)
    if fit:
        allow_exported_model_train_eval(made)
        fit(made)
    else:
        with torch.no_grad():
            for part in calib.split(64):
                made(part)
    done = convert_pt2e(made)
    allow_exported_model_train_eval(done)
    done.eval()
    return done


def brevitas(model: nn.Module, calib: Tensor, width: Width, fit: Fit | None) -> nn.Module | None:
    """Brevitas: layer-wise quantization with MSE steps, GPTQ below 8 bits without training, and bias correction."""
    import brevitas.nn as bnn
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
    from brevitas.graph.gptq import gptq_mode
    from brevitas.graph.quantize import layerwise_quantize, preprocess_for_quantize
    from brevitas.quant import Uint8ActPerTensorFloat

    plain = preprocess_for_quantize(copy.deepcopy(model).eval(), equalize_iters=0)
    settings: dict[str, Any] = {
        "weight_quant": _brevitas_weight(width, fit is not None), "input_quant": Uint8ActPerTensorFloat,
        "input_bit_width": width.activation, "bias_quant": None, "return_quant_tensor": False,
    }  # fmt: skip
    if not width.binary:
        settings["weight_bit_width"] = width.bits
    made = layerwise_quantize(plain, {nn.Conv2d: (bnn.QuantConv2d, settings), nn.Linear: (bnn.QuantLinear, settings)})
    parts = calib.split(64)
    with torch.no_grad():
        made.eval()
        with calibration_mode(made):
            _feed(made, parts)
        _feed(made, parts[:1])
        if not fit and width.bits < 8 and not width.binary:
            with gptq_mode(made, create_weight_orig=False, use_quant_activations=True) as gptq:
                for _ in range(gptq.num_layers):
                    _feed(gptq.model, parts)
                    gptq.update()
        if not fit:
            with bias_correction_mode(made):
                _feed(made, parts)
    if fit:
        fit(made)
    return made.eval()


def _feed(model: nn.Module, parts: Any) -> None:
    for part in parts:
        model(part)


def _brevitas_weight(width: Width, trained: bool) -> Any:
    """Return a weight quantizer: per-channel steps of least squares, learned in training; scales mean|w| for binary."""
    from brevitas.core.restrict_val import RestrictValueType
    from brevitas.core.scaling import ScalingImplType, ScalingPerOutputType
    from brevitas.core.stats import StatsOp
    from brevitas.core.zero_point import ZeroZeroPoint
    from brevitas.inject.enum import BitWidthImplType, QuantType
    from brevitas.quant import Int8WeightPerChannelFloatMSE
    from brevitas.quant.solver import WeightQuantSolver

    if width.binary:

        class Binary(WeightQuantSolver):
            quant_type = QuantType.BINARY
            bit_width_impl_type = BitWidthImplType.CONST
            bit_width, signed, narrow_range = 1, True, True
            scaling_impl_type, scaling_stats_op = ScalingImplType.STATS, StatsOp.AVE
            scaling_per_output_type = ScalingPerOutputType.CHANNEL
            restrict_scaling_type, scaling_min_val = RestrictValueType.FP, 1e-10
            zero_point_impl = ZeroZeroPoint

        return Binary
    narrow = width.low == -width.high
    if not trained:
        return Int8WeightPerChannelFloatMSE.let(narrow_range=narrow)
    return Int8WeightPerChannelFloatMSE.let(narrow_range=narrow, scaling_impl_type=ScalingImplType.PARAMETER_FROM_STATS)


PEERS = {"nncf": nncf, "torchao": torchao, "brevitas": brevitas}
warnings.filterwarnings("ignore")
