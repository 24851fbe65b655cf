"""Random search: each parameter drawn on its own, uniformly on its scale, by Optuna's RandomSampler."""

import optuna

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.history import History
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import seed_of


class RandomSampler:
    """Draws trial ``number`` from a generator of its own, so draws do not depend on the order of asking."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._spec = spec
        self._asker = Asker(spec)

    def capacity(self) -> None:
        return None

    def suggest(self, history: History, number: int) -> dict[str, ParamValue]:
        sampler = optuna.samplers.RandomSampler(seed_of(self._spec, number))
        return self._asker.ask(sampler, [], number)


def build(spec: ExperimentSpec) -> RandomSampler:
    options.read("sampler", spec.sampler, {})
    return RandomSampler(spec)
