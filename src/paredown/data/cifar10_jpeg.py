"""CIFAR-10-JPEG: CIFAR-10's 60,000 pictures as JPEG files of quality 75 with halved colour, in the official split.

A task of its own, trained and tested on JPEG: networks trained on the true pixels lose about ten points here. The archive
holds `train/<class>/NNNN.jpg` and `test/<class>/NNNN.jpg`; it is published nowhere, so it is never fetched.
"""

import io
import tarfile

import numpy as np
from PIL import Image

from paredown.core.errors import BadInput, Damaged
from paredown.data import files
from paredown.data.files import DataFile
from paredown.data.options import Options
from paredown.data.raw import Builtin, Raw

FOLDER = "cifar10-jpeg"
FILE = DataFile("cifar10_jpeg.tar.xz", "3e39647e5785d49496c335063a094dd5", "")


def read() -> Raw:
    """Return CIFAR-10-JPEG. Raises BadInput when the archive is missing, Damaged when it is another."""
    if not (files.root() / FOLDER / FILE.name).is_file():
        told = f"put {FILE.name} ({FILE.spoken()}) into {files.root() / FOLDER}"
        raise BadInput(f"{FOLDER} has its pictures in an archive that cannot be fetched: {told}")
    pairs = unpacked(files.content(FOLDER, FILE))
    classes = tuple(sorted(set(pairs["train"][1])))
    return Raw(FOLDER, pairs, Options(classes=classes, moves=("flip", "shift")))


def unpacked(archive: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {role: (pictures n × 3 × h × w uint8, class names n)} of an archive of `role/class/name.jpg`, by name.

    Raises Damaged when the archive cannot be read or holds no picture.
    """
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                if member.isfile() and (stream := tar.extractfile(member)):
                    pixels = np.asarray(Image.open(stream).convert("RGB")).transpose(2, 0, 1)
                    found.setdefault(member.name.split("/")[0], []).append((member.name, pixels))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise Damaged(f"the archive of {FOLDER} cannot be read: {error}") from None
    if not found:
        raise Damaged(f"the archive of {FOLDER} holds no pictures")
    return {role: _arrays(pictures) for role, pictures in found.items()}


def _arrays(pictures: list[tuple[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    pictures = sorted(pictures, key=lambda picture: picture[0])
    return np.stack([pixels for _, pixels in pictures]), np.array([name.split("/")[1] for name, _ in pictures])


TASKS = {
    FOLDER: Builtin(
        FOLDER,
        "CIFAR-10 as JPEG of quality 75, 10 classes, 3 × 32 × 32, 50,000 train and 10,000 test",
        read,
        "none stated by the authors",
        "Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009), encoded as JPEG",
    )
}
