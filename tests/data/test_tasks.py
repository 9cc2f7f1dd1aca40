"""load: built-ins, the roles they come with, and what is the same from one call to the next."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paredown.core.errors import BadInput
from paredown.core.task import ROLES
from paredown.data import tasks

SHARED = Path(os.environ.get("PAREDOWN_DATA") or Path(__file__).parents[3] / "shared" / "data")


def test_digits_are_what_the_bars_were_measured_on() -> None:
    task = tasks.load("digits")
    assert task.shape == (1, 8, 8) and task.scale == 1 / 16 and task.moves == ("shift", "rotate", "zoom")
    assert {role: len(task.splits[role]) for role in ROLES} == {"train": 1011, "calib": 512, "val": 336, "test": 450}
    assert task.splits["train"].x.dtype == np.uint8 and task.splits["train"].x.max() == 16
    assert task.inputs("test").max() == 1.0 and task.inputs("test").dtype == np.float32
    assert np.bincount(task.splits["test"].y).min() >= 43


def test_a_seed_moves_val_but_never_test() -> None:
    first, second, again = tasks.load("digits"), tasks.load("digits", seed=1), tasks.load("digits", seed=1)
    assert np.array_equal(first.splits["test"].x, second.splits["test"].x)
    assert not np.array_equal(first.splits["val"].x, second.splits["val"].x)
    assert second.digest == again.digest != first.digest


def test_a_task_is_given_back_with_another_metric_if_asked() -> None:
    task = tasks.load("digits", metric="macro_f1")
    assert task.metric_name == "macro_f1" and tasks.load(task) is task
    assert tasks.load(task, metric="log_loss").metric_name == "log_loss"
    without = task.without("test")
    assert tasks.load(without) is without and "test" not in without.splits


def test_names_lists_each_built_in_with_a_line() -> None:
    names = dict(tasks.names())
    assert set(names) >= {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100"}
    assert all(line and "\n" not in line for line in names.values())
    assert tasks.builtin("digits").licence


def test_a_built_in_is_added_by_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import paredown.data

    body = (
        "from dataclasses import replace\nfrom paredown.data import digits\n"
        "TASKS = {'numerals': replace(digits.TASKS['digits'], name='numerals', about='the same again')}\n"
    )
    (tmp_path / "numerals_for_a_test.py").write_text(body)
    monkeypatch.setattr(paredown.data, "__path__", [*paredown.data.__path__, str(tmp_path)])
    tasks._builtins.cache_clear()
    try:
        assert dict(tasks.names())["numerals"] == "the same again"
        assert len(tasks.load("numerals").splits["test"]) == 450
    finally:
        monkeypatch.undo()
        tasks._builtins.cache_clear()
        sys.modules.pop("paredown.data.numerals_for_a_test", None)


def test_no_torch_is_imported_to_read_data() -> None:
    code = (
        "import sys; from paredown.data.tasks import load; load('digits'); "
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="needs the shared data folder")
def test_mnist_in_its_official_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAREDOWN_DATA", str(SHARED))
    task = tasks.load("mnist")
    assert {role: len(task.splits[role]) for role in ROLES} == {
        "train": 50000,
        "calib": 512,
        "val": 10000,
        "test": 10000,
    }
    assert task.shape == (1, 28, 28) and task.scale == 1 / 255
    assert task.splits["test"].y[:5].tolist() == [7, 2, 1, 0, 4]
    # The well-known mean of the 60,000, in units of 1: 0.1307.
    total = sum(float(task.splits[role].x.sum(dtype=np.int64)) for role in ("train", "val"))
    assert total / 60000 / 784 / 255 == pytest.approx(0.1307, abs=5e-5)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0", 2**32])
def test_a_seed_that_is_none_is_refused(seed: object) -> None:
    with pytest.raises(BadInput, match=r"^seed .* is not allowed"):
        tasks.load("digits", seed=seed)  # type: ignore[arg-type]


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(BadInput, match="metric 'recall' is unknown; allowed: accuracy"):
        tasks.load("digits", metric="recall")
    with pytest.raises(BadInput, match="metric 'recall'"):
        tasks.load(replace(tasks.load("digits")), metric="recall")
