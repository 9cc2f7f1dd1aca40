"""Latency and energy of microcontrollers: what a made board gives back, and how far real ones are off."""

from dataclasses import replace

import numpy as np
import pytest

from paredown.core.cost import Layer
from paredown.core.errors import BadInput
from paredown.cost.devices import TASKS, Device, Published, device, devices
from paredown.cost.mcu import (
    COLUMNS,
    Seen,
    columns,
    constants,
    energy,
    latency,
    layer_ms,
    leave_one_out,
    power_mw,
    shared_ratios,
    throughputs,
)
from paredown.cost.tiny import tiny

BOARDS = [one for one in devices().values() if one.kind == "mcu"]


def made(name: str, ms_per_million: list[float]) -> Device:
    times = {task: float(columns(tiny(task)) @ np.array(ms_per_million)) for task in TASKS}
    published = {task: Published(latency_ms=ms, power_mw=10.0) for task, ms in times.items()}
    return Device(name=name, title=name, kind="mcu", source="made up for a test", published=published)  # type: ignore[arg-type]


def test_columns_are_macs_by_kind_and_values_made() -> None:
    found = dict(zip(COLUMNS, (1e6 * columns(tiny("kws"))).round().tolist(), strict=True))
    assert found == {
        "convolution": 320_000,
        "depthwise": 288_000,
        "pointwise": 2_048_000,
        "linear": 768,
        "values": 72_076,
    }


def test_what_runtimes_fuse_is_free() -> None:
    relu = Layer("relu", "relu", "activation", (8,), compares=8, reads=8, writes=8)
    assert columns([relu]).sum() == 0
    assert columns([replace(relu, kind="elementwise")]).tolist() == [0, 0, 0, 0, 8 / 1e6]


def test_boards_that_follow_the_model_are_found_again() -> None:
    boards = [made(f"made_{i}", [speed * x for x in (1.0, 2.0, 1.5, 3.0, 20.0)]) for i, speed in enumerate((1, 3, 10))]
    assert np.abs([held.error for held in leave_one_out(boards, "shared")]).max() < 0.1
    seen = Seen.of(boards)
    assert constants(seen, 2, shared_ratios(seen)) == pytest.approx(
        10 * constants(seen, 0, shared_ratios(seen)), rel=1e-6
    )


def test_predictions_without_the_board_s_own_network_are_within_a_tenth_on_the_whole() -> None:
    """The model that is used beats one rate for all MACs, and each board's numbers alone."""
    errors = {
        m: np.abs([h.error for h in leave_one_out(BOARDS, m)]) for m in ("lean", "shared", "unseen", "one rate", "own")
    }
    assert np.median(errors["lean"]) < 0.08 and errors["lean"].mean() < 0.12
    assert np.median(errors["unseen"]) < 0.2
    assert errors["lean"].mean() <= errors["shared"].mean() < 0.6 * errors["one rate"].mean()
    assert errors["lean"].mean() < errors["own"].mean()


def test_the_held_network_plays_no_part() -> None:
    board = device("nucleo_l4r5zi-hale")
    wrong = board.published["ic"].model_copy(update={"latency_ms": 1.0})
    changed = board.model_copy(update={"published": {**board.published, "ic": wrong}})
    others = [one for one in BOARDS if one.name != board.name][:6]
    for model in ("lean", "unseen"):
        pair = [[h for h in leave_one_out([one, *others], model)][2] for one in (board, changed)]
        assert pair[0].task == "ic" and pair[0].predicted_ms == pytest.approx(pair[1].predicted_ms)


def test_layers_add_up_and_rates_are_the_device_s() -> None:
    board = device("nucleo_u575zi_q-x_cube_ai")
    layers = tiny("ic")
    assert latency(layers, board).value == pytest.approx(sum(layer_ms(layers, board)))
    rates = throughputs(board)
    fixed = board.model_copy(update={"throughputs": rates.model_copy(update={"fixed_ms": 2.0})})
    assert latency(layers, fixed).value == pytest.approx(latency(layers, board).value + 2)
    assert latency(layers, board).value == pytest.approx(board.published["ic"].latency_ms, rel=0.2)


def test_energy_is_power_times_time() -> None:
    board = made("made", [1.0, 1.0, 1.0, 1.0, 20.0])
    assert power_mw(board) == 10
    found = energy(tiny("vww"), board)
    assert found.what == "energy_uj" and found.value == pytest.approx(10 * latency(tiny("vww"), board).value)


def test_boards_that_published_energy_are_met() -> None:
    for board in BOARDS:
        for task, seen in board.published.items():
            if seen.energy_uj:
                known = power_mw(board) * seen.latency_ms
                assert known == pytest.approx(seen.energy_uj, rel=0.25), (board.name, task)


def test_devices_without_constants_are_refused() -> None:
    with pytest.raises(BadInput, match="neither throughputs nor"):
        latency(tiny("ic"), device("nvidia_t4"))
    with pytest.raises(BadInput, match="published no power"):
        energy(tiny("ic"), device("nucleo_l4r5zi-hale"))
