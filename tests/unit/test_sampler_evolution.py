"""Differential and regularised evolution: their papers' steps, in the space, the same after a restart; they search."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
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
from kubetune.engine.samplers import differential
from kubetune.storage import space
from tests.unit.engine_objects import ACCURACY, LOSS, MIXED, spec

BOTH = ["differentialEvolution", "regularizedEvolution"]
SMOOTH: dict[str, Parameter] = {f"x{place}": Double(-5.0, 5.0) for place in range(4)}
CELL: dict[str, Parameter] = {f"op{place}": Categorical(("none", "skip", "conv", "pool", "sep")) for place in range(8)}

Params = Mapping[str, ParamValue]


def of(name: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    return spec(sampler=Algorithm(name, settings or {}), **{"parameters": SMOOTH, "seed": 3, **changes})


def bowl(params: Params) -> float:
    return sum((float(value) - place) ** 2 for place, (_, value) in enumerate(sorted(params.items())))


def cell(params: Params) -> float:
    """A network's error: each operation has its own best place, and neighbours that repeat cost."""
    ops = [str(value) for _, value in sorted(params.items())]
    wrong = sum(op != ("conv", "skip", "sep", "pool")[place % 4] for place, op in enumerate(ops))
    return wrong + 0.5 * sum(one == other for one, other in itertools.pairwise(ops))


ENDS = {5: TrialState.FAIL, 11: TrialState.PRUNED}  # by number modulo 16; the others complete


