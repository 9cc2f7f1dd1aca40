"""Sizes, times and counts as people write them."""

import pytest

from paredown.core.errors import BadInput
from paredown.core.units import limit, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("3m", 180), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172800), (45, 45), ("0.5", 0.5), (" 5 M ", 300)],
)
def test_seconds(text: str | float, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("what", "text", "value"),
    [
        ("ram_bytes", "32KB", 32_000),
        ("ram_bytes", "32KiB", 32_768),
        ("file_bytes", "1.5mb", 1_500_000),
        ("file_bytes", "600", 600),
        ("flash_bytes", "700B", 700),
        ("latency_ms", "5ms", 5),
        ("latency_ms", "0.1s", 100),
        ("latency_ms", "30us", 0.03),
        ("latency_ms", "30µs", 0.03),
        ("energy_uj", "2mJ", 2000),
        ("macs", "2M", 2_000_000),
        ("params", "10k", 10_000),
        ("bops", "1e6", 1_000_000),
        ("bops", 7, 7),
    ],
)
def test_limit(what: str, text: str | float, value: float) -> None:
    assert limit(what, text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-5m", "'-5m' is not a positive number"),
        (-5, "'-5' is not a positive number"),
        ("0s", "must be longer than zero"),
        ("5 weeks", "unknown unit 'weeks'"),
        ("", "'' is not a positive number"),
        ("five", "'five' is not a positive number"),
        ("nan", "'nan' is not a positive number"),
    ],
)
def test_a_budget_that_cannot_be(text: str | float, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        seconds(text)
    assert said in str(caught.value) and "budget" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        ("ram_bytes", "5ms", "unknown unit 'ms'; allowed: b, kb, mb, gb, kib"),
        ("latency_ms", "5KB", "unknown unit 'KB'; allowed: ms, s"),
        ("macs", "2 MB", "unknown unit 'mb'; allowed: k, m, g or none"),
        ("macs", "0", "must be more than zero"),
        ("ram_bytes", "-1KB", "'-1KB' is not a positive number"),
        ("macs", "1e400", "beyond all bounds"),
        ("ram_bytes", "lots", "'lots' is not a positive number"),
    ],
)
def test_a_limit_that_cannot_be(what: str, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        limit(what, text)
    assert said in str(caught.value) and what in str(caught.value) and "\n" not in str(caught.value)
