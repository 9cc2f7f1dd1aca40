"""Does channel pruning work on a network that it was not written for? Ours beside Torch-Pruning, stage by stage, on a zoo.

    pip install torch==2.13.0 torchvision==0.28.0 timm torch-pruning==1.6.1   # in an environment of their own, with paredown
    python bench/pruning_networks.py run                            # every network and tool, into --work (resumes; hours)
    python bench/pruning_networks.py run awkward --tools paredown --again failed
    python bench/pruning_networks.py failures > failures.md         # ours, by stage, with the errors' words
    python bench/pruning_networks.py table                          # bench/results/pruning_networks.csv, and the rates

30 % of the channels of every group go, by L2, out of the box: no network gets a setting of its own but its inputs and, for
Torch-Pruning, the list of its heads as `ignored_layers`. Weights are random; norms and scales that start as constants are drawn,
so that no branch is zero. A row is one (network, tool), made in a process of its own under a limit of 240 seconds of
processor time; its stages:

traced    the tool could analyse the network             pruned    it removed some channels, without an error
runs      finite outputs of the old shapes, batch of 2   trains    one step of SGD: finite, gradients for all that had one
equals    what the original gives with the removed entries at zero, float64, 1e-9 of the largest output; norms take their
          statistics over the channels that stay; constants have the digits of float32, as in a file
exports   to ONNX, and ONNX Runtime agrees to 1e-3       reloads   from files without pickle in a new process, equal

`equals` zeroes the parameters of the original torch module, by name; neither tool's own masking is used (a softmax
over channels still counts those at zero). `effect`: by how much that changes the largest output. `refused`: nothing
removed, with the reasons. `silent`: pruned without an error, runs, and does not equal. `broken`: pruned without an error, does not run.
`ample`: all stages but reloading, and at least half of the channels asked for went (of convolutions and linear layers).
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruning_stages import STAGES, attempt, keep
from pruning_tools import RATIO, TOOLS
from pruning_zoo import Network, networks
from tables import write


def rows_of(work: Path) -> list[dict[str, Any]]:
    """Return the rows there are of networks that are still on the list."""
    paths = [work / f"{name}--{tool}.json" for name in networks() for tool in TOOLS]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def due(asked: argparse.Namespace) -> Iterator[tuple[Network, str, Path]]:
    """Yield what is still to be done: rows that are not there, or that `--again` asks for."""
    for name, network in networks().items():
        for tool in asked.tools.split(","):
            path = asked.work / f"{name}--{tool}.json"
            done = path.exists()
            failed = done and not passed(json.loads(path.read_text()))
            if asked.only and not any(part in name for part in asked.only):
                continue
            if not done or asked.again == "all" or (asked.again == "failed" and failed):
                yield network, tool, path


def run(asked: argparse.Namespace) -> None:
    """Make rows, `--jobs` at a time, each in a fork with a time limit; a crash or a hang is a row too."""
    import timm  # noqa: F401  (before the forks, which then need not)
    import torchvision  # noqa: F401

    fork, running = multiprocessing.get_context("fork"), {}
    waiting = list(due(asked))
    while waiting or running:
        while waiting and len(running) < asked.jobs:
            network, tool, path = waiting.pop(0)
            path.unlink(missing_ok=True)
            child = fork.Process(target=attempt, args=(network, tool, path))
            child.start()
            running[child] = (network, tool, path, time.monotonic())
        for child, (network, tool, path, since) in list(running.items()):
            late = spent(child.pid) > asked.limit or time.monotonic() - since > 20 * asked.limit
            if child.is_alive() and not late:
                continue
            child.kill()
            child.join()
            del running[child]
            ended(
                path, network, tool, f"over {asked.limit:.0f} s" if late else f"the process ended with {child.exitcode}"
            )
        time.sleep(0.05)


def spent(pid: int) -> float:
    """Return the processor time of a process in seconds (0 where /proc does not say): other work beside it does not count."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def ended(path: Path, network: Network, tool: str, why: str) -> None:
    """Say how a row came out; one that was cut short gets the reason at the stage that it was in."""
    row = {"network": network.name, "family": network.family, "tool": tool, "stages": {}, "why": {}, "now": "traced"}
    row = json.loads(path.read_text()) if path.exists() else row
    if stage := row.pop("now", ""):
        row["stages"][stage], row["why"][stage] = False, why
        keep(path, row)
    shown = " ".join(f"{stage}" if row["stages"].get(stage) else f"-{stage}-" for stage in STAGES)
    print(f"{network.name:45} {tool:14} {row.get('seconds', 0):6.1f} s  {shown}", flush=True)


def passed(row: dict[str, Any], stages: Iterable[str] = STAGES) -> bool:
    """Return whether a row passed all these stages."""
    return all(row["stages"].get(stage) for stage in stages)


def verdict(row: dict[str, Any]) -> str:
    """Return a row's outcome in a word."""
    if passed(row):
        return "all"
    if not row["stages"].get("traced"):
        return "not traced"
    if not row["stages"].get("pruned"):
        return "refused" if row["why"]["pruned"].startswith("refused") else "stopped"
    if not row["stages"].get("runs"):
        return "broken"
    return "silent" if not row["stages"].get("equals") and "differs" in row["why"].get("equals", "") else "partly"


