"""The portable decoder in C reads what the Python one reads, of every file; and damage is an error, never more than that."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from frozen_nets import mlp, network
from test_container import KINDS, apart, holding, signed

from paredown.core.errors import Damaged
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Blocks, Frozen, Hashed, Rounded, Shared, Stored, Vectors
from paredown.graph.hashing import hashed
from paredown.graph.patterns import table, whole_number, width
from paredown.kernels import decoder
from paredown.kernels.library import built
from paredown.targets.container import APART, read, write

pytestmark = pytest.mark.skipif(not built(), reason="the kernels were not built: there was no C compiler")
SOURCES = Path(decoder.__file__).parent / "c"
DRIVER = Path(__file__).parent / "pdn_driver.c"


def assert_equal(mine: Stored | None, wanted: Stored) -> None:
    """Assert that two stored tensors are one, to the bit."""
    assert type(mine) is type(wanted) and mine is not None and mine.shape == wanted.shape
    assert mine.value.tobytes() == wanted.value.tobytes() and mine.value.dtype == wanted.value.dtype
    if isinstance(mine, Rounded) and isinstance(wanted, Rounded):
        assert (
            mine.bits == wanted.bits and (mine.codes == wanted.codes).all() and mine.codes.dtype == wanted.codes.dtype
        )
        assert (mine.step == wanted.step).all()
        assert (mine.widths is None) == (wanted.widths is None) or (mine.widths == wanted.widths).all()
    if isinstance(mine, Shared | Vectors) and isinstance(wanted, Shared | Vectors):
        assert (mine.codes == wanted.codes).all() and mine.centroids.tobytes() == wanted.centroids.tobytes()
    if isinstance(mine, Hashed) and isinstance(wanted, Hashed):
        assert mine.seed == wanted.seed
    if isinstance(mine, Blocks) and isinstance(wanted, Blocks):
        assert mine.number == wanted.number and mine.block == wanted.block and (mine.codes == wanted.codes).all()
        assert mine.steps.tobytes() == wanted.steps.tobytes()


def assert_read(frozen: Frozen) -> None:
    data = write(frozen)[0]
    wanted = list(read(data).tensors.values())
    for mine, its in zip(decoder.tensors(data), wanted, strict=True):
        assert_equal(mine, its)
    for only in range(len(wanted)):
        found = decoder.tensors(data, {only})
        assert [at for at, stored in enumerate(found) if stored is not None] == [only]
        assert_equal(found[only], wanted[only])
    assert decoder.tensors(data, set()) == [None] * len(wanted)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_tensor(name: str) -> None:
    assert_read(holding(KINDS[name]))


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_and_any_tensor_of_them_alone(seed: int) -> None:
    assert_read(network(seed))


def test_a_trained_network() -> None:
    assert_read(freeze(mlp()))


@pytest.mark.parametrize("number", ["int4", "uint3", "q3.2", "q1.15", *decoder.NUMBERS[3:]])
def test_a_code_stands_for_the_same_number(number: str) -> None:
    whole = whole_number(number)
    kind, bits, fraction = whole if whole else (number, width(number), 0)
    wanted = table(number)
    for code in range(0, len(wanted), max(1, len(wanted) // 512)):
        found = decoder.value(kind, code, bits, fraction)
        assert np.float32(found) == wanted[code] or (np.isnan(found) and np.isnan(wanted[code])), code


@pytest.mark.parametrize("buckets", [1, 7, 4096])
def test_a_hash_sends_entries_where_python_does(buckets: int) -> None:
    for seed in (0, 1, 2**32 - 1):
        places, signs = hashed(200, buckets, seed)
        found = [decoder.bucket(at, seed, buckets) for at in range(200)]
        assert found == list(zip(places.tolist(), signs.tolist(), strict=True))


def test_a_change_of_any_byte_is_damage() -> None:
    draw = np.random.default_rng(0)
    for frozen in (network(1), network(2), holding(KINDS["large by channel"]), holding(KINDS["large sparse"])):
        data = write(frozen)[0]
        for _ in range(100):
            at, change = int(draw.integers(len(data))), int(draw.integers(1, 256))
            with pytest.raises(Damaged):
                decoder.tensors(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])


def test_both_readers_refuse_or_accept_what_is_damaged_under_a_checksum_that_fits() -> None:
    """What Python reads of a damaged file, C reads the same; C may accept more, for it does not read the architecture."""
    draw = np.random.default_rng(0)
    read_by_both = 0
    for name in KINDS:
        data = write(holding(KINDS[name]))[0]
        end = 12 + int.from_bytes(data[8:12], "little") if data[3] & APART else len(data)
        for _ in range(12):
            body = bytearray(data[12 if data[3] & APART else 8 : end])
            body[int(draw.integers(len(body)))] ^= 1 << int(draw.integers(8))
            broken = apart(bytes(body), data[end:]) if data[3] & APART else signed(bytes(body))
            try:
                wanted = list(read(broken).tensors.values())
            except Damaged:
                continue
            for mine, its in zip(decoder.tensors(broken), wanted, strict=True):
                assert_equal(mine, its)
            read_by_both += 1
    assert read_by_both > 10


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The decoder compiled as C99 under sanitizers, with a program around it."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("driver") / "driver"
    flags = ["-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"]
    sources = [str(DRIVER), str(SOURCES / "pdn.c")]
    sanitizers = "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    if subprocess.run(
        [compiler, *flags, *sanitizers, *sources, "-o", path], capture_output=True, check=False
    ).returncode:
        pytest.skip("the compiler has no sanitizers")
    return str(path)


def test_the_decoder_needs_nothing_from_elsewhere_and_is_small(tmp_path: Path) -> None:
    """`nm -u`: no malloc, no libc; `size`: some 13 KB of code and constants. Strict C99, without a warning."""
    compiler, tools = shutil.which("gcc") or shutil.which("clang"), (shutil.which("nm"), shutil.which("size"))
    if compiler is None or None in tools:
        pytest.skip("there is no C compiler, or no nm and size")
    made = tmp_path / "pdn.o"
    flags = ["-std=c99", "-Os", "-ffreestanding", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"]
    subprocess.run([compiler, *flags, "-c", SOURCES / "pdn.c", "-o", made], check=True)
    nm, size = (subprocess.run([tool, *more, made], check=True, capture_output=True, text=True).stdout
                for tool, more in zip(tools, (["-u"], []), strict=True))  # fmt: skip
    assert set(nm.split()) <= {"U", "memcpy", "memset"}, (
        "a compiler may make loops of these two, and nothing else is asked for"
    )
    text, data, bss = map(int, size.splitlines()[1].split()[:3])
    assert text + data < 24_000 and bss == 0
    assert decoder.library().pdn_reader_bytes() < 50_000


def files(folder: Path) -> list[str]:
    """Write files of every kind of tensor, and return their paths."""
    paths = []
    for at, frozen in enumerate([*(holding(KINDS[name]) for name in KINDS), *map(network, range(10)), freeze(mlp())]):
        paths.append(folder / f"{at}.pdn")
        paths[-1].write_bytes(write(frozen)[0])
    return list(map(str, paths))


def test_damaged_files_never_lead_the_decoder_astray(driver: str, tmp_path: Path) -> None:
    """Four seconds of damage under the address and undefined-behaviour sanitizers; bench/packed_fuzz.py does it for long."""
    paths = files(tmp_path)
    assert int(subprocess.run([driver, *paths], capture_output=True, check=True).stdout) == len(paths)
    done = subprocess.run([driver, "--fuzz", "4", "7", *paths], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    assert int(done.stdout.split()[0]) > 200
