"""Random search: each parameter drawn on its own, uniformly on its scale or by its prior, by Optuna's RandomSampler."""

import functools
from collections.abc import Callable

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.history import View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Distinct, Sampler, seed_of

DRAWS = 20  # of one trial at most, while what is drawn is taken


class RandomSampler(Sampler):
    """Draws trial ``number`` from a generator of its own, so draws do not depend on the order of asking."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._spec = spec
        self._asker = Asker(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._distinct = Distinct(spec)

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        draws = 1 if self._distinct.points.small else DRAWS
        return self._distinct.first(
            view, number, (functools.partial(self.draw, number, again) for again in range(draws))
        )

    def rather(
        self, view: View, number: int, draw: Callable[[int], dict[str, ParamValue]], times: int = 2
    ) -> dict[str, ParamValue]:
        """What another sampler draws, ``draw(0)`` … ``draw(times - 1)``, unless it is taken; then at random."""
        draws = [functools.partial(draw, again) for again in range(times)]
        if not self._distinct.points.small:
            draws += [functools.partial(self.draw, number, again) for again in range(times, DRAWS)]
        return self._distinct.first(view, number, draws)

    def draw(self, number: int, again: int = 0) -> dict[str, ParamValue]:
        """Whatever comes, taken or not."""
        return self._asker.ask(prior.RandomSampler(self._priors, seed_of(self._spec, number, again)), [], number)


def build(spec: ExperimentSpec) -> RandomSampler:
    options.read("sampler", spec.sampler, {})
    return RandomSampler(spec)
