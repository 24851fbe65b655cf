"""What a line of a log says, line by line; hostile ones among them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetune.api.spec import Metrics
from kubetune.gateway import patterns


def _inside(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(children) | st.dictionaries(st.text(), children)


DEFAULT = patterns.Pattern(Metrics().pattern, Metrics().step)

LINES = {
    "accuracy=0.91": (None, {"accuracy": 0.91}),
    "epoch=3 loss=0.25 accuracy: 91.5%": (3, {"loss": 0.25, "accuracy": 91.5}),
    "step: 7, val/loss: 1e-3": (7, {"val/loss": 1e-3}),
    "Epoch: 4/10 - loss: .5 - top-1: 5.": (4, {"loss": 0.5, "top-1": 5.0}),
    "loss=1 loss=2": (None, {"loss": 2.0}),
    "loss=-1.5E+2": (None, {"loss": -150.0}),
    "loss=+3": (None, {"loss": 3.0}),
    "loss = 0.5 ": (None, {"loss": 0.5}),
    "loss=inf acc=-inf": (None, {"loss": math.inf, "acc": -math.inf}),
    "loss=1e400": (None, {"loss": math.inf}),
    "loss=1e-400": (None, {"loss": 0.0}),
    "epoch=1.5 loss=2": (None, {"loss": 2.0}),  # half an epoch is no step
    "epoch=1e300 loss=2": (None, {"loss": 2.0}),
    "\x1b[32mloss\x1b[0m: \x1b[1m0.5\x1b[0m": (None, {"loss": 0.5}),
    " 10%|# | loss=3\r 50%|## | loss=2\r100%|###| loss=1": (None, {"loss": 1.0}),
    "loss=1\r": (None, {"loss": 1.0}),
    "loss=1\0acc=2": (None, {"loss": 1.0, "acc": 2.0}),
    "\ufffd\ufffd loss=1": (None, {"loss": 1.0}),
    "verlust=1 größe=2": (None, {"verlust": 1.0, "e": 2.0}),  # the default pattern's names are ASCII
}
NOTHING = ["", "hello", "epoch=3", "=5", "loss=", "loss=high", "loss", "\0\0\0", "\x1b[31m", "loss==", "::::", "\r\r"]


@pytest.mark.parametrize("line", LINES)
def test_lines_that_say_something(line: str) -> None:
    step, metrics = LINES[line]
    assert DEFAULT.read(line) == patterns.Measured(step, metrics)


@pytest.mark.parametrize("line", NOTHING)
def test_lines_that_say_nothing(line: str) -> None:
    assert DEFAULT.read(line) is None


def test_not_a_number_is_said() -> None:
    measured = DEFAULT.read("loss=nan")
    assert measured
    assert math.isnan(measured.metrics["loss"])


@pytest.mark.parametrize(
    "line", ["2026-03-01T10:00:00Z started", "2026-03-01 10:00:00,123 INFO loading", "step: information", "x: nancy"]
)
def test_what_logs_are_full_of_is_no_metric(line: str) -> None:
    assert DEFAULT.read(line) is None


def test_a_very_long_line_is_read_to_its_limit() -> None:
    at_the_end = "x" * patterns.LINE_LENGTH + " loss=1"
    assert DEFAULT.read(at_the_end) is None
    assert DEFAULT.read("loss=1 " + at_the_end) == patterns.Measured(None, {"loss": 1.0})


def test_a_line_of_very_many_metrics_is_bounded() -> None:
    measured = DEFAULT.read(" ".join(f"m{number}={number}" for number in range(2000)))
    assert measured
    assert len(measured.metrics) == patterns.MOST_MATCHES


def test_a_pattern_that_would_backtrack_for_ever_does_not() -> None:
    """(a+)+b against many a: exponential for a backtracking engine, linear for RE2."""
    pattern = patterns.Pattern(r"(?P<metric>(?:a+)+)b(?P<value>\d)", "step")
    assert pattern.read("a" * patterns.LINE_LENGTH) is None


@given(st.text())
def test_no_text_is_a_fault(line: str) -> None:
    measured = DEFAULT.read(line)
    assert measured is None or measured.metrics


JSON = patterns.lines("json", Metrics().pattern, Metrics().step)


@pytest.mark.parametrize(
    ("line", "measured"),
    [
        ('{"epoch": 3, "loss": 0.25, "accuracy": 0.5}', (3, {"loss": 0.25, "accuracy": 0.5})),
        ('{"step": "7", "loss": "1e-3", "note": "fine"}', (7, {"loss": 1e-3})),  # as hypertune writes numbers
        ('  {"loss": 1, "n": -0}  ', (None, {"loss": 1.0, "n": 0.0})),
        ('{"level": "info", "ok": true, "tags": [1, 2], "none": null, "loss": 2}', (None, {"loss": 2.0})),
        ('{"val": {"loss": 0.5, "top": {"5": 0.75}}, "epoch": 1}', (1, {"val/loss": 0.5, "val/top/5": 0.75})),
        ('{"loss": 1, "loss": 2}', (None, {"loss": 2.0})),
        ('{"loss": Infinity, "acc": -Infinity}', (None, {"loss": math.inf, "acc": -math.inf})),
        ('{"loss": "inf"}', (None, {"loss": math.inf})),
        ('{"größe": 2}', (None, {"größe": 2.0})),
        ('{"loss": ' + "9" * 10_000 + "}", (None, {"loss": math.inf})),
    ],
)
def test_lines_of_json(line: str, measured: tuple[int | None, dict[str, float]]) -> None:
    assert JSON.read(line) == patterns.Measured(*measured)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "loss=0.5",
        "[1]",
        "0.5",
        "null",
        '"loss"',
        "{}",
        '{"epoch": 3}',
        '{"": 1}',
        '{"loss": "0x10"}',
        '{"loss": 0.5',
        '{"loss": 0.5} {"loss": 0.25}',
        "[" * patterns.LINE_LENGTH,
        '{"a":' * 3000,
        '{"' + "m" * 257 + '": 1}',
        '{"note": "' + "x" * patterns.LINE_LENGTH + '", "loss": 1}',
    ],
    ids=lambda line: line[:16],
)
def test_lines_that_are_no_object_with_numbers_say_nothing(line: str) -> None:
    assert JSON.read(line) is None


def test_an_object_of_very_many_metrics_is_bounded() -> None:
    measured = JSON.read(json.dumps({f"m{number}": number for number in range(500)}))
    assert measured
    assert len(measured.metrics) == patterns.MOST_MATCHES


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), _inside, max_leaves=20))
def test_no_json_is_a_fault(content: object) -> None:
    measured = JSON.read(json.dumps(content))
    assert measured is None or measured.metrics


@pytest.mark.parametrize(
    ("pattern", "step", "says"),
    [
        ("(", "step", "no RE2 pattern"),
        (r"(?P<metric>\w+)=(?P<value>\d+)(?=x)", "step", "no RE2 pattern"),  # look-ahead: not linear
        (r"(?P<metric>\w+)=(\d+)", "step", "no group value"),
        (r"(?P<metric>\w+)=(?P<value>\d+)", "(", "no RE2 pattern"),
    ],
)
def test_patterns_that_are_none_say_why(pattern: str, step: str, says: str) -> None:
    with pytest.raises(patterns.PatternError, match=says):
        patterns.Pattern(pattern, step)


@pytest.mark.parametrize("value", ["1_000", "٣", "", "0x10", "1,5", "--1"])
def test_what_a_loose_pattern_catches_is_no_number(value: str) -> None:
    pattern = patterns.Pattern(r"(?P<metric>\w+)=(?P<value>\S*)", "step")
    assert pattern.read(f"loss={value}") is None


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01.000000007Z", 1_000_000_007),
        ("1970-01-01T01:00:01.000000007+01:00", 1_000_000_007),
        ("", None),
        ("unable", None),
        ("1970-13-01T00:00:01Z", None),
        ("1970-01-01T00:00:01", None),
    ],
)
def test_times(text: str, nanoseconds: int | None) -> None:
    assert patterns.instant(text) == nanoseconds


def test_a_line_has_one_key_whoever_reads_it() -> None:
    """The second reader begins at the second instant; equal lines of it are told apart by their order."""
    lines = [(1, "loss=1"), (2, "loss=1"), (2, "loss=1"), (2, "loss=2"), (3, "loss=1")]
    first, second = patterns.Keys("containerd://a"), patterns.Keys("containerd://a")
    keys = [first.key(*line) for line in lines]
    assert len(set(keys)) == len(keys)
    assert [second.key(*line) for line in lines[1:]] == keys[1:]
    assert max(map(len, keys)) <= 128


def test_equal_lines_of_two_containers_differ() -> None:
    assert patterns.Keys("a").key(1, "loss=1") != patterns.Keys("b").key(1, "loss=1")
