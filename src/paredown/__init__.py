"""paredown: the smallest model that still meets the accuracy you need, as a file measured in its own runtime.

    >>> import paredown
    >>> sorted(paredown.__all__)[:3]
    ['Goal', 'Recipe', 'Task']

Names are loaded when they are first used, so that measuring a file wakes no torch (decisions/0003).
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "find": "paredown.verbs.find", "apply": "paredown.verbs.find", "evaluate": "paredown.verbs.evaluate",
    "analyze": "paredown.verbs.analyze", "export": "paredown.verbs.export", "report": "paredown.verbs.report",
    "score": "paredown.verbs.score",
    "Goal": "paredown.core.goal", "Recipe": "paredown.core.recipe", "Task": "paredown.core.task",
    "capture": "paredown.graph.capture", "load_task": "paredown.data.tasks",
}  # fmt: skip

__all__ = [
    "Goal",
    "Recipe",
    "Task",
    "analyze",
    "apply",
    "capture",
    "evaluate",
    "export",
    "find",
    "load_task",
    "report",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'paredown' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return home.load if name == "load_task" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
