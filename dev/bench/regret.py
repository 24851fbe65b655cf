"""What ending an experiment early saves, and what it costs: `stop.regretBound` and `stop.noImprovement` on functions
whose least value is known, and on small trainings with cross-validation.

``python -m dev.bench.regret``. Each is searched by TPE, one trial at a time, with the whole budget; then it is looked
up where each rule would have ended it. Bounds are worked out as the engine does it, at the trials at which it does.
Losses are told in parts of the *span*: what lies between the median random trial and the least value there is.
"""

import argparse
import dataclasses
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from dev.bench.functions import FUNCTIONS, Function
from dev.bench.search.problem import doubles, vector
from dev.bench.search.standard import NOISE
from kubetune.api.spec import Algorithm, Double, ExperimentSpec, Objective, Parameter, Params
from kubetune.api.trial import TrialState
from kubetune.engine import regret, regret_model, samplers
from kubetune.engine.courses import noise
from kubetune.engine.history import History, Past

TRIALS, SEEDS, LEAST = 100, 4, 20
REPLICATES, FOLDS = 3, 5
PATIENCE = 30  # of `noImprovement`
DRAWN = 1001  # random points that a span is measured by
GRID = 21  # values of each parameter of a training, between which its least value is looked for
DATA = ("wine", "breast_cancer")


@dataclasses.dataclass(frozen=True)
class Task:
    """``runs``: what the runs of a trial come to, and the mean without noise. ``span``: of the random trials."""

    name: str
    parameters: Mapping[str, Parameter]
    runs: Callable[[Params, random.Random], tuple[Sequence[float], float]]
    folds: int
    least: float
    span: float


def plain(function: Function, deviation: float = 0.0) -> Task:
    """Of as many replicates, if there is noise."""

    def runs(params: Params, dice: random.Random) -> tuple[Sequence[float], float]:
        exact = function.value(vector(params))
        return [exact + dice.gauss(0.0, deviation) for _ in range(REPLICATES if deviation else 1)], exact

    dice = random.Random(0)
    drawn = [function.value([dice.uniform(*each) for each in function.box]) for _ in range(DRAWN)]
    name = f"{function.name}, noise {deviation:g}, {REPLICATES} replicates" if deviation else function.name
    span = statistics.median(drawn) - function.least
    return Task(name, doubles(function.box), runs, 1, function.least, span)


def training(data: str) -> Task:
    """A support vector machine's error by cross-validation, on data that come with scikit-learn."""
    from sklearn import datasets, model_selection, pipeline, preprocessing, svm

    given, wanted = getattr(datasets, f"load_{data}")(return_X_y=True)
    split = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    box: dict[str, Parameter] = {"C": Double(1e-3, 1e3, log=True), "gamma": Double(1e-5, 1e1, log=True)}

    def runs(params: Params, dice: random.Random) -> tuple[Sequence[float], float]:
        machine = svm.SVC(C=params["C"], gamma=params["gamma"])
        made = pipeline.make_pipeline(preprocessing.StandardScaler(), machine)
        found = (1 - model_selection.cross_val_score(made, given, wanted, cv=split)).tolist()
        return found, statistics.fmean(found)

    axis = [place / (GRID - 1) for place in range(GRID)]
    grid = [{"C": 10 ** (6 * one - 3), "gamma": 10 ** (6 * other - 5)} for one in axis for other in axis]
    values = [runs(params, random.Random(0))[1] for params in grid]
    name = f"SVM on {data.replace('_', ' ')}, {FOLDS} folds"
    return Task(name, box, runs, FOLDS, min(values), statistics.median(values) - min(values))


@dataclasses.dataclass(frozen=True)
class Look:
    """After so many trials: the bound, and the error of the best trial's value."""

    trials: int
    bound: float | None
    error: float | None


@dataclasses.dataclass(frozen=True)
class Search:
    """``left``: of the best trial so far, after each trial, how far it is from the least value; in parts of the span,
    as all of it is but for ``reported``, the best value so far."""

    left: Sequence[float]
    reported: Sequence[float]
    looks: Sequence[Look]


