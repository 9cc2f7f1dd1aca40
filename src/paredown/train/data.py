"""A split on the device: tensors once, then batches as views; augmentation for a whole epoch at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paredown.core.task import Task

TOGETHER = 4
"""Samples that share a move: most of the time went into the grids, not the sampling."""


@dataclass(frozen=True)
class Data:
    """Inputs (n × sample shape, float32, scaled) and labels (n, int64) on a device, and the task's moves."""

    x: Tensor
    y: Tensor
    moves: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @staticmethod
    def of(task: Task, role: str, device: torch.device | str = "cpu") -> "Data":
        """Return one role of a task on `device`; pictures are laid out channels-last on a GPU."""
        split = task.splits[role]
        x = torch.from_numpy(np.array(split.x)).to(device).float().mul_(task.scale)
        if x.dim() == 4 and x.is_cuda:
            x = x.contiguous(memory_format=torch.channels_last)
        return Data(x, torch.from_numpy(split.y.astype(np.int64)).to(device), task.moves)


def batches(data: Data, size: int, strength: float, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch's shuffled (inputs, labels) in full batches; `strength` in 0…1 scales the augmentation.

    All that is random follows from (seed, epoch), so that an interrupted training goes on exactly. The last samples of
    an order that do not fill a batch are left to later epochs, unless there is not even one full batch.
    """
    draw = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(data), generator=draw).to(data.x.device)
    size = min(size, len(data))
    chunk = max(size, 4096 // size * size)
    for start in range(0, len(data) - size + 1, chunk):
        picked = order[start : start + chunk]
        x, y = data.x[picked], data.y[picked]
        if strength > 0 and data.moves:
            x = augment(x, data.moves, strength, draw)
        for at in range(0, len(y) - size + 1, size):
            yield x[at : at + size], y[at : at + size]


def augment(x: Tensor, moves: tuple[str, ...], strength: float, draw: torch.Generator) -> Tensor:
    """Return a batch of pictures (n, c, h, w) or vectors (n, f), each moved at random.

    At strength 1: rotation up to 15 degrees, zoom and shear up to 15 %, shift up to 12.5 % of the side (one bilinear
    resampling for all four), a mirror image with probability one half, noise of 0.1 of the batch's spread. Four samples
    at a time share one move: the same distribution for each, at a fifth of the time (bench/training_speed.py).
    """
    if "noise" in moves:
        x = x + torch.randn(x.shape, generator=draw).to(x.device) * (0.1 * strength * x.std())
    if x.dim() != 4:
        return x
    together = TOGETHER if len(x) % TOGETHER == 0 else 1
    matrix = _matrices(len(x) // together, moves, strength, draw)
    if matrix is None:
        return x
    stacked = x.reshape(len(x) // together, together * x.shape[1], *x.shape[2:])
    grid = torch.nn.functional.affine_grid(matrix.to(x.device), list(stacked.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.reshape(x.shape)


def _matrices(n: int, moves: tuple[str, ...], strength: float, draw: torch.Generator) -> Tensor | None:
    def spread(width: float) -> Tensor:
        return (torch.rand(n, generator=draw) * 2 - 1) * (width * strength)

    if not {"rotate", "zoom", "shift", "flip"} & set(moves):
        return None
    zero = torch.zeros(n)
    angle = spread(math.radians(15)) if "rotate" in moves else zero
    zoom = 1 + (spread(0.15) if "zoom" in moves else zero)
    shear = spread(0.15) if "zoom" in moves else zero
    shift_x, shift_y = (spread(0.25), spread(0.25)) if "shift" in moves else (zero, zero)
    mirror = torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0) if "flip" in moves else torch.ones(n)
    top = torch.stack([angle.cos() * zoom * mirror, (shear - angle.sin()) * zoom, shift_x], 1)
    bottom = torch.stack([angle.sin() * zoom * mirror, angle.cos() * zoom, shift_y], 1)
    return torch.stack([top, bottom], 1)
