"""Who searches: kubetune's samplers as its engine uses them, and the libraries that they are compared with."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import cmaes
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import optimize

from dev.bench.search.problem import Outcome, Problem
from kubetune.api.space import Space
from kubetune.api.spec import Algorithm, Categorical, Double, Int, Parameter, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.storage import space


class Side(abc.ABC):
    """Asked for a trial, and told what became of it."""

    @abc.abstractmethod
    def ask(self) -> dict[str, ParamValue]:
        """Of the next trial; trials are counted from 0."""

    @abc.abstractmethod
    def tell(self, number: int, outcome: Outcome, now: float) -> None:
        """It is complete; ``now``: in virtual time."""


class Ours(Side):
    """kubetune's sampler and history, as the engine has them.

    Raises:
        InvalidSpec: the sampler does not search such a space.
    """

    def __init__(self, problem: Problem, seed: int, name: str, settings: Mapping[str, Any]) -> None:
        spec = dataclasses.replace(problem.spec(seed), sampler=Algorithm(name, settings))
        self._problem = problem
        self._sampler = samplers.build(spec)
        self._capacity = self._sampler.capacity()
        self._history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])

    def ask(self) -> dict[str, ParamValue]:
        number = len(self._history)
        params = self._sampler.suggest(self._history, number)
        self._history.add(Past(number, TrialState.RUNNING, params))
        return params

    def tell(self, number: int, outcome: Outcome, now: float) -> None:
        ended = dataclasses.replace(
            self._history[number],
            state=TrialState.COMPLETE,
            values=outcome.values,
            ended=now,
            constraints=self._problem.excess(outcome),
        )
        self._history.replace(ended)


class Optuna(Side):
    """A study in memory. It suggests parameter by parameter, parents first, as an objective does with conditions."""

    def __init__(
        self, problem: Problem, seed: int, make: Callable[[int], optuna.samplers.BaseSampler], joint: bool = True
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._problem = problem
        self._space = Space(problem.parameters)
        self._known = space.distributions_of(problem.parameters)
        self._whole = joint and not self._space.independent
        self._study = optuna.create_study(sampler=make(seed), directions=["minimize"] * len(problem.objectives))
        self._running: dict[int, optuna.Trial] = {}

    def ask(self) -> dict[str, ParamValue]:
        trial = self._study.ask(self._known if self._whole else None)
        self._running[trial.number] = trial
        params: dict[str, ParamValue] = {}
        for name in self._space.order:
            if self._space.is_active(name, params):
                params[name] = _suggest(trial, name, self._known[name])
        return params

    def tell(self, number: int, outcome: Outcome, now: float) -> None:
        trial = self._running.pop(number)
        for place, excess in enumerate(outcome.excess):
            trial.set_constraint(f"g{place}", excess)
        self._study.tell(trial, list(outcome.values))


def _suggest(trial: optuna.Trial, name: str, what: BaseDistribution) -> Any:
    if isinstance(what, FloatDistribution):
        return trial.suggest_float(name, what.low, what.high, step=what.step, log=what.log)
    if isinstance(what, IntDistribution):
        return trial.suggest_int(name, what.low, what.high, step=what.step, log=what.log)
    assert isinstance(what, CategoricalDistribution)
    return trial.suggest_categorical(name, what.choices)


# ---- libraries that search a cube of numbers


class Unsuited(Exception):  # noqa: N818
    """It does not search such a space."""


def from_cube(parameters: Mapping[str, Parameter], point: Sequence[float]) -> dict[str, ParamValue]:
    """The parameters at a point of the unit cube, in the order of their names."""
    found: dict[str, ParamValue] = {}
    for (name, parameter), part in zip(sorted(parameters.items()), point, strict=True):
        part = min(1.0, max(0.0, float(part)))
        assert not isinstance(parameter, Categorical)
        low, high = (parameter.low, parameter.high) if isinstance(parameter, Double) else _cells(parameter)
        value = low + part * (high - low)
        if parameter.log:
            value = math.exp(math.log(low) + part * (math.log(high) - math.log(low)))
        if isinstance(parameter, Int):
            found[name] = min(parameter.high, max(parameter.low, round(value)))
        else:
            found[name] = min(high, max(low, value))
    return found


def _cells(parameter: Int) -> tuple[float, float]:
    return parameter.low - 0.5, parameter.high + 0.5


def numbers_only(problem: Problem) -> int:
    """How many parameters; raises `Unsuited`."""
    for parameter in problem.parameters.values():
        if isinstance(parameter, Categorical) or parameter.when or parameter.step not in (None, 1):
            raise Unsuited(problem.name)
    if problem.corner:
        raise Unsuited(problem.name)
    return len(problem.parameters)


class Cmaes(Side):
    """The package that both call, by itself: a generation is told once all of it has ended."""

    def __init__(self, problem: Problem, seed: int) -> None:
        width = numbers_only(problem)
        self._problem = problem
        self._search = cmaes.CMA(
            mean=np.full(width, 0.5), sigma=1 / 6, bounds=np.array([[0.0, 1.0]] * width), seed=seed
        )
        self._running: dict[int, np.ndarray[Any, Any]] = {}
        self._ended: list[tuple[np.ndarray[Any, Any], float]] = []
        self._count = 0

    def ask(self) -> dict[str, ParamValue]:
        self._running[self._count] = point = self._search.ask()
        self._count += 1
        return from_cube(self._problem.parameters, point.tolist())

    def tell(self, number: int, outcome: Outcome, now: float) -> None:
        self._ended.append((self._running.pop(number), outcome.values[0]))
        if len(self._ended) == self._search.population_size:
            self._search.tell(self._ended)
            self._ended = []


Evaluate: TypeAlias = Callable[[Sequence[float]], float]
Loop: TypeAlias = Callable[[Problem, int, Evaluate], None]


class Spent(Exception):  # noqa: N818
    """The budget is; raised into a library that asks by itself."""


def scipy_evolution(problem: Problem, seed: int, evaluate: Evaluate) -> None:
    """With the population, the mutation and the crossover of our `differentialEvolution`."""
    width = numbers_only(problem)
    size = min(50, max(10, 5 * width))
    optimize.differential_evolution(
        evaluate,
        [(0.0, 1.0)] * width,
        strategy="rand1bin",
        mutation=0.5,
        recombination=0.7,
        init=np.random.default_rng(seed).random((size, width)),
        maxiter=10**6,
        tol=0.0,
        polish=False,
        rng=np.random.default_rng(seed + 1),
    )


def scipy_descent(problem: Problem, seed: int, evaluate: Evaluate) -> None:
    """L-BFGS-B with finite differences: from the middle, then from points drawn at random."""
    width = numbers_only(problem)
    if not all(isinstance(parameter, Double) for parameter in problem.parameters.values()):
        raise Unsuited(problem.name)
    dice = np.random.default_rng(seed)
    start = np.full(width, 0.5)
    while True:
        optimize.minimize(evaluate, start, method="L-BFGS-B", bounds=[(0.0, 1.0)] * width)
        start = dice.random(width)


Make: TypeAlias = Callable[[Problem, int], Side]


def ours(name: str, settings: Mapping[str, Any] | None = None) -> Make:
    return functools.partial(Ours, name=name, settings=settings or {})


def theirs(make: Callable[[int], optuna.samplers.BaseSampler], joint: bool = True) -> Make:
    return functools.partial(Optuna, make=make, joint=joint)
