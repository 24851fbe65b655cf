"""Samplers of the whole past with constraints: Deb's rules, Optuna's draws where it has them, and a feasible winner."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest

from kubetune.api.spec import Algorithm, Constraint, Double, ExperimentSpec, Objective, Parameter, ParamValue
from kubetune.api.trial import TrialState, penalty
from kubetune.engine import feasible, samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import gradient
from kubetune.engine.samplers.asking import Asker
from tests.unit import test_sampler_nsga
from tests.unit.engine_objects import LOSS, MIXED, spec

LIMITS = (Constraint("latency", "max", 0.0), Constraint("memory", "max", 0.0))
TWO = (LOSS, Objective("size", "minimize"))
PLANE: dict[str, Parameter] = {"x": Double(-4.0, 4.0), "y": Double(-4.0, 4.0)}
Params = Mapping[str, ParamValue]


def test_the_order_is_debs() -> None:
    losses, broken = np.array([3.0, 1.0, 2.0, 9.0, -5.0]), np.array([0.0, 0.5, 0.0, 0.0, 0.2])
    assert feasible.ranks(losses, broken).tolist() == [1, 4, 0, 2, 3]
    assert feasible.fitness(losses, broken).tolist() == [3.0, 9.5, 2.0, 9.0, 9.2]
    assert feasible.fitness(losses[[1, 4]], broken[[1, 4]]).tolist() == [0.5, 0.2]
    assert feasible.fitness(losses, np.zeros(5)) is losses
    assert feasible.ranks(np.array([1.0, 1.0, 0.0]), np.zeros(3)).tolist() == [1, 1, 0]
    assert feasible.broken(np.array([np.nan, 0.0, 2.0])).tolist() == [0.0, 0.0, 2.0]


def run(
    made: ExperimentSpec,
    count: int,
    values: Callable[[Params], tuple[float, ...]],
    excess: Callable[[Params], Mapping[str, float]],
    parallel: int = 1,
) -> History:
    """With so many under way, of which the oldest ends each time; each 17th fails."""
    sampler = samplers.build(made)
    history = History(made.objectives, made.parameters, [each.name for each in made.constraints])
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        ending = number - parallel + 1
        if ending >= 0:
            params = history[ending].params
            state = TrialState.FAIL if ending % 17 == 9 else TrialState.COMPLETE
            told = (values(params), excess(params)) if state is TrialState.COMPLETE else (None, None)
            history.replace(Past(ending, state, params, told[0], None, float(ending), told[1]))
    return history


def tight(params: Params) -> dict[str, float]:
    """Kept by one trial in six or so, at random."""
    return {"latency.max": float(params["a"]) - 0.5, "memory.max": float(params["s"]) + int(params["n"]) / 64 - 1.0}


class _Reference(test_sampler_nsga._Reference):
    """With Optuna's own constraints."""

    def run(self, count: int, values: Callable[[Params], tuple[float, ...]]) -> list[dict[str, Any]]:
        tell = self.study.tell

        def constrained(trial: optuna.Trial, *arguments: Any, **named: Any) -> Any:
            for name, value in tight(trial.params).items():
                trial.set_constraint(name, value)
            return tell(trial, *arguments, **named)

        self.study.tell = constrained  # type: ignore[method-assign,assignment]
        return super().run(count, values)


