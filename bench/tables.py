"""Where the benches put their tables."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV under their name in `bench/results`, and say where."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / name).open("w", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {RESULTS / name}")
