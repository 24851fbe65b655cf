"""The order in which trials ended, and how long none of them was better than the best before it."""

import array
import math

import numpy as np


class Endings:
    """Trials that ran to an end or were pruned, as they ended: 24 bytes each. Read after every few ends: what came
    since the last time is looked at, in O(1) each; ends that come out of order (at loading, or when a clock was set
    back) are put in order by the next look."""

    def __init__(self) -> None:
        self._times = array.array("d")
        self._numbers = array.array("q")
        self._values = array.array("d")  # NaN: pruned
        self._sorted = True
        self._restart(0.0)

    def _restart(self, delta: float) -> None:
        self._delta = delta
        self._looked = 0  # how many ends were looked at
        self._best = math.nan
        self._since = 0  # ends without an improvement
        self._longest = 0

    def add(self, time: float, number: int, value: float) -> None:
        """``time``: when it ended, in seconds since the epoch."""
        if self._times and (time, number) < (self._times[-1], self._numbers[-1]):
            self._sorted = False
        self._times.append(time)
        self._numbers.append(number)
        self._values.append(value)

    def longest(self, maximize: bool, delta: float) -> int:
        """The most trials that ever ended one after the other without any of them being better than the best before by
        more than ``delta``. It never falls: what has once been too long stays so, whatever the last trials bring."""
        if not self._sorted:
            self._sort()
        if not self._sorted or delta != self._delta:
            self._restart(delta)
        self._sorted = True
        sign = 1.0 if maximize else -1.0
        for value in self._values[self._looked :]:
            self._look(sign * value)
        self._looked = len(self._values)
        return self._longest

    def _look(self, value: float) -> None:
        if math.isnan(self._best):
            self._best = value  # the first number; pruned trials before it are no run
        elif value > self._best + self._delta:
            self._best, self._since = value, 0
        else:
            self._since += 1
            self._longest = max(self._longest, self._since)

    def _sort(self) -> None:
        order = np.lexsort((np.frombuffer(self._numbers, np.int64), np.frombuffer(self._times)))
        for column in (self._times, self._numbers, self._values):
            whole = np.frombuffer(column, column.typecode)
            whole[:] = whole[order]
