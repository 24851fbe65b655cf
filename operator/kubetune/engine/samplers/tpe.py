"""The Tree-structured Parzen Estimator, by Optuna's TPESampler, on a bounded view of the past.

Bergstra et al., NeurIPS 2011; as implemented: Watanabe, arXiv 2304.11127. An ask costs O(trials seen), so that what
is seen has a bound: the best, the latest, and the latest of the running. What the bounds cost in quality is measured
by dev/bench/quality.py (docs/benchmarks.md). Below them the draws are Optuna's own, one by one.

Optuna's sampler gets its trials as rows of columns, not as FrozenTrials, which take longer to make than the estimators.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.search_space.group_decomposed import _SearchSpaceGroup

from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.columns import Columns, Points
from kubetune.engine.history import STATES, History, View
from kubetune.engine.samplers import normal, prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Distinct, Sampler, Sight, seed_of
from kubetune.engine.samplers.random import DRAWS, RandomSampler

OPTIONS: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(10, low=0),  # random until so many trials are COMPLETE or PRUNED
    "nEiCandidates": options.Whole(24, low=1),  # candidates drawn for each trial, of which the best is taken
    "multivariate": options.Switch(None),  # all parameters together; by default with one objective, not with several
    "group": options.Switch(
        None
    ),  # together are those that trials have together; by default where there are conditions
    "constantLiar": options.Switch(True),  # keep away from the trials that are running
}
BEST = 100
LATEST = 300
RUNNING = 200

normal.install()


class _Trial:
    """What Optuna's TPE reads of a trial; its parameters are in the columns, at ``row``."""

    __slots__ = ("constraints", "intermediate_values", "number", "row", "state", "values")

    def __init__(
        self,
        row: int,
        number: int,
        state: optuna.trial.TrialState,
        values: list[float],
        last: tuple[int, float] | None,
        penalty: float | None,
    ) -> None:
        self.constraints = {} if penalty is None else {"": penalty}
        self.row = row
        self.number = number
        self.state = state
        self.values = values
        self.intermediate_values = {} if last is None else dict([last])

    @property
    def value(self) -> float:
        return self.values[0]


class _Sampler(optuna.samplers.TPESampler):
    """TPE on a space that is known.

    Args:
        groups: names of parameters that are drawn together, each group for itself.
        points: of a space without conditions: of candidates for a whole point those not taken come first.
    """

    def __init__(
        self,
        space: Mapping[str, optuna.distributions.BaseDistribution],
        groups: Sequence[Sequence[str]],
        columns: Columns,
        view: View,
        points: Points | None,
        priors: Mapping[str, prior.Kernel],
        **settings: object,
    ) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        if priors:
            self._parzen_estimator_cls = functools.partial(prior.Estimator, priors)  # type: ignore[assignment]
        self._groups = [{name: space[name] for name in group if name in space} for group in groups]
        self._whole = len(space)
        self._places = {name: place for place, name in enumerate(columns.names)}
        self._firsts = columns.row(columns.firsts())
        self._view = view
        self._points = points

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return {name: what for group in self._groups for name, what in group.items()}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for group in self._groups:
            chosen.update(self._sample_relative(study, trial, group))
        return chosen

    def _get_internal_repr(
        self, trials: Any, search_space: dict[str, optuna.distributions.BaseDistribution], study: optuna.Study
    ) -> dict[str, Any]:
        """Columns of the trials that have all of these parameters."""
        places = [self._places[name] for name in search_space]
        params = self._view.params[np.ix_([trial.row for trial in trials], places)]
        params = params[~np.isnan(params).any(axis=1)]
        return {name: params[:, column] for column, name in enumerate(search_space)}

    def _compute_acquisition_func(self, samples: dict[str, Any], mpe_below: Any, mpe_above: Any) -> Any:
        """The best candidate that is not taken, if there is one, where candidates are whole points."""
        values = super()._compute_acquisition_func(samples, mpe_below, mpe_above)
        if self._points is not None and self._view.taken and len(samples) == self._whole:
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
    group: bool
    liar: bool


class TpeSampler(Sampler):
    """Trial ``number`` from a generator of its own and a sampler made anew: nothing carries over from ask to ask."""

    def __init__(self, spec: ExperimentSpec, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._several = len(spec.objectives) > 1
        self._asker = Asker(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._columns = Columns(spec.parameters)
        self._distinct = Distinct(spec)
        whole = not spec.space.independent and self._distinct.points.size is not None
        self._whole_points = self._distinct.points if whole else None
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
            self._asker.distributions,
            self._groups(view),
            self._columns,
            view,
            self._whole_points,
            self._priors,
            n_startup_trials=self._settings.startup,
            n_ei_candidates=self._settings.candidates,
            constant_liar=self._settings.liar,
            seed=seed_of(self._spec, number, again),
        )
        return self._asker.ask(sampler, self._trials(view), number)

    def _groups(self, view: View) -> Sequence[Sequence[str]]:
        """Names of parameters that are drawn together, as Optuna finds them in the trials that taught something."""
        if not self._settings.multivariate:
            return []
        if not self._spec.space.independent:
            return [self._spec.space.relative]
        learned = view.params[np.isin(view.states, _LEARNED)]
        patterns = list(dict.fromkeys(map(tuple, (~np.isnan(learned)).tolist())))  # in order of first appearance
        had = [list(itertools.compress(self._columns.names, pattern)) for pattern in patterns]
        if not had:
            return [self._spec.space.relative]
        if not self._settings.group:
            return [[name for name in self._columns.names if all(name in names for names in had)]]
        groups = _SearchSpaceGroup()
        for names in had:
            groups.add_distributions({name: self._asker.distribution(name) for name in names})
        return [sorted(group) for group in groups.search_spaces]

    def _trials(self, view: View) -> list[_Trial]:
        # Optuna's samplers refuse intermediate values where there are several objectives, as `Trial.report` does.
        lasts = itertools.repeat(None) if self._several else map(view.last, range(len(view.numbers)))
        states = [_STATES[code] for code in view.states.tolist()]
        penalties = itertools.repeat(None) if view.penalties is None else view.penalties.tolist()
        rows = range(len(states))
        return list(map(_Trial, rows, view.numbers.tolist(), states, view.values.tolist(), lasts, penalties))


_LEARNED = [STATES.index(state) for state in (TrialState.COMPLETE, TrialState.PRUNED)]
_STATES = [optuna.trial.TrialState[state.name] for state in STATES]


def build(spec: ExperimentSpec) -> TpeSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    multivariate, group = given["multivariate"], given["group"]
    if group and multivariate is False:
        raise InvalidSpec("sampler.settings.group", "group goes with multivariate: true; drop one of them")
    together = (len(spec.objectives) == 1 or bool(group)) if multivariate is None else multivariate
    settings = Settings(
        startup=given["nStartupTrials"],
        candidates=given["nEiCandidates"],
        multivariate=together,
        group=bool(spec.space.independent) if group is None else group,
        liar=given["constantLiar"],
    )
    return TpeSampler(spec, settings)
