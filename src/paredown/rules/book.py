"""A family's rule book: editions and their constants, each with the clause it stands in, read from a YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict

from paredown.core.score import Constant


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Clause(_Strict):
    """A constant: its value, where it stands, and whether that place was read."""

    value: Any
    clause: str
    verified: bool


class Edition(_Strict):
    """One year or task of a rule. `form` names the formula where a family has several; `task` is the data it is about,
    as tasks are called here.
    """

    about: str
    form: str = ""
    task: str = ""
    constants: Mapping[str, Clause]

    def __getitem__(self, name: str) -> Any:
        """The value of the constant called `name`. Raises KeyError."""
        return self.constants[name].value

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a constant that not every edition has."""
        return self.constants[name].value if name in self.constants else default

    def __contains__(self, name: str) -> bool:
        """Whether the edition has a constant of that name."""
        return name in self.constants

    def cited(self) -> tuple[Constant, ...]:
        """Return the constants with their clauses."""
        return tuple(Constant(name, c.value, c.clause, c.verified) for name, c in self.constants.items())


class Book(_Strict):
    """A family of rules: title, source, what all editions share, and the editions."""

    title: str
    source: str
    year: int
    shared: Mapping[str, Clause] = {}
    editions: Mapping[str, Edition]

    def __getitem__(self, edition: str) -> Edition:
        """One edition, with the shared constants. Raises KeyError."""
        found = self.editions[edition]
        return found.model_copy(update={"constants": {**self.shared, **found.constants}})


class ByEdition:
    """What all rules with a book share: a field `edition`, and what the book says about it."""

    book: ClassVar[Book]
    edition: str

    @property
    def page(self) -> Edition:
        """What the book says about the edition."""
        return self.book[self.edition]

    @property
    def about(self) -> str:
        """The edition in words."""
        return self.page.about

    @property
    def task(self) -> str:
        """The data that the quality has to be measured on, where it is a task here."""
        return self.page.task

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The constants with their clauses."""
        return self.page.cited()


def read(family: str) -> Book:
    """Return the rule book `family.yaml` beside this file."""
    return Book(**yaml.safe_load(Path(__file__).with_name(f"{family}.yaml").read_text(encoding="utf-8")))
