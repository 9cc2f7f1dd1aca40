"""Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 × 28, in its official split.

The published checksums are of the `.gz` files, so only those are taken.
"""

from paredown.data import idx
from paredown.data.files import DataFile
from paredown.data.options import Options
from paredown.data.raw import Builtin, Raw

MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = tuple(
    DataFile(name, md5, MIRROR + name)
    for name, md5 in (
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    )
)
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def read() -> Raw:
    """Return Fashion-MNIST. Raises BadInput when a file is missing or not the published one."""
    return Raw("fashion-mnist", idx.pairs("fashion-mnist", FILES), Options(classes=CLASSES, moves=("flip", "shift")))


TASKS = {
    "fashion-mnist": Builtin(
        "fashion-mnist",
        "pictures of clothes, 10 classes, 1 × 28 × 28, 60,000 train and 10,000 test",
        read,
        "MIT",
        "Xiao, Rasul, Vollgraf: Fashion-MNIST (2017), arXiv:1708.07747",
    )
}
