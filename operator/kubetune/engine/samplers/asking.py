"""Asking an Optuna sampler for one trial without an Optuna study behind it.

`Study.ask` would create the trial before its parameters are known and read everything again for each ask (FACTS.md:
seconds at 2,000 running). Here a study is shown to the sampler that consists of the trials it should see, and its
answer is returned: nothing is stored, so asking twice gives the same twice.
"""

import datetime
from collections.abc import Container, Sequence
from typing import Any

import optuna

from kubetune.api.spec import Categorical, Double, ExperimentSpec, Parameter, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine.history import Past
from kubetune.storage import space

optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for each study made in memory

_NAME = "asked"
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC).replace(tzinfo=None)  # samplers look at no time


class _Shown(optuna.storages.InMemoryStorage):
    """A study whose trials are what is shown; a sampler's notes on the trial that it is asked for are not kept."""

    shown: Sequence[optuna.trial.FrozenTrial] = ()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[optuna.trial.TrialState] | None = None
    ) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in self.shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass


class Asker:
    """Parameters for one trial from any Optuna sampler, given what it may see of the past."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._parameters = dict(sorted(spec.parameters.items()))  # draws must not depend on the order in a manifest
        self._distributions = space.distributions_of(self._parameters)
        self._several = len(spec.objectives) > 1
        self._storage = _Shown()
        self._storage.create_new_study(
            [optuna.study.StudyDirection[objective.direction.upper()] for objective in spec.objectives], _NAME
        )
        self._cache: dict[int, tuple[Past, optuna.trial.FrozenTrial]] = {}  # of the trials shown last

    @property
    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The search space; parameters that have one value only are not part of it."""
        return {name: what for name, what in self._distributions.items() if not what.single()}

    def ask(self, sampler: optuna.samplers.BaseSampler, past: Sequence[Past], number: int) -> dict[str, ParamValue]:
        """One trial's parameters, the values plain Python ones."""
        self._storage.shown = self._frozen(past)
        study = optuna.load_study(study_name=_NAME, storage=self._storage, sampler=sampler)
        trial = self._trial(Past(number, TrialState.RUNNING, {}))
        sampler.before_trial(study, trial)
        together = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        chosen: dict[str, ParamValue] = {}
        for name, what in self._distributions.items():
            if what.single():
                value = _first(self._parameters[name])
            elif name in together:
                value = together[name]
            else:
                value = sampler.sample_independent(study, trial, name, what)
            chosen[name] = _plain(self._parameters[name], value)
        return chosen

    def _frozen(self, past: Sequence[Past]) -> list[optuna.trial.FrozenTrial]:
        """The trials as Optuna has them; only those that were not shown in this form last time are made anew."""
        cache = self._cache
        self._cache = {}
        for trial in past:
            known = cache.get(trial.number)
            same = known is not None and known[0] is trial
            self._cache[trial.number] = known if known is not None and same else (trial, self._trial(trial))
        return [frozen for _, frozen in self._cache.values()]

    def _trial(self, trial: Past) -> optuna.trial.FrozenTrial:
        # Optuna's samplers refuse intermediate values where there are several objectives, as `Trial.report` does.
        last = {} if trial.last is None or self._several else dict([trial.last])
        return optuna.trial.FrozenTrial(
            number=trial.number,
            trial_id=trial.number,
            state=optuna.trial.TrialState[trial.state.name],
            value=None,
            values=None if trial.values is None else list(trial.values),
            datetime_start=_EPOCH,
            datetime_complete=None if trial.state is TrialState.RUNNING else _EPOCH,
            params=dict(trial.params),
            distributions=self._distributions if trial.params else {},
            user_attrs={},
            system_attrs={},
            intermediate_values=last,
        )


def _first(parameter: Parameter) -> ParamValue:
    return parameter.choices[0] if isinstance(parameter, Categorical) else parameter.low


def _plain(parameter: Parameter, value: Any) -> ParamValue:
    """Without numpy's types: what goes into a row and an environment variable."""
    if isinstance(parameter, Categorical):
        return parameter.choices[parameter.choices.index(value)]
    return float(value) if isinstance(parameter, Double) else int(value)
