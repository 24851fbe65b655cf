"""Whether the bounds on what TPE is shown cost quality: against plain Optuna with everything in view.

Each pair of runs shares its function, its seed and 600 random trials that both have in view from the beginning, so that
the bounds hold from the first ask on. Then 100 slots ask 200 times, each when a trial of random length ends (lengths,
too, are the pair's). Normalised regret: what is left, at the end, of the regret of the best random trial.
"""

import contextlib
import dataclasses
import heapq
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import optuna

from dev.bench.functions import FUNCTIONS, Function
from dev.bench.result import Goal, Result, judge
from kubetune.api.spec import Algorithm, Double, ExperimentSpec, Objective
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import tpe
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space

NAMES = ("quality",)
SEEDS, QUICK_SEEDS = 30, 1
SECONDS, QUICK_SECONDS = 680.0, 35.0  # then it ends with what there is; the frame's budget is a little more
BEFORE, ASKS, SLOTS = 600, 200, 100
GOAL = Goal("ratio", "<=", 1.05)


class Side(Protocol):
    """One of the two: asks for a trial, and is told what became of it."""

    def ask(self) -> tuple[int, list[float]]: ...

    def tell(self, number: int, value: float) -> None: ...


def spec_of(function: Function, seed: int) -> ExperimentSpec:
    return ExperimentSpec(
        namespace="bench",
        name=function.name,
        uid="",
        generation=1,
        objectives=(Objective("y", "minimize"),),
        parameters={f"x{place}": Double(low, high) for place, (low, high) in enumerate(function.box)},
        template={},
        sampler=Algorithm("tpe"),
        seed=seed,
    )


class Ours:
    """kubetune's sampler and history, as the engine uses them."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._sampler = samplers.build(spec)
        self._history = History(spec.objectives, spec.parameters)

    def before(self, x: Sequence[float], value: float) -> None:
        self._history.add(Past(len(self._history), TrialState.COMPLETE, _named(x), (value,)))

    def ask(self) -> tuple[int, list[float]]:
        number = len(self._history)
        params = self._sampler.suggest(self._history, number)
        self._history.add(Past(number, TrialState.RUNNING, params))
        return number, [float(params[name]) for name in sorted(params)]

    def tell(self, number: int, value: float) -> None:
        self._history.replace(dataclasses.replace(self._history[number], state=TrialState.COMPLETE, values=(value,)))


class Plain:
    """Optuna with its storage in memory and a sampler for each ask, from the seed that kubetune takes for that trial:
    as long as both see the same, they draw the same."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._spec = spec
        self._space = space.distributions_of(spec.parameters)
        self._study = optuna.create_study()
        self._running: dict[int, optuna.Trial] = {}

    def before(self, x: Sequence[float], value: float) -> None:
        self._study.add_trial(optuna.trial.create_trial(params=_named(x), distributions=self._space, value=value))

    def ask(self) -> tuple[int, list[float]]:
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(seed=seed_of(self._spec, number))
        trial = self._study.ask(self._space)
        self._running[trial.number] = trial
        return trial.number, [trial.params[name] for name in self._space]

    def tell(self, number: int, value: float) -> None:
        self._study.tell(self._running.pop(number), value)


def _named(x: Sequence[float]) -> dict[str, float]:
    return {f"x{place}": value for place, value in enumerate(x)}


@dataclasses.dataclass(frozen=True)
class Pair:
    """One function and seed. Normalised regrets."""

    function: str
    ours: float
    plain: float


