"""Official files: found, checked, fetched, refused; and the two formats they come in, on files made here."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from paredown.core.errors import BadInput, Damaged
from paredown.data import cifar, fashion_mnist, files, idx, mnist, tasks

Refused = Callable[..., str]


def idx_bytes(array: np.ndarray) -> bytes:
    """Return an array as an idx file."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def four(seed: int = 0) -> list[bytes]:
    """Return train pictures, train labels, test pictures, test labels: 40 + 20 of 28 × 28, ten classes."""
    draw = np.random.default_rng(seed)
    return [idx_bytes(array) for n in (40, 20) for array in (draw.integers(0, 256, (n, 28, 28)), np.arange(n) % 10)]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of our own, and no network."""
    monkeypatch.setenv("PAREDOWN_DATA", str(tmp_path))
    monkeypatch.delenv("PAREDOWN_OFFLINE", raising=False)
    monkeypatch.setattr(files.urllib.request, "urlopen", _no_network)
    return tmp_path


def _no_network(url: str, timeout: float) -> None:
    raise URLError("no network here")


def pin(monkeypatch: pytest.MonkeyPatch, module: object, contents: list[bytes], unzipped: bool) -> None:
    """Make the checksums of a task's four files those of `contents`."""
    sums = [hashlib.md5(c if unzipped else gzip.compress(c, mtime=0)).hexdigest() for c in contents]
    fresh = tuple(replace(f, md5=md5) for f, md5 in zip(module.FILES, sums, strict=True))  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "FILES", fresh)


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_is_read_zipped_or_not(alone: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    contents = four()
    pin(monkeypatch, mnist, contents, unzipped=True)
    (alone / "mnist").mkdir()
    for file, data in zip(mnist.FILES, contents, strict=True):
        name = file.name if zipped else file.name.removesuffix(".gz")
        (alone / "mnist" / name).write_bytes(gzip.compress(data) if zipped else data)
    task = tasks.load("mnist")
    assert task.shape == (1, 28, 28) and task.classes == tuple("0123456789") and len(task.splits["test"]) == 20
    assert task.licence == "CC BY-SA 3.0" and task.moves == ("shift", "rotate", "zoom")
    assert np.array_equal(task.splits["test"].y, np.arange(20) % 10)


def test_fashion_mnist_has_its_class_names(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = four(1)
    pin(monkeypatch, fashion_mnist, contents, unzipped=False)
    (alone / "fashion-mnist").mkdir()
    for file, data in zip(fashion_mnist.FILES, contents, strict=True):
        (alone / "fashion-mnist" / file.name).write_bytes(gzip.compress(data, mtime=0))
    task = tasks.load("fashion-mnist")
    assert task.classes[9] == "Ankle boot" and task.moves == ("flip", "shift") and task.name == "fashion-mnist"


def _tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def _records(labels: list[list[int]], first: int = 0) -> bytes:
    return b"".join(bytes(row) + bytes([(first + i) % 256]) * 1024 + bytes(2048) for i, row in enumerate(labels))


def cifar10_members() -> dict[str, bytes]:
    """Return a small archive's members: five batches of 20, a test batch of 10."""
    batches = {name: _records([[i % 10] for i in range(20)], 20 * k) for k, name in enumerate(cifar.CIFAR10.train)}
    test = {cifar.CIFAR10.test: _records([[i % 10] for i in range(10)], 100)}
    return {**batches, **test, cifar.CIFAR10.names: "\n".join(f"thing{i}" for i in range(10)).encode() + b"\n\n"}


def put(alone: Path, archive: cifar.Archive, members: dict[str, bytes]) -> cifar.Archive:
    """Write an archive where the built-in looks for it, under a checksum of its own; return it."""
    data = _tar(members)
    (alone / archive.folder).mkdir(exist_ok=True)
    (alone / archive.folder / archive.file.name).write_bytes(data)
    return replace(archive, file=replace(archive.file, md5=hashlib.md5(data).hexdigest()))


def test_cifar10_is_read_from_the_binary_archive(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cifar.read(put(alone, cifar.CIFAR10, cifar10_members()))
    x, y = found.pairs["train"]
    assert x.shape == (100, 3, 32, 32) and y.tolist() == [i % 10 for i in range(20)] * 5
    assert x[37, 0, 0, 0] == 37 and x[37, 1].max() == 0  # red first, as the format says
    assert found.options.classes == tuple(f"thing{i}" for i in range(10))


def test_cifar100_uses_the_fine_label(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[7, i % 100] for i in range(200)]
    names = "\n".join(f"fine{i}" for i in range(100)).encode()
    members = {"cifar-100-binary/train.bin": _records(rows), "cifar-100-binary/test.bin": _records(rows[:100], 200)}
    archive = put(alone, cifar.CIFAR100, {**members, cifar.CIFAR100.names: names})
    found = cifar.read(archive)
    assert found.pairs["test"][1].tolist() == list(range(100)) and len(found.options.classes or ()) == 100


def test_an_archive_is_never_unpacked_to_disk(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = {**cifar10_members(), "../../escaped.bin": b"out"}
    cifar.read(put(alone, cifar.CIFAR10, evil))
    assert not list(alone.parent.rglob("escaped.bin"))
    assert [p.name for p in (alone / "cifar10").iterdir()] == [cifar.CIFAR10.file.name]


def test_an_archive_that_lacks_a_part_or_has_half_a_record(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = cifar10_members()
    del members[cifar.CIFAR10.test]
    with pytest.raises(Damaged, match=r"no file cifar-10-batches-bin/test_batch\.bin"):
        cifar.read(put(alone, cifar.CIFAR10, members))
    members[cifar.CIFAR10.test] = b"\0" * 3000
    with pytest.raises(Damaged, match="has 3000 bytes; it must be records of 3073"):
        cifar.read(put(alone, cifar.CIFAR10, members))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_a_missing_file_says_what_to_put_where(alone: Path, refused: Refused, name: str) -> None:
    refused(name, str(alone / name), "no network here", "md5 ", "PAREDOWN_DATA", "put ")


def test_offline_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("PAREDOWN_OFFLINE", "1")
    refused("mnist", "PAREDOWN_OFFLINE is set")


def test_a_wrong_checksum_is_refused(alone: Path, refused: Refused) -> None:
    (alone / "mnist").mkdir()
    (alone / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(four()[0]))
    refused("mnist", "train-images-idx3-ubyte.gz has md5", "6bbc9ace898e44ae57da46a324031adb")


def test_half_a_gzip_file_is_refused(alone: Path, refused: Refused) -> None:
    (alone / "mnist").mkdir()
    (alone / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(four()[0])[:500])
    refused("mnist", "is not a whole gzip file")


def test_a_file_is_fetched_once_checked_and_kept(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, asked = gzip.compress(b"payload"), []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(packed)

    monkeypatch.setattr(files.urllib.request, "urlopen", answer)
    file = files.DataFile("a.gz", hashlib.md5(packed).hexdigest(), "https://example.org/a.gz")
    assert files.content("new", file) == files.content("new", file) == b"payload"
    assert asked == ["https://example.org/a.gz"] and [p.name for p in (alone / "new").iterdir()] == ["a.gz"]
    with pytest.raises(Damaged, match=r"https://example\.org/b\.gz has md5"):
        files.content("new", replace(file, name="b.gz", url="https://example.org/b.gz", md5="0" * 32))
    assert not (alone / "new" / "b.gz").exists()


def test_a_folder_that_cannot_be_written_to_only_costs_the_next_fetch(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone / "blocked").write_text("a file where the folder would be")
    monkeypatch.setattr(files.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"data"))
    assert files.content("blocked", files.DataFile("a", hashlib.md5(b"data").hexdigest(), "u")) == b"data"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with nothing"),
        (b"\x80\x04\x95", "begins with 800495"),
        (b"\0\0\x0d\x01\0\0\0\x01\0", "begins with 00000d01"),
        (idx_bytes(np.zeros((3, 2)))[:-1], "holds 5 values, its header says 6"),
        (b"\0\0\x08\x03\0\0\0\x01", "begins with 00000803"),
    ],
)
def test_what_is_no_idx_file(data: bytes, said: str) -> None:
    with pytest.raises(Damaged, match=said):
        idx.parse(data, "some-ubyte")


def test_idx_round_trip() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(idx.parse(idx_bytes(array), "some-ubyte"), array)


def test_the_folder_is_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAREDOWN_DATA")
    assert files.root() == Path("~/.cache/paredown").expanduser()
    assert issubclass(Damaged, BadInput)
