"""Stops a trial whose latest value is NaN or outside of fixed bounds: one that has diverged, or that overspends.

As Optuna's ThresholdPruner, decision for decision. It looks at no other trial.
"""

import math
from collections.abc import Mapping

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Pruner, number
from kubetune.engine.pruners.interval import Interval

OPTIONS: Mapping[str, options.Option] = {
    "lower": options.Real(-math.inf),
    "upper": options.Real(math.inf),
    "nWarmupSteps": options.Whole(0, low=0),  # no pruning below this step
    "intervalSteps": options.Whole(1, low=1),  # decide once in so many steps, from nWarmupSteps on
}


class ThresholdPruner(Pruner):
    def __init__(self, lower: float, upper: float, interval: Interval) -> None:
        self._lower = lower
        self._upper = upper
        self._interval = interval

    def prune(self, curve: Curve) -> str | None:
        if curve.last is None or not self._interval.decides_at(curve):
            return None
        step, value = curve.last
        if math.isnan(value):
            return f"at step {step}: it is not a number"
        if value < self._lower:
            return f"at step {step}: {number(value)} is below lower, {number(self._lower)}"
        if value > self._upper:
            return f"at step {step}: {number(value)} is above upper, {number(self._upper)}"
        return None


def build(spec: ExperimentSpec) -> ThresholdPruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    if not spec.pruner.settings.keys() & {"lower", "upper"}:
        raise InvalidSpec("pruner.settings", "threshold needs lower, upper, or both, for example {upper: 10.0}")
    if given["lower"] > given["upper"]:
        raise InvalidSpec("pruner.settings.lower", "must not be above upper; swap or change them")
    return ThresholdPruner(given["lower"], given["upper"], Interval(given["nWarmupSteps"], given["intervalSteps"]))
