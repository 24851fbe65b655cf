"""CMA-ES: Optuna's draws one trial at a time, the same after a restart and in any order of asking, and it converges."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest

from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Double,
    ExperimentSpec,
    Int,
    InvalidSpec,
    Objective,
    Parameter,
    ParamValue,
)
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import cma_es, cma_strategy
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space
from tests.unit.engine_objects import ACCURACY, LOSS, SPACE, spec

cmaes = pytest.importorskip("cmaes")

SMOOTH: dict[str, Parameter] = {"a": Double(-5.0, 5.0), "b": Double(1e-3, 1e3, log=True), "c": Double(0.0, 2.0)}
MIXED: dict[str, Parameter] = {
    **SMOOTH,
    "n": Int(-20, 20),
    "s": Double(0.0, 1.0, step=0.1),
    "k": Int(1, 256, log=True),
    "kind": Categorical(("x", "y")),
    "size": Categorical(("S", "M", "L"), ordered=True),
    "one": Categorical(("same",)),
}

UP = Objective("loss", "maximize")
Params = Mapping[str, ParamValue]


def of(settings: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    return spec(sampler=Algorithm("cmaes", settings or {}), **{"parameters": SMOOTH, "seed": 5, **changes})


def bowl(params: Params) -> float:
    """Least at a = 1, b = 10, c = 0.5, n = 3, s = 0.7, k = 32."""
    wanted = {"a": 1.0, "b": 1.0, "c": 0.5, "n": 0.3, "s": 0.7, "k": 1.5}
    scaled = {name: float(value) for name, value in params.items() if name in wanted}
    for name in ("b", "k"):
        if name in scaled:
            scaled[name] = math.log10(scaled[name])
    if "n" in scaled:
        scaled["n"] /= 10
    return sum((value - wanted[name]) ** 2 for name, value in scaled.items())


def rosenbrock(params: Params) -> float:
    x = [float(value) for _, value in sorted(params.items())]
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def run(
    made: ExperimentSpec,
    count: int,
    loss: Callable[[Params], float] = bowl,
    parallel: int = 1,
    ends: Callable[[int], TrialState] = lambda number: TrialState.COMPLETE,
) -> History:
    """Ask with so many under way, of which each time one ends that is drawn at random; times are those of ending."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    rng, running, now = np.random.default_rng(0), [], 0.0
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        running.append(number)
        if len(running) == parallel:
            first, now = running.pop(int(rng.integers(parallel))), now + 1.0
            trial, state = history[first], ends(first)
            value = loss(trial.params)
            values = (value,) if state is TrialState.COMPLETE else None
            history.replace(Past(first, state, trial.params, values, (7, value), now))
    return history


def best(history: History) -> float:
    return min(trial.values[0] for trial in history if trial.values)


def copied(history: History, times: Mapping[int, float]) -> History:
    made = History([LOSS], {**MIXED} if "n" in history[0].params else SMOOTH)
    made.load(Past(t.number, t.state, t.params, t.values, t.last, times.get(t.number, 0.0)) for t in history)
    return made


class _Seeds:
    """In place of Optuna's generator: each trial from our seed of it."""

    def __init__(self, made: ExperimentSpec) -> None:
        self._made = made
        self.number = 0

    @property
    def rng(self) -> "_Seeds":
        return self

    def randint(self, low: int, high: int) -> int:
        return 1 if high > 2**16 else seed_of(self._made, self.number) - self.number


def optunas(made: ExperimentSpec, count: int, ends: Callable[[int], TrialState], **settings: Any) -> list[Params]:
    """What Optuna's own sampler asks for, one trial after the other."""
    study = optuna.create_study(direction=made.objectives[0].direction)
    known = Asker(made)._distributions  # choices with an order are whole numbers in it
    sign = 1.0 if made.objectives[0].direction == "minimize" else -1.0
    sampler = optuna.samplers.CmaEsSampler(warn_independent_sampling=False, **settings)
    study.sampler, seeds = sampler, _Seeds(made)
    sampler._cma_rng = seeds  # type: ignore[assignment]
    for number in range(count):
        seeds.number = number
        sampler._independent_sampler = optuna.samplers.RandomSampler(seed_of(made, number))
        trial = study.ask(known)
        value = sign * bowl(trial.params)
        if ends(number) is TrialState.COMPLETE:
            study.tell(trial, value)
        else:
            trial.report(value, 7)
            study.tell(trial, state=optuna.trial.TrialState[ends(number).name])
    return [trial.params for trial in study.trials]


def complete(number: int) -> TrialState:
    return TrialState.COMPLETE


