"""Random search and TPE: within the space, a function of seed, number and history, and TPE better than random."""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from optuna.samplers._tpe import _truncnorm

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
from kubetune.engine.samplers import normal, tpe
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space
from tests.unit.engine_objects import ACCURACY, LOSS, SPACE, spec

BOTH = ["random", "tpe"]
WIDE: dict[str, Parameter] = {
    **SPACE,
    "width": Int(8, 512, log=True),
    "size": Categorical((0.5, 2)),
    "bias": Categorical((False, True)),
    "one": Categorical(("same",)),
}


def of(name: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    return spec(sampler=Algorithm(name, settings or {}), **changes)


def bowl(params: Mapping[str, ParamValue]) -> float:
    """Least at the middle of each parameter."""
    return (math.log10(float(params["lr"])) + 3) ** 2 + (float(params["momentum"]) - 0.5) ** 2


def grown(spec: ExperimentSpec, count: int, state: Callable[[int], TrialState] | None = None) -> History:
    """A history as the sampler itself makes it, each trial ended before the next is asked."""
    sampler, history = samplers.build(spec), History(spec.objectives, spec.parameters)
    for number in range(count):
        params = sampler.suggest(history, number)
        ended = TrialState.COMPLETE if state is None else state(number)
        values = (bowl(params),) * len(spec.objectives) if ended is TrialState.COMPLETE else None
        history.add(Past(number, ended, params, values, (5, bowl(params))))
    return history


def copied(history: History, objectives: tuple[Objective, ...] = (LOSS,)) -> History:
    """The same, loaded anew."""
    made = History(objectives, SPACE)
    for trial in history:
        made.add(Past(trial.number, trial.state, dict(trial.params), trial.values, trial.last))
    return made


@pytest.mark.parametrize("name", BOTH)
def test_values_are_within_the_space_and_plain_python(name: str) -> None:
    for trial in grown(of(name, parameters=WIDE), 40):
        params = trial.params
        assert params.keys() == WIDE.keys()
        assert {key: type(value) for key, value in params.items() if key != "size"} == {
            "lr": float,
            "momentum": float,
            "layers": int,
            "optimizer": str,
            "width": int,
            "bias": bool,
            "one": str,
        }
        assert 1e-5 <= float(params["lr"]) <= 1e-1
        assert round(float(params["momentum"]) * 10, 6) in range(10)
        assert params["layers"] in range(1, 5)
        assert params["width"] in range(8, 513)
        assert params["optimizer"] in ("adam", "sgd")
        assert params["size"] in (0.5, 2)
        assert params["one"] == "same"


@pytest.mark.parametrize("name", BOTH)
def test_log_scale_is_uniform_in_the_exponent_at_the_start(name: str) -> None:
    history = grown(of(name, {"nStartupTrials": 200} if name == "tpe" else {}), 200)
    below = sum(float(trial.params["lr"]) < 1e-3 for trial in history)
    assert 70 < below < 130


@pytest.mark.parametrize("name", BOTH)
def test_a_restart_in_the_middle_asks_the_same(name: str) -> None:
    whole = grown(of(name), 30)
    for middle in (5, 15, 29):
        again, history = samplers.build(of(name)), History([LOSS], SPACE)
        for number in range(middle):
            history.add(whole[number])
        loaded = copied(history)
        assert again.suggest(loaded, middle) == whole[middle].params
        assert again.suggest(loaded, middle) == whole[middle].params  # asking leaves nothing behind


@pytest.mark.parametrize("name", BOTH)
def test_draws_depend_on_seed_and_number_and_without_a_seed_on_the_experiment(name: str) -> None:
    history = grown(of(name), 12)
    variants = [of(name, seed=1), of(name, seed=2), of(name, uid="uid-1"), of(name, uid="uid-2")]
    drawn = [samplers.build(variant).suggest(history, number) for variant in variants for number in (12, 13)]
    assert len({str(params) for params in drawn}) == 8
    assert samplers.build(of(name, seed=1, uid="other")).suggest(history, 12) == drawn[0]


@pytest.mark.parametrize("name", BOTH)
def test_order_of_the_parameters_in_the_manifest_does_not_matter(name: str) -> None:
    history = grown(of(name), 15)
    turned = of(name, parameters=dict(reversed(SPACE.items())))
    assert samplers.build(turned).suggest(history, 15) == samplers.build(of(name)).suggest(history, 15)


def optunas(made: ExperimentSpec, history: History, name: str) -> Mapping[str, ParamValue]:
    """What plain Optuna asks for next, told of the same trials."""
    study = optuna.create_study(directions=[objective.direction for objective in made.objectives])
    known = space.distributions_of(dict(sorted(made.parameters.items())))
    for trial in history:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[trial.state.name],
                values=trial.values,
                params=dict(trial.params),
                distributions=known,
                intermediate_values=dict([trial.last]) if trial.last and len(made.objectives) == 1 else {},
            )
        )
    seed = seed_of(made, len(history))
    study.sampler = optuna.samplers.TPESampler(seed=seed) if name == "tpe" else optuna.samplers.RandomSampler(seed)
    return dict(study.ask(known).params)


