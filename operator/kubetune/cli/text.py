"""How a number, a duration, a curve or a table looks in a terminal. Pure: values in, text out."""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*%#"
FULL, EMPTY = "█", "░"
ASCII_FULL, ASCII_EMPTY = "#", "."


def number(value: Any) -> str:
    """Four significant digits, whole numbers whole; ``-`` for nothing. Takes numbers and their text ("NaN" too)."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        real = float(value)
    except (TypeError, ValueError):
        return str(value)
    if math.isnan(real) or math.isinf(real):
        return str(real)
    if real == int(real) and abs(real) < 1e15:
        return str(int(real))
    return f"{real:.1f}" if 1000 <= abs(real) < 1e15 else f"{real:.4g}"


def duration(seconds: float | None) -> str:
    """``4.2s``, ``42s``, ``3m05s``, ``1h02m``, ``2d03h``; ``-`` for nothing."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def age(seconds: float | None) -> str:
    """A duration as kubectl's AGE has it: no tenths."""
    return "-" if seconds is None else duration(max(seconds, 0.0)) if seconds >= 9.95 else f"{int(max(seconds, 0))}s"


def epoch(timestamp: Any) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, or of a number that is that already; None for neither."""
    if timestamp is None or timestamp == "":
        return None
    if isinstance(timestamp, int | float):
        return float(timestamp)
    try:
        return datetime.datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None


def parameters(values: Mapping[str, Any]) -> str:
    """``lr=0.001235 layers=2 activation=relu``."""
    return " ".join(f"{name}={number(value)}" for name, value in values.items())


def metrics(values: Mapping[str, Any]) -> str:
    """``accuracy 0.9722, loss 0.11``."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def exact(value: Any) -> str:
    """A parameter as a trial's command line takes it: nothing rounded, booleans as true and false."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def bar(done: int, total: int, width: int, plain: bool = False) -> str:
    """``████████░░░░``; never full before everything is done."""
    full, empty = (ASCII_FULL, ASCII_EMPTY) if plain else (FULL, EMPTY)
    filled = width * done // total if total > 0 else 0
    filled = max(0, min(filled, width))
    return full * filled + empty * (width - filled)


def sparkline(values: Sequence[float], width: int, plain: bool = False) -> str:
    """The curve in at most ``width`` characters; more values are thinned, the last one always kept."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    if len(finite) > width:
        finite = [finite[(index + 1) * len(finite) // width - 1] for index in range(width)]
    low, high = min(finite), max(finite)
    blocks = ASCII_BLOCKS if plain else BLOCKS
    if low == high:
        return blocks[len(blocks) // 2] * len(finite)
    return "".join(blocks[round((value - low) / (high - low) * (len(blocks) - 1))] for value in finite)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Aligned columns, two spaces apart; ``right``: indices of columns aligned to the right."""
    lines = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]

    def cell(column: int, value: str) -> str:
        return value.rjust(widths[column]) if column in right else value.ljust(widths[column])

    return ["  ".join(cell(column, value) for column, value in enumerate(line)).rstrip() for line in lines]


def cut(line: str, width: int) -> str:
    """The line in ``width`` characters, an ellipsis where it was cut."""
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(share: float) -> str:
    """``31 %``; something that is not nothing is never shown as 0 %."""
    return "<1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
