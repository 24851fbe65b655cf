"""How much better than the best trial another could be: the regret bound of Makarova et al., "Automatic Termination
for Hyperparameter Optimization" (AutoML 2022), equation 3, by a Gaussian process.

With high probability a function lies within √β standard deviations of what a Gaussian process expects of it, β as in
Srinivas et al. (ICML 2010), theorem 1. So the best of the trials comes to no more than the lowest upper bound of one of
them, the best of the space to no less than the lowest lower bound anywhere, and the search has no more to gain than the
distance between the two. The model is one of all trials, as in the paper. Optuna's RegretBoundEvaluator takes the
better half of them; where the bad ones lie is then unknown, and the bound stays many times larger
(docs/decisions/0112-regret-bound.md). A loss that is out of all proportion is taken for one that is just within: one
trial that diverged is no reason to hold all others for the same.

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

DELTA = 0.1  # how probable it is, at most, that the bounds do not hold
SCALE = 5  # β is divided by: both papers do
LEAST = 10  # trials in the model
FAR = 100  # times the range of the middle half of the losses above it: out of all proportion
HUGE = 1e100  # losses whose squares may be no numbers
POINTS = 103  # what is drawn of the seed


@dataclasses.dataclass(frozen=True)
class Bound:
    """``value``: in the metric's unit. None: there is none, and ``why`` not."""

    value: float | None
    why: str = ""


def beta(parameters: int, trials: int) -> float:
    """As Optuna has it: of the dimensions of the space, where the theorem counts its points."""
    return 2 * math.log(parameters * trials**2 * math.pi**2 / 6 / DELTA) / SCALE


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
    losses = _in_proportion(finite(values if spec.objectives[0].direction == "minimize" else -values))
    if float(np.abs(losses).max()) > HUGE:
        return Bound(None, "what the trials came to is too large to be calculated with")
    spread = float(losses.std())
    if not unit.width or not spread > 0:
        return Bound(None, f"all {len(values)} complete trials came to the same, and say nothing of any other")
    return Bound(spread * _standardised(spec, unit, unit.encode(params), standard(losses), feasible))


def _in_proportion(losses: Floats) -> Floats:
    low, high = np.quantile(losses, (0.25, 0.75))
    if low == high:
        return losses
    return np.asarray(np.minimum(losses, high + FAR * (high - low)))


def _standardised(
    spec: ExperimentSpec, unit: Unit, points: Floats, losses: Floats, feasible: npt.NDArray[np.bool_]
) -> float:
    from kubetune.engine.samplers import gp_model

    posterior = gp_model.Posterior(gp_model.fit(points, losses), points, losses)
    free = len(unit.continuous) + len(unit.discrete)
    promise = gp_model.Promise(posterior, math.sqrt(beta(free, len(points))))
    dice = np.random.default_rng(seed_of(spec, len(points), POINTS))
    search = Search(unit, promise, functools.partial(_possible, spec, unit), dice)
    highest = search.highest(points[np.argsort(losses, kind="stable")[:3]])
    best = max(float(search.heights(highest[None])[0]), float(promise.at(points).max()))
    mean, deviation = posterior.at(points[feasible])
    return best + float((mean + promise.width * deviation).min())


def _possible(spec: ExperimentSpec, unit: Unit, points: Floats) -> npt.NDArray[np.bool_]:
    """Those for which `where` holds."""
    if not spec.where:
        return np.ones(len(points), dtype=np.bool_)
    rows = unit.decode(points).tolist()
    return np.array([spec.space.holds(unit.columns.decode(row)) for row in rows], dtype=np.bool_)
