"""A built-in's official files: looked for under PAREDOWN_DATA, else fetched, always held against their checksum."""

import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from paredown.core.errors import BadInput, Damaged

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class DataFile:
    """One published file. `unzipped`: the md5 is that of the content without gzip, so any packing will do."""

    name: str
    md5: str
    url: str
    unzipped: bool = False

    def spoken(self) -> str:
        """Return the checksum in words."""
        return f"md5 {self.md5}{' when unzipped' if self.unzipped else ''}"


def root() -> Path:
    """Return the folder of data files: PAREDOWN_DATA, or ~/.cache/paredown."""
    return Path(os.environ.get("PAREDOWN_DATA") or "~/.cache/paredown").expanduser()


def content(folder: str, file: DataFile) -> bytes:
    """Return a file's bytes, without gzip where its name ends in `.gz`.

    Raises Damaged when the checksum is another, BadInput when the file is neither there nor to be had.
    """
    packed = root() / folder / file.name
    plain = packed.with_suffix("")
    for path in (packed, plain) if file.unzipped else (packed,):
        if path.is_file():
            try:
                return _checked(path.read_bytes(), file, str(path), path.suffix == ".gz")
            except PermissionError as error:
                raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    data = _fetched(file, packed)
    whole = _checked(data, file, file.url, packed.suffix == ".gz")
    _keep(data, packed)
    return whole


def _checked(data: bytes, file: DataFile, where: str, zipped: bool) -> bytes:
    try:
        whole = gzip.decompress(data) if zipped else data
    except (OSError, EOFError, zlib.error):
        raise Damaged(
            f"{where} is not a whole gzip file; it must have {file.spoken()}: delete it and try again"
        ) from None
    found = hashlib.md5(whole if file.unzipped else data, usedforsecurity=False).hexdigest()
    if found != file.md5:
        raise Damaged(f"{where} has md5 {found}; it must have {file.spoken()}: delete it and try again")
    return whole


def _fetched(file: DataFile, path: Path) -> bytes:
    told = (
        f"put {file.name} ({file.spoken()}; from {file.url}) into {path.parent}, "
        f"or set PAREDOWN_DATA to the folder that holds {path.parent.name}/"
    )
    if os.environ.get("PAREDOWN_OFFLINE"):
        raise BadInput(f"{path} is missing and PAREDOWN_OFFLINE is set: {told}")
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT_S) as answer:
            return answer.read()
    except (OSError, HTTPException) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{path} is missing and could not be fetched ({why}): {told}") from None


def _keep(data: bytes, path: Path) -> None:
    """Write under a temporary name, then rename. A folder that cannot be written to only costs the next fetch."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
            partial.write(data)
    except OSError:
        return
    os.replace(partial.name, path)
