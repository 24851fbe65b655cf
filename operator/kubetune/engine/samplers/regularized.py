"""Regularised evolution: the best of a few mutates one parameter; the oldest, not the worst, die.

Real, Aggarwal, Huang and Le, AAAI 2019 (arXiv 1802.01548), algorithm 1, as used for architecture search. The
population is the last ``populationSize`` trials that completed, in the order in which they ended: every child enters
it, and ages out of it. So nothing but the record is needed to know it, with any number of trials under way. Where
there are constraints, the best is as Deb (2000) has it: see `feasible`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import CategoricalDistribution

from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.engine import feasible, options
from kubetune.engine.columns import Columns, Floats
from kubetune.engine.history import COMPLETE, View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.cma_strategy import Cube
from kubetune.engine.samplers.differential import reflected
from kubetune.engine.samplers.random import RandomSampler

OPTIONS: Mapping[str, options.Option] = {
    "populationSize": options.Whole(50, low=2),  # the paper: 100
    "tournamentSize": options.Whole(12, low=1),  # drawn from it, of which the best is the parent; the paper: 25
}
STEP = 0.1  # standard deviation of a number's mutation, in parts of its range on its scale
_TRIES = 20  # at a mutation that changes something


class RegularizedSampler(Sampler):
    """Draws trial ``number`` from a generator of its own and the population as it stands."""

    sight = Sight(whole=True)

    def __init__(self, spec: ExperimentSpec, size: int, tournament: int) -> None:
        self._spec, self._size, self._tournament = spec, size, tournament
        self._asker = Asker(spec)
        self._random = RandomSampler(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._columns = Columns(spec.parameters)
        self._sign = 1.0 if spec.objectives[0].direction == "minimize" else -1.0

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        rows, ranks = self._population(view)
        if number < self._size - self._given(view) or not len(rows):
            return self._random.choose(view, number)
        return self._random.rather(view, number, functools.partial(self._child, rows, ranks, number), times=10)

    def _given(self, view: View) -> int:
        """How many of the first population are trials of other experiments."""
        if view.past is None:
            return 0
        others = int(np.searchsorted(view.past.numbers[: self._size] >= 0, True))
        return int(np.count_nonzero(view.past.states[:others] == COMPLETE))

    def _population(self, view: View) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Parameters of those alive, oldest first, and how good each is among them."""
        if view.past is None:
            raise ValueError("a sampler that learns from its whole past was not shown it")
        first = max(0, len(view.past) - 8 * self._size)  # most likely there are enough among these
        alive = first + (view.past.states[first:] == COMPLETE).nonzero()[0]
        if len(alive) < self._size and first:
            alive = (view.past.states == COMPLETE).nonzero()[0]
        alive = alive[-self._size :]
        losses, broken = self._sign * view.past.values[alive, 0], feasible.broken(view.past.penalties[alive])
        return view.past.params[alive], feasible.ranks(losses, broken)

    def _child(self, rows: Floats, ranks: npt.NDArray[np.int64], number: int, again: int) -> dict[str, ParamValue]:
        rng = np.random.RandomState(seed_of(self._spec, number, again))
        drawn = rng.randint(len(rows), size=self._tournament)
        parent = self._asker.told(self._columns.decode(rows[drawn[np.argmin(ranks[drawn])]].tolist()))
        space = self._asker.distributions
        chosen = {other: parent[other] for other in space if other in parent}  # what it has: there may be conditions
        name = sorted(chosen)[rng.randint(len(chosen))]
        for _ in range(_TRIES):
            chosen[name] = self._mutated(name, parent[name], rng)
            if chosen[name] != parent[name]:
                break
        return self._asker.ask(prior.Beside(chosen, self._priors, seed_of(self._spec, number, again)), [], number)

    def _mutated(self, name: str, value: ParamValue, rng: np.random.RandomState) -> Any:
        """Another choice, or a number near by."""
        what = self._asker.distributions[name]
        if isinstance(what, CategoricalDistribution):
            others = [choice for choice in what.choices if choice != value]
            return others[rng.randint(len(others))]
        cube = Cube({name: what}, [0], margin=False)
        at = cube.enter(np.array([[float(value)]]))[0]
        return cube.leave(reflected(at + STEP * rng.standard_normal(1)))[name]


def build(spec: ExperimentSpec) -> RegularizedSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    if len(spec.objectives) > 1:
        raise InvalidSpec(
            "sampler.name", "regularizedEvolution takes one objective; with several take nsgaii, nsgaiii or tpe"
        )
    if not Asker(spec).distributions:
        raise InvalidSpec("parameters", "each has one value only: there is nothing to search; give one more values")
    return RegularizedSampler(spec, given["populationSize"], given["tournamentSize"])
