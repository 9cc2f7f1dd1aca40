"""What a person may say about their data beside where it is: the keys of `task.yaml`."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paredown.core.errors import BadInput

Move = Literal["shift", "rotate", "zoom", "flip", "noise"]
Role = Literal["train", "calib", "val", "test"]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=65536)]


class Options(BaseModel):
    """Choices about a task; None leaves the choice to the reader.

    `classes`: names, in the order of the labels. `moves`: changes of a sample that keep its label. `label`: a table's
    label column, by name or by position from 0. `scale`: a model sees `x * scale`. `shape`: one sample's shape, to
    fold flat rows into pictures (channels, height, width). `size`: (height, width) that pictures are resized to.
    `val_fraction`, `test_fraction`: share of train that makes the role when it is absent. `seed`: draws the test
    split when it is made here; it belongs to the task, so that no search's seed moves a sample in or out of test.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    name: str | None = None
    metric: str | None = None
    classes: tuple[str, ...] | None = None
    moves: tuple[Move, ...] | None = None
    label: str | int | None = None
    scale: float | None = Field(default=None, gt=0)
    shape: tuple[Count, ...] | None = Field(default=None, min_length=1, max_length=3)
    size: tuple[Count, Count] | None = None
    val_fraction: Share | None = None
    test_fraction: Share | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    licence: str | None = None
    source: str | None = None

    def over(self, other: "Options") -> "Options":
        """Return `other` with the fields that were set here put in their place."""
        return Options(**{**other.model_dump(exclude_unset=True), **self.model_dump(exclude_unset=True)})


class TaskFile(Options):
    """A `task.yaml`: where the data is (a path beside the file, a built-in's name, or a .csv for each role)."""

    data: str | dict[Role, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the file's content. Raises BadInput in one line for what is not YAML, not allowed, or missing."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read: {one_line(error)}") from None
        except yaml.YAMLError as error:
            raise BadInput(f"{path} is not YAML: {one_line(error)}") from None
        if not isinstance(content, dict):
            raise BadInput(f"{path} holds {content!r:.60}; it must hold keys and values, beginning with `data: PATH`")
        try:
            return cls(**{str(key): value for key, value in content.items()})
        except ValidationError as error:
            raise BadInput(f"{path}: {_first(error)}") from None

    def options(self) -> Options:
        """Return the choices alone."""
        return Options(**{k: v for k, v in self.model_dump(exclude_unset=True).items() if k != "data"})


def one_line(error: Exception) -> str:
    """Return an error's text without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"key {key!r} is unknown; allowed: {', '.join(TaskFile.model_fields)}"
    if found["type"] == "missing":
        return f"key {key!r} is missing; write it like `{key}: pictures/`"
    value = f"{found['input']!r:.60}"
    return f"{key}={value} is not allowed: {found['msg'][:1].lower()}{found['msg'][1:]}"
