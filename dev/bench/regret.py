"""What ending an experiment early saves, and what it costs: `stop.regretBound` and `stop.noImprovement` on functions
whose least value is known.

``python -m dev.bench.regret``. Each function is searched by TPE, one trial at a time, with the whole budget; then it is
looked up where each rule would have ended it. Bounds are worked out as the engine does it, at the trials at which it
does. Losses are told in parts of the *span*: what lies between the median random trial and the least value.
"""

import argparse
import dataclasses
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence

from dev.bench.functions import FUNCTIONS, Function
from dev.bench.search.problem import doubles, vector
from dev.bench.search.standard import NOISE
from kubetune.api.spec import Algorithm, ExperimentSpec, Objective
from kubetune.api.trial import TrialState
from kubetune.engine import regret, regret_model, samplers
from kubetune.engine.courses.noise import Noise
from kubetune.engine.history import History, Past

TRIALS, SEEDS, LEAST = 100, 4, 20
RUNS = 3  # of each trial, where there is noise
PATIENCE = 30  # of `noImprovement`
DRAWN = 1001  # random points that a span is measured by


@dataclasses.dataclass(frozen=True)
class Look:
    """After so many trials: the bound, and the error of the best trial's value."""

    trials: int
    bound: float | None
    error: float | None


@dataclasses.dataclass(frozen=True)
class Search:
    """``true``: of the best trial so far, after each trial, how far it is from the least value."""

    true: Sequence[float]
    reported: Sequence[float]  # the best value so far, as it was reported
    looks: Sequence[Look]
    span: float


def search(function: Function, deviation: float, seed: int) -> Search:
    box = doubles(function.box)
    spec = ExperimentSpec(
        namespace="bench",
        name=function.name,
        uid="",
        generation=1,
        objectives=(Objective("y", "minimize"),),
        parameters=box,
        template={},
        sampler=Algorithm("tpe"),
        seed=seed,
    )
    sampler, history, dice = samplers.build(spec), History(spec.objectives, box), random.Random(seed)
    exact: list[float] = []
    true, reported, looks, due = [], [], [], LEAST
    for number in range(TRIALS):
        params = sampler.suggest(history, number)
        exact.append(function.value(vector(params)))
        value = exact[-1] + (dice.gauss(0.0, deviation / math.sqrt(RUNS)) if deviation else 0.0)
        history.add(Past(number, TrialState.COMPLETE, params, (value,)))
        best = history.best(1)[0]
        true.append(exact[best] - function.least)
        reported.append(-math.inf if not (values := history[best].values) else values[0])
        if number + 1 == due:
            looks.append(_look(spec, history, due, deviation))
            due = regret.due(due, LEAST)
    drawn = sorted(function.value([dice.uniform(*each) for each in function.box]) for _ in range(DRAWN))
    return Search(true, reported, looks, drawn[DRAWN // 2] - function.least)


def _look(spec: ExperimentSpec, history: History, trials: int, deviation: float) -> Look:
    params, values, penalties = history.ranked(regret.MOST)
    error = regret.error(1, [0.0] * RUNS, Noise(deviation, trials * (RUNS - 1))) if deviation else None
    return Look(trials, regret_model.bound(spec, params, values[:, 0], penalties).value, error)


Rule = Callable[[Search], int]  # after how many trials it ends; all of them: it does not


def below(share: float) -> Rule:
    """``regretBound: {below: …}``, such a part of the span."""
    return lambda made: next(
        (each.trials for each in made.looks if (each.bound or math.inf) < share * made.span), TRIALS
    )


def within_error(made: Search) -> int:
    """``regretBound: {}`` with replicates."""
    return next((each.trials for each in made.looks if (each.bound or math.inf) < (each.error or 0.0)), TRIALS)


def no_improvement(made: Search) -> int:
    for trials in range(PATIENCE + 1, TRIALS):
        if made.reported[trials - 1] == made.reported[trials - 1 - PATIENCE]:
            return trials
    return TRIALS


RULES: Sequence[tuple[str, Rule]] = (
    ("`regretBound: {below: span / 10}`", below(0.1)),
    ("`regretBound: {below: span / 100}`", below(0.01)),
    (f"`noImprovement: {{trials: {PATIENCE}}}`", no_improvement),
)


def rows(name: str, made: Sequence[Search], rules: Sequence[tuple[str, Rule]]) -> Iterator[str]:
    """One line for each rule, over the searches with several seeds."""
    for told, rule in rules:
        ends = [rule(each) for each in made]
        early = [(each, end) for each, end in zip(made, ends, strict=True) if end < TRIALS]
        saved = statistics.mean(1 - end / TRIALS for end in ends)
        left = [each.true[end - 1] / each.span for each, end in early]
        lost = [(each.true[end - 1] - each.true[-1]) / each.span for each, end in early]
        figures = f"{max(left):.3f} | {max(lost):.3f}" if early else "| "
        yield f"| {name} | {told} | {len(early)} of {len(made)} | {saved:.0%} | {figures} |"


HEAD = f"""\
| function | `stop` | ended early | trials saved of {TRIALS} | left to gain then, at worst | lost by it, at worst |
| --- | --- | --- | --- | --- | --- |"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.bench.regret", description=__doc__)
    parser.add_argument("functions", nargs="*", help="names; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    print(HEAD, flush=True)
    for function in FUNCTIONS:
        if options.functions and function.name not in options.functions:
            continue
        made = [search(function, 0.0, seed) for seed in range(options.seeds)]
        print(*rows(function.name, made, RULES), sep="\n", flush=True)
        if function.name in NOISE:
            made = [search(function, NOISE[function.name], seed) for seed in range(options.seeds)]
            name = f"{function.name}, noise {NOISE[function.name]:g}, {RUNS} replicates"
            print(*rows(name, made, [("`regretBound: {}`", within_error), RULES[-1]]), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
