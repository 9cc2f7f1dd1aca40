"""The table of operators is ATen's own."""

import pytest
import torch

from paredown.core.errors import BadInput
from paredown.graph.ops import CONVOLUTIONS, OPS, WEIGHTED, op_named


def spread(mine: object, atens: object) -> bool:
    """Return whether my default is ATen's, or ATen's one number written out for each dimension."""
    one_for_all = isinstance(atens, list) and isinstance(mine, list) and len(atens) == 1 and mine == atens * len(mine)
    return type(mine) is type(atens) and (mine == atens or one_for_all)


@pytest.mark.parametrize("name", [name for name in OPS if name != "getitem"])
def test_names_order_and_defaults_are_atens(name: str) -> None:
    base, _, overload = name.partition(".")
    schema = getattr(getattr(torch.ops.aten, base), overload or "default")._schema
    assert tuple(a.name for a in schema.arguments) == OPS[name].names
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    assert set(defaults) == set(OPS[name].defaults)
    for key, value in OPS[name].defaults.items():
        assert spread(value, defaults[key]), (key, value, defaults[key])


def test_codes_are_places_in_the_table() -> None:
    """Packed files name an operator by its place: these may never move."""
    assert [op.code for op in OPS.values()] == list(range(len(OPS)))
    known = {
        "conv2d": 0,
        "relu": 1,
        "linear": 2,
        "max_pool2d": 3,
        "add.Tensor": 6,
        "cat": 14,
        "layer_norm": 20,
        "getitem": 113,
    }
    assert {name: OPS[name].code for name in known} == known


def test_groups_of_operators() -> None:
    assert {"conv2d", "conv1d.padding", "conv_transpose3d.input"} <= CONVOLUTIONS < WEIGHTED
    assert {"linear"} == WEIGHTED - CONVOLUTIONS
    assert all("weight" in OPS[name].names for name in WEIGHTED)


def test_an_unknown_operator_is_bad_input() -> None:
    assert op_named("relu") is OPS["relu"]
    for name in ("system", "", "relu.default", "set_"):
        with pytest.raises(BadInput, match="rewrite the layer"):
            op_named(name)
