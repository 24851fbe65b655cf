"""One searcher on one problem: trials run on a few slots at once, on virtual time."""

import contextlib
import dataclasses
import heapq
import math
import random
import time
from collections.abc import Sequence

import numpy as np
from optuna._hypervolume import compute_hypervolume

from dev.bench.search.problem import Outcome, Problem, seed_in
from dev.bench.search.sides import Evaluate, Loop, Make, Side, Spent, from_cube
from kubetune.api.spec import ParamValue

SLOTS = 4


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of it.

    Args:
        reached: after so many evaluations the best value, of several objectives what the hypervolume lacks (`least`
            less what was reached). Infinite: no trial kept the constraints yet.
        cost: CPU milliseconds that a trial took the searcher, asked and told.
    """

    family: str
    problem: str
    entrant: str
    seed: int
    reached: tuple[float, ...]
    cost: float


def run(problem: Problem, entrant: str, make: Make, seed: int) -> Run:
    """Its trials on `SLOTS` slots; each ends when its length is over, and the next is asked for then.

    Raises:
        InvalidSpec, Unsuited: the searcher does not search such a space.
    """
    side = make(problem, seed_in(problem.name, seed))
    found: list[Outcome] = []
    ends: list[tuple[float, int, Outcome]] = []
    now = spent = 0.0
    for number in range(problem.trials):
        if number >= SLOTS:
            now, ended, outcome = heapq.heappop(ends)
            found.append(outcome)
            spent += _tell(side, ended, outcome, now)
        begun = time.process_time()
        params = side.ask()
        spent += time.process_time() - begun
        outcome = problem.evaluate(params, problem.noise(seed, number))
        heapq.heappush(ends, (now + problem.lengths(seed, number), number, outcome))
    found += [outcome for _, _, outcome in sorted(ends, key=lambda each: each[:2])]
    return Run(
        problem.family, problem.name, entrant, seed, reached(problem, found), round(1e3 * spent / problem.trials, 3)
    )


def _tell(side: Side, number: int, outcome: Outcome, now: float) -> float:
    begun = time.process_time()
    side.tell(number, outcome, now)
    return time.process_time() - begun


def closed(problem: Problem, entrant: str, loop: Loop, seed: int) -> Run:
    """The same for a library that calls the function by itself, one evaluation after the other."""
    found: list[Outcome] = []
    inside = 0.0

    def evaluate(point: Sequence[float]) -> float:
        nonlocal inside
        begun = time.process_time()
        if len(found) == problem.trials:
            raise Spent
        params: dict[str, ParamValue] = from_cube(problem.parameters, point)
        outcome = problem.evaluate(params, problem.noise(seed, len(found)))
        found.append(outcome)
        inside += time.process_time() - begun
        return outcome.values[0]

    asking: Evaluate = evaluate
    begun = time.process_time()
    with contextlib.suppress(Spent):
        loop(problem, seed_in(problem.name, seed), asking)
    spent = time.process_time() - begun - inside
    steps = list(reached(problem, found))
    steps += steps[-1:] * (problem.trials - len(steps))  # it stopped by itself
    return Run(problem.family, problem.name, entrant, seed, tuple(steps), round(1e3 * spent / problem.trials, 3))


def reached(problem: Problem, found: Sequence[Outcome]) -> tuple[float, ...]:
    """After each end: see `Run`."""
    return _lacking(problem, found) if problem.corner else _best(problem, found)


def _best(problem: Problem, found: Sequence[Outcome]) -> tuple[float, ...]:
    """What a person gets who takes the trial that looks best: its exact value."""
    seen = exact = math.inf
    values = []
    for outcome in found:
        if problem.broken(outcome) == 0 and outcome.values[0] < seen:
            seen = outcome.values[0]
            exact = seen if outcome.exact is None else outcome.exact
        values.append(exact)
    return tuple(values)


def _lacking(problem: Problem, found: Sequence[Outcome]) -> tuple[float, ...]:
    """By the front so far; computed when it moves."""
    assert problem.least is not None
    corner, front, values = np.array(problem.corner), np.empty((0, len(problem.corner))), []
    lacking = problem.least
    for outcome in found:
        new = np.array(outcome.values)
        if not (front <= new).all(axis=1).any():
            front = np.vstack([front[~(new <= front).all(axis=1)], new])
            below = front[(front < corner).all(axis=1)]
            if len(below):
                lacking = problem.least - float(compute_hypervolume(below, corner))
        values.append(lacking)
    return tuple(values)


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """An order of its own for each seed, so that a machine that warms up favours nobody."""
    return random.Random(seed).sample(list(names), len(names))
