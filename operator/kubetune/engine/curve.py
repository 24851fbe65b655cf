"""One running trial's series as pruners look at it: what it came to so far, kept up at each report in O(1)."""

import array
import bisect
import math


class Curve:
    """The first objective by step, with its best value and its two highest steps. 16 bytes a report."""

    def __init__(self, maximize: bool) -> None:
        self.maximize = maximize
        self._steps = array.array("q")  # ascending
        self._values = array.array("d")  # by the same index
        self.best = math.nan  # NaN: no report is a number yet
        self.last_step = -1  # the highest step, as in Optuna; -1: no report
        self.step_before = -1  # the second highest

    def add(self, step: int, value: float) -> None:
        """Take one report. A second one of the same step replaces the first."""
        replaced = self._put(step, value)
        if replaced is not None and replaced == self.best:
            self._find_best()
        elif self._better(value):
            self.best = value
        if step > self.last_step:
            self.last_step, self.step_before = step, self.last_step
        elif self.step_before < step < self.last_step:
            self.step_before = step

    def _put(self, step: int, value: float) -> float | None:
        """Returns the value that was there before."""
        steps, values = self._steps, self._values
        if not steps or step > steps[-1]:
            steps.append(step)
            values.append(value)
            return None
        place = bisect.bisect_left(steps, step)
        if steps[place] != step:
            steps.insert(place, step)
            values.insert(place, value)
            return None
        replaced, values[place] = values[place], value
        return replaced

    @property
    def last(self) -> tuple[int, float] | None:
        """The highest step and the value there; None: no report."""
        return (self._steps[-1], self._values[-1]) if self._steps else None

    def series(self) -> dict[int, float]:
        """All values by step, ascending."""
        return dict(zip(self._steps, self._values, strict=True))

    def _better(self, value: float) -> bool:
        if math.isnan(self.best):
            return not math.isnan(value)
        return value > self.best if self.maximize else value < self.best

    def _find_best(self) -> None:
        """Only when the best report itself was replaced: O(reports)."""
        self.best = math.nan
        for value in self._values:
            if self._better(value):
                self.best = value
