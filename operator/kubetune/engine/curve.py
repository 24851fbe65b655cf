"""One running trial's series as pruners look at it: what it came to so far, kept up at each report in O(1)."""

import math


class Curve:
    """The first objective by step, with its best value and its two highest steps."""

    def __init__(self, maximize: bool) -> None:
        self.maximize = maximize
        self.values: dict[int, float] = {}
        self.best = math.nan  # NaN: no report is a number yet
        self.last_step = -1  # the highest step, as in Optuna; -1: no report
        self.step_before = -1  # the second highest

    def add(self, step: int, value: float) -> None:
        """Take one report. A second one of the same step replaces the first."""
        replaced = self.values.get(step)
        self.values[step] = value
        if replaced is not None and replaced == self.best:
            self._find_best()
        elif self._better(value):
            self.best = value
        if step > self.last_step:
            self.last_step, self.step_before = step, self.last_step
        elif self.step_before < step < self.last_step:
            self.step_before = step

    def _better(self, value: float) -> bool:
        if math.isnan(self.best):
            return not math.isnan(value)
        return value > self.best if self.maximize else value < self.best

    def _find_best(self) -> None:
        """Only when the best report itself was replaced: O(reports)."""
        self.best = math.nan
        for value in self.values.values():
            if self._better(value):
                self.best = value