def mixed_ends(number: int) -> TrialState:
    return [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL][number % 4]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("settings", "theirs", "parameters", "ends", "objective"),
    [
        ({}, {}, SMOOTH, complete, LOSS),
        (
            {"nStartupTrials": 12, "popsize": 5, "sigma0": 0.3},
            {"n_startup_trials": 12, "popsize": 5, "sigma0": 0.3},
            SMOOTH,
            complete,
            LOSS,
        ),
        ({"withMargin": False}, {}, MIXED, complete, LOSS),
        ({}, {"with_margin": True}, MIXED, complete, LOSS),
        ({}, {"with_margin": True}, MIXED, mixed_ends, UP),
        ({"useSeparableCma": True}, {"use_separable_cma": True}, MIXED, complete, LOSS),
        ({"lrAdapt": True}, {"lr_adapt": True}, MIXED, complete, LOSS),
        ({}, {}, SMOOTH, mixed_ends, UP),
        ({"considerPrunedTrials": True}, {"consider_pruned_trials": True}, SMOOTH, mixed_ends, UP),
    ],
)
def test_one_at_a_time_draws_are_optunas(
    settings: Mapping[str, Any],
    theirs: Mapping[str, Any],
    parameters: dict[str, Parameter],
    ends: Callable[[int], TrialState],
    objective: Objective,
) -> None:
    made = of(settings, parameters=parameters, objectives=(objective,))
    sign = 1.0 if objective.direction == "minimize" else -1.0
    ours = run(made, 70, lambda params: sign * bowl(params), ends=ends)
    expected = optunas(made, 70, ends, **theirs)
    for trial, params in zip(ours, expected, strict=True):
        for name, value in params.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-9)
            assert Asker(made).told(trial.params)[name] == near, (trial.number, name)


def test_a_warm_start_draws_from_the_distribution_of_the_best_tenth() -> None:
    """As the cmaes library, given the startup trials, has it."""
    history = run(of({"warmStart": True, "nStartupTrials": 40}), 44)
    cube = np.array(
        [
            [(float(p["a"]) + 5) / 10, (math.log10(float(p["b"])) + 3) / 6, float(p["c"]) / 2]
            for p in (t.params for t in history)
        ]
    )
    source = [(cube[number], bowl(history[number].params)) for number in range(40)]
    mean, sigma, cov = cmaes.get_warm_start_mgd(source)
    reference = cmaes.CMA(mean=mean, sigma=sigma, cov=cov, bounds=np.array([[0.0, 1.0]] * 3), n_max_resampling=30)
    for number in range(40, 44):
        reference.reseed_rng(seed_of(of(), number))
        assert cube[number] == pytest.approx(reference.ask(), abs=1e-12)


@pytest.mark.parametrize("settings", [{}, {"warmStart": True, "nStartupTrials": 20}, {"popsize": 4}])
@pytest.mark.parametrize("parameters", [SMOOTH, MIXED])
def test_a_restart_in_the_middle_asks_the_same(settings: Mapping[str, Any], parameters: dict[str, Parameter]) -> None:
    made = of(settings, parameters=parameters)
    sampler, history, now = samplers.build(made), History([LOSS], parameters), 0.0
    times: dict[int, float] = {}
    for number in range(60):
        params = sampler.suggest(history, number)
        if number % 13 == 12:
            assert samplers.build(made).suggest(copied(history, times), number) == params
            assert sampler.suggest(history, number) == params  # asking leaves nothing behind
        history.add(Past(number, TrialState.RUNNING, params))
        ending = number ^ 3  # out of order, four at a time
        if ending < number:
            now += 1.0
            times[ending] = now
            trial = history[ending]
            history.replace(Past(ending, TrialState.COMPLETE, trial.params, (bowl(trial.params),), None, now))


def test_draws_do_not_depend_on_what_was_asked_of_the_sampler_before() -> None:
    """One sampler, kept for several experiments' pasts in turn, as a process has it."""
    made = of()
    one, other, shared = run(made, 40), run(made, 33, parallel=5), samplers.build(made)
    for history in (one, other, one):
        assert shared.suggest(history, 50) == samplers.build(made).suggest(history, 50)


def test_with_many_under_way_every_result_is_learned_from_and_it_still_converges() -> None:
    alone, together = run(of(), 400), run(of(), 400, parallel=20)
    assert best(alone) < 1e-6
    assert best(together) < 1e-3


def test_margin_keeps_an_integer_moving() -> None:
    """Losses from the mixed bowl: the steps and integers are found with the others."""
    history = run(of(parameters=MIXED), 500)
    found = min(history, key=lambda trial: trial.values or (math.inf,)).params
    assert found["n"] == 3
    assert found["s"] == pytest.approx(0.7)


def test_converges_where_the_axes_depend_on_each_other() -> None:
    valley: dict[str, Parameter] = {f"x{place}": Double(-2.0, 2.0) for place in range(2)}
    ends = [best(run(of(parameters=valley, seed=seed), 600, rosenbrock)) for seed in range(3)]
    assert statistics.median(ends) < 1e-6


