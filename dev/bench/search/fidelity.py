"""Trials that report step by step and may be stopped: samplers with pruners, at equal cost in steps.

Curves are real (networks of scikit-learn on its digits, every one of a table trained once) or made of a function whose
least value is known, told more and more exactly: in one problem the first steps tell the truth, in the other the best
ones begin worst.
"""

import dataclasses
import functools
import heapq
import itertools
import json
import math
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from dev.bench.search.problem import doubles, seed_in, vector
from dev.bench.search.race import SLOTS, Run
from dev.bench.search.standard import BY_NAME
from kubetune.api import names
from kubetune.api.spec import Algorithm, Categorical, ExperimentSpec, Int, Objective, Parameter, Params, ParamValue
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import pruners, samplers
from kubetune.engine.curve import Curve
from kubetune.engine.history import History, Past
from kubetune.storage import space
from kubetune.storage.base import Mark

STEPS = 27
WHOLE = 30  # whole trials: the budget in steps, by STEPS
HALVING = {"reductionFactor": 3}
BAND = {"maxResource": STEPS, "reductionFactor": 3}


@dataclasses.dataclass(frozen=True)
class Curves:
    """A problem whose trials have the values ``curve(params)`` after 1, 2, … `STEPS` steps, to be minimised."""

    name: str
    parameters: Mapping[str, Parameter]
    curve: Callable[[Params], Sequence[float]]
    least: float

    def spec(self, seed: int, sampler: str, pruner: str, settings: Mapping[str, Any]) -> ExperimentSpec:
        return ExperimentSpec(
            namespace="bench",
            name=self.name,
            uid=f"seed-{seed}",  # Hyperband's brackets follow from it
            generation=1,
            objectives=(Objective("y", "minimize"),),
            parameters=self.parameters,
            template={},
            sampler=Algorithm(sampler),
            pruner=Algorithm(pruner, settings),
            max_trials=10_000,
            seed=seed,
        )


class OurSide:
    def __init__(self, problem: Curves, seed: int, sampler: str, pruner: str, settings: Mapping[str, Any]) -> None:
        spec = problem.spec(seed, sampler, pruner, settings)
        self._sampler, self._pruner = samplers.build(spec), pruners.build(spec)
        self._history = History(spec.objectives, spec.parameters)
        self._curves: dict[int, Curve] = {}

    def ask(self) -> dict[str, ParamValue]:
        number = len(self._history)
        params = self._sampler.suggest(self._history, number)
        self._history.add(Past(number, TrialState.RUNNING, params))
        self._curves[number] = Curve(False, number)
        return params

    def report(self, number: int, step: int, value: float) -> bool:
        curve = self._curves[number]
        curve.add(step, value)
        self._history.replace(dataclasses.replace(self._history[number], last=(step, value)))
        return self._pruner.prune(curve) is not None

    def end(self, number: int, pruned: bool, now: float) -> None:
        curve = self._curves.pop(number)
        assert curve.last is not None
        state, reason = TrialState.COMPLETE, Reason.COMPLETED
        if pruned:
            state, reason = TrialState.PRUNED, Reason.PRUNED
        past = self._history[number]
        values = None if pruned else (curve.last[1],)
        self._history.replace(dataclasses.replace(past, state=state, values=values, last=curve.last, ended=now))
        self._pruner.ended(curve, state, curve.series(), Mark(number, reason, curve.last[1], curve.rung))


class OptunaSide:
    """In a study of the same name, so that Hyperband has the same brackets."""

    def __init__(self, problem: Curves, seed: int, sampler: str, pruner: optuna.pruners.BasePruner) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        spec = problem.spec(seed, "random", "none", {})
        made: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if sampler == "tpe":
            made = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        name = names.study_name(spec.namespace, spec.name, spec.uid)
        self._study = optuna.create_study(study_name=name, sampler=made, pruner=pruner)
        self._space = space.distributions_of(problem.parameters)
        self._running: dict[int, tuple[optuna.Trial, float]] = {}

    def ask(self) -> dict[str, ParamValue]:
        trial = self._study.ask(self._space)
        self._running[trial.number] = trial, math.inf
        return dict(trial.params)

    def report(self, number: int, step: int, value: float) -> bool:
        trial, _ = self._running[number]
        self._running[number] = trial, value
        trial.report(value, step)
        return bool(trial.should_prune())

    def end(self, number: int, pruned: bool, now: float) -> None:
        trial, value = self._running.pop(number)
        if pruned:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, value)


