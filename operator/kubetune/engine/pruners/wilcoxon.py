"""Stops a trial once a Wilcoxon signed-rank test says that it is worse than the best one on the same folds.

As Optuna's WilcoxonPruner, decision for decision. Steps are not time here but instances: the folds of a
cross-validation, data sets, seeds. Each trial reports its score on each of them under the same step, in any order, and
the trial's value is their mean.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Committed, Pruner, number
from kubetune.storage.base import Mark
from kubetune.storage.series import Piece

OPTIONS: Mapping[str, options.Option] = {
    "pThreshold": options.Real(0.1, low=0.0, high=1.0),  # the larger, the sooner it stops
    "nStartupSteps": options.Whole(2, low=0),  # no pruning before so many steps in common
}


@dataclasses.dataclass(frozen=True)
class _Best:
    loss: float
    number: int
    series: Mapping[int, float]

    @property
    def rank(self) -> tuple[float, int]:
        return self.loss, self.number


class WilcoxonPruner(Pruner):
    """State: the series of the best feasible COMPLETE trial, the earliest of equals. O(folds) per report.

    ``p_value``: of the differences to the best one, against their being no loss.
    """

    def __init__(self, maximize: bool, threshold: float, startup: int, p_value: Callable[..., float]) -> None:
        self._sign = -1.0 if maximize else 1.0
        self._threshold = threshold
        self._startup = startup
        self._p_value = p_value
        self._best: _Best | None = None

    def load(self, committed: Committed) -> None:
        known = [mark for mark in committed.marks(TrialState.COMPLETE) if mark.value is not None]
        if known:
            best = min(known, key=lambda mark: (self._sign * (mark.value or 0.0), mark.number))
            self._best = _Best(self._sign * (best.value or 0.0), best.number, {})
            committed.series(TrialState.COMPLETE, self._take)

    def _take(self, piece: Piece) -> None:
        for trial, steps, values in piece.each():
            if self._best and trial == self._best.number:
                series = dict(zip(steps.tolist(), values.tolist(), strict=True))
                self._best = dataclasses.replace(self._best, series=series)

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        if state is not TrialState.COMPLETE or mark.value is None:
            return
        new = _Best(self._sign * mark.value, mark.number, dict(series))
        if self._best is None or new.rank < self._best.rank:
            self._best = new

    def prune(self, curve: Curve) -> str | None:
        best, ours = self._best, curve.series()
        if best is None or not ours or not best.series:
            return None
        theirs = best.series
        if not np.isfinite([*ours.values(), *theirs.values()]).all():
            return None
        worse_by = [self._sign * (ours[step] - theirs[step]) for step in ours.keys() & theirs.keys()]
        if len(worse_by) < max(2, self._startup):
            return None
        p = self._p_value(worse_by)
        mean, best_mean = (sum(each.values()) / len(each) for each in (ours, theirs))
        if p >= self._threshold or self._sign * mean <= self._sign * best_mean:
            return None  # the second: for safety, whatever the test says
        return (
            f"at step {curve.last_step}: worse than trial {best.number} on {len(worse_by)} steps that both have "
            f"({number(mean)} and {number(best_mean)} in the mean; Wilcoxon's p = {p:.2g})"
        )


def build(spec: ExperimentSpec) -> WilcoxonPruner:
    from scipy import stats  # takes a second to import, and few need it

    given = options.read("pruner", spec.pruner, OPTIONS)
    test = functools.partial(stats.wilcoxon, alternative="greater", zero_method="zsplit")
    maximize = spec.objectives[0].direction == "maximize"
    return WilcoxonPruner(
        maximize, given["pThreshold"], given["nStartupSteps"], lambda worse_by: float(test(worse_by).pvalue)
    )
