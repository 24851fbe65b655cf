"""The Tree-structured Parzen Estimator, by Optuna's TPESampler, on a bounded view of the past.

Bergstra et al., NeurIPS 2011; as implemented: Watanabe, arXiv 2304.11127. An ask costs O(trials seen), so that what
is seen has a bound: the best, the latest, and the latest of the running. What the bounds cost in quality is measured
by dev/bench/quality.py (docs/benchmarks.md). Below them the draws are Optuna's own, one by one.

Optuna's sampler gets its trials as rows of columns, not as FrozenTrials, which take longer to make than the estimators.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.columns import Columns, Points
from kubetune.engine.history import STATES, History, View
from kubetune.engine.samplers import normal
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Distinct, Sampler, Sight, seed_of
from kubetune.engine.samplers.random import DRAWS, RandomSampler

OPTIONS: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(10, low=0),  # random until so many trials are COMPLETE or PRUNED
    "nEiCandidates": options.Whole(24, low=1),  # candidates drawn for each trial, of which the best is taken
    "multivariate": options.Switch(None),  # all parameters together; by default with one objective, not with several
    "constantLiar": options.Switch(True),  # keep away from the trials that are running
}
BEST = 100
LATEST = 300
RUNNING = 200

normal.install()


class _Trial:
    """What Optuna's TPE reads of a trial; its parameters are in the columns, at ``row``."""

    __slots__ = ("intermediate_values", "number", "row", "state", "values")
    constraints: Mapping[str, float] = {}

    def __init__(
        self,
        row: int,
        number: int,
        state: optuna.trial.TrialState,
        values: list[float],
        last: tuple[int, float] | None,
    ) -> None:
        self.row = row
        self.number = number
        self.state = state
        self.values = values
        self.intermediate_values = {} if last is None else dict([last])

    @property
    def value(self) -> float:
        return self.values[0]


class _Sampler(optuna.samplers.TPESampler):
    """TPE on a space that is known, all of whose parameters every trial has."""

    def __init__(
        self,
        space: dict[str, optuna.distributions.BaseDistribution],
        columns: Columns,
        view: View,
        points: Points,
        **settings: object,
    ) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._declared = space
        self._places = {name: place for place, name in enumerate(columns.names)}
        self._firsts = columns.row(columns.firsts())
        self._view = view
        self._points = points

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return self._declared

    def _get_internal_repr(
        self, trials: Any, search_space: dict[str, optuna.distributions.BaseDistribution], study: optuna.Study
    ) -> dict[str, Any]:
        params = self._view.params[[trial.row for trial in trials]]
        return {name: params[:, self._places[name]] for name in search_space}

    def _compute_acquisition_func(self, samples: dict[str, Any], mpe_below: Any, mpe_above: Any) -> Any:
        """The best candidate that is not taken, if there is one, where candidates are whole points."""
        values = super()._compute_acquisition_func(samples, mpe_below, mpe_above)
        if self._view.taken and self._points.size is not None and len(samples) == len(self._declared):
            rows = np.repeat(self._firsts, len(values), axis=0)
            for name, numbers in samples.items():
                rows[:, self._places[name]] = numbers
            free = np.array([point not in self._view.taken for point in self._points.of(rows).tolist()])
            if free.any():
                return np.where(free, values, -np.inf)
        return values


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one experiment's TPE; see `OPTIONS`."""

    startup: int
    candidates: int
    multivariate: bool
    liar: bool


class TpeSampler(Sampler):
    """Trial ``number`` from a generator of its own and a sampler made anew: nothing carries over from ask to ask."""

    def __init__(self, spec: ExperimentSpec, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._several = len(spec.objectives) > 1
        self._asker = Asker(spec)
        self._together = self._asker.distributions if settings.multivariate else {}
        self._columns = Columns(spec.parameters)
        self._distinct = Distinct(spec)
        self._random = RandomSampler(spec)
        self.sight = Sight(BEST, max(LATEST, settings.startup), RUNNING if settings.liar else 0)

    def immediate(self, history: History) -> bool:
        return history.learned < self._settings.startup

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        if np.count_nonzero(np.isin(view.states, _LEARNED)) < self._settings.startup:
            return self._random.choose(view, number)  # as Optuna's TPE would, to the last bit
        draws: list[Callable[[], dict[str, ParamValue]]] = [
            functools.partial(self._draw, view, number, again) for again in range(2)
        ]
        if not self._distinct.points.small:
            draws += [functools.partial(self._random.draw, number, again) for again in range(2, DRAWS)]
        return self._distinct.first(view, number, draws)

    def _draw(self, view: View, number: int, again: int) -> dict[str, ParamValue]:
        sampler = _Sampler(
            self._together,
            self._columns,
            view,
            self._distinct.points,
            n_startup_trials=self._settings.startup,
            n_ei_candidates=self._settings.candidates,
            constant_liar=self._settings.liar,
            seed=seed_of(self._spec, number, again),
        )
        return self._asker.ask(sampler, self._trials(view), number)

    def _trials(self, view: View) -> list[_Trial]:
        # Optuna's samplers refuse intermediate values where there are several objectives, as `Trial.report` does.
        lasts = itertools.repeat(None) if self._several else map(view.last, range(len(view.numbers)))
        states = [_STATES[code] for code in view.states.tolist()]
        return list(map(_Trial, range(len(states)), view.numbers.tolist(), states, view.values.tolist(), lasts))


_LEARNED = [STATES.index(state) for state in (TrialState.COMPLETE, TrialState.PRUNED)]
_STATES = [optuna.trial.TrialState[state.name] for state in STATES]


def build(spec: ExperimentSpec) -> TpeSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    together = len(spec.objectives) == 1 if given["multivariate"] is None else given["multivariate"]
    return TpeSampler(spec, Settings(given["nStartupTrials"], given["nEiCandidates"], together, given["constantLiar"]))