def failures(work: Path) -> None:
    """Print ours by the first stage that failed, with the words of the error and how often each stands."""
    rows = [row for row in rows_of(work) if row["tool"] == "paredown" and "now" not in row]
    print(
        f"# paredown: {sum(map(passed, rows))} of {len(rows)} networks pass all stages ({datetime.now(UTC):%H:%M} UTC)"
    )
    print("\nIn brackets: failed at an earlier stage too.\n")
    for stage in STAGES:
        ours = [row for row in rows if row["stages"].get(stage) is False]
        first = [row for row in ours if passed(row, STAGES[: STAGES.index(stage)])]
        print(f"## {stage}: {len(ours)} fail, {len(first)} of them here first\n")
        operators = Counter(found[1] for row in ours if (found := re.search(r"operator '([^']+)'", row["why"][stage])))
        print(f"operators named: {dict(operators.most_common())}\n" if operators else "")
        for row in ours:
            name = row["network"] if row in first else f"({row['network']})"
            print(f"- {name}: {row['why'][stage].partition('; allowed:')[0]}")
        print()
    print("## thin gains: all stages pass, but less than half of the channels asked for went\n")
    for row in (row for row in rows if passed(row) and not ample(row)):
        print(
            f"- {row['network']}: {row['rows_removed']:.0%} went, {row['could_go']:.0%} could go: {row['reasons'][:2]}"
        )
    whys = Counter(line for row in rows for line in {re.sub(r"_?\d+", "", text) for text, _ in row.get("reasons", ())})
    print("\n## reasons why layers stay, and in how many networks each is among the five commonest\n")
    for text, n in whys.most_common(60):
        print(f"- {n}: {text}")


def ample(row: dict[str, Any]) -> bool:
    """Return whether at least half of the channels asked for went, of all that convolutions and linear layers make."""
    return row.get("rows_removed", 0.0) >= RATIO / 2


def table(work: Path) -> None:
    """Write every row as CSV, and print the rates of each family and tool over all networks that both tools had."""
    rows = [row for row in rows_of(work) if "now" not in row]
    names = set.intersection(*({row["network"] for row in rows if row["tool"] == tool} for tool in TOOLS))
    rows = [row for row in rows if row["network"] in names]
    numbers = (
        "params",
        "macs",
        "could_go",
        "rows_removed",
        "params_removed",
        "macs_removed",
        "seconds",
        "shapes",
        "at",
    )
    versions = {
        "torch": torch.__version__,
        **{k.replace("-", "_"): version(k) for k in ("torch-pruning", "timm", "torchvision")},
    }
    lines = []
    for row in rows:
        line = {"network": row["network"], "family": row["family"], "tool": row["tool"], "verdict": verdict(row)}
        line |= {stage: row["stages"].get(stage, "") for stage in STAGES} | {key: row.get(key, "") for key in numbers}
        lines.append(
            line
            | {"why": " | ".join(f"{k}: {v}" for k, v in row["why"].items())}
            | versions
            | {"host": platform.machine()}
        )
    write("pruning_networks.csv", lines)
    heads = ("n", *STAGES, "but reload", "all", "ample", "refused", "stopped", "broken", "silent", "params", "macs")
    print(" | ".join(f"{head:>10}" for head in ("family", "tool", *heads)))
    for family in (*dict.fromkeys(row["family"] for row in rows), "every"):
        for tool in TOOLS:
            own = [row for row in rows if row["tool"] == tool and family in (row["family"], "every")]
            print(" | ".join(f"{cell:>10}" for cell in (family[:10], tool[:10], *rates(own))))


def rates(rows: list[dict[str, Any]]) -> list[str]:
    """Return how many of the rows pass each stage, how many pass all, the verdicts, and the median shares removed."""
    verdicts = Counter(map(verdict, rows))
    counts = [len(rows), *(sum(passed(row, [stage]) for row in rows) for stage in STAGES)]
    counts += [sum(passed(row, STAGES[:-1]) for row in rows), verdicts["all"]]
    counts += [sum(passed(row, STAGES[:-1]) and ample(row) for row in rows)]
    counts += [
        verdicts["refused"],
        verdicts["stopped"] + verdicts["not traced"],
        verdicts["broken"],
        verdicts["silent"],
    ]
    good = [row for row in rows if passed(row, ["equals"])]
    shares = [np.median([row[key] for row in good]) if good else math.nan for key in ("params_removed", "macs_removed")]
    return [str(count) for count in counts] + [f"{share:.3f}" for share in shares]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "failures", "table"))
    parser.add_argument("only", nargs="*", help="parts of names; all networks without")
    parser.add_argument("--work", type=Path, default=Path("runs/pruning_networks"))
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--again", choices=("", "failed", "all"), default="")
    parser.add_argument(
        "--limit",
        type=float,
        default=240.0,
        help="seconds of processor time for one row, and twenty times that by the clock",
    )
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    {"run": lambda: run(asked), "failures": lambda: failures(asked.work), "table": lambda: table(asked.work)}[
        asked.verb
    ]()
