"""The terminal: the same verbs as the Python functions. The only module that prints."""

import errno
import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from paredown import drop, foretold, shown
from paredown.core.errors import BadInput
from paredown.core.units import shape
from paredown.options import Device, Json, Model, Out, Quiet, Seed, Targets
from paredown.progress import Bar

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="The smallest model that still meets the accuracy you need, as a file measured in its own runtime.")  # fmt: skip
out, err = Console(highlight=False), Console(stderr=True, highlight=False)

UNWRITABLE = {"ENOSPC", "EROFS", "EACCES", "EPERM", "EDQUOT", "ENOTDIR", "EEXIST", "EISDIR", "ENAMETOOLONG"}
"""The system's reasons for not writing a file that a person can mend."""

ClickException: Any = typer.BadParameter.__mro__[2]
"""The root of typer's usage errors; typer carries its own copy of click, under a private name."""


def main() -> None:
    """Run the terminal: exit 0 done, 2 wrong use or bad input, 3 floor not reached, 130 interrupted, 1 our own fault."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        code = app(standalone_mode=False)
        if code == 130:  # typer turns Ctrl-C into this code without a word
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except BadInput as error:
        _fail(str(error))
    except ClickException as error:
        _fail(error.format_message() + shown.given(error.format_message(), sys.argv))
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted; nothing that was finished is lost, go on with --resume", markup=False)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in UNWRITABLE:
            raise
        _fail(
            f"{error.filename or 'a file'} cannot be written: {error.strerror}; free some space or give another --out"
        )


def _fail(line: str) -> None:
    print(f"paredown: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(2)


def _threads() -> None:
    """One thread: small networks lose more to threads waiting for each other than they gain."""
    import torch

    torch.set_num_threads(1)


@app.command(epilog="Example: paredown find digits --floor 0.97 --budget 3m")
def find(
    task: Annotated[str, typer.Argument(help="A built-in task, a folder of pictures, an .npz, a .csv or a task.yaml.")],
    floor: Annotated[float, typer.Option(help="What the model must reach on the task's metric, such as 0.97.")],
    model: Model = None,
    minimize: Annotated[
        str,
        typer.Option(help="What to make small: file_bytes, ram_bytes, macs, bops, params, latency_ms or score:RULE."),
    ] = "file_bytes",
    limit: Annotated[
        list[str] | None, typer.Option(help="A hard limit, like ram_bytes=32KB; may be given again.")
    ] = None,
    target: Targets = None,
    budget: Annotated[
        str | None, typer.Option(help="How long to search, like 90s, 5m or 1h. Default: 5m, or no limit with --trials.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="How many candidates to try at most.")] = None,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(help="Candidates trained at the same time.")] = 1,
    device: Device = "auto",
    confidence: Annotated[
        float | None, typer.Option(help="Ask that the lower bound of this interval reach the floor, like 0.95.")
    ] = None,
    searcher: Annotated[
        str, typer.Option(help="How candidates are proposed: search.tpe or search.random.")
    ] = "search.tpe",
    out_: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Search for the smallest model that keeps the floor; write its files and a report."""
    from paredown.verbs.find import find as verb

    _threads()
    progress = Bar(err, quiet or json_)
    with progress.bar:
        run = verb(
            task, floor=floor, model=model, minimize=minimize, limits=limit or [], confidence=confidence, targets=target or ["packed", "onnx"],
            budget=budget, trials=trials, seed=seed, workers=workers, device=device, searcher=searcher, out=out_, resume=resume, told=progress,
        )  # fmt: skip
    _show(run.json, json_, quiet)
    return 0 if run.reached else 3