def pair(index: int, seed: int) -> Pair:
    """Both sides of one function and seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    function = FUNCTIONS[index]
    return Pair(function.name, regret(Ours, function, seed), regret(Plain, function, seed))


def regret(make: Callable[[ExperimentSpec], Ours | Plain], function: Function, seed: int) -> float:
    """What one side leaves of the regret that it began with."""
    dice = random.Random(f"{function.name} {seed}")
    side = make(spec_of(function, seed))
    drawn = [[dice.uniform(low, high) for low, high in function.box] for _ in range(BEFORE)]
    values = [function.value(x) for x in drawn]
    for x, value in zip(drawn, values, strict=True):
        side.before(x, value)
    reached = min(values)
    return (asynchronous(side, function, dice, reached) - function.least) / (reached - function.least)


def asynchronous(side: Side, function: Function, dice: random.Random, reached: float) -> float:
    """The best value after ASKS trials on SLOTS slots."""
    ends: list[tuple[float, int, list[float]]] = []
    now = 0.0
    for asked in range(ASKS):
        if asked >= SLOTS:
            now, number, x = heapq.heappop(ends)
            side.tell(number, function.value(x))
        number, x = side.ask()
        reached = min(reached, function.value(x))
        heapq.heappush(ends, (now + dice.lognormvariate(0.0, 0.5), number, x))
    return reached


def pairs(seeds: int, seconds: float) -> list[Pair]:
    """All functions for one seed after the other, on all cores; when time is up, what there is by then.

    Raises:
        RuntimeError: not one pair was done.
    """
    end = time.monotonic() + seconds
    made: list[Pair] = []
    todo = [(index, seed) for seed in range(seeds) for index in range(len(FUNCTIONS))]
    with multiprocessing.get_context("spawn").Pool() as pool:
        results = pool.imap_unordered(_pair, todo)
        with contextlib.suppress(StopIteration, multiprocessing.TimeoutError):
            while True:
                made.append(results.next(max(0.0, end - time.monotonic())))
    if not made:
        raise RuntimeError(f"not one pair was done in {seconds:.0f} s")
    return made


def _pair(of: tuple[int, int]) -> Pair:
    return pair(*of)


def mean_ratio(made: Sequence[Pair]) -> float:
    return statistics.fmean(each.ours for each in made) / statistics.fmean(each.plain for each in made)


def interval(made: Sequence[Pair], draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of the ratio: pairs drawn again from those of each function, where it has several."""
    dice = random.Random(0)
    groups = list(by_function(made).values())
    if min(map(len, groups)) < 2:
        groups = [list(made)]
    ratios = sorted(
        mean_ratio([each for group in groups for each in dice.choices(group, k=len(group))]) for _ in range(draws)
    )
    return ratios[round(0.025 * draws)], ratios[round(0.975 * draws) - 1]


def by_function(made: Sequence[Pair]) -> dict[str, list[Pair]]:
    return {function.name: [each for each in made if each.function == function.name] for function in FUNCTIONS}


def run(quick: bool) -> list[Result]:
    made = pairs(QUICK_SEEDS if quick else SEEDS, QUICK_SECONDS if quick else SECONDS)
    for name, group in by_function(made).items():
        if group:
            ours, plain = (statistics.fmean(getattr(each, side) for each in group) for side in ("ours", "plain"))
            print(f"  {name:16} {len(group):3} pairs  kubetune {ours:.3f}  Optuna {plain:.3f}", flush=True)
    return [result(made, quick)]


def result(made: Sequence[Pair], quick: bool) -> Result:
    """In the full form fewer than SEEDS seeds do not count. The quick one has too few pairs to tell 5 %: there the goal
    holds unless the whole interval is above it."""
    low, high = interval(made)
    seeds = min(len(group) for group in by_function(made).values())
    note = (
        f"95 % interval of the ratio {low:.3f} to {high:.3f}; {len(made)} pairs, {seeds} seeds of all functions,"
        f" {SLOTS} slots, {ASKS} asks after {BEFORE} random trials; TPE is shown the best {tpe.BEST}, the latest"
        f" {tpe.LATEST} and {tpe.RUNNING} running"
    )
    ours, plain = (statistics.fmean(getattr(each, side) for each in made) for side in ("ours", "plain"))
    judged = judge("quality", ours, "of random's regret", plain, GOAL, note)
    return dataclasses.replace(judged, holds=low <= GOAL.bound if quick else judged.holds and seeds >= SEEDS)
