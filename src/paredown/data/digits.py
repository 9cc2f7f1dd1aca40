"""scikit-learn's handwritten digits: 1,797 pictures of 8 × 8, pixels 0 to 16. Embedded in the library: no download.

The set has no official split. Here: 450 for test, stratified, by scikit-learn's `train_test_split` with random_state 0.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from paredown.data.options import Options
from paredown.data.raw import Builtin, Raw

TEST = 450


def read() -> Raw:
    """Return the digits with their fixed test split."""
    x, y = load_digits(return_X_y=True)
    pictures = x.astype(np.uint8).reshape(-1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(pictures, y, test_size=TEST, stratify=y, random_state=0)
    pairs = {"train": (train_x, train_y), "test": (test_x, test_y)}
    return Raw("digits", pairs, Options(scale=1 / 16, moves=("shift", "rotate", "zoom")))


TASKS = {
    "digits": Builtin(
        "digits",
        "handwritten digits, 10 classes, 1 × 8 × 8, 1,347 train and 450 test; embedded, needs no download",
        read,
        "CC BY 4.0",
        "Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI (1998)",
    )
}
