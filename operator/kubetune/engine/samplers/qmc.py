"""Quasi-random search: the points of a Sobol or Halton sequence, which fill a space more evenly than random ones do.

Bergstra and Bengio, JMLR 13 (2012), section 4; by Optuna's QMCSampler, so by scipy.stats.qmc. Trial ``number`` is point
``number`` of the sequence (in a stage: counted from its first), whatever became of the others: nothing is kept, and
nothing need be known. A parameter with a condition is no dimension of the sequence, but drawn at random where a trial
has it, as Optuna does.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.history import History, View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Distinct, Sampler, seed_of

OPTIONS: Mapping[str, options.Option] = {
    "qmcType": options.Choice(("sobol", "halton")),
    "scramble": options.Switch(True),  # by the seed; false, Optuna's default: begins at the corner of all lowest values
}


class _Sampler(optuna.samplers.QMCSampler):
    """On a space that is known from the beginning, at a place in the sequence that is given."""

    def __init__(self, space: dict[str, BaseDistribution], place: int, **settings: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since Optuna 3.0
            super().__init__(warn_independent_sampling=False, warn_asynchronous_seeding=False, **settings)
        self._declared = space
        self._place = place

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._declared

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._place


class QmcSampler(Sampler):
    """Where the space is small, a point that rounding makes equal to an earlier one is replaced by one that is left."""

    def __init__(self, spec: ExperimentSpec, kind: str, scramble: bool) -> None:
        self._spec = spec
        self._kind = kind
        self._scramble = scramble
        self._asker = Asker(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._distinct = Distinct(spec)

    def immediate(self, history: History) -> bool:
        return False  # the operator itself never loads scipy: a second, and 60 MB

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        return self._distinct.first(view, number, [lambda: self.point(number - self._spec.before)])

    def point(self, number: int) -> dict[str, ParamValue]:
        """Of the sequence, as it is."""
        sampler = _Sampler(
            self._asker.relative,
            number,
            independent_sampler=prior.RandomSampler(self._priors, seed_of(self._spec, number)),
            qmc_type=self._kind,
            scramble=self._scramble,
            seed=seed_of(self._spec, 0),  # one for all trials: they are points of one sequence
        )
        return self._asker.ask(sampler, [], number)


def build(spec: ExperimentSpec) -> QmcSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    return QmcSampler(spec, given["qmcType"], given["scramble"])
