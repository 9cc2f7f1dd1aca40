"""CIFAR-10-JPEG is read from an archive of folders; what is missing or damaged is said."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from paredown.core.errors import BadInput, Damaged
from paredown.data.cifar10_jpeg import read, unpacked


def archive(members: dict[str, bytes]) -> bytes:
    """Return a tar.xz of named contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def picture(shade: int) -> bytes:
    """Return a JPEG of one colour."""
    out = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), shade, np.uint8)).save(out, "JPEG")
    return out.getvalue()


def test_pictures_are_read_by_role_and_class_in_the_order_of_their_names() -> None:
    names = {"train/cat/0001.jpg": 200, "train/cat/0000.jpg": 100, "test/dog/0000.jpg": 50, "train/ape/0003.jpg": 10}
    pairs = unpacked(archive({name: picture(shade) for name, shade in names.items()}))
    pictures, labels = pairs["train"]
    assert pictures.shape == (3, 3, 32, 32) and pictures.dtype == np.uint8
    assert labels.tolist() == ["ape", "cat", "cat"] and pictures[:, 0, 0, 0].tolist() == [10, 100, 200]
    assert pairs["test"][1].tolist() == ["dog"]


@pytest.mark.parametrize("content", [b"no archive", archive({}), archive({"train/cat/0.jpg": b"no picture"})])
def test_another_archive_is_refused(content: bytes) -> None:
    with pytest.raises(Damaged, match="cifar10-jpeg"):
        unpacked(content)


def test_a_missing_archive_is_said_with_the_place_it_belongs_to(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PAREDOWN_DATA", str(tmp_path))
    with pytest.raises(BadInput, match=r"cannot be fetched: put cifar10_jpeg\.tar\.xz"):
        read()