@pytest.mark.parametrize("settings", [{}, {"crossover": "sbx"}], ids=["uniform", "sbx"])
@pytest.mark.parametrize("name", ["nsgaii", "nsgaiii"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_nsga_draws_as_optunas_does_with_the_same_constraints(name: str, settings: dict[str, Any]) -> None:
    kind = optuna.samplers.NSGAIISampler if name == "nsgaii" else optuna.samplers.NSGAIIISampler
    made = test_sampler_nsga.of(name, settings, constraints=LIMITS)
    theirs = {"crossover": test_sampler_nsga.SBX()} if settings else {}
    expected = _Reference(made, kind, theirs).run(100, test_sampler_nsga.mixed)
    ours = run(made, 100, test_sampler_nsga.mixed, tight)
    for trial, params in zip(ours, expected, strict=True):
        assert Asker(made).told(trial.params) == params, trial.number
    kept = [penalty(trial.constraints) == 0 for trial in ours]
    assert sum(kept[50:]) > 1.5 * sum(kept[:50]) > 0


def of(name: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    sampler = Algorithm(name, settings or {})
    return spec(**{"sampler": sampler, "parameters": PLANE, "seed": 2, "constraints": LIMITS[:1], **changes})


def bowl(params: Params) -> tuple[float, ...]:
    """Least at (-1, 1): not allowed."""
    return ((float(params["x"]) + 1) ** 2 + (float(params["y"]) - 1) ** 2,)


def right(params: Params) -> dict[str, float]:
    """x must be at least 1: so the best is 4, at (1, 1)."""
    return {"latency.max": 1.0 - float(params["x"])}


def best(history: History) -> float:
    return min(trial.values[0] for trial in history if trial.values and penalty(trial.constraints) == 0)


@pytest.mark.parametrize("parallel", [1, 12])
@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("cmaes", {}, 200),
        ("cmaes", {"warmStart": True, "nStartupTrials": 30}, 200),
        ("differentialEvolution", {}, 300),
        ("differentialEvolution", {"strategy": "best1bin"}, 300),
        ("regularizedEvolution", {"populationSize": 20, "tournamentSize": 8}, 300),
        ("gradient", {}, 150),
    ],
)
def test_each_finds_the_best_at_the_edge_of_what_is_allowed(
    name: str, settings: Mapping[str, Any], count: int, parallel: int
) -> None:
    found = run(of(name, settings), count, bowl, right, parallel)
    assert 4.0 <= best(found) < 4.3
    blind = run(of(name, settings, constraints=()), count, bowl, lambda params: {}, parallel)
    inside = min((bowl(trial.params)[0] for trial in blind if float(trial.params["x"]) >= 1), default=np.inf)
    assert best(found) < inside


@pytest.mark.parametrize("name", ["cmaes", "differentialEvolution", "regularizedEvolution", "gradient", "nsgaii"])
def test_where_none_is_broken_nothing_changes(name: str) -> None:
    kept = run(of(name), 80, bowl, lambda params: {"latency.max": -1.0}, 5)
    without = run(of(name, constraints=()), 80, bowl, lambda params: {}, 5)
    assert [trial.params for trial in kept] == [trial.params for trial in without]


@pytest.mark.parametrize("name", ["cmaes", "differentialEvolution", "regularizedEvolution", "nsgaiii"])
def test_a_restart_sees_what_was_broken(name: str) -> None:
    made = of(name)
    history = run(made, 120, bowl, right)
    loaded = History(made.objectives, made.parameters, [each.name for each in made.constraints])
    loaded.load(Past(t.number, t.state, t.params, t.values, t.last, float(t.number), t.constraints) for t in history)
    assert samplers.build(made).suggest(loaded, 120) == samplers.build(made).suggest(history, 120)
    ignoring = History(made.objectives, made.parameters)
    ignoring.load(Past(t.number, t.state, t.params, t.values, t.last, float(t.number)) for t in history)
    assert samplers.build(made).suggest(ignoring, 120) != samplers.build(made).suggest(history, 120)


def test_beyond_the_edge_the_slope_points_back_and_along() -> None:
    """The objective falls to the right and upwards; the first parameter must not exceed 0.4."""
    points = gradient.around(np.array([0.5, 0.5]), 0.1)

    def told(edge: float) -> list[gradient.Told]:
        none = np.full(2, np.nan)
        return [gradient.Told(-3.0 * x - y, max(7.0 * (x - edge), 0.0), none) for x, y in points.tolist()]

    assert gradient.measured(points, told(0.55)) == pytest.approx([-3.0, -1.0])  # the centre keeps it
    assert gradient.measured(points, told(0.4)) == pytest.approx([-3.0 + 2 * np.sqrt(10.0), -1.0])
    failed = [
        dataclasses.replace(each, value=np.nan) if place in (1, 3) else each for place, each in enumerate(told(0.4))
    ]
    assert np.isfinite(gradient.measured(points, failed)).all()


def test_a_small_population_of_equals_is_told_apart_by_what_they_break() -> None:
    """All values are the same: only constraints can lead."""
    made = of("nsgaii", {"populationSize": 10}, objectives=TWO, parameters=MIXED, constraints=LIMITS)
    ours = run(made, 150, lambda params: (1.0, 1.0), tight, parallel=7)
    first, last = (
        [penalty(trial.constraints) for trial in ours if trial.values][part]
        for part in (slice(0, 50), slice(-50, None))
    )
    assert np.mean(last) < 0.3 * np.mean(first)
