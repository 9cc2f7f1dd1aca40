"""A recipe: a tuple of steps, checked against their cards before anything runs."""

import hashlib
import json
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paredown.core.catalog import build, describe, entry
from paredown.core.errors import BadInput

SCHEMA = "paredown/recipe/1"


@dataclass(frozen=True)
class Recipe:
    """Steps in order. A prefix of a recipe is a recipe, so work is shared by prefix."""

    steps: tuple[Any, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def check(self, forms: Set[str] = frozenset()) -> Set[str]:
        """Return the forms that the recipe leaves a network in, or raise BadInput for the first step out of order."""
        for at, step in enumerate(self.steps, 1):
            name = getattr(step, "part_name", None)
            if name is None or entry(name).kind != "step":
                raise BadInput(
                    f"step {at} of the recipe, {name or step!r}, is not a step; `paredown methods` lists the steps"
                )
            card = step.card
            if missing := card.takes - forms:
                raise BadInput(
                    f"step {at}, {name}, needs a {'/'.join(sorted(missing))} network; put such a step before it"
                )
            if clash := card.forbids & forms:
                raise BadInput(
                    f"step {at}, {name}, cannot follow a step that leaves weights {'/'.join(sorted(clash))}; move it earlier"
                )
            forms = forms | card.gives
        return forms

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the sha256 over the recipe's JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def prefixes(self) -> list["Recipe"]:
        """Return the recipes of the first 1, 2, … all steps."""
        return [Recipe(self.steps[: n + 1]) for n in range(len(self.steps))]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the steps as a JSON list; `of_json` is the inverse."""
        return [describe(step) for step in self.steps]

    @staticmethod
    def of_json(data: Any) -> "Recipe":
        """Return the recipe described by a list of {"part": …}. Raises BadInput."""
        if not isinstance(data, list):
            raise BadInput(f"a recipe is a list of steps, not {type(data).__name__}; write `steps: [{{part: …}}]`")
        return Recipe(tuple(build(step) for step in data))

    def to_yaml(self) -> str:
        """Return the recipe as YAML text that `load` reads."""
        return yaml.safe_dump({"schema": SCHEMA, "steps": self.to_json()}, sort_keys=False)

    @staticmethod
    def load(path: str | Path) -> "Recipe":
        """Return the recipe in a YAML (or JSON) file, checked. Raises BadInput."""
        try:
            data = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise BadInput(f"recipe {path} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BadInput(f"recipe {path} is not YAML: {str(error).splitlines()[0]}") from error
        if isinstance(data, dict):
            if data.get("schema", SCHEMA) != SCHEMA:
                raise BadInput(f"recipe {path} has the schema {data['schema']!r}; this version reads {SCHEMA}")
            data = data.get("steps")
        recipe = Recipe.of_json(data)
        recipe.check()
        return recipe
