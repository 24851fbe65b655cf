"""Values in order: what trials have come to at one step, with NaN counted apart."""

import array
import bisect
import math

import numpy as np
from numpy.typing import NDArray


class Ranked:
    """A multiset of numbers: 8 bytes each; adding and removing one takes O(log n) comparisons."""

    def __init__(self) -> None:
        self.numbers = array.array("d")  # ascending, no NaN
        self.reported = 0  # with NaN

    def __len__(self) -> int:
        return len(self.numbers)

    def extend(self, values: NDArray[np.float64]) -> None:
        """Many at once; `sort` comes after the last of them."""
        self.reported += len(values)
        self.numbers.frombytes(values[~np.isnan(values)].tobytes())

    def sort(self) -> None:
        np.frombuffer(self.numbers).sort()  # in place

    def add(self, value: float) -> None:
        self.reported += 1
        if not math.isnan(value):
            bisect.insort(self.numbers, value)

    def remove(self, value: float) -> None:
        """One that was added."""
        self.reported -= 1
        if not math.isnan(value):
            del self.numbers[bisect.bisect_left(self.numbers, value)]

    def best(self, place: int, maximize: bool) -> float:
        """The value at this place, 0 being the best. There is one."""
        return self.numbers[-1 - place] if maximize else self.numbers[place]

    def better_than(self, value: float, maximize: bool) -> int:
        """How many numbers are better than ``value``."""
        if maximize:
            return len(self.numbers) - bisect.bisect_right(self.numbers, value)
        return bisect.bisect_left(self.numbers, value)

    def percentile(self, percent: float) -> float:
        """With ``percent`` of the numbers below it, linear between two, rounded as numpy.percentile does it. NaN: there
        is no number, or it lies next to an infinity."""
        if not self.numbers:
            return math.nan
        last = len(self.numbers) - 1
        place = last * (percent / 100)
        below = min(math.floor(place), last)
        low, high = self.numbers[below], self.numbers[min(below + 1, last)]
        part = place - below
        if low == high or part == 0:  # not inf - inf, nor inf * 0
            return low
        return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part
