"""Genetic search for a Pareto front: NSGA-II (Deb et al., 2002) and NSGA-III (Deb and Jain, 2014), by Optuna.

Selection, crossover and mutation are Optuna's. A generation is the next ``populationSize`` trials that completed, in
the order of ending (docs/decisions/0080-whole-pasts.md): one trial at a time that is Optuna's, and so are the draws.
Pruned and failed trials have no values to compare and are left out, as there. Where there are constraints, selection
is by Deb's constrained domination: what Optuna's samplers do with each trial's constraints, of which they look at the
sum of what is broken.
"""

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import nsgaii

from kubetune.api.spec import ExperimentSpec, InvalidSpec, Params, ParamValue
from kubetune.engine import options
from kubetune.engine.columns import Columns
from kubetune.engine.ended import Ended
from kubetune.engine.history import COMPLETE, History, View
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.random import RandomSampler
from kubetune.engine.samplers.replay import Replay

OPTIONS: Mapping[str, options.Option] = {
    "populationSize": options.Whole(50, low=2),
    "mutationProb": options.Real(None, 0.0, 1.0, optional=True),  # of each parameter; 1 / parameters by default
    "mutation": options.Choice(("uniform", "polynomial")),  # drawn anew, or near where it was (numbers only)
    "crossover": options.Choice(("uniform", "blxalpha", "sbx", "vsbx", "spx", "undx")),
    "crossoverProb": options.Real(0.9, 0.0, 1.0),
    "swappingProb": options.Real(0.5, 0.0, 1.0),  # of each parameter, where crossover swaps
}
OPTIONS_III: Mapping[str, options.Option] = {
    **OPTIONS,
    "dividingParameter": options.Whole(3, low=1),  # of the reference points, along each objective
}
_CROSSOVERS: Mapping[str, type[nsgaii.BaseCrossover]] = {
    "blxalpha": nsgaii.BLXAlphaCrossover,
    "sbx": nsgaii.SBXCrossover,
    "vsbx": nsgaii.VSBXCrossover,
    "spx": nsgaii.SPXCrossover,
    "undx": nsgaii.UNDXCrossover,
}
NO_CONSTRAINTS: Mapping[str, float] = {}


class Individual:
    """What Optuna's genetic samplers read of a trial."""

    __slots__ = ("constraints", "number", "params", "values")
    state = optuna.trial.TrialState.COMPLETE

    def __init__(
        self, number: int, params: Params, values: list[float], constraints: Mapping[str, float] = NO_CONSTRAINTS
    ) -> None:
        self.number = number
        self.params = params
        self.values = values
        self.constraints = constraints


Population: TypeAlias = list[Individual]  # in order of number


class Generations:
    """The parents that follow from the trials that ended."""

    def __init__(
        self, size: int, decode: Callable[[list[float]], Params], select: Callable[[Population, int], Population]
    ) -> None:
        self._size, self._decode, self._select = size, decode, select
        self._children: Population = []
        self._generation = 0
        self.parents: Population = []

    def learn(self, more: Ended) -> None:
        for row in (more.states == COMPLETE).nonzero()[0].tolist():
            params = self._decode(more.params[row].tolist())
            broken = float(more.penalties[row])
            constraints = NO_CONSTRAINTS if math.isnan(broken) else {"": broken}
            self._children.append(Individual(int(more.numbers[row]), params, more.values[row].tolist(), constraints))
            if len(self._children) == self._size:
                self._generation += 1
                chosen = self._select(_sorted(self._children) + self.parents, self._generation)
                self.parents, self._children = _sorted(chosen), []


def _sorted(population: Population) -> Population:
    return sorted(population, key=lambda individual: individual.number)


class _Given:
    """Of an Optuna sampler: its parents are given, and its space is known."""

    space: dict[str, BaseDistribution]
    parents: Population

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return self.space

    def get_trial_generation(self, *_: Any) -> int:
        return 1 if self.parents else 0

    def get_parent_population(self, *_: Any) -> Any:
        return self.parents


class _Second(_Given, optuna.samplers.NSGAIISampler):
    """NSGA-II."""


class _Third(_Given, optuna.samplers.NSGAIIISampler):
    """NSGA-III."""

    def __init__(self, **settings: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since Optuna 3.2
            super().__init__(**settings)


class NsgaSampler(Sampler):
    """Draws trial ``number`` from a generator of its own, so that draws do not depend on the order of asking."""

    sight = Sight(whole=True)

    def __init__(self, spec: ExperimentSpec, size: int, make: Callable[[int], Any]) -> None:
        self._spec = spec
        self._make = make  # an Optuna sampler, by seed
        self._size = size
        self._asker = Asker(spec)
        self._random = RandomSampler(spec)
        self._signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in spec.objectives]
        self._study = optuna.create_study(directions=["minimize"] * len(spec.objectives))
        columns = Columns(spec.parameters)
        self._replay = Replay(
            lambda: Generations(size, lambda row: self._asker.told(columns.decode(row)), self._select)
        )

    def immediate(self, history: History) -> bool:
        return history.learned < self._size

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        parents = self._replay.at(view.past).parents
        if not parents:
            return self._random.choose(view, number)
        return self._random.rather(view, number, functools.partial(self._child, parents, number), times=10)

    def _child(self, parents: Population, number: int, again: int) -> dict[str, ParamValue]:
        sampler = self._make(seed_of(self._spec, number, again))
        sampler.space, sampler.parents = self._asker.distributions, parents
        return self._asker.ask(sampler, [], number)

    def _select(self, population: Population, generation: int) -> Population:
        """As losses: Optuna's NSGA-III takes less for better whatever the directions."""
        losses = [
            Individual(
                each.number,
                each.params,
                [s * v for s, v in zip(self._signs, each.values, strict=True)],
                each.constraints,
            )
            for each in population
        ]
        sampler = self._make(seed_of(self._spec, -generation))
        chosen = sampler._elite_population_selection_strategy(self._study, losses)
        numbers = {each.number for each in chosen}
        return [each for each in population if each.number in numbers]


def build_second(spec: ExperimentSpec) -> NsgaSampler:
    return _built(spec, _Second, options.read("sampler", spec.sampler, OPTIONS), {})


def build_third(spec: ExperimentSpec) -> NsgaSampler:
    given = options.read("sampler", spec.sampler, OPTIONS_III)
    return _built(spec, _Third, given, {"dividing_parameter": given["dividingParameter"]})


def _built(
    spec: ExperimentSpec, kind: Callable[..., Any], given: Mapping[str, Any], more: dict[str, Any]
) -> NsgaSampler:
    settings = {
        "population_size": given["populationSize"],
        "mutation_prob": given["mutationProb"],
        "crossover_prob": given["crossoverProb"],
        "swapping_prob": given["swappingProb"],
        **more,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if given["crossover"] in _CROSSOVERS:
            settings["crossover"] = crossover = _CROSSOVERS[given["crossover"]]()
            if given["populationSize"] < crossover.n_parents:
                raise InvalidSpec(
                    "sampler.settings.populationSize",
                    f"crossover {given['crossover']} takes {crossover.n_parents} parents; give at least as many",
                )
        if given["mutation"] == "polynomial":
            settings["mutation"] = nsgaii.PolynomialMutation()
    return NsgaSampler(spec, given["populationSize"], lambda seed: kind(seed=seed, **settings))
