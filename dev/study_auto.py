"""Which sampler does best on spaces and budgets like these: the study behind `auto` (docs/algorithms.md).

    python -m dev.study_auto [--seconds 600] [--seeds 5] [--rows 0 3] [--values]

In this process, one run after the other, seed by seed, so that what is left out when the CPU time is up is left out for
all alike. Each row of the study is a kind of space and budget; in it each sampler searches each function with the same
seeds, and trials end in random order. A rank is that of a sampler among those of its row, for one function and seed.
"""

import argparse
import dataclasses
import itertools
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core, and the same sums everywhere
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dev.bench.functions import FUNCTIONS
from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, Objective, Parameter, Params
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past

Values = Callable[[Sequence[float]], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Problem:
    """``worst``: of several objectives, the corner that the hypervolume is measured from; ``least``: the least value of
    one objective."""

    name: str
    box: Sequence[tuple[float, float]]
    values: Values
    worst: tuple[float, ...] = ()
    least: float = 0.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of space and budget."""

    name: str
    trials: int
    at_once: int
    problems: Sequence[Problem]
    samplers: Sequence[str]
    steps: int = 0  # every second parameter has so many; 0: all are continuous
    mixed: bool = False  # the first is a choice of six in an order that means nothing, the second a whole number

    def parameters(self, box: Sequence[tuple[float, float]]) -> dict[str, Parameter]:
        made: dict[str, Parameter] = {
            f"x{place}": Double(low, high, step=(high - low) / self.steps if self.steps and place % 2 else None)
            for place, (low, high) in enumerate(box)
        }
        return made | {"x0": Categorical(CHOICES), "x1": Int(0, WHOLE)} if self.mixed else made

    def point(self, params: Params, box: Sequence[tuple[float, float]]) -> list[float]:
        """Where a trial is: choices stand for the middles of sixths."""
        parts: list[float] = [params[f"x{place}"] for place in range(2 if self.mixed else 0, len(box))]  # type: ignore[misc]
        if not self.mixed:
            return parts
        (low, high), (lowest, highest) = box[:2]
        first = low + (high - low) * (SIXTHS[CHOICES.index(str(params["x0"]))] + 0.5) / len(CHOICES)
        return [first, lowest + (highest - lowest) * int(params["x1"]) / WHOLE, *parts]


CHOICES, SIXTHS, WHOLE = ("a", "b", "c", "d", "e", "f"), (3, 0, 5, 1, 4, 2), 20


def zdt(x: Sequence[float], shape: Callable[[float], float]) -> tuple[float, ...]:
    """Zitzler, Deb and Thiele, Evolutionary Computation 8 (2000)."""
    g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
    return x[0], g * shape(x[0] / g)


def kursawe(x: Sequence[float]) -> tuple[float, ...]:
    near = sum(-10 * math.exp(-0.2 * math.hypot(a, b)) for a, b in itertools.pairwise(x))
    return near, sum(abs(each) ** 0.8 + 5 * math.sin(each**3) for each in x)


def fonseca(x: Sequence[float]) -> tuple[float, ...]:
    side = 1 / math.sqrt(len(x))
    sums = [sum((each - sign * side) ** 2 for each in x) for sign in (1, -1)]
    return tuple(1 - math.exp(-each) for each in sums)


UNIT = [(0.0, 1.0)]
FRONTS = (
    Problem("zdt1", UNIT * 5, lambda x: zdt(x, lambda ratio: 1 - math.sqrt(ratio)), (1.1, 6.0)),
    Problem("zdt2", UNIT * 5, lambda x: zdt(x, lambda ratio: 1 - ratio**2), (1.1, 6.0)),
    Problem("kursawe", [(-5.0, 5.0)] * 3, kursawe, (-8.0, 20.0)),
    Problem("fonseca", [(-4.0, 4.0)] * 4, fonseca, (1.1, 1.1)),
)
SINGLE = tuple(
    Problem(each.name, each.box, lambda x, of=each: (of.value(x),), least=each.least)  # type: ignore[misc]
    for each in FUNCTIONS
)
SEVEN = tuple(
    each
    for each in SINGLE
    if each.name in ("branin", "hartmann6", "rosenbrock", "ackley", "rastrigin", "levy", "styblinski-tang")
)
ROWS = (
    Row("numbers", 300, 10, SINGLE, ("cmaes", "tpe", "random")),
    Row("two objectives", 400, 20, FRONTS, ("nsgaii", "tpe", "random")),
    Row("numbers, many at once", 300, 50, SINGLE, ("cmaes", "tpe", "random")),
    Row("two objectives, many trials", 2000, 20, FRONTS, ("nsgaii", "tpe", "random")),
    Row("numbers, half of them in 20 steps", 300, 10, SINGLE, ("cmaes", "tpe", "random"), 20),
    Row("few trials", 15, 1, SINGLE, ("gp", "tpe", "qmc", "random")),
    Row("few trials, mixed", 40, 1, SINGLE, ("gp", "tpe", "qmc", "random"), mixed=True),
    Row("few trials, half of them at once", 100, 50, SINGLE, ("gp", "tpe", "random")),
    Row("150 trials", 150, 1, SEVEN, ("gp", "tpe")),
    Row("120 trials, mixed", 120, 20, SEVEN, ("gp", "tpe"), mixed=True),
    Row("40 trials", 40, 1, SINGLE, ("gp", "tpe", "random")),
)


def reached(problem: Problem, sampler: str, row: Row, seed: int) -> float:
    """What is left to gain after the row's trials, less is better: the least value, or minus the hypervolume."""
    parameters = row.parameters(problem.box)
    objectives = tuple(Objective(f"y{place}", "minimize") for place in range(max(1, len(problem.worst))))
    spec = ExperimentSpec(
        "study", problem.name, "", 1, objectives, parameters, {}, sampler=Algorithm(sampler), seed=seed
    )
    made, history, dice = samplers.build(spec), History(objectives, parameters), random.Random(seed)
    running: list[int] = []
    found: list[tuple[float, ...]] = []
    for number in range(row.trials):
        history.add(Past(number, TrialState.RUNNING, made.suggest(history, number)))
        running.append(number)
        while len(running) == row.at_once or (number == row.trials - 1 and running):
            ended = running.pop(dice.randrange(len(running)))
            params = history[ended].params
            found.append(problem.values(row.point(params, problem.box)))
            history.replace(Past(ended, TrialState.COMPLETE, params, found[-1], None, float(len(found))))
    if not problem.worst:
        return min(values[0] for values in found) - problem.least
    return -hypervolume(found, problem.worst)


def hypervolume(points: Sequence[tuple[float, ...]], worst: tuple[float, ...]) -> float:
    """Of two objectives."""
    total, lowest = 0.0, worst[1]
    for first, second in sorted(points):
        if first < worst[0] and second < lowest:
            total, lowest = total + (worst[0] - first) * (lowest - second), second
    return total


def ranks(values: Mapping[str, float]) -> dict[str, float]:
    """1 is the least; equal ones share theirs."""
    return {
        name: 1 + sum(other < value for other in values.values()) + 0.5 * (list(values.values()).count(value) - 1)
        for name, value in values.items()
    }


def study(rows: Sequence[Row], seeds: int, seconds: float) -> Iterator[tuple[Row, str, int, dict[str, float]]]:
    """Row, problem, seed and what each sampler left to gain, until so much CPU time is spent."""
    for seed, row in itertools.product(range(1, seeds + 1), rows):
        for problem in row.problems:
            if time.process_time() > seconds:
                return
            values = {name: reached(problem, name, row, seed) for name in row.samplers}
            yield row, problem.name, seed, values


def main() -> None:
    parser = argparse.ArgumentParser(description="The study behind sampler auto.")
    parser.add_argument("--seconds", type=float, default=600.0, help="of CPU time")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", choices=range(len(ROWS)), default=list(range(len(ROWS))))
    parser.add_argument("--values", action="store_true", help="medians over seeds of what is left to gain, by problem")
    options = parser.parse_args()
    rows = [ROWS[place] for place in options.rows]
    found: dict[str, dict[str, list[dict[str, float]]]] = {row.name: {} for row in rows}
    for row, problem, seed, values in study(rows, options.seeds, options.seconds):
        found[row.name].setdefault(problem, []).append(values)
        told = " ".join(f"{name} {rank:g}" for name, rank in ranks(values).items())
        print(f"{time.process_time():5.0f} s  {row.name}: {problem}, seed {seed}: {told}", flush=True)
    for row in rows:
        each = [ranks(values) for seeds in found[row.name].values() for values in seeds]
        means = {name: statistics.mean(one[name] for one in each) for name in row.samplers} if each else {}
        print(f"{row.name} ({row.trials} trials, {row.at_once} at once), {len(each)} comparisons:", means)
        if options.values:
            for problem, seeds in found[row.name].items():
                print(f"  {problem}:", {name: statistics.median(one[name] for one in seeds) for name in row.samplers})


if __name__ == "__main__":
    main()