def run(problem: Curves, entrant: str, side: OurSide | OptunaSide, seed: int) -> Run:
    """Steps on `SLOTS` slots until the budget is spent. `Run.reached`: the best complete trial after the cost of so
    many whole ones; `Run.cost`: of a trial, its reports included."""
    budget, spent, best, asked = WHOLE * STEPS, 0.0, math.inf, 0
    due: list[tuple[float, int, int, Sequence[float]]] = []
    reached: list[float] = []
    now = 0.0

    def begin() -> None:
        nonlocal asked
        curve = problem.curve(side.ask())
        heapq.heappush(due, (now + _pace(seed, asked), asked, 1, curve))
        asked += 1

    begun = time.process_time()
    for _ in range(SLOTS):
        begin()
    for steps in range(1, budget + 1):
        now, number, step, curve = heapq.heappop(due)
        stopped = side.report(number, step, curve[step - 1]) and step < STEPS
        if stopped or step == STEPS:
            side.end(number, stopped, now)
            best = best if stopped else min(best, curve[-1])
            begin()
        else:
            heapq.heappush(due, (now + _pace(seed, number), number, step + 1, curve))
        if steps % STEPS == 0:
            reached.append(best)
    spent = time.process_time() - begun
    return Run("fidelity", problem.name, entrant, seed, tuple(reached), round(1e3 * spent / asked, 3))


@functools.lru_cache(maxsize=4096)
def _pace(seed: int, number: int) -> float:
    """How long a step of that trial takes; the same whoever asked for it."""
    return math.exp(0.5 * math.sin(12.9898 * (number + 1) + 78.233 * (seed + 1)))


ENTRANTS: Sequence[tuple[str, str, str, Mapping[str, Any]]] = (  # name, sampler, pruner, settings
    ("random", "random", "none", {}),
    ("random, median", "random", "median", {}),
    ("random, asha", "random", "asha", HALVING),
    ("random, hyperband", "random", "hyperband", BAND),
    ("tpe", "tpe", "none", {}),
    ("tpe, median", "tpe", "median", {}),
    ("tpe, percentile 25", "tpe", "percentile", {"percentile": 25}),
    ("tpe, asha", "tpe", "asha", HALVING),
    ("tpe, hyperband", "tpe", "hyperband", BAND),
    ("tpe, bandit", "tpe", "bandit", {"slackFactor": 0.1, "delayEvaluation": 3}),
    ("tpe, truncation", "tpe", "truncation", {"truncationPercentage": 20, "evaluationInterval": 3}),
    ("tpe, patience of median", "tpe", "patience", {"patience": 2, "pruner": {"name": "median"}}),
)
OPTUNA: Mapping[str, tuple[str, str, Callable[[], optuna.pruners.BasePruner]]] = {  # name: ours, sampler, pruner
    "Optuna: random, MedianPruner": ("random, median", "random", optuna.pruners.MedianPruner),
    "Optuna: TPE, NopPruner": ("tpe", "tpe", optuna.pruners.NopPruner),
    "Optuna: TPE, MedianPruner": ("tpe, median", "tpe", optuna.pruners.MedianPruner),
    "Optuna: TPE, SuccessiveHalvingPruner": (
        "tpe, asha",
        "tpe",
        lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    ),
    "Optuna: TPE, HyperbandPruner": (
        "tpe, hyperband",
        "tpe",
        lambda: optuna.pruners.HyperbandPruner(1, STEPS, 3),
    ),
}


