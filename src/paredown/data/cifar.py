"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour pictures, 32 × 32, in their official split.

Read from the binary version of the archives, in memory: the Python version is pickled, and nothing is ever unpickled.
A record is one label (CIFAR-100: the coarse label, then the fine one, which is used) and 3 × 32 × 32 bytes.
"""

import functools
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paredown.core.errors import Damaged
from paredown.data import files
from paredown.data.files import DataFile
from paredown.data.options import Options
from paredown.data.raw import Builtin, Pair, Raw

HOST = "https://www.cs.toronto.edu/~kriz/"
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Archive:
    """Where in an archive train, test and the class names are, and how many label bytes begin a record."""

    folder: str
    file: DataFile
    train: Sequence[str]
    test: str
    names: str
    label_bytes: int


CIFAR10 = Archive(
    "cifar10",
    DataFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", HOST + "cifar-10-binary.tar.gz"),
    [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
    "cifar-10-batches-bin/test_batch.bin",
    "cifar-10-batches-bin/batches.meta.txt",
    1,
)
CIFAR100 = Archive(
    "cifar100",
    DataFile("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", HOST + "cifar-100-binary.tar.gz"),
    ["cifar-100-binary/train.bin"],
    "cifar-100-binary/test.bin",
    "cifar-100-binary/fine_label_names.txt",
    2,
)


def read(archive: Archive) -> Raw:
    """Return the task in an archive. Raises BadInput when the file is missing, another, or lacks a part."""
    data = files.content(archive.folder, archive.file)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        train = [_records(_member(tar, name), archive.label_bytes, name) for name in archive.train]
        test = _records(_member(tar, archive.test), archive.label_bytes, archive.test)
        classes = tuple(_member(tar, archive.names).decode().split())
    xs, ys = zip(*train, strict=True)
    pairs = {"train": (np.concatenate(xs), np.concatenate(ys)), "test": test}
    return Raw(archive.folder, pairs, Options(classes=classes, moves=("flip", "shift")))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        stream = tar.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise Damaged(f"the archive holds no file {name}; it is not the binary version")
    return stream.read()


def _records(data: bytes, label_bytes: int, name: str) -> Pair:
    size = label_bytes + PIXELS
    if not data or len(data) % size:
        raise Damaged(f"{name} has {len(data)} bytes; it must be records of {size}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


SOURCE = "Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009)"
LICENCE = "none stated by the authors"
TASKS = {
    archive.folder: Builtin(
        archive.folder,
        f"colour pictures, {count} classes, 3 × 32 × 32, 50,000 train and 10,000 test",
        functools.partial(read, archive),
        LICENCE,
        SOURCE,
    )
    for archive, count in ((CIFAR10, 10), (CIFAR100, 100))
}
