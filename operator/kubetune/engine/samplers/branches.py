"""Conditions for samplers that know none: they search what every trial has, and the rest is drawn at random.

As Optuna does it for CMA-ES, NSGA and its Gaussian process: relative sampling over what all trials have, independent
sampling of the others, where a trial has them.
"""

import dataclasses
import functools
from collections.abc import Callable

from kubetune.api.spec import ExperimentSpec, Params, ParamValue
from kubetune.engine.columns import Columns
from kubetune.engine.history import History, View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Distinct, Sampler, seed_of

DRAWS = 20  # of the rest at most, while what is drawn is taken
_SEEDS = 2_000_000  # from here on the seeds are this one's: else its draws would go along with the sampler's own


class BranchSampler(Sampler):
    """A sampler, made by ``build`` for a spec without conditions, and the branches beside it."""

    def __init__(self, spec: ExperimentSpec, build: Callable[[ExperimentSpec], Sampler]) -> None:
        self._spec = spec
        self._asker = Asker(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._distinct = Distinct(spec)
        always = {name: spec.parameters[name] for name in spec.space.relative}
        self._trunk = build(dataclasses.replace(spec, parameters=always, where=()))
        self._places = [place for place, name in enumerate(Columns(spec.parameters).names) if name in always]
        self.sight = self._trunk.sight

    def immediate(self, history: History) -> bool:
        return self._trunk.immediate(history)

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        known = self._trunk.choose(self._seen(view), number)
        draws = (functools.partial(self._filled, known, number, again) for again in range(DRAWS))
        return self._distinct.first(view, number, draws)

    def _seen(self, view: View) -> View:
        """Of what every trial has. No point of that is taken: it has branches."""
        past = view.past
        if past is not None:
            slopes = past.slopes[:, self._places] if past.slopes.shape[1] else past.slopes
            past = dataclasses.replace(past, params=past.params[:, self._places], slopes=slopes)
        return dataclasses.replace(view, params=view.params[:, self._places], past=past, taken=frozenset())

    def _filled(self, known: Params, number: int, again: int) -> dict[str, ParamValue]:
        seed = seed_of(self._spec, number, _SEEDS + again)
        return self._asker.ask(prior.Beside(self._asker.told(known), self._priors, seed), [], number)
