"""The benchmarks' frame: goals, the table, bench.json, and what `ONLY` selects."""

import json
import math

import pytest

from dev.bench.__main__ import MODULES, present, selected
from dev.bench.result import Goal, Result, from_json, judge, missing, table, to_json


@pytest.mark.parametrize(
    ("goal", "value", "limit", "holds"),
    [
        (Goal("ratio", ">=", 0.85), 17.0, 20.0, True),
        (Goal("ratio", ">=", 0.85), 16.9, 20.0, False),
        (Goal("value", "<=", 150), 150.0, 10.0, True),
        (Goal("value", "<=", 150), 150.1, None, False),
        (Goal("ratio", "<=", 1.2), 5.0, None, False),  # no limit was measured: nothing is shown
        (Goal("value", "<=", 150), math.nan, None, False),
    ],
)
def test_a_goal_bounds_the_value_or_its_ratio(goal: Goal, value: float, limit: float | None, holds: bool) -> None:
    assert judge("x", value, "ms", limit, goal).holds is holds


def test_json_has_a_null_for_what_was_not_measured_and_comes_back_the_same() -> None:
    results = [judge("gap-p50", 12.5, "ms", 10.0, Goal("value", "<=", 150), "1,000 in flight"), missing("start", "why")]
    entries = json.loads(to_json(results))
    assert [entry["name"] for entry in entries] == ["gap-p50", "start"]
    assert entries[0]["ratio"] == 1.25
    assert entries[1]["value"] is None
    back = from_json(to_json(results))
    assert back[0] == results[0]
    assert math.isnan(back[1].value)


def test_the_table_says_what_holds_and_shows_each_note_below_its_line() -> None:
    text = table([Result("a", 1.0, "s", 2.0, 0.5, "ratio <= 1", True, "note of a"), missing("b", "note of b")])
    lines = [line.split() for line in text.splitlines()]
    assert lines[1][:2] == ["a", "1"]
    assert lines[1][-1] == "yes"
    assert lines[2] == ["note", "of", "a"]
    assert lines[3][0] == "b"
    assert lines[3][-1] == "NO"


def test_only_selects_by_the_beginning_of_a_name() -> None:
    assert selected(["flood-1000", "gap-p50"], ["gap"])
    assert not selected(["flood-1000", "gap-p50"], ["start"])
    assert selected(["anything"], [])


def test_the_time_bounds_are_those_promised() -> None:
    assert sum(budget.full for budget in MODULES.values()) <= 75 * 60
    assert sum(budget.quick for budget in MODULES.values()) <= 10 * 60


def test_no_name_is_brought_by_two_modules() -> None:
    names = [name for brought in present().values() for name in brought]
    assert len(names) == len(set(names))