@pytest.mark.parametrize("count", [6, 25])  # TPE draws at random until ten trials taught it something
@pytest.mark.parametrize("objectives", [(LOSS,), (LOSS, ACCURACY)])
@pytest.mark.parametrize("name", BOTH)
def test_asks_what_optuna_asks_for_the_same_past(name: str, objectives: tuple[Objective, ...], count: int) -> None:
    made = of(name, parameters=WIDE, objectives=objectives)
    history = grown(made, count, lambda number: list(TrialState)[1 + number % 3])
    assert optunas(made, history, name) == samplers.build(made).suggest(history, count)


def test_asks_what_optuna_asks_where_candidates_are_weighed_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide steps and a long past, in which our logarithm takes the place of Optuna's; and with trials running."""
    wide: dict[str, Parameter] = {
        "lr": Double(1e-5, 1e-1, log=True),
        "momentum": Double(0.0, 1.0, step=0.001),
        "units": Int(1, 5000),
        "width": Int(1, 4096, log=True),
    }
    made, history = of("tpe", parameters=wide), History([LOSS], wide)
    for trial in grown(of("random", parameters=wide), 220):
        running = trial.number % 9 == 8
        history.add(Past(trial.number, TrialState.RUNNING, trial.params) if running else trial)
    weighed: list[int] = []
    log_ndtr = normal.log_ndtr

    def weigh(points: normal.Floats) -> normal.Floats:
        weighed.append(points.size)
        return log_ndtr(points)

    monkeypatch.setattr(normal, "log_ndtr", weigh)
    suggested, by_us = samplers.build(made).suggest(history, 220), sum(weighed)
    monkeypatch.setattr(_truncnorm, "_log_ndtr", normal._scalar)
    assert optunas(made, history, "tpe") == suggested
    assert by_us > 0
    assert sum(weighed) == by_us


def suggestion(history: History, settings: Mapping[str, Any] | None = None, **changes: Any) -> Mapping[str, ParamValue]:
    return samplers.build(of("tpe", settings, **changes)).suggest(history, len(history))


def test_tpe_learns_from_complete_and_pruned_trials_but_not_from_failed_ones() -> None:
    ends = {0: TrialState.COMPLETE, 1: TrialState.PRUNED, 2: TrialState.FAIL}
    history = grown(of("random"), 30, lambda number: ends[number % 3])

    def without(state: TrialState) -> History:
        """The same trials, those of one state put as failed."""
        made = History([LOSS], SPACE)
        for trial in history:
            made.add(trial if trial.state is not state else Past(trial.number, TrialState.FAIL, trial.params))
        return made

    assert suggestion(without(TrialState.FAIL)) == suggestion(history)
    assert suggestion(without(TrialState.COMPLETE)) != suggestion(history)
    assert suggestion(without(TrialState.PRUNED)) != suggestion(history)


def test_tpe_tells_pruned_trials_apart_by_how_far_they_came() -> None:
    def pruned(lasts: list[tuple[int, float]]) -> History:
        drawn, made = grown(of("random"), 20), History([LOSS], SPACE)
        for trial, last in zip(drawn, lasts, strict=True):
            made.add(Past(trial.number, TrialState.PRUNED, trial.params, (last[1],), last))
        return made

    rising = [(number, 1.0) for number in range(20)]
    assert suggestion(pruned(rising)) == suggestion(pruned([(step * 2, value) for step, value in rising]))
    assert suggestion(pruned(rising)) != suggestion(pruned(rising[::-1]))


def test_tpe_keeps_away_from_what_is_running() -> None:
    """Many running trials around one value push the next one off it, unless the liar is off."""
    space: dict[str, Parameter] = {"x": Double(0.0, 1.0)}
    history = History([LOSS], space)
    for number in range(60):
        x = (number + 0.5) / 60
        history.add(Past(number, TrialState.COMPLETE, {"x": x}, ((x - 0.3) ** 2,)))
    for number in range(60, 180):
        history.add(Past(number, TrialState.RUNNING, {"x": 0.3}, last=(2, 0.5)))

    def distance(liar: bool) -> float:
        made = samplers.build(of("tpe", {"constantLiar": liar}, parameters=space))
        return statistics.fmean(abs(float(made.suggest(history, number)["x"]) - 0.3) for number in range(180, 220))

    assert distance(liar=True) > 1.5 * distance(liar=False)


