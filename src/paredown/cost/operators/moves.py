"""Operators that compute nothing: they move, repeat, look up or rename values."""

from paredown.cost.arithmetic import Arithmetic, Call, counts

VIEWS = (
    "flatten.using_ints", "view", "reshape", "squeeze", "squeeze.dim", "squeeze.dims", "unsqueeze", "unflatten.int",
    "dropout", "feature_dropout", "alpha_dropout", "alias", "detach", "contiguous", "chunk", "split.Tensor",
    "split_with_sizes", "unbind.int", "getitem",
)  # fmt: skip
"""Operators whose output shares its input's memory."""

COPIES = (
    "permute", "transpose.int", "t", "clone", "cat", "stack", "narrow", "slice.Tensor", "select.int", "pad", "expand",
    "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "roll", "repeat", "upsample_nearest2d.vec", "zeros",
    "zeros_like", "ones_like", "to.dtype", "sym_size.int", "masked_fill.Scalar", "where.self", "flip", "index_select",
)  # fmt: skip
"""Operators that fill new memory without computing."""


@counts("data", *VIEWS, *COPIES)
def move(call: Call) -> Arithmetic:
    """Moving a value is free."""
    return Arithmetic()


@counts("embedding", "embedding")
def look_up(call: Call) -> Arithmetic:
    """Reading a row is free."""
    return Arithmetic()
