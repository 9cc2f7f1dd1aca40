"""An architecture survives JSON, and nothing else passes for one."""

import copy
import json
from typing import Any

import pytest
from example_nets import NETS
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import BadInput
from paredown.graph.capture import capture
from paredown.graph.spec import SCHEMA, Node, Slot, Spec, Value, mapped, references

RELU = Node("y", "relu", {"self": Value("x")})
GOOD = Spec(
    (("x", (3, 4)),), (RELU, Node("z", "cat", {"tensors": [Value("x"), Value("y")], "dim": -1})), {"out": Value("z")}
)


@pytest.mark.parametrize("name", ["many_outputs", "attention", "shuffle", "transposed", "norms"])
def test_networks_survive_json(name: str) -> None:
    import torch

    module, shape = NETS[name]
    spec = capture(module, torch.rand(shape)).spec
    again = Spec.of_json(json.loads(json.dumps(spec.to_json())))
    assert again.nodes == spec.nodes and again.inputs == spec.inputs
    assert list(references(again.output)) == list(references(spec.output))
    for a, b in zip(again.nodes, spec.nodes, strict=True):
        assert [type(r) for r in references(list(a.args.values()))] == [
            type(r) for r in references(list(b.args.values()))
        ]


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.just(Value("x")),
    st.just(Value("y")),
    st.builds(Slot, st.text(min_size=1)),
)


@given(st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=8))
@settings(max_examples=200, deadline=None)
def test_every_argument_survives_json_with_its_type(value: Any) -> None:
    spec = Spec((("x", (1,)),), (RELU, Node("z", "clamp", {"self": Value("x"), "min": value})), Value("z"))
    again = Spec.of_json(json.loads(json.dumps(spec.to_json()))).nodes[1].args["min"]
    assert again == value
    assert mapped(again, type) == mapped(value, type)


def changed(*path: Any, to: Any) -> Any:
    """Return the good description with the thing at `path` replaced (or, for `del`, removed)."""
    data = copy.deepcopy(GOOD.to_json())
    at = data
    for key in path[:-1]:
        at = at[key]
    if to is del_:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return data


del_ = object()
DEEP: list = []
for _ in range(3000):
    DEEP = [DEEP]

BAD = [
    None,
    [],
    3,
    "spec",
    {},
    {"schema": SCHEMA},
    {"schema": "paredown/spec/2"},
    changed("schema", to="other"),
    changed("inputs", to=5),
    changed("inputs", to=[["x"]]),
    changed("inputs", to=[["x", "ab"]]),
    changed("inputs", to=[["x", [1]], ["x", [1]]]),
    changed("inputs", to=[["x", [-1]]]),
    changed("inputs", to=[["x", None]]),
    changed("inputs", to=[]),
    changed("nodes", to=None),
    changed("nodes", to=[3]),
    changed("nodes", to=del_),
    changed("output", to=del_),
    changed("nodes", 0, "op", to="eval"),
    changed("nodes", 0, "op", to=["relu"]),
    changed("nodes", 0, "op", to="__import__"),
    changed("nodes", 0, "name", to="z"),
    changed("nodes", 0, "name", to="x"),
    changed("nodes", 0, "name", to=del_),
    changed("nodes", 0, "args", to=[1, 2]),
    changed("nodes", 0, "args", to="self"),
    changed("nodes", 0, "args", to={}),
    changed("nodes", 0, "args", "self", to="%z"),
    changed("nodes", 0, "args", "self", to="%nobody"),
    changed("nodes", 0, "args", "self", to="x"),
    changed("nodes", 0, "args", "self", to=""),
    changed("nodes", 0, "args", "self", to="!x"),
    changed("nodes", 0, "args", "inplace", to=True),
    changed("nodes", 1, "args", "tensors", to=DEEP),
    changed("nodes", 1, "args", to=del_),
    changed("output", "out", to="%w"),
    changed("output", "out", to="@slot"),
    changed("output", "out", to="text"),
    changed("output", to=DEEP),
]


@pytest.mark.parametrize("at", range(len(BAD)))
def test_anything_else_is_bad_input(at: int) -> None:
    with pytest.raises(BadInput) as error:
        Spec.of_json(BAD[at])
    assert "\n" not in str(error.value)


def test_what_it_tells() -> None:
    assert Spec.of_json(GOOD.to_json()) == GOOD
    assert GOOD.node("y") is RELU and GOOD.users("x") == list(GOOD.nodes) and GOOD.users("z") == []
    with pytest.raises(KeyError):
        GOOD.node("x")
    conv = Node("c", "conv2d", {"input": Value("x"), "weight": Slot("w"), "stride": [2, 2]})
    assert (
        conv.get("stride") == [2, 2]
        and conv.get("groups") == 1
        and conv.slot("weight") == "w"
        and conv.slot("bias") is None
    )
    assert conv.values() == ("x",) and conv.slots() == ("w",)
    with pytest.raises(KeyError):
        conv.get("padding_mode")
    moved = conv.with_args(groups=4)
    assert moved.get("groups") == 4 and conv.get("groups") == 1
    twice = Spec(
        (("x", (3, 4)),),
        (conv, Node("d", "linear", {"input": Value("c"), "weight": Slot("v"), "bias": Slot("w")})),
        Value("d"),
    )
    assert {k: [n.name for n in v] for k, v in twice.slot_users().items()} == {"w": ["c", "d"], "v": ["d"]}