def search(task: Task, seed: int) -> Search:
    spec = ExperimentSpec(
        namespace="bench",
        name=task.name,
        uid="",
        generation=1,
        objectives=(Objective("y", "minimize"),),
        parameters=task.parameters,
        template={},
        sampler=Algorithm("tpe"),
        seed=seed,
    )
    sampler, history = samplers.build(spec), History(spec.objectives, spec.parameters)
    dice, spread = random.Random(seed), noise.Runs(task.folds)
    exact: list[float] = []
    told: list[Sequence[float]] = []
    left, reported, looks, due = [], [], [], LEAST
    for number in range(TRIALS):
        params = sampler.suggest(history, number)
        runs, value = task.runs(params, dice)
        spread.add(runs)
        exact.append(value)
        told.append(runs)
        history.add(Past(number, TrialState.COMPLETE, params, (statistics.fmean(runs),)))
        best = history.best(1)[0]
        left.append((exact[best] - task.least) / task.span)
        reported.append(statistics.fmean(told[best]))
        if number + 1 == due:
            looks.append(_look(spec, task, history, due, regret.error(task.folds, told[best], spread.noise)))
            due = regret.due(due, LEAST)
    return Search(left, reported, looks)


def _look(spec: ExperimentSpec, task: Task, history: History, trials: int, error: float | None) -> Look:
    params, values, penalties = history.ranked(regret.MOST)
    bound = regret_model.bound(spec, params, values[:, 0], penalties).value
    return Look(trials, None if bound is None else bound / task.span, None if error is None else error / task.span)


Rule = Callable[[Search], int]  # after how many trials it ends; all of them: it does not


def _first(made: Search, limit: Callable[[Look], float | None]) -> int:
    return next((each.trials for each in made.looks if (each.bound or math.inf) < (limit(each) or 0.0)), TRIALS)


def no_improvement(made: Search) -> int:
    for trials in range(PATIENCE + 1, TRIALS):
        if made.reported[trials - 1] == made.reported[trials - 1 - PATIENCE]:
            return trials
    return TRIALS


GIVEN: Sequence[tuple[str, Rule]] = (
    ("`regretBound: {below: span / 10}`", lambda made: _first(made, lambda look: 0.1)),
    ("`regretBound: {below: span / 100}`", lambda made: _first(made, lambda look: 0.01)),
)
BY_ERROR: Sequence[tuple[str, Rule]] = (("`regretBound: {}`", lambda made: _first(made, lambda look: look.error)),)
PATIENT: Sequence[tuple[str, Rule]] = ((f"`noImprovement: {{trials: {PATIENCE}}}`", no_improvement),)


def rows(name: str, made: Sequence[Search], rules: Sequence[tuple[str, Rule]]) -> Iterator[str]:
    """One line for each rule, over the searches with several seeds."""
    for told, rule in rules:
        ends = [rule(each) for each in made]
        early = [(each, end) for each, end in zip(made, ends, strict=True) if end < TRIALS]
        saved = statistics.mean(1 - end / TRIALS for end in ends)
        left = max((each.left[end - 1] for each, end in early), default=math.nan)
        lost = max((each.left[end - 1] - each.left[-1] for each, end in early), default=math.nan)
        figures = f"{left:.3f} | {lost:.3f}" if early else "– | –"
        yield f"| {name} | {told} | {len(early)} of {len(made)} | {saved:.0%} | {figures} |"


HEAD = f"""\
| what is searched | `stop` | ended early | trials saved of {TRIALS} | left to gain then, at worst | \
lost by it, at worst |
| --- | --- | --- | --- | --- | --- |"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.bench.regret", description=__doc__)
    parser.add_argument("only", nargs="*", help="names of functions and data sets; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    wanted = [function for function in FUNCTIONS if not options.only or function.name in options.only]
    noisy = [function for function in wanted if function.name in NOISE]
    data = [each for each in DATA if not options.only or each in options.only]
    print(HEAD, flush=True)
    for made, rules in (
        ((plain(function) for function in wanted), GIVEN),
        ((plain(function, NOISE[function.name]) for function in noisy), BY_ERROR),
        (map(training, data), BY_ERROR),
    ):
        for task in made:
            found = [search(task, seed) for seed in range(options.seeds)]
            print(*rows(task.name, found, [*rules, *PATIENT]), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