def run(
    made: ExperimentSpec,
    count: int,
    loss: Callable[[Params], float],
    parallel: int = 1,
    ends: Mapping[int, TrialState] = ENDS,
) -> History:
    """Ask with so many under way, of which each time one ends that is drawn at random."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    rng, running, now = np.random.default_rng(0), [], 0.0
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        running.append(number)
        if len(running) == parallel:
            first, now = running.pop(int(rng.integers(parallel))), now + 1.0
            params = history[first].params
            state = ends.get(first % 16, TrialState.COMPLETE)
            values = (loss(params),) if state is TrialState.COMPLETE else None
            history.replace(Past(first, state, params, values, (3, 0.0), now))
    return history


def best(history: History) -> float:
    return min(trial.values[0] for trial in history if trial.values)


def mixed(params: Params) -> float:
    return float(params["a"]) + abs(math.log10(float(params["b"])) + 2) + (params["kind"] == "x") + bool(params["flag"])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("settings", [{}, {"populationSize": 5}])
def test_values_are_within_the_space_and_plain_python(name: str, settings: Mapping[str, Any]) -> None:
    known = space.distributions_of(dict(sorted(MIXED.items())))
    for trial in run(of(name, settings, parameters=MIXED), 150, mixed, parallel=4):
        assert trial.params.keys() == MIXED.keys()
        for key, value in trial.params.items():
            assert known[key]._contains(known[key].to_internal_repr(value)), (key, value)
            assert type(value) in (float, int, str, bool)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("parameters", [SMOOTH, CELL])
def test_a_restart_in_the_middle_asks_the_same(name: str, parameters: dict[str, Parameter]) -> None:
    made = of(name, {"populationSize": 10}, parameters=parameters)
    loss = bowl if parameters is SMOOTH else cell
    sampler, history, times, now = samplers.build(made), History([LOSS], parameters), dict[int, float](), 0.0
    for number in range(70):
        params = sampler.suggest(history, number)
        if number % 23 == 22:
            loaded = History([LOSS], parameters)
            loaded.load(Past(t.number, t.state, t.params, t.values, t.last, times.get(t.number, 0.0)) for t in history)
            assert samplers.build(made).suggest(loaded, number) == params
            assert sampler.suggest(history, number) == params
        history.add(Past(number, TrialState.RUNNING, params))
        ending = number ^ 7  # out of order, eight at a time
        if ending < number:
            now, trial = now + 1.0, history[ending]
            times[ending] = now
            history.replace(Past(ending, TrialState.COMPLETE, trial.params, (loss(trial.params),), None, now))


@pytest.mark.parametrize("name", BOTH)
def test_draws_depend_on_the_seed_and_with_directions_turned_stay_the_same(name: str) -> None:
    up = Objective("loss", "maximize")
    plain = run(of(name, {"populationSize": 10}), 60, bowl)
    turned = run(of(name, {"populationSize": 10}, objectives=(up,)), 60, lambda params: -bowl(params))
    other = run(of(name, {"populationSize": 10}, seed=4), 60, bowl)
    assert [trial.params for trial in plain] == [trial.params for trial in turned]
    assert plain[59].params != other[59].params


@pytest.mark.parametrize("name", BOTH)
def test_a_discrete_space_is_not_asked_twice_while_points_are_left(name: str) -> None:
    few: dict[str, Parameter] = {"n": Int(0, 5), "kind": MIXED["kind"], "flag": MIXED["flag"]}
    history = run(of(name, {"populationSize": 5}, parameters=few), 36, lambda params: float(params["n"]), parallel=4)
    assert len({str(sorted(trial.params.items())) for trial in history}) == 36


# ---- differential evolution


@pytest.mark.parametrize("strategy", ["rand1bin", "best1bin"])
def test_mixes_as_scipy_does(strategy: str) -> None:
    """The mutant of the same trials, and where it leaves the bounds its mirror image inside."""
    de = pytest.importorskip("scipy.optimize._differentialevolution")
    solver = de.DifferentialEvolutionSolver(
        lambda x: float(np.sum((x - 0.3) ** 2)), [(0, 1)] * 4, strategy=strategy, mutation=0.8, popsize=5, rng=1
    )
    solver._calculate_population_energies(solver.population)
    solver.scale = 0.8
    solver.population_energies = np.array([np.sum((x - 0.3) ** 2) for x in solver.population])
    solver._promote_lowest_energy()  # scipy's best is at place 0
    for samples in ([3, 7, 1], [10, 2, 4], [5, 0, 9]):
        numbers = np.array(samples)
        if strategy == "rand1bin":
            theirs = solver._rand1(numbers)
            points = solver.population[samples]
        else:
            theirs = solver._best1(numbers)
            points = solver.population[[0, *samples[:2]]]
        assert differential.mixed(points, 0.8) == pytest.approx(theirs, abs=1e-15)
    assert differential.reflected(np.array([-0.2, 0.4, 1.3, 2.1, -1.6])) == pytest.approx([0.2, 0.4, 0.7, 0.1, 0.4])


def test_a_place_is_held_by_its_best_trial_whichever_ended_first() -> None:
    """And by nobody that was pruned or failed."""
    losses = {0: 5.0, 1: 4.0, 10: 3.0, 11: 6.0, 20: 4.0}
    for order in ([0, 1, 10, 11, 20], [20, 11, 10, 1, 0]):
        history = History([LOSS], SMOOTH)
        for number in range(30):
            history.add(Past(number, TrialState.RUNNING, dict.fromkeys(SMOOTH, number / 10)))
        for time, number in enumerate(order):
            params = history[number].params
            history.replace(Past(number, TrialState.COMPLETE, params, (losses[number],), None, float(time)))
        history.replace(Past(2, TrialState.PRUNED, history[2].params, None, (1, -9.0), 40.0))
        history.replace(Past(3, TrialState.FAIL, history[3].params, None, None, 41.0))
        population = differential.Population(10, 4, 1.0)
        past = history.view(0, 0, 0, whole=True).past
        assert past is not None
        population.learn(past)
        assert population.filled.tolist() == [True, True, *[False] * 8]
        assert population.rows[:2, 0].tolist() == [1.0, 0.1]


@pytest.mark.parametrize("strategy", ["rand1bin", "best1bin"])
def test_needs_about_as_many_trials_as_scipy_for_the_same_bowl(strategy: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")

    def scipys(seed: int) -> float:
        found = optimize.differential_evolution(
            lambda x: float(np.sum((x - np.arange(4)) ** 2)),
            [(-5, 5)] * 4,
            strategy=strategy,
            mutation=0.5,
            recombination=0.7,
            popsize=5,
            maxiter=29,
            polish=False,
            tol=0.0,
            rng=seed,
        )
        return float(found.fun)

    def ours(seed: int) -> float:
        return best(run(of("differentialEvolution", {"strategy": strategy}, seed=seed), 600, bowl, ends={}))

    by_scipy = statistics.median(math.log10(scipys(seed)) for seed in range(5))
    by_us = statistics.median(math.log10(ours(seed)) for seed in range(5))
    assert by_us < by_scipy + 1
    assert by_us < -1


# ---- regularised evolution


def test_children_differ_from_a_living_parent_in_one_operation() -> None:
    made = of("regularizedEvolution", {"populationSize": 12, "tournamentSize": 4}, parameters=CELL)
    history = run(made, 150, cell)
    complete = [trial for trial in history if trial.state is TrialState.COMPLETE]
    for child in list(history)[40:]:
        living = [trial for trial in complete if trial.number < child.number][-12:]
        changes = [sum(child.params[name] != trial.params[name] for name in CELL) for trial in living]
        assert 1 in changes, child.number


def test_the_old_die_however_good_they_were() -> None:
    """After the best trial has left the population nothing is bred from it: all others have another first operation."""
    made = of("regularizedEvolution", {"populationSize": 10, "tournamentSize": 10}, parameters=CELL)
    history = History([LOSS], CELL)
    for number in range(11):
        params: dict[str, ParamValue] = dict.fromkeys(CELL, "sep" if number == 0 else "none")
        history.add(Past(number, TrialState.COMPLETE, params, (float(number),), None, float(number)))
    (child,) = [samplers.build(made).suggest(history, 11)]
    assert sorted(child.values()).count("none") == 7


@pytest.mark.parametrize("parallel", [1, 8])
def test_finds_better_cells_than_random_search(parallel: int) -> None:
    def median(name: str, settings: Mapping[str, Any]) -> float:
        made = [of(name, settings, parameters=CELL, seed=seed) for seed in range(5)]
        return statistics.median(best(run(each, 200, cell, parallel)) for each in made)

    evolved = median("regularizedEvolution", {"populationSize": 20, "tournamentSize": 6})
    assert evolved <= median("random", {}) - 1


def test_numbers_mutate_near_by() -> None:
    made = of("regularizedEvolution", {"populationSize": 20, "tournamentSize": 6})
    assert best(run(made, 400, bowl)) < best(run(of("random"), 400, bowl)) / 5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("differentialEvolution", {"populationSize": 4}, "sampler.settings.populationSize: needs a whole number of at"),
        ("differentialEvolution", {"mutation": 3}, "sampler.settings.mutation: needs a number from 0 to 2, but is 3"),
        ("differentialEvolution", {"mutation": True}, "sampler.settings.mutation: needs a number from 0 to 2"),
        (
            "differentialEvolution",
            {"strategy": "best2exp"},
            "sampler.settings.strategy: needs one of rand1bin, best1bin",
        ),
        ("regularizedEvolution", {"tournamentSize": 0}, "sampler.settings.tournamentSize: needs a whole number of at"),
        ("regularizedEvolution", {"age": 3}, "sampler.settings.age: regularizedEvolution has no such setting"),
    ],
)
def test_refuses_what_it_does_not_know(name: str, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        samplers.build(of(name, settings))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", BOTH)
def test_takes_one_objective_and_something_to_search(name: str) -> None:
    with pytest.raises(InvalidSpec, match=f"sampler.name: {name} takes one objective"):
        samplers.build(of(name, objectives=(LOSS, ACCURACY)))
    with pytest.raises(InvalidSpec, match="parameters: each has one value only"):
        samplers.build(of(name, parameters={"one": Categorical(("same",))}))
