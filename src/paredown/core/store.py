"""A run on disk. The log is the truth: one JSON object a line, appended; a line cut short by a kill is dropped.

Files are written under a temporary name and renamed, so what has its name is whole.
"""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from paredown.core.candidate import Candidate, Result
from paredown.core.errors import BadInput, Busy


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("wb") as out:
            out.write(data.encode() if isinstance(data, str) else data)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Return a JSON file's content. Raises BadInput when it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not JSON: {error}") from error


class Store:
    """One run's folder, held by one process at a time."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock: TextIO | None = None
        self._log: TextIO | None = None

    def __enter__(self) -> "Store":
        """Take the folder. Raises Busy when another process has it, OSError when it cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise Busy(f"run {self.folder} is in use by another process; wait for it, or give another --out") from error
        self._mend()
        self._log = (self.folder / "log").open("a")
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self._log, self._lock):
            if handle is not None:
                handle.close()

    def _mend(self) -> None:
        """Cut off a line that a kill left unfinished."""
        path = self.folder / "log"
        if path.exists():
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                write_whole(path, whole)

    def append(self, event: dict[str, Any]) -> None:
        """Add one event to the log, on disk before this returns."""
        assert self._log is not None, "the store is not open"
        self._log.write(json.dumps(event) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the log's events in order. Raises BadInput for a line in the middle that is not JSON."""
        path = self.folder / "log"
        if not path.exists():
            return
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise BadInput(f"{path} line {number} is not JSON: the log was edited or the disk is faulty") from error

    @property
    def asked(self) -> dict[str, Any] | None:
        """What the run was asked for, or None for a fresh folder."""
        path = self.folder / "asked.json"
        return read_json(path) if path.exists() else None

    def ask(self, asked: dict[str, Any]) -> None:
        """Write down what the run is asked for, once."""
        write_whole(self.folder / "asked.json", json.dumps(asked, indent=1))

    def candidate_folder(self, candidate_id: str) -> Path:
        """Return the folder of one candidate."""
        return self.folder / "candidates" / candidate_id

    def save(self, candidate: Candidate, result: Result, notes: list[dict[str, str]]) -> None:
        """Write a candidate's files; `result.json` last, so that its presence means that all is there."""
        folder = self.candidate_folder(candidate.id)
        described = {"schema": "paredown/candidate/1", "id": candidate.id, **candidate.to_json()}
        write_whole(folder / "candidate.json", json.dumps(described))
        write_whole(folder / "notes.json", json.dumps({"schema": "paredown/notes/1", "notes": notes}))
        write_whole(folder / "result.json", json.dumps(result.to_json()))

    def candidate(self, candidate_id: str) -> Candidate:
        """Return a stored candidate. Raises BadInput when there is none of that id."""
        if (
            not re.fullmatch(r"[0-9a-f]{4,64}", candidate_id)
            or not (self.candidate_folder(candidate_id) / "candidate.json").exists()
        ):
            known = sorted(p.parent.name for p in self.folder.glob("candidates/*/result.json"))
            raise BadInput(
                f"run {self.folder} has no candidate {candidate_id!r}; it has {len(known)}, such as {', '.join(known[:3])}"
            )
        return Candidate.of_json(read_json(self.candidate_folder(candidate_id) / "candidate.json"))

    def result(self, candidate_id: str) -> Result | None:
        """Return a candidate's stored result, or None."""
        path = self.candidate_folder(candidate_id) / "result.json"
        return Result.of_json(read_json(path)) if path.exists() else None