def runs(problem: Curves, seed: int) -> Mapping[str, Callable[[], Run]]:
    """Each entrant's, by name."""
    made: dict[str, Callable[[], Run]] = {}
    own = seed_in(problem.name, seed)
    for name, sampler, pruner, settings in ENTRANTS:
        side = functools.partial(OurSide, problem, own, sampler, pruner, settings)
        made[name] = functools.partial(_run, problem, name, side, seed)
    for name, (_, sampler, make) in OPTUNA.items():
        theirs = functools.partial(_theirs, problem, own, sampler, make)
        made[name] = functools.partial(_run, problem, name, theirs, seed)
    return made


def _run(problem: Curves, name: str, make: Callable[[], OurSide | OptunaSide], seed: int) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return run(problem, name, make(), seed)


def _theirs(problem: Curves, seed: int, sampler: str, make: Callable[[], optuna.pruners.BasePruner]) -> OptunaSide:
    return OptunaSide(problem, seed, sampler, make())


# ---- the problems


def told(least: float, function: Callable[[Sequence[float]], float], late: bool, params: Params) -> list[float]:
    """The function's value and what is left of an error that is gone at the last step: by a wave of the parameters or,
    ``late``, the larger the better the value is."""
    x = vector(params)
    value = function(x)
    wave = 0.5 + 0.5 * math.sin(7.0 * math.fsum(x))
    error = 2.0 * math.exp(-(value - least)) if late else 0.5 * wave
    return [value + error * ((STEPS - step) / (STEPS - 1)) ** 2 for step in range(1, STEPS + 1)]


def made_up(name: str, late: bool) -> Curves:
    function = BY_NAME["hartmann6"]
    curve = functools.partial(told, function.least, function.value, late)
    return Curves(name, doubles(function.box), curve, function.least)


RATES, ALPHAS, WIDTHS, BATCHES = 10, 3, 4, 2
TABLE: dict[str, Parameter] = {
    "rate": Int(0, RATES - 1),  # 10^(-4.5 + rate / 2)
    "alpha": Int(0, ALPHAS - 1),  # 10^(-6 + 3 alpha)
    "width": Int(0, WIDTHS - 1),  # 2^(3 + width) units
    "activation": Categorical(("relu", "tanh", "logistic")),
    "batch": Int(0, BATCHES - 1),  # 32, 128
}


def digits(folder: pathlib.Path) -> Curves:
    """Validation error of networks on scikit-learn's digits; trained in three minutes of CPU, once."""
    path = folder / f"digits-{STEPS}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(_trained()))
        half.replace(path)
    table = {tuple(key): curve for key, curve in json.loads(path.read_text())}
    least = min(curve[-1] for curve in table.values())
    return Curves("digits-networks", TABLE, lambda params: table[tuple(params[name] for name in TABLE)], least)


def _trained() -> list[tuple[list[ParamValue], list[float]]]:
    import numpy as np
    from sklearn import datasets, model_selection, neural_network

    x, y = datasets.load_digits(return_X_y=True)
    x, held, y, wanted = model_selection.train_test_split(x / 16.0, y, test_size=0.5, random_state=0)
    made: list[tuple[list[ParamValue], list[float]]] = []
    cells = itertools.product(range(RATES), range(ALPHAS), range(WIDTHS), ("relu", "tanh", "logistic"), range(BATCHES))
    for rate, alpha, width, activation, batch in cells:
        network = neural_network.MLPClassifier(
            (2 ** (3 + width),),
            activation=activation,
            learning_rate_init=10 ** (-4.5 + rate / 2),
            alpha=10.0 ** (-6 + 3 * alpha),
            batch_size=(32, 128)[batch],
            random_state=0,
        )
        curve = []
        for _ in range(STEPS):
            network.partial_fit(x, y, classes=np.arange(10))
            curve.append(round(1 - float(network.score(held, wanted)), 6))
        made.append(([rate, alpha, width, activation, batch], curve))
    return made


PROBLEMS: Mapping[str, Callable[[pathlib.Path], Curves]] = {  # by name, given the folder for what is kept
    "hartmann6-steps": lambda folder: made_up("hartmann6-steps", late=False),
    "hartmann6-late": lambda folder: made_up("hartmann6-late", late=True),
    "digits-networks": digits,
}
QUICK = ("hartmann6-steps", "hartmann6-late")
