"""What a benchmark found: a figure, the limit it stands beside, the goal, and whether the goal holds."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Literal

_COLUMNS = ("name", "value", "unit", "limit", "ratio", "goal", "holds")


@dataclasses.dataclass(frozen=True)
class Result:
    """One line of the table and one object of bench.json.

    Args:
        name: as in docs/benchmarks.md.
        value: NaN where it could not be measured; then ``note`` says why and the goal does not hold.
        limit: what bounds it (bare Jobs, plain Optuna), measured in the same run, in the same unit; None: nothing does.
        ratio: value over limit; None without a limit.
        goal: in words, such as "ratio >= 0.85".
        note: settings, and what explains the figure.
    """

    name: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None
    goal: str
    holds: bool
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on the value, or on its ratio to the limit."""

    of: Literal["value", "ratio"]
    sign: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.bound:g}"

    def holds(self, value: float, ratio: float | None) -> bool:
        measured = value if self.of == "value" else ratio
        if measured is None or math.isnan(measured):
            return False
        return measured <= self.bound if self.sign == "<=" else measured >= self.bound


def judge(name: str, value: float, unit: str, limit: float | None, goal: Goal, note: str = "") -> Result:
    """A measured value as a Result."""
    ratio = value / limit if limit else None
    return Result(name, value, unit, limit, ratio, str(goal), goal.holds(value, ratio), note)


def missing(name: str, why: str) -> Result:
    """A benchmark that brought no figure."""
    return Result(name, math.nan, "", None, None, "", False, why)


def table(results: Sequence[Result]) -> str:
    """The results as aligned columns, each with its note below."""
    rows = [_COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for index, result in reversed(list(enumerate(results, start=1))):
        if result.note:
            lines.insert(index + 1, f"    {result.note}")
    return "\n".join(lines)


def to_json(results: Sequence[Result]) -> str:
    """A JSON list of objects; what is no number there is null."""
    return json.dumps([_finite(dataclasses.asdict(result)) for result in results], indent=1) + "\n"


def from_json(text: str) -> list[Result]:
    """What `to_json` wrote."""
    return [
        Result(**{**entry, "value": math.nan if entry["value"] is None else entry["value"]})
        for entry in json.loads(text)
    ]


def _cells(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        _number(result.value),
        result.unit,
        _number(result.limit),
        _number(result.ratio),
        result.goal,
        "yes" if result.holds else "NO",
    )


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _finite(entry: dict[str, object]) -> dict[str, object]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in entry.items()
    }
