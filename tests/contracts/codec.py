"""What every codec promises. Inherit and override `part()`; optional: `arrays()`."""

import json
from typing import Any

import numpy as np
import pytest

from paredown.core.catalog import build, describe, entry
from paredown.core.errors import BadInput


class CodecContract:
    """Inherit for a codec: `decode(encode(a), a.size)` gives the integers of `a` back, in C order."""

    def part(self) -> Any:
        """Return the codec under test."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays that must come back bit for bit."""
        draw = np.random.default_rng(0)
        peaked = np.round(draw.laplace(0, 2, 3000)).astype(np.int64)
        return {
            "empty": np.zeros(0, np.int64),
            "one": np.array([-7]),
            "constant": np.full(500, 3),
            "two": draw.integers(0, 2, 300) * 9 - 4,
            "peaked": peaked,
            "matrix": peaked[:1200].reshape(30, 40),
            "bytes": draw.integers(-128, 128, 2000),
            "wide": draw.integers(-(2**15), 2**15, 200),
            "int8": peaked.clip(-8, 7).astype(np.int8),
        }

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "codec"

    def test_what_goes_in_comes_out(self) -> None:
        codec = self.part()
        for name, array in self.arrays().items():
            data = codec.encode(array)
            assert isinstance(data, bytes), name
            np.testing.assert_array_equal(np.asarray(codec.decode(data, array.size)).ravel(), array.ravel(), name)

    def test_it_repeats_and_leaves_the_array_alone(self) -> None:
        for array in self.arrays().values():
            before = array.copy()
            assert self.part().encode(array) == self.part().encode(array)
            np.testing.assert_array_equal(array, before)

    def test_a_peaked_source_takes_fewer_bytes_than_fixed_width(self) -> None:
        array = self.arrays()["peaked"]
        assert len(self.part().encode(array)) < array.size * np.ceil(np.log2(np.ptp(array) + 1)) / 8

    def test_damage_gives_an_error_of_ours_or_wrong_integers_never_another_exception(self) -> None:
        codec, array = self.part(), self.arrays()["peaked"][:200]
        data, draw = codec.encode(array), np.random.default_rng(1)
        for _ in range(100):
            broken = bytearray(data)
            broken[draw.integers(len(data))] ^= 1 << int(draw.integers(8))
            cut = bytes(broken[: draw.integers(len(data) // 2, len(data) + 1)])
            try:
                assert len(np.asarray(codec.decode(cut, array.size)).ravel()) == array.size
            except BadInput as error:
                assert str(error)
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"damaged data raised {type(error).__name__}: {error}")