@pytest.mark.parametrize("settings", [{}, {"multivariate": True}, {"multivariate": False}, {"nEiCandidates": 3}])
def test_tpe_takes_several_objectives(settings: Mapping[str, Any]) -> None:
    several = of("tpe", settings, objectives=(LOSS, ACCURACY))
    sampler, history = samplers.build(several), History(several.objectives, SPACE)
    for number in range(40):
        params = sampler.suggest(history, number)
        values = (bowl(params), math.inf if number == 20 else float(params["momentum"]))
        stopped = number % 5 == 4
        state = TrialState.PRUNED if stopped else TrialState.COMPLETE
        history.add(Past(number, state, params, None if stopped else values, (3, values[0])))
    assert samplers.build(several).suggest(copied(history, several.objectives), 40) == sampler.suggest(history, 40)


def test_tpe_sees_a_bounded_part_of_a_long_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that is neither among the best nor recent changes nothing; one of the best does, however old."""
    monkeypatch.setattr(tpe, "BEST", 10)
    monkeypatch.setattr(tpe, "LATEST", 20)
    history = grown(of("random"), 100)
    kept = set(history.view(10, 20, 0).numbers.tolist())
    worst = max((trial for trial in history if trial.number not in kept), key=lambda trial: bowl(trial.params))
    best = history[history.best(1)[0]]
    assert best.number < 80

    def moved(number: int) -> History:
        made = History([LOSS], SPACE)
        for trial in history:
            params = {**trial.params, "lr": 0.09} if trial.number == number else trial.params
            made.add(Past(trial.number, trial.state, params, trial.values, trial.last))
        return made

    assert suggestion(moved(worst.number)) == suggestion(history)
    assert suggestion(moved(best.number)) != suggestion(history)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            Algorithm("bayes"),
            f"sampler.name: there is no sampler 'bayes'; there are auto, {', '.join(samplers.SAMPLERS)}",
        ),
        (Algorithm("random", {"seed": 3}), "sampler.settings.seed: random has no such setting; it has no settings"),
        (
            Algorithm("tpe", {"n_startup_trials": 3}),
            "sampler.settings.n_startup_trials: tpe has no such setting; its settings are "
            "constantLiar, group, multivariate, nEiCandidates, nStartupTrials",
        ),
        (
            Algorithm("tpe", {"nEiCandidates": 0}),
            "sampler.settings.nEiCandidates: needs a whole number of at least 1, but is 0",
        ),
        (
            Algorithm("tpe", {"nStartupTrials": "ten"}),
            "sampler.settings.nStartupTrials: needs a whole number of at least 0, but is 'ten'",
        ),
        (
            Algorithm("tpe", {"nStartupTrials": math.nan}),
            "sampler.settings.nStartupTrials: needs a whole number of at least 0, but is nan",
        ),
        (
            Algorithm("tpe", {"constantLiar": "yes"}),
            "sampler.settings.constantLiar: needs true or false, but is 'yes'",
        ),
        (Algorithm("grid", {"shuffle": 1}), "sampler.settings.shuffle: needs true or false, but is 1"),
    ],
)
def test_refuses_what_it_does_not_know(algorithm: Algorithm, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        samplers.build(spec(sampler=algorithm))
    assert str(error.value) == message


def test_tpe_beats_random_search_at_equal_trials() -> None:
    """Regret on a bowl of four parameters after 60 trials, medians of five seeds."""
    space: dict[str, Parameter] = {f"x{index}": Double(-5.0, 5.0) for index in range(4)}

    def regret(name: str, seed: int) -> float:
        made = of(name, parameters=space, seed=seed)
        sampler, history = samplers.build(made), History([LOSS], space)
        for number in range(60):
            params = sampler.suggest(history, number)
            loss = sum((float(value) - index) ** 2 for index, value in enumerate(params.values()))
            history.add(Past(number, TrialState.COMPLETE, params, (loss,)))
        return min(trial.values[0] for trial in history if trial.values)

    seeds = range(5)
    of_tpe = statistics.median(regret("tpe", seed) for seed in seeds)
    of_random = statistics.median(regret("random", seed) for seed in seeds)
    assert of_tpe < of_random / 3
