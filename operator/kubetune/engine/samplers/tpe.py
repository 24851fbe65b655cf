"""The Tree-structured Parzen Estimator, by Optuna's TPESampler, on a bounded view of the past.

Bergstra et al., NeurIPS 2011; as implemented: Watanabe, arXiv 2304.11127. An ask costs O(trials seen), so that what
is seen has a bound: the best, the latest, and the latest of the running. Measured (FACTS.md), a window of a few
hundred shows no loss of quality.
"""

from collections.abc import Mapping

import optuna

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.history import History
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import seed_of

OPTIONS: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(10, low=0),  # random until so many trials are COMPLETE or PRUNED
    "nEiCandidates": options.Whole(24, low=1),  # candidates drawn for each trial, of which the best is taken
    "multivariate": options.Switch(None),  # all parameters together; by default with one objective, not with several
    "constantLiar": options.Switch(True),  # keep away from the trials that are running
}
BEST = 100
LATEST = 900
RUNNING = 200


class _Sampler(optuna.samplers.TPESampler):
    """TPE on a space that is known: every trial has every parameter, so no past trial need be asked for it."""

    def __init__(self, space: dict[str, optuna.distributions.BaseDistribution], **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._declared = space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return self._declared


class TpeSampler:
    """Trial ``number`` from a generator of its own and a sampler made anew: nothing carries over from ask to ask."""

    def __init__(self, spec: ExperimentSpec, startup: int, candidates: int, multivariate: bool, liar: bool) -> None:
        self._spec = spec
        self._startup = startup
        self._candidates = candidates
        self._liar = liar
        self._asker = Asker(spec)
        self._together = self._asker.distributions if multivariate else {}

    def capacity(self) -> None:
        return None

    def suggest(self, history: History, number: int) -> dict[str, ParamValue]:
        sampler = _Sampler(
            self._together,
            n_startup_trials=self._startup,
            n_ei_candidates=self._candidates,
            constant_liar=self._liar,
            seed=seed_of(self._spec, number),
        )
        past = history.view(BEST, max(LATEST, self._startup), RUNNING if self._liar else 0)
        return self._asker.ask(sampler, past, number)


def build(spec: ExperimentSpec) -> TpeSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    together = len(spec.objectives) == 1 if given["multivariate"] is None else given["multivariate"]
    return TpeSampler(spec, given["nStartupTrials"], given["nEiCandidates"], together, given["constantLiar"])