@pytest.mark.parametrize("strategy", ["ipop", "bipop"])
def test_after_convergence_a_restart_looks_elsewhere_with_other_generations(strategy: str) -> None:
    """A flat objective is converged at once; without restarts the next draws stay where they are."""
    made = of({"restartStrategy": strategy})
    sizes: list[int] = []
    sampler = samplers.build(made)
    assert isinstance(sampler, cma_es.CmaEsSampler)
    history = History([LOSS], SMOOTH)
    for number in range(1500):
        params = sampler.suggest(history, number)
        history.add(Past(number, TrialState.COMPLETE, params, (1.0,), None, float(number)))
        size = sampler._replay.at(history.view(0, 0, 0, True).past)._optimizer.population_size
        if sizes[-1:] != [size]:
            sizes.append(size)
    assert sizes[:3] == [7, 14, 28] if strategy == "ipop" else sizes[:2] == [7, 14]
    assert strategy == "ipop" or any(size < 14 for size in sizes[2:])


def test_infinite_losses_rank_last_and_break_nothing() -> None:
    def loss(params: Params) -> float:
        return math.inf if float(params["a"]) < 0 else bowl(params)

    assert best(run(of(), 200, loss)) < 1e-2


@pytest.mark.parametrize("settings", [{}, {"withMargin": False}, {"useSeparableCma": True}, {"lrAdapt": True}])
def test_values_are_within_the_space_and_plain_python(settings: Mapping[str, Any]) -> None:
    known = space.distributions_of(dict(sorted(MIXED.items())))
    for trial in run(of(settings, parameters=MIXED), 60, parallel=3):
        assert trial.params.keys() == MIXED.keys()
        for name, value in trial.params.items():
            assert known[name]._contains(known[name].to_internal_repr(value)), (name, value)
            assert type(value) in (float, int, str)


def test_a_discrete_space_is_not_asked_twice_while_points_are_left() -> None:
    few: dict[str, Parameter] = {"n": Int(0, 5), "s": Double(0.0, 1.0, step=0.25)}
    history = run(of(parameters=few), 30, lambda params: float(params["n"]), parallel=4)
    assert len({str(sorted(trial.params.items())) for trial in history}) == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": (LOSS, ACCURACY)}, "sampler.name: cmaes takes one objective"),
        ({"parameters": {"kind": MIXED["kind"]}}, "sampler.name: cmaes needs a double or an int"),
        ({"settings": {"sigma0": 0}}, "sampler.settings.sigma0: needs a number from 1e-10 to 1, but is 0"),
        ({"settings": {"popsize": 1}}, "sampler.settings.popsize: needs a whole number of at least 2, but is 1"),
        ({"settings": {"withMargin": True, "useSeparableCma": True}}, "sampler.settings.withMargin: excludes"),
        ({"settings": {"withMargin": True, "lrAdapt": True}}, "sampler.settings.lrAdapt: excludes"),
        ({"settings": {"warmStart": True}}, "sampler.settings.nStartupTrials: warmStart begins where"),
        ({"settings": {"warmStart": True, "sigma0": 0.1}}, "sampler.settings.warmStart: excludes"),
        ({"settings": {"restartStrategy": "all"}}, "sampler.settings.restartStrategy: needs one of ipop, bipop, none"),
    ],
)
def test_refuses_what_it_cannot_do(changes: dict[str, Any], message: str) -> None:
    settings = changes.pop("settings", {})
    with pytest.raises(InvalidSpec) as error:
        samplers.build(of(settings, **changes))
    assert str(error.value).startswith(message)


def test_a_trial_is_recognised_among_the_distributions_that_it_may_be_of() -> None:
    """With margin CMA-ES learns from what was drawn before rounding: found again by seed, from many generations ago."""
    strangers: list[int] = []
    drawn = cma_strategy.Strategy._drawn

    def noted(self: cma_strategy.Strategy, *arguments: Any) -> Any:
        raw = drawn(self, *arguments)
        strangers.append(self._strangers)
        return raw

    mixed: dict[str, Parameter] = {**SPACE, "x": Double(0.0, 1.0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cma_strategy.Strategy, "_drawn", noted)
        history = run(of(parameters=mixed), 150, lambda params: float(params["x"]), parallel=25)
        assert len(strangers) > 100
        assert set(strangers) == {0}
        made = History([LOSS], mixed)  # of somebody else's choosing
        for trial in history:
            params = {**trial.params, "x": 1 - float(trial.params["x"])}
            made.add(Past(trial.number, TrialState.COMPLETE, params, (0.5,), None, float(trial.number)))
        samplers.build(of(parameters=mixed)).suggest(made, 150)
    assert strangers[-1] == 149
