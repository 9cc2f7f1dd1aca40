"""MNIST: 60,000 + 10,000 handwritten digits, 28 × 28, in its official split."""

from paredown.data import idx
from paredown.data.files import DataFile
from paredown.data.options import Options
from paredown.data.raw import Builtin, Raw

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = tuple(
    DataFile(name, md5, MIRROR + name, unzipped=True)
    for name, md5 in (
        ("train-images-idx3-ubyte.gz", "6bbc9ace898e44ae57da46a324031adb"),
        ("train-labels-idx1-ubyte.gz", "a25bea736e30d166cdddb491f175f624"),
        ("t10k-images-idx3-ubyte.gz", "2646ac647ad5339dbf082846283269ea"),
        ("t10k-labels-idx1-ubyte.gz", "27ae3e4e09519cfbb04c329615203637"),
    )
)


def read() -> Raw:
    """Return MNIST. Raises BadInput when a file is missing or not the published one."""
    return Raw("mnist", idx.pairs("mnist", FILES), Options(moves=("shift", "rotate", "zoom")))


TASKS = {
    "mnist": Builtin(
        "mnist",
        "handwritten digits, 10 classes, 1 × 28 × 28, 60,000 train and 10,000 test",
        read,
        "CC BY-SA 3.0",
        "LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998)",
    )
}
