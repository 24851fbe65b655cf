"""Differential evolution: each trial is a mixture of one good trial and the difference of two others.

Storn and Price, Journal of Global Optimization 11 (1997): DE/rand/1/bin and DE/best/1/bin. Trial ``number`` is a
candidate for place ``number`` modulo the population's size; the best one there so far stands there. So the population
is known from the record, in whichever order trials end, and any number may be under way. Mutation and crossover are
those of scipy.optimize.differential_evolution (tests/unit/test_sampler_evolution.py holds them to it); what leaves the
bounds is reflected. Who breaks constraints loses against who does not, or who does less (Deb 2000; scipy's asks for
less of each constraint). A choice has no differences: it is the base's where the two others agree, else drawn.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import CategoricalDistribution

from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.engine import feasible, options
from kubetune.engine.columns import Columns, Floats
from kubetune.engine.ended import Ended
from kubetune.engine.history import COMPLETE, View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.cma_strategy import Cube
from kubetune.engine.samplers.random import RandomSampler
from kubetune.engine.samplers.replay import Replay

OPTIONS: Mapping[str, options.Option] = {
    "strategy": options.Choice(("rand1bin", "best1bin")),
    "populationSize": options.Whole(None, low=5, optional=True),  # 5 by the number of parameters, from 10 to 50
    "mutation": options.Real(0.5, low=0.0, high=2.0),  # F: the difference's weight
    "jitter": options.Real(
        0.001, 0.0, 1.0
    ),  # F of each parameter is within so much of it; Price, Storn and Lampinen, 2005
    "recombination": options.Real(0.7, 0.0, 1.0),  # CR: how much of a candidate is the mixture
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """See `OPTIONS`."""

    best: bool
    size: int
    mutation: float
    jitter: float
    recombination: float


class Population:
    """The best trial of each place so far; of equal ones the later."""

    def __init__(self, size: int, columns: int, sign: float) -> None:
        self._sign = sign
        self.losses, self.broken = np.full(size, np.inf), np.full(size, np.inf)
        self.rows = np.full((size, columns), np.nan)
        self.filled = np.zeros(size, dtype=np.bool_)

    def learn(self, more: Ended) -> None:
        complete = (more.states == COMPLETE).nonzero()[0]
        places = more.numbers[complete] % len(self.losses)
        losses = (self._sign * more.values[complete, 0]).tolist()
        broken = feasible.broken(more.penalties[complete]).tolist()
        for row, place, loss, penalty in zip(complete.tolist(), places.tolist(), losses, broken, strict=True):
            if (penalty, loss) <= (self.broken[place], self.losses[place]):
                self.losses[place], self.broken[place] = loss, penalty
                self.rows[place], self.filled[place] = more.params[row], True

    def best(self) -> int:
        """The place where the best of all stands."""
        return int(np.argmin(feasible.ranks(self.losses, self.broken)))


class DifferentialSampler(Sampler):
    """Draws trial ``number`` from a generator of its own and the population as it stands."""

    sight = Sight(whole=True)

    def __init__(self, spec: ExperimentSpec, settings: Settings) -> None:
        self._spec, self._settings = spec, settings
        self._asker = Asker(spec)
        self._random = RandomSampler(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._columns = Columns(spec.parameters)
        space, names = self._asker.distributions, self._columns.names
        numeric = {name: what for name, what in space.items() if not isinstance(what, CategoricalDistribution)}
        self._cube = Cube(numeric, [names.index(name) for name in numeric], margin=False) if numeric else None
        self._choices = {
            name: (names.index(name), what.choices)
            for name, what in space.items()
            if isinstance(what, CategoricalDistribution)
        }
        sign = 1.0 if spec.objectives[0].direction == "minimize" else -1.0
        self._replay = Replay(lambda: Population(settings.size, len(names), sign))

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        population = self._replay.at(view.past)
        place = number % self._settings.size
        others = np.delete(np.arange(self._settings.size), place)
        others = others[population.filled[others]]
        if not population.filled[place] or len(others) < 3:
            return self._random.choose(view, number)
        draw = functools.partial(self._candidate, population, place, others, number)
        return self._random.rather(view, number, draw, times=10)

    def _candidate(
        self, population: Population, place: int, others: npt.NDArray[np.int64], number: int, again: int
    ) -> dict[str, ParamValue]:
        """The target with some parameters of the mixture, one of them at the least."""
        rng = np.random.RandomState(seed_of(self._spec, number, again))
        base, one, other = rng.choice(others, 3, replace=False).tolist()
        if self._settings.best:
            base = population.best()
        rows = population.rows[[place, base, one, other]]
        numeric = 0 if self._cube is None else len(self._cube.bounds)
        total = numeric + len(self._choices)
        crossed = rng.rand(total) < self._settings.recombination
        crossed[rng.randint(total)] = True
        chosen: dict[str, Any] = {}
        if self._cube is not None:
            points = self._cube.enter(rows)
            mixture = reflected(mixed(points[1:], self._weights(rng, numeric)))
            chosen = self._cube.leave(np.where(crossed[:numeric], mixture, points[0]))
        for take, (name, (column, choices)) in zip(crossed[numeric:].tolist(), self._choices.items(), strict=True):
            target, chosen_base, one_has, other_has = rows[:, column].astype(int).tolist()
            drawn = rng.randint(len(choices))
            index = chosen_base if one_has == other_has else drawn
            chosen[name] = choices[index if take else target]
        return self._asker.ask(prior.Beside(chosen, self._priors, seed_of(self._spec, number, again)), [], number)

    def _weights(self, rng: np.random.RandomState, count: int) -> Floats:
        return np.asarray(self._settings.mutation * (1 + self._settings.jitter * (rng.rand(count) - 0.5)))


def mixed(points: Floats, weights: Floats | float) -> Floats:
    """Base and the weighted difference of the two others."""
    return np.asarray(points[0] + weights * (points[1] - points[2]))


def reflected(x: Floats) -> Floats:
    """Into the unit cube, at its walls."""
    folded = np.mod(x, 2.0)
    return np.asarray(np.where(folded > 1.0, 2.0 - folded, folded))


def build(spec: ExperimentSpec) -> DifferentialSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    if len(spec.objectives) > 1:
        raise InvalidSpec(
            "sampler.name", "differentialEvolution takes one objective; with several take nsgaii, nsgaiii or tpe"
        )
    if not Asker(spec).distributions:
        raise InvalidSpec("parameters", "each has one value only: there is nothing to search; give one more values")
    size = given["populationSize"] or min(50, max(10, 5 * len(spec.parameters)))
    return DifferentialSampler(
        spec,
        Settings(given["strategy"] == "best1bin", size, given["mutation"], given["jitter"], given["recombination"]),
    )
