"""Asking an Optuna sampler for one trial without an Optuna study behind it.

`Study.ask` would create the trial before its parameters are known and read everything again for each ask (FACTS.md:
seconds at 2,000 running). Here a study is shown to the sampler that consists of the trials it should see, and its
answer is returned: nothing is stored, so asking twice gives the same twice.
"""

import datetime
from collections.abc import Container, Sequence
from typing import Any

import optuna

from kubetune.api.parameters import own, searched
from kubetune.api.spec import Categorical, ExperimentSpec, Parameter, Params, ParamValue
from kubetune.storage import space

optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for each study made in memory

_NAME = "asked"
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC).replace(tzinfo=None)  # samplers look at no time


class _Shown(optuna.storages.InMemoryStorage):
    """A study whose trials are what is shown; a sampler's notes on the trial that it is asked for are not kept."""

    shown: Sequence[Any] = ()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[optuna.trial.TrialState] | None = None
    ) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in self.shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass


class Asker:
    """Parameters for one trial from any Optuna sampler, given what it may see of the past."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._space = spec.space
        self._parameters = {name: spec.parameters[name] for name in spec.space.order}  # not as in the manifest
        self._distributions = {name: space.distribution(searched(each)) for name, each in self._parameters.items()}
        self._storage = _Shown()
        self._storage.create_new_study(
            [optuna.study.StudyDirection[objective.direction.upper()] for objective in spec.objectives], _NAME
        )

    @property
    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The search space, in the order of asking; parameters that have one value only are not part of it. Choices
        with an order are whole numbers here: see `told`."""
        return {name: what for name, what in self._distributions.items() if not what.single()}

    def distribution(self, name: str) -> optuna.distributions.BaseDistribution:
        """One parameter's, even if it has one value only."""
        return self._distributions[name]

    @property
    def relative(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The part of it that every trial has: what a sampler that knows no conditions draws together."""
        return {name: what for name, what in self.distributions.items() if name in self._space.relative}

    def told(self, params: Params) -> dict[str, ParamValue]:
        """A trial's parameters as a sampler knows them: of choices with an order, their places."""
        return {name: _told(self._parameters[name], value) for name, value in params.items()}

    def ask(self, sampler: optuna.samplers.BaseSampler, shown: Sequence[Any], number: int) -> dict[str, ParamValue]:
        """One trial's parameters, the values plain Python ones. What the sampler gives together comes first; what it
        does not, and the trial has, is drawn on its own, parents first, as by an objective that suggests inside an
        `if`. ``shown``: trials with as much of Optuna's FrozenTrial as the sampler looks at."""
        self._storage.shown = shown
        study = optuna.load_study(study_name=_NAME, storage=self._storage, sampler=sampler)
        trial = _asked(number)
        sampler.before_trial(study, trial)
        together = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        chosen: dict[str, ParamValue] = {}
        for name, what in self._distributions.items():
            if not self._space.is_active(name, chosen):
                continue
            if what.single():
                chosen[name] = _first(self._parameters[name])
                continue
            value = together[name] if name in together else sampler.sample_independent(study, trial, name, what)
            chosen[name] = _plain(self._parameters[name], value)
        return chosen


def _asked(number: int) -> optuna.trial.FrozenTrial:
    return optuna.trial.FrozenTrial(
        number=number,
        trial_id=number,
        state=optuna.trial.TrialState.RUNNING,
        value=None,
        datetime_start=_EPOCH,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _first(parameter: Parameter) -> ParamValue:
    return parameter.choices[0] if isinstance(parameter, Categorical) else parameter.low


def _told(parameter: Parameter, value: ParamValue) -> ParamValue:
    return parameter.choices.index(value) if isinstance(parameter, Categorical) and parameter.ordered else value


def _plain(parameter: Parameter, value: Any) -> ParamValue:
    """Without numpy's types: what goes into a row and an environment variable."""
    if isinstance(parameter, Categorical) and parameter.ordered:
        return parameter.choices[int(value)]
    return own(parameter, value)
