"""How much better than the best trial another could be: the regret bound of Makarova et al., "Automatic Termination
for Hyperparameter Optimization" (AutoML 2022), by Gaussian processes.

With high probability a function lies within √β standard deviations of what a Gaussian process expects of it, β as in
Srinivas et al. (ICML 2010), theorem 1. So the best of the trials comes to no more than the lowest upper bound of one of
them, the best of the space to no less than the lowest lower bound anywhere, and the search has no more to gain than the
distance between the two.

The bound is the lower of two. The first model is one of all trials as they are, as in the paper. In the second, losses
above the median are taken for the median: of a function cut off there the best trial is as far from the best, and where
bad parameters are a hundred times as bad as good ones, only this model sees what lies between good ones.

scikit-learn and scipy are loaded when the first bound is worked out, so by sampler processes only.
"""

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt

from kubetune.api.spec import ExperimentSpec
from kubetune.engine.columns import Floats
from kubetune.engine.samplers.base import seed_of
from kubetune.engine.samplers.gp import finite, standard
from kubetune.engine.samplers.gp_search import Search
from kubetune.engine.samplers.narrowed import Narrower
from kubetune.engine.samplers.unit import Unit

DELTA = 0.1  # how probable it is, at most, that the bounds do not hold, by both models together
LEVELS = (1.0, 0.5)  # quantiles of the losses that they are cut off at
SCALE = 5  # β is divided by: both papers do
LEAST = 10  # trials in the model
HUGE = 1e100  # a loss is no larger: its square may be no number
POINTS = 103  # what is drawn of the seed


@dataclasses.dataclass(frozen=True)
class Bound:
    """``value``: in the metric's unit. None: there is none, and ``why`` not."""

    value: float | None
    why: str = ""


def beta(parameters: int, trials: int) -> float:
    """As Optuna has it: of the dimensions of the space, where the theorem counts its points."""
    return 2 * math.log(parameters * trials**2 * math.pi**2 / 6 * len(LEVELS) / DELTA) / SCALE


def bound(spec: ExperimentSpec, params: Floats, values: Floats, penalties: Floats) -> Bound:
    """Over the space that is asked for now, in which of the trials those inside count.

    Args:
        params: of COMPLETE trials, as `Columns` has the declared space.
        values: of the one objective.
        penalties: by how much constraints are broken; 0: feasible.
    """
    narrower, unit = Narrower(spec), Unit(spec.asked)
    params, inside = narrower(params)
    params, values, feasible = params[inside], values[inside], penalties[inside] <= 0
    if len(values) < LEAST:
        return Bound(None, f"too few complete trials lie in the space that is asked for now: {len(values)}")
    if not feasible.any():
        return Bound(None, "no trial keeps the constraints")
    losses = np.clip(finite(values if spec.objectives[0].direction == "minimize" else -values), -HUGE, HUGE)
    least = losses[feasible].min()  # of what the best is behind nothing is cut off
    cuts = [np.minimum(losses, max(least, np.quantile(losses, level))) for level in LEVELS]
    points = unit.encode(params) if unit.width else np.empty((len(losses), 0))
    bounds = [_of(spec, unit, points, each, feasible) for each in cuts if unit.width and each.std() > 0]
    if not bounds:
        return Bound(None, f"all {len(values)} complete trials came to the same, and say nothing of any other")
    return Bound(min(bounds))


def _of(spec: ExperimentSpec, unit: Unit, points: Floats, losses: Floats, feasible: npt.NDArray[np.bool_]) -> float:
    """The bound by one model, in the unit of the losses."""
    from kubetune.engine.samplers import gp_model

    spread, losses = float(losses.std()), standard(losses)
    posterior = gp_model.Posterior(gp_model.fit(points, losses), points, losses)
    free = len(unit.continuous) + len(unit.discrete)
    promise = gp_model.Promise(posterior, math.sqrt(beta(free, len(points))))
    dice = np.random.default_rng(seed_of(spec, len(points), POINTS))
    search = Search(unit, promise, functools.partial(_possible, spec, unit), dice)
    highest = search.highest(points[np.argsort(losses, kind="stable")[:3]])
    best = max(float(search.heights(highest[None])[0]), float(promise.at(points).max()))
    mean, deviation = posterior.at(points[feasible])
    return spread * (best + float((mean + promise.width * deviation).min()))


def _possible(spec: ExperimentSpec, unit: Unit, points: Floats) -> npt.NDArray[np.bool_]:
    """Those for which `where` holds."""
    if not spec.where:
        return np.ones(len(points), dtype=np.bool_)
    rows = unit.decode(points).tolist()
    return np.array([spec.space.holds(unit.columns.decode(row)) for row in rows], dtype=np.bool_)
