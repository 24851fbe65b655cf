"""A Gaussian process: the trial from which most improvement is to be expected (Jones, Schonlau and Welch 1998).

As Optuna's GPSampler does it, whose torch is not carried (docs/decisions/0090-gp.md), on a bounded view of the past.
Trials that run, or were pruned, have a place in the model at the value that it expects of them ("kriging believer",
Ginsbourger et al. 2010), so that the next one goes elsewhere. Of several objectives each trial minimises one weighing
drawn for it (ParEGO: Knowles 2006).

scikit-learn and scipy are loaded when the first suggestion is made, so by sampler processes only.
"""

import functools
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.columns import Floats
from kubetune.engine.history import COMPLETE, PRUNED, History, View
from kubetune.engine.samplers.base import Distinct, Sampler, Sight, seed_of
from kubetune.engine.samplers.gp_search import Search
from kubetune.engine.samplers.random import RandomSampler
from kubetune.engine.samplers.unit import Unit

if TYPE_CHECKING:
    from kubetune.engine.samplers.gp_model import Hyper, Improvement

OPTIONS: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(10, low=1),  # random until so many trials are COMPLETE
}
BEST, LATEST, RUNNING = 50, 150, 50  # trials in the model; what it costs grows with their cube
AUGMENT = 0.05  # ParEGO's share of the sum
WEIGHTS, POINTS = 101, 102  # what is drawn of a trial's seed


def installed() -> bool:
    return importlib.util.find_spec("sklearn") is not None


class GpSampler(Sampler):
    """What it keeps, the hyperparameters fitted last, it would find again."""

    sight = Sight(BEST, LATEST, RUNNING)

    def __init__(self, spec: ExperimentSpec, startup: int) -> None:
        self._spec = spec
        self._startup = startup
        self._signs = np.array([-1.0 if each.direction == "maximize" else 1.0 for each in spec.objectives])
        self._unit = Unit(spec.parameters)
        self._random = RandomSampler(spec)
        self._distinct = Distinct(spec)
        self._fitted: tuple[bytes, Hyper] | None = None

    def immediate(self, history: History) -> bool:
        return history.learned < self._startup

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        complete = np.flatnonzero((view.states == COMPLETE) & ~np.isnan(view.values).any(axis=1))
        if len(complete) < self._startup or not self._unit.width:
            return self._random.choose(view, number)
        return self._distinct.first(view, number, [lambda: self._best(view, complete, number)])

    def _best(self, view: View, complete: npt.NDArray[np.int64], number: int) -> dict[str, ParamValue]:
        """Where the most improvement is to be expected, of what was looked at."""
        points = self._unit.encode(view.params[complete])
        values = self._weighed(view.values[complete], number)
        if view.penalties is not None:
            values = _constrained(values, view.penalties[complete])
        values = standard(values)
        improvement = self._improvement(view, points, values)
        dice = np.random.default_rng(seed_of(self._spec, number, POINTS))
        search = Search(self._unit, improvement, functools.partial(self._free, view), dice)
        best = search.highest(points[np.argsort(values, kind="stable")[:3]])
        return self._unit.columns.decode(self._unit.decode(best[None])[0].tolist())

    def _free(self, view: View, points: Floats) -> npt.NDArray[np.bool_]:
        """Those that are not taken."""
        if not view.taken or self._distinct.points.size is None:
            return np.ones(len(points), dtype=np.bool_)
        numbers = self._distinct.points.of(self._unit.decode(points)).tolist()
        return np.array([number not in view.taken for number in numbers], dtype=np.bool_)

    def _weighed(self, values: Floats, number: int) -> Floats:
        """One value for each trial, to be minimised."""
        values = np.column_stack([finite(column) for column in (values * self._signs).T])
        if values.shape[1] == 1:
            return np.asarray(values[:, 0])
        span = np.ptp(values, axis=0)
        parts = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
        parts *= np.random.default_rng(seed_of(self._spec, number, WEIGHTS)).dirichlet(np.ones(values.shape[1]))
        return np.asarray(parts.max(axis=1) + AUGMENT * parts.sum(axis=1))

    def _improvement(self, view: View, points: Floats, values: Floats) -> "Improvement":
        from kubetune.engine.samplers import gp_model

        hyper = self._fit(points, values)
        posterior = gp_model.Posterior(hyper, points, values)
        unknown = np.flatnonzero(view.states != COMPLETE)
        if len(unknown):
            there = self._unit.encode(view.params[unknown])
            believed = posterior.at(there)[0]
            pruned = view.states[unknown] == PRUNED  # no better than half of those that were let go on
            believed[pruned] = np.maximum(believed[pruned], np.median(values))
            points, values = np.vstack([points, there]), np.append(values, believed)
            posterior = gp_model.Posterior(hyper, points, values)
        return gp_model.improvement(posterior, points)

    def _fit(self, points: Floats, values: Floats) -> "Hyper":
        from kubetune.engine.samplers import gp_model

        key = points.tobytes() + values.tobytes()
        if self._fitted is None or self._fitted[0] != key:
            self._fitted = key, gp_model.fit(points, values)
        return self._fitted[1]


def finite(values: Floats) -> Floats:
    """Without infinities: as good or as bad as the best or the worst of the others."""
    finite = values[np.isfinite(values)]
    return np.clip(values, finite.min(), finite.max()) if len(finite) else np.zeros_like(values)


def _constrained(values: Floats, penalties: Floats) -> Floats:
    """Of trials that break constraints: no better than the worst that keeps them. Where none does: by how much."""
    broken = penalties > 0
    if broken.all():
        return penalties
    return np.asarray(np.where(broken, np.maximum(values, values[~broken].max()), values))


def standard(values: Floats) -> Floats:
    """Of mean 0, and standard deviation 1 if they differ."""
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 0 else 1.0))


def build(spec: ExperimentSpec) -> GpSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    if not installed():
        raise InvalidSpec(
            "sampler.name",
            "gp needs scikit-learn, which this operator's image does not have; install kubetune with the chart's value "
            "image.extras=gp (docs/install.md), or take another sampler, for example tpe",
        )
    return GpSampler(spec, given["nStartupTrials"])
