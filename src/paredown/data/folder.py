"""Folders of pictures: `train/<class>/…`, `test/<class>/…` (`val`, `calib` as well), or just `<class>/…`.

Pictures are read as uint8: one channel when every one of them is grey, else three (RGB; transparency is dropped).
Photographs are turned upright as their EXIF says. All are resized to one size: `size` when it is given, else the size
that most of them have; how many were resized is noted. 16-bit pictures keep their upper 8 bits.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from paredown.core.errors import BadInput
from paredown.data.labels import in_order
from paredown.data.options import Options, one_line
from paredown.data.raw import Pair, Raw

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
AUDIO = frozenset({".wav", ".flac", ".mp3", ".ogg"})
NO_AUDIO = "audio tasks are not available in this version yet"
ROLE_OF = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "calib": "calib",
}  # fmt: skip
MOST_BYTES = 4_000_000_000
GREY = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"})
WIDE = frozenset({"I", "I;16", "I;16B", "I;16L"})
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Picture:
    """One file, its class, and what its header says: (height, width) once upright, and whether it is grey."""

    path: Path
    label: str
    size: tuple[int, int]
    grey: bool


def read(path: Path, options: Options) -> Raw:
    """Return the pictures below `path` with their folders' names as labels.

    Raises BadInput for a folder without classes, an empty class, a picture that cannot be read, sound, or more pixels
    than fit in memory.
    """
    _refuse_audio(path)
    folders, others = _role_folders(path)
    found = {role: _pictures(folder) for role, folder in folders.items()}
    every = [picture for pictures in found.values() for picture in pictures]
    sizes = Counter(picture.size for picture in every)
    size = options.size or max(sizes, key=lambda s: (sizes[s], s))
    channels = 1 if all(picture.grey for picture in every) else 3
    _refuse_too_many(path, len(every), size, channels)
    pairs = {role: _pair(pictures, size, channels) for role, pictures in found.items()}
    return Raw(path.resolve().name, pairs, options, (*_said(sizes, size), *others))


def _refuse_audio(path: Path) -> None:
    kinds: set[str] = set()
    for _, _, names in os.walk(path):
        kinds.update(os.path.splitext(name)[1].lower() for name in names)
    if kinds & AUDIO and not kinds & PICTURES:
        raise BadInput(f"{path} holds sound ({', '.join(sorted(kinds & AUDIO))}); {NO_AUDIO}")


def _below(path: Path) -> list[Path]:
    try:
        found = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {one_line(error)}") from None
    named = {p.name: p for p in found}
    return [named[name] for name in in_order(named)]


def _role_folders(path: Path) -> tuple[Mapping[str, Path], tuple[str, ...]]:
    """Return {role: its folder}, and a note on folders beside them that are no role."""
    folders = _below(path)
    roles = [p for p in folders if p.name.lower() in ROLE_OF]
    if not roles:
        return {"train": path}, ()
    found: dict[str, Path] = {}
    for p in roles:
        role = ROLE_OF[p.name.lower()]
        if role in found:
            raise BadInput(
                f"{path} holds both {found[role].name}/ and {p.name}/, which are one role ({role}); join them"
            )
        found[role] = p
    if "train" not in found:
        raise BadInput(
            f"{path} holds {', '.join(p.name + '/' for p in roles)} but no train/; put the pictures to learn from there"
        )
    others = [p.name for p in folders if p not in roles]
    return found, (f"folders left alone, being no role: {', '.join(others)}",) if others else ()


def _pictures(folder: Path) -> list[Picture]:
    classes = _below(folder)
    if not classes:
        raise BadInput(f"{folder} holds no folders; put the pictures of each class in one: {folder.name}/<class>/…")
    pictures = []
    for of_class in classes:
        paths = sorted(p for p in of_class.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith("."))
        if not paths:
            kinds = ", ".join(sorted(kind.removeprefix(".") for kind in PICTURES))
            raise BadInput(f"{of_class} holds no pictures; allowed: {kinds}; fill the folder or take it away")
        pictures += [_header(p, of_class.name) for p in paths]
    return pictures


def _header(path: Path, label: str) -> Picture:
    try:
        with Image.open(path) as image:
            width, height = image.size
            if _orientation(image) in (5, 6, 7, 8):
                width, height = height, width
            return Picture(path, label, (height, width), image.mode in GREY)
    except UNREADABLE as error:
        raise BadInput(f"picture {path} cannot be read: {one_line(error)}; mend it or take it away") from None


def _orientation(image: Image.Image) -> int:
    # Only photographs: asking other formats for EXIF decodes the whole picture.
    return image.getexif().get(0x0112, 1) if image.format in ("JPEG", "MPO") else 1


def _refuse_too_many(path: Path, count: int, size: tuple[int, int], channels: int) -> None:
    needed = count * size[0] * size[1] * channels
    if needed > MOST_BYTES:
        raise BadInput(
            f"{path} holds {count} pictures of {size[0]} × {size[1]}, {needed / 1e9:.1f} GB in memory (at most "
            f"{MOST_BYTES / 1e9:g}); give a smaller `size: [height, width]` in a task.yaml"
        )


def _said(sizes: Counter[tuple[int, int]], size: tuple[int, int]) -> tuple[str, ...]:
    count = sizes.total() - sizes[size]
    if not count:
        return ()
    return (
        f"{count} of {sizes.total()} pictures had another size and were resized (bilinear) to {size[0]} × {size[1]}",
    )


def _pair(pictures: list[Picture], size: tuple[int, int], channels: int) -> Pair:
    x = np.empty((len(pictures), channels, *size), np.uint8)
    for i, picture in enumerate(pictures):
        x[i] = _pixels(picture.path, size, channels)
    return x, np.array([picture.label for picture in pictures])


def _pixels(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """Return one picture as uint8, (channels, height, width)."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened) if _orientation(opened) != 1 else opened
            image = _eight_bits(image).convert("L" if channels == 1 else "RGB")
            if (image.height, image.width) != size:
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except UNREADABLE as error:
        raise BadInput(f"picture {path} cannot be read: {one_line(error)}; mend it or take it away") from None
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    # Pillow clips 16 bits at 255 where it should divide.
    if image.mode in WIDE:
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image
