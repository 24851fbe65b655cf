"""How much the runs of one trial differ, as far as that is chance. Pure."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Noise:
    """What is known of it. ``freedom``: the degrees of freedom on which it rests."""

    deviation: float  # standard deviation of one run, in the metric's unit
    freedom: int


class Runs:
    """The runs of complete trials, added up: what is left of their values when the trials' means, and the folds', are
    taken away (the residual of a two-way table). Folds differ in how hard they are, for all trials alike: that is no
    noise between trials. Without folds, each run is compared with its trial's mean alone.

    Args:
        folds: 1: there are none.
    """

    def __init__(self, folds: int) -> None:
        self._folds = folds
        self._trials = 0
        self._freedom = 0
        self._squares = 0.0  # of the distances to the trials' means
        self._columns = [0.0] * folds  # sums of these distances

    def add(self, runs: Sequence[float]) -> None:
        """A complete trial's runs; of repeated cross-validation the first round of folds counts."""
        runs = runs[: self._folds] if self._folds > 1 else runs
        if len(runs) < max(2, self._folds) or not all(map(math.isfinite, runs)):
            return
        mean = sum(runs) / len(runs)
        apart = [run - mean for run in runs]
        self._trials += 1
        self._freedom += len(runs) - 1
        self._squares += sum(each * each for each in apart)
        if self._folds > 1:
            self._columns = [column + each for column, each in zip(self._columns, apart, strict=True)]

    @property
    def noise(self) -> Noise | None:
        """None: too little is known."""
        freedom, squares = self._freedom, self._squares
        if self._folds > 1 and self._trials:
            freedom -= self._folds - 1
            squares -= sum(column * column for column in self._columns) / self._trials
        return Noise(math.sqrt(max(0.0, squares) / freedom), freedom) if freedom > 0 else None