@app.command(epilog="Example: paredown apply recipe.yaml digits --model resnet_small")
def apply(
    recipe: Annotated[str, typer.Argument(help="A recipe file (YAML).")],
    task: Annotated[str, typer.Argument(help="A task, as for find.")],
    model: Model = None,
    target: Targets = None,
    seed: Seed = 0,
    device: Device = "auto",
    out_: Out = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Run one recipe and measure it the way find does."""
    from paredown.verbs.expect import glimpse
    from paredown.verbs.find import apply as verb

    _threads()
    if not quiet and (line := glimpse(recipe, model, task, target or ())):
        err.print(line, markup=False, soft_wrap=True)
    run = verb(recipe, model, task, targets=target or ["packed", "onnx"], seed=seed, device=device, out=out_)
    _show(run.json, json_, quiet)
    return 0


@app.command(epilog="Example: paredown expect resnet_small --recipe recipe.yaml --task digits")
def expect(
    model: Annotated[str, typer.Argument(help="A model, as for find; the folder of a saved network; a run, or folder:candidate.")],
    recipe: Annotated[str, typer.Option("--recipe", help="A recipe file (YAML) that prunes.")],
    task: Annotated[str | None, typer.Option(help="A task, as for find. Default: random samples.")] = None,
    input_: Annotated[str | None, typer.Option("--input", help="Shape of one sample, without a task: 3x32x32.")] = None,
    classes: Annotated[int, typer.Option(help="Number of classes, without a task.")] = 10,
    runtime: Annotated[str, typer.Option(help="Where it is to run: onnx or packed.")] = "onnx",
    json_: Json = False,
) -> int:  # fmt: skip
    """Say before training what a recipe's pruning gains in speed here, by layer, and why it does not gain more."""
    from paredown.verbs.expect import Means
    from paredown.verbs.expect import expect as verb

    _threads()
    progress, sides = Bar(err, json_), None if input_ is None else shape(input_)
    with progress.bar:
        found = verb(model, recipe, task, shape=sides, classes=classes, runtime=runtime, means=Means(told=progress))
    if json_:
        print(json.dumps(found))
        return 0
    out.print(foretold.table(found))
    _lines(foretold.lines(found))
    return 0


def _show(document: Any, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json.dumps(document))
    elif quiet:
        if document["why"]:
            out.print(f"floor not reached: {document['why']}", markup=False, soft_wrap=True)
    else:
        out.print(shown.frontier(document))
        _lines(shown.outcome(document))


def _lines(lines: list[str]) -> None:
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


@app.command(epilog="Example: paredown analyze resnet_small --input 3x32x32")
def analyze(
    model: Annotated[
        str,
        typer.Argument(help="A zoo id, path/to/file.py:function, a file.onnx or file.pdn; a run, or folder:candidate."),
    ],
    input_: Annotated[
        str | None, typer.Option("--input", help="Shape of one sample (or 1xCxHxW); 3x32x32, or what an .onnx says.")
    ] = None,
    classes: Annotated[int, typer.Option(help="Number of classes, for models that ask.")] = 10,
    device: Annotated[
        str | None, typer.Option(help="Model latency and energy on: host, a name from `devices`, or a file.yaml.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Say why accuracy dropped on this task; a run knows its own.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The float network: a .pdn, an .onnx, a run, or MODEL:WEIGHTS.safetensors.")
    ] = None,
    report_: Annotated[str | None, typer.Option("--report", help="Write it as a page too, to this file.html.")] = None,
    json_: Json = False,
) -> int:
    """Show the costs by layer and in total, where they are, and what methods could do; of a run, why accuracy dropped."""
    from paredown.verbs.analyze import analyze as verb

    progress = Bar(err, json_)
    with progress.bar:
        found = verb(model, None if input_ is None else shape(input_), classes, device, task, against, progress)
    if report_ is not None:
        from paredown.reports.analysis import write_analysis

        found["page"] = str(write_analysis(found, model, report_))
    if json_:
        print(json.dumps(found))
        return 0
    out.print(shown.layers(found))
    _lines(shown.totals(found))
    if found["diagnosis"]:
        out.print(drop.table(found["diagnosis"]))
    _lines(drop.lines(found))
    return 0


@app.command(epilog="Example: paredown compare runs/digits models.csv --out compare.html")
def compare(
    sources: Annotated[
        list[str], typer.Argument(help="Run folders, and .csv files with name, accuracy, macs, params.")
    ],
    across: Annotated[str, typer.Option(help="macs, bops, params, file_bytes or ram_bytes.")] = "macs",
    out_: Annotated[str, typer.Option("--out", help="The page to write.")] = "compare.html",
    json_: Json = False,
) -> int:
    """Draw accuracy against operations over any set of models, the area of a dot its parameters."""
    from paredown.verbs.compare import compare as verb

    found = verb(sources, out_, across)
    if json_:
        print(json.dumps(found))
    else:
        _lines([f"{len(found['models'])} models, {found['metric']} against {across}: {found['page']}"])
    return 0


@app.command(epilog="Example: paredown evaluate runs/digits/best.pdn digits")
def evaluate(
    artifact: Annotated[str, typer.Argument(help="A .pdn or .onnx file.")],
    task: Annotated[str, typer.Argument(help="A task, as for find.")],
    split: Annotated[str, typer.Option(help="test, val, calib or train.")] = "test",
    costs: Annotated[bool, typer.Option("--costs", help="Measure all threads, peak memory and energy too.")] = False,
    json_: Json = False,
) -> int:
    """Measure a file's accuracy, interval and latency in its own runtime. Imports no torch."""
    from paredown.verbs.evaluate import evaluate as verb

    found = verb(artifact, task, split, costs=costs)
    if json_:
        print(json.dumps(found))
        return 0
    _lines(shown.measured(found))
    return 0


@app.command(epilog="Example: paredown export runs/digits --to onnx --out deploy")
def export(
    run: Annotated[str, typer.Argument(help="A run's folder, or folder:candidate.")],
    to: Annotated[list[str], typer.Option(help="packed or onnx; may be given again.")],
    out_: Out = None,
    task: Annotated[str | None, typer.Option(help="The run's task, if it was not a built-in name or a path.")] = None,
    json_: Json = False,
) -> int:
    """Write further formats of a run's winner or of any candidate, verified."""
    from paredown.verbs.export import export as verb

    made = verb(run, to, out_, task)
    if json_:
        print(json.dumps({"schema": "paredown/export/1", "artifacts": [a.to_json() for a in made]}))
        return 0
    for a in made:
        value = a.quality.value if a.quality else float("nan")
        out.print(
            f"{a.path}  {a.bytes:,} B, validation {value:.4f}, {a.mismatches} mismatches of {a.n}", soft_wrap=True
        )
        if a.note:
            out.print(a.note, soft_wrap=True)
    return 0


@app.command(epilog="Example: paredown score micronet.cifar100 runs/cifar")
def score(
    rule: Annotated[str, typer.Argument(help="An official score, as `paredown rules` lists them.")],
    source: Annotated[str, typer.Argument(help="A run's folder, or folder:candidate; a .pdn or .onnx; a COUNTS.json.")],
    json_: Json = False,
) -> int:
    """Give an official score, term by term, with its clauses; what is from memory is marked as unverified."""
    from paredown.verbs.score import score as verb

    found = verb(rule, source).to_json()
    if json_:
        print(json.dumps(found))
        return 0
    out.print(shown.score(found))
    _lines(shown.verdict(found))
    return 0


@app.command(epilog="Example: paredown report runs/digits --open")
def report(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    json_: Json = False,
) -> int:
    """Rebuild the report from the run's folder."""
    from paredown.verbs.report import report as verb

    path = verb(run)
    print(json.dumps({"schema": "paredown/report/1", "path": str(path)}) if json_ else path)
    if open_:
        typer.launch(str(path))
    return 0


@app.command(epilog="Example: paredown cite runs/digits")
def cite(run: Annotated[str, typer.Argument(help="A run's folder.")], json_: Json = False) -> int:
    """Print BibTeX of what the winner is made of."""
    from paredown.verbs.report import cite as verb

    text = verb(run)
    print(json.dumps({"schema": "paredown/cite/1", "bibtex": text}) if json_ else text)
    return 0


@app.command(epilog="Example: paredown methods quantize.learned_step")
def methods(
    name: Annotated[str | None, typer.Argument(help="A part's name, for its card.")] = None, json_: Json = False
) -> int:
    """List the parts, one line each; with a name, its card."""
    from paredown.verbs.catalogue import card, parts

    if name is not None:
        found = card(name)
        print(json.dumps(found) if json_ else shown.card(found))
        return 0
    rows = parts()
    if json_:
        print(json.dumps({"schema": "paredown/methods/1", "parts": rows}))
        return 0
    out.print(shown.listing([(r["name"], r["kind"], r["title"]) for r in rows]))
    return 0


def _simple(name: str, rows: list[dict[str, str]], json_: bool) -> int:
    if json_:
        print(json.dumps({"schema": f"paredown/{name}/1", name: rows}))
    else:
        out.print(shown.listing([tuple(str(v) for v in row.values()) for row in rows]))
    return 0


def _listed(name: str, about: str) -> None:
    """Add a verb that lists one kind of thing, one line each."""

    def command(json_: Json = False) -> int:
        from paredown.verbs.catalogue import ROWS

        return _simple(name, ROWS[name](), json_)

    app.command(name, help=about, epilog=f"Example: paredown {name}")(command)


_listed("tasks", "List the built-in tasks.")
_listed("models", "List the zoo.")
_listed("targets", "List the formats that can be written.")
_listed("devices", "List the devices whose latency, energy or roofline can be modelled.")


@app.command(epilog="Example: paredown rules micronet.cifar100")
def rules(
    name: Annotated[str | None, typer.Argument(help="A rule's name, for its constants and clauses.")] = None,
    json_: Json = False,
) -> int:
    """List the official scores; with a name, its card."""
    from paredown.verbs.rules import rule_card, rule_rows

    if name is None:
        return _simple("rules", rule_rows(), json_)
    found = rule_card(name)
    print(json.dumps(found) if json_ else "\n".join(shown.rule_card(found)))
    return 0


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from paredown import __version__

        print(f"paredown {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
