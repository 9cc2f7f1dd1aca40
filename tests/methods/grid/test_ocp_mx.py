"""OCP microscaling (A-S4-28; part F 9)."""

import ml_dtypes
import numpy as np
import pytest
import torch

from contracts.grid import GridContract
from paredown.methods.grid.ocp_mx import ELEMENTS, OcpMx, block_scales, scale_values


class TestMxfp4(GridContract):
    def part(self) -> OcpMx:
        return OcpMx("mxfp4")


class TestMxint8(GridContract):
    def part(self) -> OcpMx:
        return OcpMx("mxint8")


PEERS = {
    "mxfp8_e4m3": ml_dtypes.float8_e4m3fn, "mxfp8_e5m2": ml_dtypes.float8_e5m2, "mxfp6_e3m2": ml_dtypes.float6_e3m2fn,
    "mxfp6_e2m3": ml_dtypes.float6_e2m3fn, "mxfp4": ml_dtypes.float4_e2m1fn,
}  # fmt: skip


@pytest.mark.parametrize("element", PEERS)
def test_it_is_the_specifications_conversion(element: str) -> None:
    """Section 6.3, with another library's casts; what it would make infinite or NaN saturates."""
    weight = torch.randn((6, 64), generator=torch.Generator().manual_seed(0)) * 0.03
    info = ml_dtypes.finfo(PEERS[element])
    highest = int(np.floor(np.log2(float(info.max))))
    blocks = weight.view(6, 2, 32).double().numpy()
    scale = 2.0 ** (np.floor(np.log2(np.abs(blocks).max(2, keepdims=True))) - highest)
    scaled = (blocks / scale).clip(-float(info.max), float(info.max)).astype(np.float32)
    wanted = scaled.astype(PEERS[element]).astype(np.float64) * scale
    np.testing.assert_array_equal(OcpMx(element).fit(weight)().view(6, 2, 32).double().numpy(), wanted)


def test_mxint8_is_sixty_fourths_of_the_block_scale() -> None:
    weight = torch.tensor([[1.999, -1.999, 1.0, 0.0079, 0.0078, 0.5]])
    assert OcpMx("mxint8").fit(weight)().tolist() == [[127 / 64, -127 / 64, 1, 1 / 64, 0, 0.5]]


@pytest.mark.parametrize(
    ("element", "bits"), [("mxfp8_e4m3", 8.25), ("mxfp6_e2m3", 6.25), ("mxfp4", 4.25), ("mxint8", 8.25)]
)
def test_the_average_width(element: str, bits: float) -> None:
    assert OcpMx(element).fit(torch.randn((2, 64))).stored_bits() == bits * 128


@pytest.mark.parametrize("element", ELEMENTS)
def test_scales_are_powers_of_two(element: str) -> None:
    steps = OcpMx(element).fit(torch.randn((4, 70), generator=torch.Generator().manual_seed(0))).step
    assert (torch.frexp(steps).mantissa == 0.5).all() and steps.shape == (4, 3)


def test_a_block_of_fp4_values_with_a_six_is_kept() -> None:
    weight = torch.tensor([[0, 0.5, -1, 1.5, 2, -3, 4, 6]]) * 2.0**-5
    assert torch.equal(OcpMx("mxfp4").fit(weight)(), weight)


def test_scales_over_all_codes() -> None:
    """E8M0: 2^(code − 127), 255 is NaN."""
    codes = torch.arange(256)
    found = scale_values(codes)
    peer = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    np.testing.assert_array_equal(found.numpy(), peer)
    assert torch.equal(block_scales(found[:255].clamp(max=2.0**127), 0), codes[:255])
    edges = torch.tensor([0.0, float("inf"), float("nan"), 1e-40])
    assert block_scales(edges, 2).tolist() == [0, 255, 255, 0]
