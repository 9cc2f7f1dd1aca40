"""Which inputs and outputs of a layer belong together: groups of equal size that hold most of a matrix."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def assigned(gains: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return for each row of `gains`, [rows, groups], the group it goes to, so that the gains' sum is largest.

    places: how many rows each group takes; they sum to the number of rows. By the Hungarian method.
    """
    slots = np.repeat(np.arange(len(places)), places)
    rows, columns = linear_sum_assignment(gains[:, slots], maximize=True)
    found = np.empty(len(gains), dtype=np.int64)
    found[rows] = slots[columns]
    return found


def inside(energy: np.ndarray, outs: np.ndarray, ins: np.ndarray) -> float:
    """Return what of `energy`, [outputs, inputs], lies where an output and an input are of one group."""
    return float((energy * (outs[:, None] == ins)).sum())


def partners(energy: Tensor, groups: int, starts: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return (group of each output, group of each input), all groups of one size, that hold much of `energy`.

    energy: [outputs, inputs], none negative. Outputs and inputs are assigned in turn, each time the best there is, until
    nothing is gained; from a spectral start (Dhillon 2001), from the order there is, and from `starts` drawn ones. The best is
    returned; groups are numbered by their first input. Blocks that hold all of the energy are found by the spectral start.
    """
    whole = energy.detach().double().cpu().numpy()
    draw, into = np.random.default_rng(seed), whole.shape[1]
    plain = np.repeat(np.arange(groups), into // groups)
    first = [_spectral(whole, groups), plain, *(draw.permutation(plain) for _ in range(starts))]
    outs, ins = max((_settled(whole, ins, groups) for ins in first), key=lambda both: inside(whole, *both))
    order = np.empty(groups, dtype=np.int64)
    order[ins[np.sort(np.unique(ins, return_index=True)[1])]] = np.arange(groups)
    return torch.from_numpy(order[outs]), torch.from_numpy(order[ins])


def _settled(energy: np.ndarray, ins: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (outs, ins) where neither can be assigned better while the other stays."""
    each = [np.full(groups, size // groups) for size in energy.shape]
    before = -1.0
    while True:
        outs = assigned(energy @ np.eye(groups)[ins], each[0])
        ins = assigned(energy.T @ np.eye(groups)[outs], each[1])
        now = inside(energy, outs, ins)
        if now <= before * (1 + 1e-12):
            return outs, ins
        before = now


def _spectral(energy: np.ndarray, groups: int) -> np.ndarray:
    """Return the inputs' groups by the leading singular vectors of the normalised matrix: far inputs begin, near ones join."""
    down, across = (np.sqrt(np.maximum(energy.sum(axis), 1e-300)) for axis in (1, 0))
    vectors = np.linalg.svd(energy / down[:, None] / across, full_matrices=False)[2][:groups].T
    points = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    seeds = [int(across.argmax())]
    while len(seeds) < groups:
        seeds.append(int(np.abs(points @ points[seeds].T).max(1).argmin()))
    sizes = np.full(groups, len(points) // groups)
    return assigned(np.abs(points @ points[seeds].T), sizes)
