"""Batches: every sample once, the same for the same seed and epoch; augmentation that keeps the label."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from paredown.core.task import Split, Task
from paredown.train.data import Data, _matrices, augment, batches


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 64, side: int = 16) -> Tensor:
    """Return smooth blobs well inside the frame."""
    at = torch.linspace(-1, 1, side)
    x, y = torch.meshgrid(at, at, indexing="xy")
    centre = torch.rand(n, 2, 1, 1, generator=generator()) * 0.6 - 0.3
    return torch.exp(-((x - centre[:, :1]) ** 2 + (y - centre[:, 1:]) ** 2) * 8)


def centroid(x: Tensor) -> Tensor:
    at = torch.linspace(-1, 1, x.shape[-1])
    mass = x.sum((1, 2, 3))
    return torch.stack([(x.sum((1, 2)) * at).sum(1) / mass, (x.sum((1, 3)) * at).sum(1) / mass], 1)


def test_a_task_becomes_tensors() -> None:
    split = Split(np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([0, 1, 0], np.uint8))
    task = Task("t", (4,), ("a", "b"), {"train": split}, scale=1 / 2, moves=("noise",))
    data = Data.of(task, "train")
    assert data.x.dtype == torch.float32 and data.y.dtype == torch.int64 and len(data) == 3 and data.moves == ("noise",)
    assert np.array_equal(data.x.numpy(), task.inputs("train")) and data.y.tolist() == [0, 1, 0]
    data.x.zero_()
    assert split.x.max() == 11


@pytest.mark.parametrize(("n", "size"), [(10, 3), (10, 10), (10, 20), (9000, 1000), (5000, 4096), (5, 1), (8192, 4096)])
def test_an_epoch_has_every_sample_at_most_once_in_full_batches(n: int, size: int) -> None:
    data = Data(torch.arange(float(n))[:, None], torch.arange(n))
    seen = list(batches(data, size, 0.0, 0, 0))
    size = min(size, n)
    assert len(seen) == n // size and all(len(y) == size for _, y in seen)
    labels = torch.cat([y for _, y in seen])
    assert len(labels.unique()) == len(labels)
    assert torch.equal(torch.cat([x for x, _ in seen])[:, 0], labels.float())  # samples stay with their labels


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    data = Data(pictures(), torch.arange(64), ("rotate", "shift", "flip", "noise"))
    torch.manual_seed(1)
    first = list(batches(data, 16, 1.0, seed=3, epoch=5))
    torch.manual_seed(2)
    second = list(batches(data, 16, 1.0, seed=3, epoch=5))
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))
    for seed, epoch in ((3, 6), (4, 5)):
        other = list(batches(data, 16, 1.0, seed=seed, epoch=epoch))
        assert not torch.equal(first[0][1], other[0][1])


def test_the_data_is_never_changed() -> None:
    x = pictures()
    data = Data(x.clone(), torch.arange(64), ("rotate", "zoom", "shift", "flip", "noise"))
    for batch, _ in batches(data, 16, 1.0, 0, 0):
        batch.zero_()
    assert torch.equal(data.x, x)


def test_no_strength_is_no_change() -> None:
    data = Data(pictures(), torch.arange(64), ("rotate", "zoom", "shift", "flip", "noise"))
    for x, y in batches(data, 16, 0.0, 0, 0):
        assert torch.equal(x, data.x[y])
    still = augment(pictures(), ("rotate", "zoom", "shift", "noise"), 0.0, generator())
    torch.testing.assert_close(still, pictures(), rtol=0, atol=1e-5)


def test_without_moves_there_is_no_augmentation() -> None:
    data = Data(pictures(), torch.arange(64))
    assert all(torch.equal(x, data.x[y]) for x, y in batches(data, 16, 1.0, 0, 0))
    assert torch.equal(augment(pictures(), ("unheard of",), 1.0, generator()), pictures())


@pytest.mark.parametrize("n", [64, 63])
def test_a_shift_moves_and_does_nothing_else(n: int) -> None:
    x = pictures(n, 32)
    moved = augment(x, ("shift",), 1.0, generator())
    by = centroid(moved) - centroid(x)
    assert by.abs().max() <= 0.25 + 0.01 and by.abs().max() > 0.1
    torch.testing.assert_close(moved.sum((1, 2, 3)), x.sum((1, 2, 3)), rtol=0.05, atol=0)
    assert len(torch.unique((by * 1000).round(), dim=0)) >= 8  # not one move for all


def test_a_rotation_keeps_the_distance_from_the_middle() -> None:
    x = pictures(64, 32)
    moved = augment(x, ("rotate",), 1.0, generator())
    a, b = centroid(x), centroid(moved)
    torch.testing.assert_close(b.norm(dim=1), a.norm(dim=1), rtol=0, atol=0.02)
    angle = torch.atan2(b[:, 1], b[:, 0]) - torch.atan2(a[:, 1], a[:, 0])
    far = a.norm(dim=1) > 0.15
    turn = torch.remainder(angle[far] + math.pi, 2 * math.pi) - math.pi
    assert turn.abs().max() <= math.radians(16) and turn.abs().max() > math.radians(5)


def test_moves_are_rigid_unless_zoom_is_allowed() -> None:
    """Rotation with a mirror image: the linear part is orthogonal, its determinant ±1, the angle at most 15 degrees."""
    matrix = _matrices(500, ("rotate", "flip"), 1.0, generator())
    assert matrix is not None
    linear = matrix[:, :, :2]
    torch.testing.assert_close(linear.transpose(1, 2) @ linear, torch.eye(2).expand(500, 2, 2), rtol=0, atol=1e-5)
    sign = torch.linalg.det(linear)
    assert 0.4 < float((sign < 0).float().mean()) < 0.6 and float(matrix[:, :, 2].abs().max()) == 0
    assert float(linear[:, 1, 1].min()) >= math.cos(math.radians(15)) - 1e-6
    for moves in (("rotate",), ("shift",), ("zoom",), ("rotate", "zoom", "shift")):
        assert (torch.linalg.det(_matrices(500, moves, 1.0, generator())[:, :, :2]) > 0.6).all()  # no mirror images


def test_a_mirror_image_is_exact() -> None:
    x = torch.rand(200, 3, 8, 8, generator=generator())
    moved = augment(x, ("flip",), 1.0, generator())
    same, mirrored = ((moved - other).abs().amax((1, 2, 3)) < 1e-5 for other in (x, x.flip(3)))
    assert (same | mirrored).all() and 50 < int(mirrored.sum()) < 150


@pytest.mark.parametrize("shape", [(500, 7), (500, 1, 4, 4)])
def test_noise_has_a_tenth_of_the_spread(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=generator()) * 3
    for strength in (1.0, 0.5):
        moved = augment(x, ("noise", "rotate") if len(shape) == 2 else ("noise",), strength, generator(1))
        assert float((moved - x).std()) == pytest.approx(0.3 * strength, rel=0.05)
        assert float((moved - x).mean()) == pytest.approx(0, abs=0.02)
