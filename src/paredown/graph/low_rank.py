"""Weights as products of two factors: the nearest of a rank, by themselves or for the inputs that they are given."""

import math

import torch
from torch import Tensor


def truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return (left m×rank, right rank×n) whose product is the nearest matrix of that rank in the Frobenius norm.

    Both carry the square root of the singular values. Computed in float64; Eckart & Young 1936.
    """
    u, s, v = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
    root = s[:rank].sqrt()
    left, right = u[:, :rank] * root, root[:, None] * v[:rank]
    return left.to(matrix.dtype).contiguous(), right.to(matrix.dtype).contiguous()


def rank_by_energy(values: Tensor, fraction: float) -> int:
    """Return how many of the singular values, falling, have squares that sum to at least `fraction` of all; at least 1."""
    energy = values.double().square().cumsum(0)
    if energy[-1] <= 0:
        return 1
    return min(len(energy), int((energy < fraction * energy[-1] * (1 - 1e-12)).sum()) + 1)


def energy_rank(matrix: Tensor, fraction: float) -> int:
    """Return the smallest rank whose squared singular values sum to at least `fraction` of all."""
    return rank_by_energy(torch.linalg.svdvals(matrix.detach().double()), fraction)


def share_rank(shape: tuple[int, ...], share: float) -> int:
    """Return the largest rank at which two factors of an m×n matrix have at most that share of its entries; may be 0."""
    return min(math.floor(share * math.prod(shape) / sum(shape) + 1e-9), *shape)


def as_matrix(weight: Tensor, scheme: str = "channel") -> Tensor:
    """Return a layer's weight as the matrix to factorise.

    "channel": (output, input · kernel). "spatial", for a two-dimensional kernel: (output · width, input · height).
    """
    if scheme == "channel":
        return weight.flatten(1)
    out, _, _, width = weight.shape
    return weight.permute(0, 3, 1, 2).reshape(out * width, -1)


def as_weights(left: Tensor, right: Tensor, shape: tuple[int, ...], scheme: str = "channel") -> tuple[Tensor, Tensor]:
    """Return (first layer's weight, second layer's weight) from the two factors of `as_matrix`."""
    rank = right.shape[0]
    if scheme == "channel":
        return right.reshape(rank, *shape[1:]), left.reshape(shape[0], rank, *[1] * (len(shape) - 2))
    first = right.reshape(rank, shape[1], shape[2], 1)
    return first, left.reshape(shape[0], shape[3], rank).permute(0, 2, 1).unsqueeze(2).contiguous()


def root(second: Tensor, damp: float = 0.0) -> Tensor:
    """Return C^{1/2} of a second moment, in float64: the eigenvalues' roots, none below zero.

    damp: added to the diagonal, as a share of its mean. C need not have full rank; its inverse is never needed.
    """
    second = second.double()
    pull = damp * second.diagonal().mean()
    values, vectors = torch.linalg.eigh((second + second.T) / 2 + pull * torch.eye(len(second)).to(second))
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def directions(matrix: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Return (U, s) of the singular value decomposition of W C^{1/2}, in float64: where the outputs W x vary, and how far."""
    u, s, _ = torch.linalg.svd(matrix.detach().double() @ half, full_matrices=False)
    return u, s


def projected(matrix: Tensor, basis: Tensor, balance: bool = True) -> tuple[Tensor, Tensor]:
    """Return (left, right) with the product B Bᵀ W, of the orthonormal columns B: the outputs' projection onto them.

    With the first columns of `directions`, no factors of that rank have a smaller ‖(W − left · right) C^{1/2}‖. balance:
    both factors carry the root of each direction's size, as in `truncated`; else left is B. In W's type.
    """
    left, right = basis, basis.T @ matrix.detach().double()
    if balance:
        size = right.norm(dim=1).sqrt()
        size = torch.where(size > 0, size, torch.ones_like(size))
        left, right = left * size, right / size[:, None]
    return left.to(matrix.dtype).contiguous(), right.to(matrix.dtype).contiguous()


def output_error(change: Tensor, half: Tensor) -> float:
    """Return ‖ΔW C^{1/2}‖², the mean over inputs of the squared change of a layer's outputs."""
    return float((change.detach().double() @ half).square().sum())
