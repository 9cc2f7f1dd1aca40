"""`paredown rules`: the official scores, and for each what it wants to see and where its constants stand."""

import inspect
from typing import Any

from paredown.core.catalog import discover, entries, rule, rules
from paredown.core.knob import knobs_of


def rule_rows() -> list[dict[str, str]]:
    """Return a row for each rule: its name, and what it is about."""
    entries("rule")  # strangers' rules too
    return [{"name": name, "about": _about(found)} for name, found in rules().items()]


def rule_card(name: str) -> dict[str, Any]:
    """Return a rule's card: source, evidence, settings, and each constant with its clause. Raises BadInput."""
    discover("paredown.rules")
    found = rule(name)
    card, knobs = found.card, knobs_of(type(found))
    constants = [constant.to_json() for constant in found.constants] if hasattr(found, "constants") else []
    return {
        "schema": "paredown/rule/1", "name": name, "title": card.title, "about": _about(found), "source": card.source,
        "evidence": found.evidence.wanted(), "constants": constants,
        "settings": {key: knob.allowed() for key, knob in knobs.items() if key != "edition"},
        "unverified": [row["name"] for row in constants if not row["verified"]], "doc": inspect.getdoc(found) or "",
    }  # fmt: skip


def _about(found: Any) -> str:
    return str(getattr(found, "about", found.card.title))
