"""The progress bar of a search or a diagnosis, on a terminal only."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


class Bar:
    """A bar that takes a verb's events: {"progress": 0…1, and "doing", in words, or a search's "trial" and "best"}."""

    def __init__(self, err: Console, quiet: bool) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)
        self.task = self.bar.add_task("starting", total=1.0)

    def __call__(self, event: dict[str, Any]) -> None:
        self.bar.update(self.task, completed=event["progress"], description=event.get("doing") or self._trial(event))

    def _trial(self, event: dict[str, Any]) -> str:
        best = event["best"]
        shown = (
            "nothing yet"
            if best is None
            else f"best {best.trial.result.file_bytes:,} B at {best.trial.result.val.value:.4f}"
        )
        return f"trial {event['trial'].number + 1}, {shown}"
