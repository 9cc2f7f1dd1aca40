"""Slots whose entries are looked up: short vectors in tables, and single values under a hash."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.hashing import hashed

MOST_CENTROIDS = 4096
MOST_ENTRIES = 2**28
MOST_TIMES = 4096
"""How often a hashed value may stand in its tensor, on average."""


class VectorCodebook(nn.Module):
    """Indices into tables of short vectors: the weight, in C order, is cut into consecutive vectors of length d.

    codes: one for each vector, any shape, in order. centroids: [books, k, d], what is trained: the gradient of each is the
    sum over the vectors that share it. Vector j of a row (an entry of the first dimension) is looked up in book j % books;
    the books divide the vectors of a row, and d divides the row. shape: the weight's.
    """

    form: ClassVar[str] = "shared"
    codes: Tensor

    def __init__(self, codes: Tensor, centroids: Tensor, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if centroids.dim() != 3 or not centroids.numel() or centroids.shape[1] > MOST_CENTROIDS:
            raise BadInput(
                f"a table of {tuple(centroids.shape)} vectors cannot be held; allowed: [books, 1 to 4096, length]"
            )
        books, count, length = centroids.shape
        size, row = math.prod(self.shape), math.prod(self.shape[1:])
        if not 0 < size <= MOST_ENTRIES or row % (length * books) or codes.numel() * length != size:
            found = f"{codes.numel()} codes of vectors of {length} in {books} books"
            raise BadInput(f"{found} do not make a weight of shape {self.shape}")
        if not 0 <= int(codes.min()) <= int(codes.max()) < count:
            raise BadInput(f"codes up to {int(codes.max())} do not fit a table of {count} vectors")
        self.bits = max(1, (count - 1).bit_length())
        self.register_buffer("codes", codes.detach().flatten().to(torch.int16))
        self.centroids = nn.Parameter(centroids.detach().float().clone())

    def forward(self) -> Tensor:
        books, count, length = self.centroids.shape
        book = count * torch.arange(books, device=self.codes.device)
        places = self.codes.long().view(-1, books) + book
        return self.centroids.view(-1, length)[places].view(self.shape)

    def stored_bits(self) -> int:
        """Return what codes at their width and tables (32 bits a number) take, uncoded."""
        return self.codes.numel() * self.bits + 32 * self.centroids.numel()

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        table = list(self.centroids.shape)
        return {"slot": "vectors", "shape": [self.codes.numel()], "table": table, "whole": list(self.shape)}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "VectorCodebook":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        return cls(torch.zeros(meta["shape"], dtype=torch.int16), torch.zeros(meta["table"]), meta["whole"])


class Hashed(nn.Module):
    """A few trained values and a hash that says which of them stands where: entry i is sign(i) · values[bucket(i)].

    values: 1-D; the gradient of each is the sum of sign · gradient over the entries where it stands. shape: the
    weight's. seed: of the hash (`graph.hashing`), 0 to 2³² − 1. Neither buckets nor signs are stored.
    """

    form: ClassVar[str] = "shared"
    bits = 32
    buckets: Tensor
    sign: Tensor

    def __init__(self, values: Tensor, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        self.shape, self.seed = tuple(shape), seed
        size, count = math.prod(self.shape), values.numel()
        if values.dim() != 1 or not 0 < size <= min(MOST_ENTRIES, MOST_TIMES * count):
            allowed = f"a list of values, each standing {MOST_TIMES:,} times at most"
            raise BadInput(
                f"values of shape {tuple(values.shape)} cannot stand for a weight of {self.shape}; allowed: {allowed}"
            )
        if not 0 <= seed < 2**32:
            raise BadInput(f"a hash cannot have the seed {seed}; allowed: 0 to 2**32 - 1")
        buckets, sign = hashed(size, count, seed)
        self.register_buffer("buckets", torch.from_numpy(buckets).view(self.shape), persistent=False)
        self.register_buffer("sign", torch.from_numpy(sign).view(self.shape), persistent=False)
        self.values = nn.Parameter(values.detach().float().clone())

    def forward(self) -> Tensor:
        return self.values[self.buckets] * self.sign

    def stored_bits(self) -> int:
        """Return what the values take; the hash takes nothing."""
        return 32 * self.values.numel()

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        return {"slot": "hashed", "shape": [self.values.numel()], "whole": list(self.shape), "seed": self.seed}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Hashed":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        return cls(torch.zeros(meta["shape"]), meta["whole"], meta["seed"])
