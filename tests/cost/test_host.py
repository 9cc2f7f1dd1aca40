"""This machine as a device: made once, kept, and sane; never how fast."""

from pathlib import Path

import pytest
import torch
from torch import nn

from paredown.cost import host as room
from paredown.cost.devices import Device
from paredown.cost.host import host, kept_at, measured, module_latency
from paredown.cost.measure import Repeats
from paredown.cost.roofline import latency, ridge
from paredown.cost.tiny import tiny


def test_a_small_measurement_is_a_device_with_a_roof() -> None:
    found = measured(1, side=64, values=2**12)
    assert found.kind == "cpu" and found.name == "host-1"
    assert ridge(found) > 0 and latency(tiny("ic"), found).value > 0
    for constant in (*found.peak_ops.values(), found.bytes_per_second):
        assert constant is not None and constant.low is not None and constant.high is not None
        assert constant.low <= constant.value <= constant.high and "best of" in constant.source


def test_it_is_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(room, "load", lambda: 0.1)
    calls = []

    def counted(threads: int) -> Device:
        calls.append(threads)
        return measured(threads, side=16, values=2**8)

    monkeypatch.setattr(room, "measured", counted)
    first = host(1)
    assert host(1) == first and calls == [1] and kept_at(1).exists()
    assert not list(kept_at(1).parent.glob("*.yaml.*")) and len(list(kept_at(1).parent.iterdir())) == 1
    host(1, fresh=True)
    assert calls == [1, 1] and kept_at(2) != kept_at(1)


def test_what_is_measured_on_a_busy_machine_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path))
    monkeypatch.setattr(room, "load", lambda: 99.0)
    monkeypatch.setattr(room, "measured", lambda threads: measured(threads, side=16, values=2**8))
    assert "at load 99.0" in host(1).source and not kept_at(1).exists()


def test_the_cache_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PAREDOWN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_at(1).parent == tmp_path / "paredown"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kept_at(1).parent == Path.home() / ".cache" / "paredown"


def test_a_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train()
    threads = torch.get_num_threads()
    seen = module_latency(module, torch.zeros(1, 4), 1, Repeats(1, 5))
    assert seen.value > 0 and seen.command == "torch, 1 threads"
    assert module.training and torch.get_num_threads() == threads
