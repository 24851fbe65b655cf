"""Turns for writes that can wait, so that many experiments together send the API server no more than one does.

Figures in a status are for people: nobody reads those of 120 experiments every second, but writing them took half of
what an API server on two cores had to give (many-3600 in docs/benchmarks.md): each costs it 17 ms of CPU. So a server
that is slow to answer is sent fewer.
"""

import threading

REST = 4.0  # times as long as a write took, until the next
LONGEST = 10.0  # seconds between two


class Pace:
    """Thread-safe. ``gap``: seconds between two turns at least, whoever's they are."""

    def __init__(self, gap: float) -> None:
        self._least = self._gap = gap
        self._lock = threading.Lock()
        self._next = 0.0

    def turn(self, earliest: float) -> float:
        """A time from ``earliest`` on that is nobody else's."""
        with self._lock:
            at = max(earliest, self._next)
            self._next = at + self._gap
            return at

    def took(self, seconds: float) -> None:
        """A write took so long."""
        with self._lock:
            self._gap = min(LONGEST, max(self._least, REST * seconds))
