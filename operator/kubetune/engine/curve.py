"""One running trial's series as pruners look at it: what it came to so far, kept up at each report in O(1)."""

import array
import bisect
import math


class Curve:
    """The first objective by step, with its best value and its two highest steps. 24 bytes a report.

    ``marks`` and ``rung`` are the pruner's: what the trial competes with so far, and where it was judged last, which is
    committed (`TrialRow.rung`).
    """

    def __init__(self, maximize: bool, number: int = 0) -> None:
        self.maximize = maximize
        self.number = number
        self._steps = array.array("q")  # ascending
        self._values = array.array("d")  # by the same index
        self._bests = array.array("d")  # the best value up to here
        self.last_step = -1  # the highest step, as in Optuna; -1: no report
        self.step_before = -1  # the second highest
        self.marks = array.array("d")
        self.rung: int | None = None

    def __len__(self) -> int:
        """How many steps were reported."""
        return len(self._steps)

    def add(self, step: int, value: float) -> None:
        """Take one report. A second one of the same step replaces the first."""
        steps = self._steps
        if not steps or step > steps[-1]:
            self._bests.append(self._better(self.best, value))
            steps.append(step)
            self._values.append(value)
        else:
            self._put(step, value)
        if step > self.last_step:
            self.last_step, self.step_before = step, self.last_step
        elif self.step_before < step < self.last_step:
            self.step_before = step

    def _put(self, step: int, value: float) -> None:
        """Out of order: O(reports after it)."""
        place = bisect.bisect_left(self._steps, step)
        if self._steps[place] == step:
            self._values[place] = value
        else:
            self._steps.insert(place, step)
            self._values.insert(place, value)
        del self._bests[place:]
        for value in self._values[place:]:
            self._bests.append(self._better(self.best, value))

    def _better(self, best: float, value: float) -> float:
        if math.isnan(best) or math.isnan(value):
            return best if math.isnan(value) else value
        return max(best, value) if self.maximize else min(best, value)

    @property
    def best(self) -> float:
        """Of all values; NaN: none is a number yet."""
        return self._bests[-1] if self._bests else math.nan

    def best_of_first(self, count: int) -> float:
        """The best of the ``count`` lowest steps; NaN: none of them is a number."""
        return self._bests[count - 1] if count > 0 else math.nan

    def best_since(self, count: int) -> float:
        """The best of all but the ``count`` lowest steps: O(how many those are)."""
        best = math.nan
        for value in self._values[count:]:
            best = self._better(best, value)
        return best

    def first_from(self, step: int) -> float:
        """The value at the lowest step that is not below ``step``; there is one if `last_step` is not below it."""
        return self._values[bisect.bisect_left(self._steps, step)]

    @property
    def last(self) -> tuple[int, float] | None:
        """The highest step and the value there; None: no report."""
        return (self._steps[-1], self._values[-1]) if self._steps else None

    def before(self, step: int) -> "Curve":
        """A curve of its own with the steps below this one; no marks."""
        cut = Curve(self.maximize, self.number)
        for each, value in zip(self._steps, self._values, strict=True):
            if each >= step:
                break
            cut.add(each, value)
        return cut

    def series(self) -> dict[int, float]:
        """All values by step, ascending."""
        return dict(zip(self._steps, self._values, strict=True))
