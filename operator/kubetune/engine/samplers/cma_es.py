"""CMA-ES: a normal distribution over the numeric parameters that moves, turns and narrows towards the best.

Hansen, arXiv 1604.00772, by the cmaes library (Nomura and Shibata, arXiv 2402.01373) as Optuna's CmaEsSampler calls it:
one trial at a time, up to a restart, its draws are Optuna's. Choices have no order to move along; they are drawn at
random beside it, as Optuna does.
"""

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution

from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.history import History, View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.cma_strategy import FEWEST, Cube, Settings, Strategy
from kubetune.engine.samplers.random import RandomSampler
from kubetune.engine.samplers.replay import Replay

OPTIONS: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(1, low=0),  # the first so many by number are random
    "popsize": options.Whole(None, low=2, optional=True),  # trials of a generation; 4 + 3 ln(parameters) by default
    "sigma0": options.Real(None, 1e-10, 1.0, optional=True),  # the first one, in a cube of side 1; 1/6 by default
    "considerPrunedTrials": options.Switch(False),  # with their last value
    "restartStrategy": options.Choice(("ipop", "bipop", "none")),  # once a run has converged
    "incPopsize": options.Whole(2, low=1),  # by what generations grow from run to run
    "useSeparableCma": options.Switch(False),  # each parameter on its own: for many parameters
    "withMargin": options.Switch(None),  # keeps steps and integers from freezing; where there are any
    "lrAdapt": options.Switch(False),  # smaller steps where values are noisy or there are many local optima
    "warmStart": options.Switch(False),  # begin with the distribution of the startup trials' best tenth
}


class CmaEsSampler(Sampler):
    """Draws trial ``number`` from its own generator and the distribution that follows from the trials that ended."""

    sight = Sight(whole=True)

    def __init__(self, spec: ExperimentSpec, settings: Settings, space: dict[str, Any]) -> None:
        self._spec = spec
        self._startup = settings.startup
        self._asker = Asker(spec)
        self._random = RandomSampler(spec)
        self._priors = prior.kernels_of(spec.parameters)
        names = sorted(spec.parameters)
        cube = Cube(space, [names.index(name) for name in space], settings.margin)
        sign = 1.0 if spec.objectives[0].direction == "minimize" else -1.0
        seed = functools.partial(seed_of, spec)
        self._replay = Replay(lambda: Strategy(settings, cube, sign, seed))

    def immediate(self, history: History) -> bool:
        return len(history) < self._startup

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        if number < self._startup:
            return self._random.choose(view, number)
        strategy = self._replay.at(view.past)
        return self._random.rather(view, number, functools.partial(self._draw, strategy, number))

    def _draw(self, strategy: Strategy, number: int, again: int) -> dict[str, ParamValue]:
        beside = prior.Beside(strategy.ask(number, again), self._priors, seed_of(self._spec, number, again))
        return self._asker.ask(beside, [], number)


def build(spec: ExperimentSpec) -> CmaEsSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    if len(spec.objectives) > 1:
        raise InvalidSpec("sampler.name", "cmaes takes one objective; with several take nsgaii, nsgaiii or tpe")
    if importlib.util.find_spec("cmaes") is None:
        raise InvalidSpec("sampler.name", "cmaes is not installed in this operator; take an image with extra samplers")
    space = {
        name: what
        for name, what in Asker(spec).distributions.items()
        if not isinstance(what, CategoricalDistribution)  # choices with an order are whole numbers here
    }
    if not space:
        raise InvalidSpec(
            "sampler.name", "cmaes needs a double or an int; for choices take tpe or regularizedEvolution"
        )
    return CmaEsSampler(spec, _settings(given, space), space)


def _settings(given: Mapping[str, Any], space: Mapping[str, Any]) -> Settings:
    """Raises InvalidSpec: for settings that exclude each other."""
    separable, adapt, margin = given["useSeparableCma"], given["lrAdapt"], given["withMargin"]
    if separable and margin:
        raise InvalidSpec("sampler.settings.withMargin", "excludes useSeparableCma; drop one")
    if adapt and (separable or margin):
        raise InvalidSpec("sampler.settings.lrAdapt", "excludes useSeparableCma and withMargin; drop one")
    if given["warmStart"] and (separable or given["sigma0"] is not None):
        raise InvalidSpec("sampler.settings.warmStart", "excludes useSeparableCma and sigma0; drop one")
    if given["warmStart"] and given["nStartupTrials"] < FEWEST:
        raise InvalidSpec(
            "sampler.settings.nStartupTrials",
            f"warmStart begins where the best tenth of these were; give at least {FEWEST}",
        )
    if margin is None:
        margin = not separable and not adapt and any(what.step is not None and not what.log for what in space.values())
    return Settings(
        given["nStartupTrials"],
        given["popsize"],
        given["sigma0"],
        given["considerPrunedTrials"],
        given["restartStrategy"],
        given["incPopsize"],
        separable,
        margin,
        adapt,
        given["warmStart"],
    )
