"""What a line of a log says: metrics and their step, found by a pattern of the user or as JSON. Pure.

Patterns and lines come from users, so matching must be linear in the line's length: RE2 (https://github.com/google/re2),
lines and matches bounded.
"""

import dataclasses
import datetime
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import re2

LINE_LENGTH = 16_384  # characters of a line that are looked at
MOST_MATCHES = 100  # on one line
NAME_LENGTH = 256  # of a metric
_STEPS = 2**53  # a step is read as a float; beyond this it would not be exact
_TERMINAL_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours and cursor moves (ECMA-48, CSI)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


class PatternError(ValueError):
    """A pattern that cannot be used; the text says why."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one line says."""

    step: int | None
    metrics: Mapping[str, float]


class Lines(Protocol):
    """Reads the lines of one form."""

    def read(self, line: str) -> Measured | None:
        """A line's metrics; None: there is none."""


def lines(form: str, pattern: str, step: str) -> Lines:
    """The reader of ``text`` or ``json``. Raises PatternError."""
    return Json(step) if form == "json" else Pattern(pattern, step)


class Pattern:
    """Reads lines of text.

    Args:
        pattern: RE2 with groups ``metric`` and ``value``; every match on a line counts.
        step: RE2 for names, matched as a whole and in any case: a metric of such a name is the line's step.

    Raises:
        PatternError: one of them is no RE2, or a group is missing.
    """

    def __init__(self, pattern: str, step: str) -> None:
        self._find = _compile(pattern)
        self._step = _Step(step)
        missing = {"metric", "value"} - set(self._find.groupindex)
        if missing:
            raise PatternError(f"the pattern has no group {min(missing)}; write (?P<{min(missing)}>…) around it")

    def read(self, line: str) -> Measured | None:
        """A line's metrics; None: there is none. Of a progress bar that overwrites itself (carriage returns), what
        stands at the end: the last part that says anything."""
        text = _TERMINAL_CODES.sub("", line[:LINE_LENGTH])
        for part in reversed(text.split("\r")[-MOST_MATCHES:]):
            measured = self._read(part)
            if measured is not None:
                return measured
        return None

    def _read(self, text: str) -> Measured | None:
        matches = itertools.islice(self._find.finditer(text), MOST_MATCHES)
        return self._step.taken_out((match.group("metric"), number(match.group("value"))) for match in matches)


class Json:
    """Reads lines of which each is one JSON object, as loggers write them: every number is a metric by its name, also
    one that is written as a text; of an object within, ``val/loss``. Other lines, and other values, say nothing.

    Args:
        step: RE2 for names, as in `Pattern`.

    Raises:
        PatternError: it is no RE2.
    """

    def __init__(self, step: str) -> None:
        self._step = _Step(step)

    def read(self, line: str) -> Measured | None:
        """A line's metrics; None: there is none, or the line is no object, or longer than `LINE_LENGTH`."""
        try:
            # Whole numbers as floats: Python reads a long one in quadratic time, or not at all.
            found = json.loads(line[:LINE_LENGTH], parse_int=float)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        return self._step.taken_out(itertools.islice(_numbers(found), MOST_MATCHES))


def _numbers(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/"[: NAME_LENGTH + 1])
        elif isinstance(value, float):
            yield prefix + name, value
        elif isinstance(value, str):
            yield prefix + name, number(value)


class _Step:
    """Tells a line's step from its metrics, by a pattern for names that is matched as a whole and in any case."""

    def __init__(self, pattern: str) -> None:
        self._names = _compile(f"(?i:{pattern})")

    def taken_out(self, found: Iterable[tuple[str, float | None]]) -> Measured | None:
        step: int | None = None
        metrics: dict[str, float] = {}
        for name, value in found:
            if not name or value is None or len(name) > NAME_LENGTH:
                continue
            if self._names.fullmatch(name):
                step = int(value) if value.is_integer() and abs(value) <= _STEPS else step
            else:
                metrics[name] = value
        return Measured(step, metrics) if metrics else None


def number(text: str | None) -> float | None:
    """A number as programs print it, nan and inf among them; None: it is none. Too large a one is infinite."""
    if not text or "_" in text or not text.isascii():  # Python itself reads 1_000 and digits of any script
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _compile(pattern: str) -> "re2._Regexp":
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise PatternError(f"{pattern!r} is no RE2 pattern: {_told(error)}") from None


def _told(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


# ---- when a line was written, and which one it is


def instant(time: str) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time; None: it is none (a word of the kubelet's own)."""
    match = _TIME.fullmatch(time)
    if match is None:
        return None
    try:
        whole = datetime.datetime.fromisoformat(match.group(1) + match.group(3).replace("Z", "+00:00"))
    except ValueError:
        return None
    return math.floor(whole.timestamp()) * 10**9 + int((match.group(2) or "").ljust(9, "0"))


class Keys:
    """Idempotency keys of a log's lines: the same line has the same key, whoever reads it, and however often.

    Equal lines of one instant are told apart by their order; who reads from any instant on reads all lines of it.
    """

    def __init__(self, container: str) -> None:
        self._container = container
        self._instant: int | None = None
        self._seen: dict[str, int] = {}

    def key(self, instant: int, text: str) -> str:
        """At most 128 characters. To be asked once for each line, in order."""
        if instant != self._instant:
            self._instant, self._seen = instant, {}
        digest = hashlib.sha256(f"{self._container}\0{instant}\0{text}".encode()).hexdigest()[:48]
        count = self._seen[digest] = self._seen.get(digest, -1) + 1
        return f"log-{digest}-{count}"
