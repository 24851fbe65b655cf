"""When a search is over before its budget is: `stop` of the spec."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from kubetune.api.parameters import InvalidSpec

LEAST = 20  # COMPLETE trials before a regret bound may end anything, as in Makarova et al. (below)


@dataclasses.dataclass(frozen=True)
class NoImprovement:
    """The experiment is over once so many trials ended, complete or pruned, of which none was better than the best
    before by more than ``min_delta``, in the metric's unit."""

    trials: int
    min_delta: float = 0.0


@dataclasses.dataclass(frozen=True)
class RegretBound:
    """The experiment is over once the best trial is, by a model of what the trials came to, behind the best that there
    could be by less than ``below``, in the metric's unit; None: than the best trial's value is known to, by its folds
    or replicates. Makarova et al., "Automatic Termination for Hyperparameter Optimization" (AutoML 2022)."""

    below: float | None = None
    min_trials: int = LEAST  # COMPLETE ones, at least


@dataclasses.dataclass(frozen=True)
class Regret:
    """What is known of it, in the metric's unit. ``bound`` None: nothing yet; ``below`` None: nothing to hold it
    against. ``complete``: trials that it rests on. ``trouble``: why there is none, or no new one."""

    bound: float | None = None
    below: float | None = None
    complete: int = 0
    trouble: str = ""

    @property
    def reached(self) -> bool:
        return self.bound is not None and self.below is not None and self.bound < self.below

    @property
    def sentence(self) -> str:
        if self.bound is None:
            return f"nothing is known yet of what is left to gain{self.trouble and f': {self.trouble}'}"
        left = f"at most {self.bound:.3g} is left to gain, by {self.complete} complete trials"
        if self.reached:
            return f"{left}, and less than {self.below:.3g} is enough"
        enough = "" if self.below is None else f"; less than {self.below:.3g} is enough"
        return f"{left}{enough}{self.trouble and f'; {self.trouble}'}"


def no_improvement(spec: Mapping[str, Any], objectives: int) -> NoImprovement | None:
    """``stop.noImprovement`` of the spec. Raises InvalidSpec."""
    form = (spec.get("stop") or {}).get("noImprovement")
    if not form:
        return None
    if objectives > 1:
        raise InvalidSpec("stop.noImprovement", "it judges one objective, and there are several; leave it out")
    trials, delta = int(form.get("trials", 0)), float(form.get("minDelta", 0.0))
    if trials < 1:
        raise InvalidSpec("stop.noImprovement.trials", f"needs a whole number of at least 1, but is {trials}")
    if not 0 <= delta < math.inf:
        raise InvalidSpec("stop.noImprovement.minDelta", f"needs a number of at least 0, but is {delta}")
    return NoImprovement(trials, delta)


def regret_bound(spec: Mapping[str, Any], objectives: int, runs: bool) -> RegretBound | None:
    """``stop.regretBound`` of the spec. Raises InvalidSpec.

    Args:
        runs: whether a trial's value is the mean of several.
    """
    form = (spec.get("stop") or {}).get("regretBound")
    if form is None:
        return None
    if objectives > 1:
        raise InvalidSpec("stop.regretBound", "it judges one objective, and there are several; leave it out")
    below, least = form.get("below"), int(form.get("minTrials", LEAST))
    if below is None and not runs:
        raise InvalidSpec(
            "stop.regretBound.below",
            "say what gain is not worth a trial, in the metric's unit, for example 0.001; only with validation.folds "
            "or replicates it is known without",
        )
    if below is not None and not 0 < float(below) < math.inf:
        raise InvalidSpec("stop.regretBound.below", f"needs a number above 0, but is {below}")
    if least < 2:
        raise InvalidSpec("stop.regretBound.minTrials", f"needs a whole number of at least 2, but is {least}")
    return RegretBound(None if below is None else float(below), least)
