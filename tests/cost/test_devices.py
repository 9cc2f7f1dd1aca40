"""Device files: all that come with the package, one of your own, and bad ones."""

from pathlib import Path

import pytest

from paredown.core.errors import BadInput
from paredown.cost.devices import TASKS, device, devices

MINE = "name: mine\ntitle: Mine\nkind: mcu\nsource: a datasheet\n"


def test_every_device_says_where_its_numbers_come_from() -> None:
    found = devices()
    assert list(found) == sorted(found)
    for one in found.values():
        assert len(one.source) > 20, one.name
        assert one.published or one.peak_ops or one.array, one.name


def test_at_least_five_boards_published_all_four_tasks() -> None:
    boards = [one for one in devices().values() if one.kind == "mcu" and set(one.published) == set(TASKS)]
    assert len(boards) >= 20
    assert len({one.processor for one in boards}) >= 5
    assert sum(any(p.energy_uj for p in one.published.values()) for one in boards) >= 5
    for one in boards:
        for seen in one.published.values():
            assert seen.low_ms and seen.high_ms and seen.low_ms <= seen.high_ms * 1.0001
            assert 0.99 * seen.low_ms <= seen.latency_ms <= 1.01 * seen.high_ms
            assert not seen.energy_uj or seen.power_mw


def test_a_published_number_is_the_log_s() -> None:
    """mlcommons/tiny_results_v1.2, closed/STMicroelectronics, NUCLEO_L4R5ZI: 190.086 inferences a second, 203.368 µJ."""
    seen = device("nucleo_l4r5zi-x_cube_ai").published["ad"]
    assert seen.latency_ms == pytest.approx(1000 / 190.086, rel=1e-5) and seen.energy_uj == 203.368


def test_a_file_of_your_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE + "peak_ops: {fp32: 1.0e9, int8: {value: 4.0e9, low: 3.5e9, high: 4.1e9, source: me}}\n")
    one = device(file)
    assert one.peak_ops["fp32"].value == 1e9 and one.peak_ops["int8"].low == 3.5e9


@pytest.mark.parametrize(
    "text, says",
    [
        ("name: x\n", "title: field required"),
        (MINE + "clock_hz: -1\n", "clock_hz: input should be greater than 0"),
        (MINE + "colour: red\n", "colour: extra inputs are not permitted"),
        (MINE.replace("mcu", "toaster"), "kind: input should be"),
        (MINE + "peak_ops: {fp7: 1}\n", "peak_ops.fp7"),
        ("- [", "is not YAML"),
        ("just words", "the file"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as raised:
        device(file)
    assert says in str(raised.value) and "\n" not in str(raised.value) and "bad.yaml" in str(raised.value)


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(BadInput, match="lists them"):
        device("toaster")
    with pytest.raises(BadInput, match="cannot be read"):
        device("nowhere.yaml")
