"""The percentile rule: a trial stops when the best it has come to is worse than a percentile of the COMPLETE trials at
the same step. With 50 it is the median stopping rule of Vizier (Golovin et al., KDD 2017, section 3.2.1).

As Optuna's PercentilePruner and MedianPruner define it, decision for decision, NaN included; but kept up incrementally:
O(1) per report, O(log n) comparisons per step of a trial that completes.
"""

import math
from collections.abc import Mapping

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Committed, Pruner, number
from kubetune.engine.pruners.interval import Interval
from kubetune.engine.pruners.ranked import Ranked
from kubetune.storage.base import Mark
from kubetune.storage.series import Piece

MEDIAN: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(5, low=0),  # no pruning before so many trials are COMPLETE
    "nWarmupSteps": options.Whole(0, low=0),  # no pruning below this step
    "intervalSteps": options.Whole(1, low=1),  # decide once in so many steps, from nWarmupSteps on
    "nMinTrials": options.Whole(1, low=1),  # no pruning at a step that fewer COMPLETE trials reported
}
OPTIONS: Mapping[str, options.Option] = {
    "percentile": options.Real(None, low=0.0, high=100.0),  # the best so many per cent go on
    **MEDIAN,
}

_NOTHING = Ranked()


class PercentilePruner(Pruner):
    """State: the number of COMPLETE trials and, for each step, their values in order: 8 bytes a report."""

    def __init__(self, percentile: float, startup: int, interval: Interval, minimum: int) -> None:
        self._percentile = percentile
        self._startup = startup
        self._interval = interval
        self._minimum = minimum
        self._completed = 0
        self._steps: dict[int, Ranked] = {}

    def load(self, committed: Committed) -> None:
        committed.series(TrialState.COMPLETE, self._take)
        for step in self._steps.values():
            step.sort()

    def _take(self, piece: Piece) -> None:
        self._completed += len(piece.numbers)
        for step, values in piece.by_step():
            self._steps.setdefault(step, Ranked()).extend(values)

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        if state is not TrialState.COMPLETE:
            return
        self._completed += 1
        for step, value in series.items():
            self._steps.setdefault(step, Ranked()).add(value)

    def prune(self, curve: Curve) -> str | None:
        if self._completed < max(self._startup, 1) or not self._interval.decides_at(curve):
            return None
        if math.isnan(curve.best):
            return f"at step {curve.last_step}: no report was a number"
        at = self._steps.get(curve.last_step, _NOTHING)
        if at.reported < self._minimum:
            return None
        bound = at.percentile(100 - self._percentile if curve.maximize else self._percentile)
        worse = curve.best < bound if curve.maximize else curve.best > bound  # NaN compares false: go on
        if not worse:
            return None
        told = f"at step {curve.last_step}: {number(curve.best)} at best is worse than {number(bound)}"
        if self._percentile == 50:
            return f"{told}, the median of {len(at)} complete trials"
        return f"{told}, which the best {number(self._percentile)} % of {len(at)} complete trials reach"


def build(spec: ExperimentSpec) -> PercentilePruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    return _made(given["percentile"], given)


def median(spec: ExperimentSpec) -> PercentilePruner:
    return _made(50.0, options.read("pruner", spec.pruner, MEDIAN))


def _made(percentile: float, given: Mapping[str, int]) -> PercentilePruner:
    interval = Interval(given["nWarmupSteps"], given["intervalSteps"])
    return PercentilePruner(percentile, given["nStartupTrials"], interval, given["nMinTrials"])
