"""How numbers, durations, curves and tables look."""

import math

import pytest

from kubetune.cli import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.97222222, "0.9722"),
        (0.00123456, "0.001235"),
        (1e-4, "0.0001"),
        (1.5e-7, "1.5e-07"),
        (12345.678, "12345.7"),
        (1e6, "1000000"),
        (1e20, "1e+20"),
        (-0.5, "-0.5"),
        (3, "3"),
        (3.0, "3"),
        ("0.97222222", "0.9722"),
        ("relu", "relu"),
        (True, "true"),
        (math.nan, "nan"),
        ("NaN", "nan"),
        ("-Infinity", "-inf"),
        (None, "-"),
        ("", "-"),
    ],
)
def test_number(value: object, shown: str) -> None:
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-3, "0.0s"),
        (4.23, "4.2s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.9, "1h00m"),
        (3725, "1h02m"),
        (86399.9, "1d00h"),
        (183_600, "2d03h"),
    ],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (-1, "0s"), (4.9, "4s"), (42, "42s"), (90, "1m30s")])
def test_age_has_no_tenths(seconds: float | None, shown: str) -> None:
    assert text.age(seconds) == shown


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.500000+00:00", 60.5),
        (60.5, 60.5),
        (None, None),
        ("", None),
        ("soon", None),
    ],
)
def test_epoch(timestamp: object, seconds: float | None) -> None:
    assert text.epoch(timestamp) == seconds


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 40, "...."),
        (9, 40, "...."),
        (10, 40, "#..."),
        (39, 40, "###."),
        (40, 40, "####"),
        (41, 40, "####"),
        (0, 0, "...."),
    ],
)
def test_a_bar_is_full_only_at_the_end(done: int, total: int, shown: str) -> None:
    assert text.bar(done, total, 4, plain=True) == shown


@pytest.mark.parametrize(
    ("values", "width", "shown"),
    [
        ([], 8, ""),
        ([math.nan, math.inf], 8, ""),
        ([1.0], 8, "▅"),
        ([0.0, 0.5, 1.0], 8, "▁▅█"),
        ([1.0, 0.0], 8, "█▁"),
        ([0.0, 0.0, 0.0, 1.0], 2, "▁█"),
        ([float(value) for value in range(100)], 8, "▁▂▃▄▅▆▇█"),
        ([1.0, 2.0], 0, ""),
    ],
)
def test_sparkline(values: list[float], width: int, shown: str) -> None:
    assert text.sparkline(values, width) == shown


def test_a_sparkline_where_only_ascii_can_be_written() -> None:
    assert text.sparkline([0.0, 1.0], 8, plain=True) == "_#"


def test_table_aligns_and_leaves_no_blanks_at_the_ends() -> None:
    assert text.table(["NAME", "N", "WHY"], [["a", "10", ""], ["longer", "9", "x"]], right=[1]) == [
        "NAME     N  WHY",
        "a       10",
        "longer   9  x",
    ]


def test_parameters_and_metrics() -> None:
    assert text.parameters({"lr": 0.00123456, "layers": 2, "nesterov": True}) == "lr=0.001235 layers=2 nesterov=true"
    assert text.metrics({"accuracy": 0.97222, "size": 3.0}) == "accuracy 0.9722, size 3"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1 + 0.2, "0.30000000000000004"), (False, "false"), ("a b", "a b"), (7, "7")]
)
def test_exact_rounds_nothing(value: object, shown: str) -> None:
    assert text.exact(value) == shown


@pytest.mark.parametrize(("line", "shown"), [("abc", "abc"), ("abcd", "ab…"), ("", "")])
def test_cut(line: str, shown: str) -> None:
    assert text.cut(line, 3) == shown


@pytest.mark.parametrize(("share", "shown"), [(0, "0 %"), (0.004, "<1 %"), (0.314, "31 %"), (1, "100 %")])
def test_percent(share: float, shown: str) -> None:
    assert text.percent(share) == shown
