"""NSGA-II and NSGA-III: Optuna's draws one trial at a time, and a front as good as Optuna's with many under way."""

import math
import statistics
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest

from kubetune.api.spec import Algorithm, Double, ExperimentSpec, Int, InvalidSpec, Objective, Parameter
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space
from tests.unit.engine_objects import LOSS, MIXED, spec

BOTH = ["nsgaii", "nsgaiii"]
TWO = (LOSS, Objective("size", "minimize"))
Values = Callable[[Mapping[str, Any]], tuple[float, ...]]


def of(name: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    plain = {"objectives": TWO, "parameters": MIXED, "seed": 3, **changes}
    return spec(sampler=Algorithm(name, {"populationSize": 12, **(settings or {})}), **plain)


def mixed(params: Mapping[str, Any]) -> tuple[float, ...]:
    bonus = {"x": 0.0, "y": 0.3, "z": 0.1}[params["kind"]]
    first = float(params["a"]) + bonus + abs(math.log10(params["b"]) + 2) + params["s"]
    return first, params["n"] / 64 + params["k"] / 512 + (1 - params["a"]) ** 2 + (0.2 if params["flag"] else 0.0)


def run(made: ExperimentSpec, count: int, values: Values, parallel: int = 1) -> History:
    """Ask with so many under way, of which each time one ends that is drawn at random."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    rng, running, now = np.random.default_rng(0), [], 0.0
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        running.append(number)
        if len(running) == parallel:
            first, now = running.pop(int(rng.integers(parallel))), now + 1.0
            params = history[first].params
            state = TrialState.FAIL if first % 17 == 9 else TrialState.COMPLETE
            told = values(params) if state is TrialState.COMPLETE else None
            history.replace(Past(first, state, params, told, None, now))
    return history


class _Reference:
    """Optuna's own sampler on its own study, its generators set as ours are; its parents in order of number, as they
    are for all trials of a generation but the first."""

    def __init__(self, made: ExperimentSpec, kind: type[Any], settings: Mapping[str, Any]) -> None:
        reference = self

        class Sampler(kind):  # type: ignore[misc]
            def select_parent(self, study: optuna.Study, generation: int) -> Any:
                self._rng.rng.seed(seed_of(made, -generation))
                chosen = super().select_parent(study, generation)
                self._rng.rng.seed(seed_of(made, reference.number))
                return sorted(chosen, key=lambda trial: trial.number)

        self.number = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.sampler = Sampler(population_size=12, **settings)
        self.study = optuna.create_study(
            directions=[objective.direction for objective in made.objectives], sampler=self.sampler
        )
        self._made = made

    def run(self, count: int, values: Values) -> list[dict[str, Any]]:
        known = Asker(self._made)._distributions  # choices with an order are whole numbers in it
        for self.number in range(count):
            self.sampler._rng.rng.seed(seed_of(self._made, self.number))
            self.sampler._random_sampler = optuna.samplers.RandomSampler(seed_of(self._made, self.number))
            trial = self.study.ask(known)
            if self.number % 17 == 9:
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self.study.tell(trial, values(trial.params))
        return [trial.params for trial in self.study.trials]


SBX = optuna.samplers.nsgaii.SBXCrossover


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, dict),
        ({"crossover": "sbx", "mutationProb": 0.3}, lambda: {"crossover": SBX(), "mutation_prob": 0.3}),
        ({"crossoverProb": 0.5, "swappingProb": 0.2}, lambda: {"crossover_prob": 0.5, "swapping_prob": 0.2}),
        ({"mutation": "polynomial"}, lambda: {"mutation": optuna.samplers.nsgaii.PolynomialMutation()}),
    ],
)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_one_at_a_time_draws_are_optunas(name: str, ours: dict[str, Any], theirs: Callable[[], dict[str, Any]]) -> None:
    kind = optuna.samplers.NSGAIISampler if name == "nsgaii" else optuna.samplers.NSGAIIISampler
    made = of(name, ours)
    expected = _Reference(made, kind, theirs()).run(100, mixed)
    for trial, params in zip(run(made, 100, mixed), expected, strict=True):
        assert Asker(made).told(trial.params) == params, trial.number


@pytest.mark.parametrize("name", BOTH)
def test_directions_are_told_apart(name: str) -> None:
    """The same search, one objective turned round."""
    turned = (LOSS, Objective("size", "maximize"))
    plain = run(of(name), 80, mixed)
    other = run(of(name, objectives=turned), 80, lambda params: (mixed(params)[0], -mixed(params)[1]))
    if name == "nsgaiii":
        assert [trial.params for trial in plain] == [trial.params for trial in other]
    assert area(other, (6.0, 3.0), (1.0, -1.0)) == pytest.approx(area(plain, (6.0, 3.0)), rel=0.2)


def area(history: History, corner: tuple[float, float], signs: tuple[float, float] = (1.0, 1.0)) -> float:
    """Hypervolume of two objectives."""
    points = sorted((signs[0] * t.values[0], signs[1] * t.values[1]) for t in history if t.values)
    total, lowest = 0.0, corner[1]
    for first, second in points:
        if first < corner[0] and second < lowest:
            total, lowest = total + (corner[0] - first) * (lowest - second), second
    return total


def zdt1(params: Mapping[str, Any]) -> tuple[float, ...]:
    x = [float(value) for _, value in sorted(params.items())]
    g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
    return x[0], g * (1 - math.sqrt(x[0] / g))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_comes_to_the_front_of_zdt1_as_near_as_optuna_does(name: str) -> None:
    """Fifteen under way, against Optuna one at a time; and far nearer than random search. Medians of three seeds."""
    cube: dict[str, Parameter] = {f"x{place}": Double(0.0, 1.0) for place in range(4)}
    kind = optuna.samplers.NSGAIISampler if name == "nsgaii" else optuna.samplers.NSGAIIISampler
    corner = (1.1, 1.1)

    def theirs(seed: int) -> float:
        study = optuna.create_study(
            directions=["minimize"] * 2, sampler=kind(population_size=20, crossover=SBX(), seed=seed)
        )
        study.optimize(lambda trial: zdt1({name: trial.suggest_float(name, 0, 1) for name in cube}), 400)
        history = History(TWO, cube)
        for trial in study.trials:
            history.add(Past(trial.number, TrialState.COMPLETE, trial.params, tuple(trial.values)))
        return area(history, corner)

    def ours(made: ExperimentSpec) -> float:
        return area(run(made, 400, zdt1, parallel=15), corner)

    settings = {"populationSize": 20, "crossover": "sbx"}
    found = statistics.median(ours(of(name, settings, parameters=cube, seed=seed)) for seed in range(3))
    by_chance = statistics.median(ours(spec(parameters=cube, objectives=TWO, seed=seed)) for seed in range(3))
    assert found > 0.7 * statistics.median(map(theirs, range(3)))
    assert found > 3 * by_chance


def dtlz2(params: Mapping[str, Any]) -> tuple[float, ...]:
    x = [float(value) for _, value in sorted(params.items())]
    g = 1 + sum((each - 0.5) ** 2 for each in x[2:])
    one, two = x[0] * math.pi / 2, x[1] * math.pi / 2
    return g * math.cos(one) * math.cos(two), g * math.cos(one) * math.sin(two), g * math.sin(one)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_comes_to_the_sphere_of_dtlz2_as_near_as_optuna_does() -> None:
    """Three objectives, whose front has norm 1; twenty under way, against Optuna one at a time."""
    three = (*TWO, Objective("third", "minimize"))
    cube: dict[str, Parameter] = {f"x{place}": Double(0.0, 1.0) for place in range(7)}
    made = of("nsgaiii", {"populationSize": 24}, parameters=cube, objectives=three)
    ours = run(made, 500, dtlz2, parallel=20)
    study = optuna.create_study(
        directions=["minimize"] * 3, sampler=optuna.samplers.NSGAIIISampler(population_size=24, seed=1)
    )
    study.optimize(lambda trial: dtlz2({name: trial.suggest_float(name, 0, 1) for name in cube}), 500)

    def distance(rows: list[list[float]]) -> float:
        """How far the best fifty are off the front, on average."""
        return float(np.sort(np.linalg.norm(np.array(rows), axis=1))[:50].mean()) - 1

    of_ours = distance([list(trial.values) for trial in ours if trial.values])
    assert of_ours < 1.5 * distance([trial.values for trial in study.trials])


@pytest.mark.parametrize("name", BOTH)
def test_a_restart_in_the_middle_asks_the_same(name: str) -> None:
    made = of(name)
    sampler, history, times, now = samplers.build(made), History(TWO, MIXED), dict[int, float](), 0.0
    for number in range(70):
        params = sampler.suggest(history, number)
        if number % 23 == 22:
            loaded = History(TWO, MIXED)
            loaded.load(Past(t.number, t.state, t.params, t.values, t.last, times.get(t.number, 0.0)) for t in history)
            assert samplers.build(made).suggest(loaded, number) == params
        history.add(Past(number, TrialState.RUNNING, params))
        ending = number ^ 7  # out of order, eight at a time
        if ending < number:
            now, trial = now + 1.0, history[ending]
            times[ending] = now
            history.replace(Past(ending, TrialState.COMPLETE, trial.params, mixed(trial.params), None, now))


@pytest.mark.parametrize("crossover", ["uniform", "blxalpha", "sbx", "vsbx", "spx", "undx"])
@pytest.mark.parametrize("name", BOTH)
def test_values_are_within_the_space_and_plain_python(name: str, crossover: str) -> None:
    known = space.distributions_of(dict(sorted(MIXED.items())))
    for trial in run(of(name, {"crossover": crossover}), 60, mixed, parallel=3):
        assert trial.params.keys() == MIXED.keys()
        for key, value in trial.params.items():
            assert known[key]._contains(known[key].to_internal_repr(value)), (key, value)
            assert type(value) in (float, int, str, bool)


@pytest.mark.parametrize("name", BOTH)
def test_a_discrete_space_is_not_asked_twice_while_points_are_left(name: str) -> None:
    few: dict[str, Parameter] = {"n": Int(0, 5), "kind": MIXED["kind"], "flag": MIXED["flag"]}
    made = of(name, {"populationSize": 5}, parameters=few)
    history = run(made, 36, lambda params: (float(params["n"]), -float(params["n"])), parallel=4)
    assert len({str(sorted(trial.params.items())) for trial in history}) == 36


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nsgaii", {"populationSize": 1}, "sampler.settings.populationSize: needs a whole number of at least 2"),
        ("nsgaii", {"populationSize": 2, "crossover": "spx"}, "sampler.settings.populationSize: crossover spx takes 3"),
        ("nsgaii", {"crossoverProb": 1.5}, "sampler.settings.crossoverProb: needs a number from 0 to 1, but is 1.5"),
        ("nsgaii", {"dividingParameter": 3}, "sampler.settings.dividingParameter: nsgaii has no such setting"),
        ("nsgaiii", {"dividingParameter": 0}, "sampler.settings.dividingParameter: needs a whole number of at least 1"),
        ("nsgaiii", {"crossover": "cut"}, "sampler.settings.crossover: needs one of uniform, blxalpha"),
    ],
)
def test_refuses_what_it_does_not_know(name: str, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        samplers.build(of(name, settings))
    assert str(error.value).startswith(message)
