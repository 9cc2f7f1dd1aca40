"""Where a run comes from, how to repeat it, how to go on with it."""

import shlex
from typing import Any

import yaml

from paredown.core.recipe import SCHEMA
from paredown.reports import words
from paredown.reports.read import Record, Tried

Rows = list[tuple[str, str]]


def provenance(record: Record) -> Rows:
    """Return (what, value) of the circumstances: versions, host, seed, date, code."""
    asked, host, terms = record.asked, record.asked.get("host") or {}, record.asked.get("terms") or {}
    budget = "none" if terms.get("budget_s") is None else words.seconds(terms["budget_s"])
    own = "the default" if record.applied else "paredown's own family"
    rows = [
        ("paredown", f"{asked.get('version', '?')}, code revision {asked.get('revision', '?')}"),
        ("Python, torch", f"{host.get('python', '?')}, {host.get('torch', '?')}"),
        ("Host", f"{host.get('system', '?')} ({host.get('machine', '?')})"),
        ("Date", str(asked.get("date", "?"))),
        ("Seed", str(asked.get("seed", "?"))),
        ("Device, workers", f"{terms.get('device', '?')}, {terms.get('workers', '?')}"),
        ("Targets", words.told(terms.get("targets"))),
        ("Model", _asked_model(asked["model"]) if asked.get("model") else own),
    ]
    if record.applied:
        return rows
    most = f", at most {terms['trials']}" if terms.get("trials") else ""
    trials = f"{record.told_trials} finished of {record.asked_trials} asked{most}"
    return [*rows, ("Searcher", str(asked.get("searcher"))), ("Budget", budget), ("Trials", trials)]


def _asked_model(model: Any) -> str:
    return words.spec(model) if isinstance(model, dict) else str(model)


def data(record: Record) -> Rows:
    """Return (what, value) of the data: digest, licence, source, roles."""
    task = record.asked.get("task") or {}
    roles = ", ".join(f"{role} {words.plain(n)}" for role, n in (task.get("n") or {}).items())
    classes = task.get("classes") or []
    return [
        ("Task", str(task.get("name", "?"))),
        ("Samples", roles or words.NONE),
        ("One sample", "×".join(map(str, task.get("shape") or ())) or words.NONE),
        ("Classes", words.plain(len(classes))),
        ("Metric", str(task.get("metric", "?"))),
        ("Licence", str(task.get("licence") or "not stated")),
        ("Source", str(task.get("source") or "not stated")),
        ("sha256 of the data", str(task.get("digest", "?"))),
    ]


def command(record: Record) -> tuple[str, bool]:
    """Return (the command to repeat the run, whether it was typed so).

    A run started from Python has no command; then the same question is put in the terminal's words.
    """
    typed = str(record.asked.get("command") or "")
    if typed.split()[1:2] and typed.split()[1] in ("find", "apply"):
        return typed, True
    if record.applied:
        return f"paredown apply recipe.yaml {_task(record)}" + _model(record), False
    return f"paredown find {_task(record)}" + _model(record) + _options(record), False


def _task(record: Record) -> str:
    return shlex.quote(str(record.asked.get("task", {}).get("name", "TASK")))


def _model(record: Record) -> str:
    model = record.asked.get("model")
    name = model.get("model") if isinstance(model, dict) else model
    return f" --model {shlex.quote(str(name))}" if name else ""


def _options(record: Record) -> str:
    goal, terms = record.asked.get("goal") or {}, record.asked.get("terms") or {}
    parts: list[tuple[str, Any]] = [("--floor", goal.get("floor")), ("--minimize", goal.get("minimize"))]
    parts += [("--limit", f"{what}={size:g}") for what, size in (goal.get("limits") or {}).items()]
    parts += [("--confidence", goal.get("confidence"))]
    parts += [("--target", target) for target in terms.get("targets") or ()]
    budget = terms.get("budget_s")
    parts += [("--budget", f"{budget:g}s" if budget else None), ("--trials", terms.get("trials"))]
    parts += [("--seed", record.asked.get("seed")), ("--workers", terms.get("workers"))]
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in parts if value is not None)


def resume(record: Record) -> str:
    """Return the command that goes on with the run."""
    base, folder = command(record)[0], shlex.quote(str(record.folder))
    out = "" if " --out" in base else f" --out {folder}"
    return base + out + ("" if " --resume" in base else " --resume")


def cite(record: Record) -> str:
    """Return the command for the BibTeX of what the winner is made of."""
    return f"paredown cite {shlex.quote(str(record.folder))}"


def recipe_yaml(tried: Tried) -> str:
    """Return the candidate's recipe as a file for `paredown apply`."""
    document = {"schema": SCHEMA, "steps": list(tried.described.get("recipe") or ())}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
