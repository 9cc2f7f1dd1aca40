"""Run folders made by hand, in every state a run can be in, and a reader of the page."""

import hashlib
import json
from html.parser import HTMLParser

import pytest

VOID = {"meta", "img", "br", "input", "link", "hr"}


def quality(value, n=200, split="val", metric="accuracy", half=0.02):
    return {
        "metric": metric, "split": split, "value": value, "low": value - half, "high": value + half, "n": n,
        "confidence": 0.95, "seeds": 1,
    }  # fmt: skip


class Folder:
    """A run folder being made. Each method writes one kind of file."""

    def __init__(self, path):
        self.path = path
        self.path.mkdir(exist_ok=True)

    quality = staticmethod(quality)

    def write(self, name, data):
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(data if isinstance(data, str) else json.dumps(data))
        return self

    def asked(self, classes=("cat", "dog", "owl"), shape=(1, 4, 4), metric="accuracy", **more):
        task = {
            "name": "pets", "digest": "d" * 64, "metric": metric, "shape": list(shape), "classes": list(classes),
            "n": {"train": 900, "val": 200, "test": 300},
            "notes": ["7 of 300 test samples are byte for byte in train too"],
            "licence": "CC0", "source": "made here",
        }  # fmt: skip
        terms = {"budget_s": 60.0, "trials": None, "seed": 3, "workers": 1, "device": "cpu", "targets": ["packed"]}
        goal = {"floor": 0.9, "minimize": "file_bytes", "limits": {}, "confidence": None}
        base = {
            "schema": "paredown/asked/1", "task": task, "goal": goal, "model": None, "searcher": "search.tpe",
            "seed": 3, "terms": terms, "command": "paredown find pets --floor 0.9 --budget 60s", "version": "0.1.0",
            "revision": "1", "host": {"python": "3.11.7", "torch": "2.13.0", "machine": "x86_64", "system": "Linux"},
            "date": "2026-01-02T03:04:05+0000",
        }  # fmt: skip
        return self.write("asked.json", {**base, **more})

    def candidate(self, number, size, value, *, trial=True, val=None, **more):
        """Write candidate `number`, its id the number padded: a file of `size` bytes with that validation value."""
        ident = f"{number:012x}"
        recipe = [
            {"part": "train.finetune", "loss": {"part": "loss.cross_entropy", "smoothing": 0.05}, "habits": []},
            {"part": "quantize.learned_step", "bits": 4},
        ]
        described = {"id": ident, "spec": {"model": "dense", "widths": [8, 4]}, "recipe": recipe, "seed": 3}
        layers = [
            {"name": "stem", "op": "conv2d", "slot": "stem.weight", "shape": [1, 8, 4, 4], "params": 80, "nonzero": 60,
             "width": 4, "bits": 400, "macs": 1152, "bytes": 41},
            {"name": "head", "op": "linear", "slot": "head.weight", "shape": [1, 3], "params": 120, "nonzero": 120,
             "width": 4, "bits": 480, "macs": 117, "bytes": 50},
        ]  # fmt: skip
        result = {
            "schema": "paredown/result/1", "id": ident, "file_bytes": size, "val": val or quality(value), "test": None,
            "artifacts": [{"target": "packed", "path": "x/model.pdn", "bytes": size, "sha256": "0" * 64,
                           "itemised": {"weights": size - 9, "header": 9}, "mismatches": 0, "n": 200,
                           "quality": quality(value)}],
            "cost": {"params": 200, "nonzero": 180, "bits": 880, "macs": 1269, "bops": 162432, "ram_bytes": 2304,
                     "macs_by_bits": {"w4a32": 1269}, "uncounted": ["softmax.int"]},
            "measured": {}, "layers": layers, "seconds": 2.5, "failed": None,
            "steps": [{"step": "train.finetune", "val": 0.925, "file_bytes": 4000, "seconds": 2.0},
                      {"step": "quantize.learned_step", "val": 0.92, "file_bytes": size, "seconds": 1.0}],
        }  # fmt: skip
        notes = [{"step": "quantize.learned_step", "layer": "head.bias", "text": "too few values to round"}]
        folder = f"candidates/{ident}"
        self.write(f"{folder}/candidate.json", described).write(f"{folder}/notes.json", {"notes": notes})
        self.write(f"{folder}/result.json", {**result, **more})
        if trial:
            self.log(number, ident)
        return self

    def log(self, number, ident, told=True):
        path = self.path / "log"
        lines = [{"event": "asked", "number": number, "rung": 0, "effort": 0.25, "settings": {}, "candidate": ident}]
        lines += [{"event": "told", "number": number, "candidate": ident, "spent_s": 3.5}] if told else []
        with path.open("a") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
        return self

    def found(self, number=1, size=321, *, reached=True, test=0.9312, trials=3, **more):
        """Write found.json with candidate `number` as the winner, and its two files."""
        artifacts = []
        for target, suffix, length in (("packed", "pdn", size), ("onnx", "onnx", 1500)):
            (self.path / f"best.{suffix}").write_bytes(bytes(length))
            artifacts.append({
                "target": target, "path": f"/elsewhere/best.{suffix}", "bytes": length, "test": test, "n": 300,
                "sha256": hashlib.sha256(bytes(length)).hexdigest(),
                "mismatches": 2 if target == "onnx" else 0,
                "itemised": {"weights": length - 30, "graph": 21, "header": 9},
            })  # fmt: skip
        best = {
            "id": f"{number:012x}", "recipe": [], "spec": {}, "file_bytes": size, "artifacts": artifacts,
            "cost": {}, "val": quality(0.951), "test": quality(test, 300, "test"),
        }  # fmt: skip
        document = {
            "schema": "paredown/find/1", "run": str(self.path), "reached": reached, "floor": 0.9,
            "minimize": "file_bytes", "target": "packed", "best": best, "frontier": [], "trials": trials,
            "seconds": 61.0, "why": None,
            "baseline": {"id": f"{99:012x}", "file_bytes": 6000, "val": quality(0.961)}, "sense": "test value",
            "chosen": {"among": 2, "expected": 0.9123, "probability": 0.96, "how": "its lower bound on validation is at or above the floor"},
        }  # fmt: skip
        return self.write("found.json", {**document, **more})

    def winner(self, classes=("cat", "dog", "owl"), picture=((0, 128, 255, 7),) * 4):
        size = len(classes)
        confusion = [[90 if a == b else 0 for b in range(size)] for a in range(size)]
        confusion[0][1], confusion[2][0] = 4, 1
        wrong = [{"index": 17, "label": 0, "said": 1, "x": [list(map(list, picture))] if picture else None}]
        document = {"schema": "paredown/winner/1", "classes": list(classes), "confusion": confusion, "wrong": wrong}
        return self.write("winner.json", document)

    def searched(self):
        """Write three trials, the second of them best, and a baseline that no trial asked for."""
        self.asked().candidate(0, 600, 0.97).candidate(1, 321, 0.951).candidate(2, 400, 0.94)
        return self.candidate(99, 6000, 0.961, trial=False)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "run")


class Page(HTMLParser):
    """The page as elements in order: (tag, attributes, text inside); raises when tags do not nest."""

    def __init__(self, html):
        super().__init__()
        self.html, self.open, self.elements = html, [], []
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "inside": [e["tag"] for e in self.open]}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1]["tag"] == tag, f"</{tag}> closes <{self.open[-1]['tag']}>"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attrs):
        return [e for e in self.elements if e["tag"] == tag and all(e["attrs"].get(k) == v for k, v in attrs.items())]

    @property
    def text(self):
        """What a reader sees, spaces collapsed, without styles and scripts."""
        body = self.all("body")[0]["text"]
        for script in self.all("script"):
            body = body.replace(script["text"], "")
        return " ".join(body.split())

    @property
    def panels(self):
        def refuse(name):
            raise AssertionError(f"{name} is not JSON")

        return json.loads(self.all("script", id="panels")[0]["text"], parse_constant=refuse)


@pytest.fixture
def shown():
    """Write a folder's report and return its page."""
    from paredown.reports.page import write_report

    return lambda made: Page(write_report(made.path).read_text())
