"""What a rule is shown: counted and measured numbers, the unit in each name, checked when they are read."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from paredown.core.errors import BadInput


def counted(name: str = "", **limits: Any) -> Any:
    """Return a field that counting a network gives, under `name` where that is another."""
    return Field(**limits, json_schema_extra={"counted": name or True})


def ranking(**limits: Any) -> Any:
    """Return a field that may be missing, but without which there is no total."""
    return Field(**{"default": None, **limits}, json_schema_extra={"total": True})


class Evidence(BaseModel):
    """Numbers by name; a rule's own type says which it needs. Immutable; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def of(cls, numbers: Any, source: str = "the evidence") -> Self:
        """Return the evidence in a mapping. Raises BadInput in one line: what is missing, unknown or out of range."""
        if not isinstance(numbers, Mapping):
            raise BadInput(f"{source} holds {numbers!r:.60}; it must be an object with {_list(cls.required())}")
        if missing := [name for name in cls.required() if name not in numbers]:
            raise BadInput(f"{source} lacks {_list(missing)}; it must have {_list(cls.required())}")
        if unknown := [str(name) for name in numbers if name not in cls.model_fields]:
            raise BadInput(f"{source} has the unknown {_list(unknown)}; allowed: {_list(list(cls.model_fields))}")
        try:
            return cls(**numbers)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise BadInput(f"{source}: {place}={first['input']!r:.60}: {first['msg']}") from None

    @classmethod
    def within(cls, numbers: Mapping[str, Any], source: str = "the evidence") -> Self:
        """Return the evidence in what was counted and measured, which may be more than asked. Raises BadInput as `of` does."""
        names = {name: _said(field, "counted") for name, field in cls.model_fields.items()}
        kept = {name: other if isinstance(other, str) else name for name, other in names.items()}
        return cls.of({name: numbers[other] for name, other in kept.items() if other in numbers}, source)

    @classmethod
    def required(cls) -> list[str]:
        """Return the names that must be there."""
        return [name for name, field in cls.model_fields.items() if field.is_required()]

    @classmethod
    def measured(cls) -> list[str]:
        """Return what a total needs that counting a network does not give."""
        fields = cls.model_fields.items()
        return [n for n, f in fields if (f.is_required() and not _said(f, "counted")) or _said(f, "total")]

    @classmethod
    def wanted(cls) -> dict[str, str]:
        """Return {name: "counted", "needed", "for a total" or "if known"}."""
        return {name: _want(field) for name, field in cls.model_fields.items()}


def _want(field: FieldInfo) -> str:
    if _said(field, "counted"):
        return "counted"
    return "needed" if field.is_required() else "for a total" if _said(field, "total") else "if known"


def _said(field: FieldInfo, key: str) -> Any:
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, Mapping) else None


def _list(names: list[str]) -> str:
    """Return names in words.

    >>> _list(["a"]), _list(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"
