"""You learn: to state an accuracy and get the smallest file that keeps it, with the frontier around it.

`find` tries a few networks and recipes on 8 x 8 pictures of digits, chooses on validation, and lets the winner alone
meet the test split. Everything that was tried stays in the run folder; `report.html` shows it.
"""

import tempfile
from pathlib import Path

import paredown

FLOOR = 0.93


def main() -> None:
    folder = Path(tempfile.mkdtemp()) / "run"
    run = paredown.find("digits", floor=FLOOR, trials=3, out=folder)

    print("file bytes   validation accuracy (95 % interval)")
    for row in run.frontier:  # from small to large; nothing tried is both smaller and better than one of these
        val = row["val"]
        print(f"{row['file_bytes']:10d}   {val['value']:.4f} ({val['low']:.4f} to {val['high']:.4f})")

    baseline, best = run.json["baseline"], run.json["best"]
    assert run.reached, run.json["why"]
    assert run.best is not None
    print(f"the float network takes {baseline['file_bytes']} bytes, the winner {run.best.bytes}")
    print(f"its recipe: {', '.join(step['part'] for step in best['recipe'])}")

    again = paredown.evaluate(run.best.path, "digits")  # the file alone, in its own runtime
    assert again["value"] == best["test"]["value"] >= FLOOR
    print(f"report: {run.report()}")
    print(f"claim: {run.best.bytes} bytes keep {again['value']:.4f} on the test split, floor {FLOOR}")


if __name__ == "__main__":
    main()
