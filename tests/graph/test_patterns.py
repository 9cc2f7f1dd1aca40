"""Bit patterns without torch stand for what those of `graph.number` stand for."""

import numpy as np
import pytest

from paredown.core.errors import BadInput
from paredown.graph.number import FLOATS, number_named, values
from paredown.graph.patterns import integers, table, width

NAMES = [
    *(n for n in FLOATS if n not in ("fp32", "tf32")),
    "int1",
    "int4",
    "uint4",
    "int8",
    "uint8",
    "q2.6",
    "q1.3",
    "int16",
]


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_the_numbers(name: str) -> None:
    wanted, got = values(number_named(name)).numpy(), table(name)
    assert got.dtype == np.float32 and width(name) == number_named(name).bits
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(np.signbit(got[wanted == 0]), np.signbit(wanted[wanted == 0]))


def test_integers_by_hand() -> None:
    codes = np.arange(16, dtype=np.uint8)
    assert integers(codes, "int4").tolist() == [*range(8), *range(-8, 0)]
    assert integers(codes, "q2.2").tolist() == [*range(8), *range(-8, 0)]
    assert integers(codes, "uint4").tolist() == list(range(16))


@pytest.mark.parametrize(
    ("name", "says"), [("fp9", "unknown"), ("tf32", "no file holds"), ("int17", "no file holds"), ("", "unknown")]
)
def test_other_formats_are_refused(name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        table(name)
