"""What a line of a log says: metrics and their step, found by a pattern of the user. Pure.

Patterns and lines come from users, so matching must be linear in the line's length: RE2 (https://github.com/google/re2),
lines and matches bounded.
"""

import dataclasses
import datetime
import hashlib
import itertools
import math
import re
from collections.abc import Mapping

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


class Pattern:
    """Reads lines.

    Args:
        pattern: RE2 with groups ``metric`` and ``value``; every match on a line counts.
        step: RE2 for names, matched as a whole and in any case: a metric of such a name is the line's step.

    Raises:
        PatternError: one of them is no RE2, or a group is missing.
    """

    def __init__(self, pattern: str, step: str) -> None:
        self._find = _compile(pattern)
        self._is_step = _compile(f"(?i:{step})")
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
        step: int | None = None
        metrics: dict[str, float] = {}
        for match in itertools.islice(self._find.finditer(text), MOST_MATCHES):
            name, value = match.group("metric"), number(match.group("value"))
            if not name or value is None or len(name) > NAME_LENGTH:
                continue
            if self._is_step.fullmatch(name):
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
