"""Conditions in the search: draws are those of Optuna on an objective that suggests inside an `if`; each trial has
exactly its parameters; a grid has exactly the cells that trials can have; a finite space is asked for without
repeating."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import optuna
import pytest

from kubetune.api.space import Space
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
from kubetune.engine import cells, samplers
from kubetune.engine.columns import Points
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.base import seed_of
from kubetune.engine.sampling.process import Answers
from kubetune.engine.sampling.wire import Request
from kubetune.storage import space
from tests.unit.engine_objects import ACCURACY, LOSS, spec

# In order of asking: learner, lr, booster (trees only), depth, width (nets only), wide (one choice only), dart.
LEARNER: dict[str, Parameter] = {
    "learner": Categorical(("linear", "trees", "net")),
    "lr": Double(1e-4, 1.0, log=True),
    "booster": Categorical(("tree", "dart"), when=(("learner", ("trees",)),)),
    "depth": Int(1, 9, when=(("learner", ("trees", "net")),)),
    "width": Int(8, 512, log=True, when=(("learner", ("net",)),)),
    "wide": Categorical((True,), when=(("learner", ("net",)),)),
    "drop": Double(0.0, 0.5, step=0.1, when=(("booster", ("dart",)),)),
}


def by_run(trial: optuna.Trial) -> dict[str, Any]:
    """The same space as a person writes it for Optuna."""
    learner = trial.suggest_categorical("learner", ["linear", "trees", "net"])
    trial.suggest_float("lr", 1e-4, 1.0, log=True)
    booster = trial.suggest_categorical("booster", ["tree", "dart"]) if learner == "trees" else None
    if learner in ("trees", "net"):
        trial.suggest_int("depth", 1, 9)
    if learner == "net":
        trial.suggest_categorical("wide", [True])
        trial.suggest_int("width", 8, 512, log=True)
    if booster == "dart":
        trial.suggest_float("drop", 0.0, 0.5, step=0.1)
    return dict(trial.params)


def loss(params: Mapping[str, ParamValue]) -> float:
    """Trees with the dart booster are best, the less they drop the better."""
    start = {"linear": 3.0, "trees": 1.0, "net": 2.0}[str(params["learner"])]
    return (
        start
        + (math.log10(float(params["lr"])) + 2) ** 2
        + float(params.get("drop", 0.7))
        + (float(params.get("depth", 5)) / 10)
    )


def of(name: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    return spec(**{"sampler": Algorithm(name, settings or {}), "parameters": LEARNER, **changes})


def grown(made: ExperimentSpec, count: int, running: int = 0, by: str = "random") -> History:
    """Trials as that sampler asks for them: some fail, some are pruned, the last ones run."""
    sampler = samplers.build(dataclasses.replace(made, sampler=Algorithm(by)))
    history = History(made.objectives, made.parameters)
    states = [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    for number in range(count):
        params = sampler.suggest(history, number)
        state = TrialState.RUNNING if number >= count - running else states[number % 4]
        values = (loss(params),) * len(made.objectives) if state is TrialState.COMPLETE else None
        history.add(Past(number, state, params, values, (5, loss(params))))
    return history


def optunas(made: ExperimentSpec, history: History, sampler: optuna.samplers.BaseSampler) -> dict[str, Any]:
    """What plain Optuna asks for next, told of the same trials."""
    study = optuna.create_study(directions=[objective.direction for objective in made.objectives], sampler=sampler)
    known = space.distributions_of(made.parameters)
    for trial in history:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[trial.state.name],
                values=trial.values,
                params=dict(trial.params),
                distributions={name: known[name] for name in trial.params},
                intermediate_values=dict([trial.last]) if trial.last and len(made.objectives) == 1 else {},
            )
        )
    return by_run(study.ask())


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"multivariate": True, "group": True}),
    ({"group": False}, {"multivariate": True, "group": False}),
    ({"multivariate": False}, {"multivariate": False}),
    ({"group": True, "constantLiar": False}, {"multivariate": True, "group": True, "constant_liar": False}),
]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(("settings", "optuna_settings"), SETTINGS)
@pytest.mark.parametrize("running", [0, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_tpe_asks_what_optuna_asks_by_run(
    settings: dict[str, Any], optuna_settings: dict[str, Any], running: int, seed: int
) -> None:
    made = of("tpe", settings, seed=seed)
    for count in (5, 14, 60):
        history = grown(made, count, running)
        reference = optuna.samplers.TPESampler(seed=seed_of(made, count), **optuna_settings)
        assert samplers.build(made).suggest(history, count) == optunas(made, history, reference)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("phantoms", [False, True])
def test_tpe_asks_what_optuna_asks_while_trials_run_but_for_branches_that_they_do_not_have(phantoms: bool) -> None:
    """Four at a time, trial by trial. With constant_liar Optuna notes what it drew for all groups of a running trial,
    also for those that the trial does not have, and keeps away from them as if they ran. Without these notes every
    draw is the same. (What it comes to: docs/search-benchmarks.md.)"""
    made = of("tpe", seed=3)
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage)
    running: list[optuna.Trial] = []
    same = []
    for number in range(45):
        if len(running) == 4:
            ended = running.pop(number % 3)
            past = history[ended.number]
            history.replace(dataclasses.replace(past, state=TrialState.COMPLETE, values=(loss(past.params),)))
            study.tell(ended, loss(past.params))
        asked = sampler.suggest(history, number)
        history.add(Past(number, TrialState.RUNNING, asked))
        seed = seed_of(made, number)
        study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        running.append(study.ask())
        same.append(by_run(running[-1]) == asked)
        kept = storage._studies[study._study_id].trials[number]  # both go on from what ours asked for
        known = space.distributions_of(made.parameters)
        kept.params, kept.distributions = dict(asked), {name: known[name] for name in asked}
        if not phantoms:
            kept.system_attrs = {}
    assert all(same) is not phantoms
    assert all(same[:10])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("settings", [{}, {"group": True}])
def test_tpe_asks_what_optuna_asks_by_run_with_several_objectives(settings: dict[str, Any]) -> None:
    objectives: tuple[Objective, ...] = (LOSS, ACCURACY)
    made = of("tpe", settings, objectives=objectives)
    history = grown(made, 40)
    reference = optuna.samplers.TPESampler(seed=seed_of(made, 40), multivariate=bool(settings), group=bool(settings))
    assert samplers.build(made).suggest(history, 40) == optunas(made, history, reference)


def test_random_asks_what_optuna_asks_by_run() -> None:
    made = of("random")
    history = grown(made, 25)
    for number in range(25):
        alone = optunas(made, History([LOSS], LEARNER), optuna.samplers.RandomSampler(seed_of(made, number)))
        assert history[number].params == alone


@pytest.mark.parametrize(
    "name", sorted(samplers.SAMPLERS.keys() - {"external", "gradient", "schedule"})
)  # it is no space of theirs
def test_each_trial_has_exactly_its_parameters(name: str) -> None:
    narrow: dict[str, Parameter] = {
        "lr": Double(0.1, 0.9, step=0.4),
        "width": Int(8, 10, when=(("learner", ("net",)),)),
    }
    parameters = LEARNER | narrow
    made = of(name, parameters=parameters)
    trials = [trial.params for trial in grown(made, 40, by=name)]
    assert {made.space.problem(params) for params in trials} == {None}
    assert len({params["learner"] for params in trials}) >= 2
    assert any("drop" in params for params in trials)


def test_group_goes_with_multivariate() -> None:
    with pytest.raises(InvalidSpec, match=r"sampler\.settings.group: group goes with multivariate: true"):
        samplers.build(of("tpe", {"group": True, "multivariate": False}))


def test_qmc_draws_a_conditional_parameter_for_each_trial_anew() -> None:
    trials = [trial.params for trial in grown(of("qmc"), 64, by="qmc")]
    depths = {params["depth"] for params in trials if "depth" in params}
    assert len(depths) >= 8
    rates = sorted(math.log10(float(params["lr"])) for params in trials)  # of the sequence: one in each 64th
    assert [round((rate + 4) / 4 * 64 - 0.5) for rate in rates] == pytest.approx(range(64), abs=1)


def test_a_sampler_that_knows_no_conditions_searches_what_every_trial_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own draws are those of the space without branches; branches are drawn for each trial anew."""
    monkeypatch.setattr(samplers, "KNOW_CONDITIONS", samplers.KNOW_CONDITIONS - {"gp"})
    made, settings = of("gp"), {"nStartupTrials": 8}
    flat = {name: parameter for name, parameter in LEARNER.items() if not parameter.when}
    whole, trunk = grown(made, 30), History([LOSS], flat)
    for trial in whole:
        trunk.add(dataclasses.replace(trial, params={name: trial.params[name] for name in flat}))
    asked = [samplers.build(of("gp", settings)).suggest(whole, number) for number in (30, 31, 32, 33)]
    alone = [samplers.build(of("gp", settings, parameters=flat)).suggest(trunk, number) for number in (30, 31, 32, 33)]
    assert [{name: params[name] for name in flat} for params in asked] == alone
    assert {made.space.problem(params) for params in asked} == {None}
    widths = [params["depth"] for params in asked if "depth" in params]
    assert len(set(widths)) > 1


def test_an_added_branch_leaves_the_random_draws_of_the_rest_alone() -> None:
    """What every trial has is drawn first."""
    flat = {name: parameter for name, parameter in LEARNER.items() if not parameter.when}
    for number in range(20):
        with_branches = samplers.build(of("random")).suggest(History([LOSS], LEARNER), number)
        without = samplers.build(of("random", parameters=flat)).suggest(History([LOSS], flat), number)
        assert without.items() <= with_branches.items()


# ---- finite spaces

SMALL: dict[str, Parameter] = {
    "a": Categorical(("x", "y", "z")),
    "c": Int(1, 3),
    "b": Int(0, 4, step=2, when=(("a", ("x", "z")),)),
    "d": Categorical((False, True), when=(("b", (4,)), ("c", (1, 2)))),
    "e": Int(1, 5, when=(("a", ("y",)),)),
    "f": Categorical((0.5, 1.5), when=(("d", (True,)),)),
    "z": Categorical(("on", "off")),
}


def brute(parameters: Mapping[str, Parameter]) -> list[dict[str, ParamValue]]:
    """All trials of a space: of all combinations of all values, what a trial has of each."""
    known = Space(parameters)
    values: list[list[ParamValue]] = [
        list(parameter.choices)
        if isinstance(parameter, Categorical)
        else [int(value) for value in range(int(parameter.low), int(parameter.high) + 1, int(parameter.step or 1))]
        for parameter in known.parameters.values()
    ]
    every = (known.active(dict(zip(known.parameters, point, strict=True))) for point in itertools.product(*values))
    return [dict(items) for items in dict.fromkeys(tuple(params.items()) for params in every)]


def as_set(trials: list[dict[str, ParamValue]]) -> set[tuple[tuple[str, ParamValue], ...]]:
    return {tuple(sorted(trial.items())) for trial in trials}


def on(parameters: Mapping[str, Parameter], name: str, **settings: object) -> ExperimentSpec:
    return spec(parameters=parameters, sampler=Algorithm(name, settings))


SPACES: list[dict[str, Parameter]] = [
    SMALL,
    {"a": Int(1, 1000), "b": Int(1, 3, when=(("a", (5, 6, 1000)),))},
    {"z": Categorical(("p", "q")), "a": Int(1, 4, when=(("z", ("q",)),)), "m": Int(1, 2)},
    {  # two parents of different trees, and a child of both
        "p": Categorical((False, True)),
        "q": Categorical((False, True)),
        "pc": Int(1, 3, when=(("p", (True,)),)),
        "qc": Int(1, 4, when=(("q", (True,)),)),
        "both": Int(1, 5, when=(("pc", (1, 2)), ("qc", (4,)))),
        "last": Int(1, 2, when=(("both", (5,)), ("p", (True,)))),
    },
]


@pytest.mark.parametrize("parameters", SPACES)
@pytest.mark.parametrize(("name", "settings"), [("grid", {"shuffle": False}), ("grid", {}), ("bruteForce", {})])
def test_a_grid_has_each_trial_of_the_space_once(
    parameters: dict[str, Parameter], name: str, settings: dict[str, bool]
) -> None:
    sampler = samplers.build(on(parameters, name, **settings))
    there = brute(parameters)
    assert sampler.capacity() == len(there)
    history = History([LOSS], parameters)
    for number in range(len(there)):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
    found = [dict(trial.params) for trial in history]
    assert as_set(found) == as_set(there)
    assert Points(parameters).size == len(there)


def test_a_plain_grid_goes_through_a_branch_before_its_parents_next_value() -> None:
    made = on({"a": Categorical(("p", "q", "r")), "b": Int(1, 2, when=(("a", ("q",)),))}, "grid", shuffle=False)
    sampler, nothing = samplers.build(made), History([LOSS], made.parameters)
    assert [list(sampler.suggest(nothing, number).values()) for number in range(4)] == [
        ["p"],
        ["q", 1],
        ["q", 2],
        ["r"],
    ]


def test_a_grid_larger_than_memory_is_counted() -> None:
    """Thirty layers, each of a million widths, if the one before it is there."""
    deep: dict[str, Parameter] = {"on00": Categorical((False, True))}
    for layer in range(1, 31):
        deep[f"on{layer:02}"] = Categorical((False, True), when=((f"on{layer - 1:02}", (True,)),))
        deep[f"width{layer:02}"] = Int(1, 1_000_000, when=((f"on{layer:02}", (True,)),))
    below = 0
    for _ in range(30):  # from the last layer up: its widths, and no layer below it or one
        below = 1_000_000 * (1 + below) if below else 1_000_000
    sampler = samplers.build(on(deep, "grid"))
    assert sampler.capacity() == 2 + below
    params = sampler.suggest(History([LOSS], deep), 10**100)
    assert Space(deep).problem(params) is None
    assert Points(deep).size is None


@pytest.mark.parametrize("name", ["random", "tpe", "qmc"])
@pytest.mark.parametrize("parameters", [SPACES[0], SPACES[2], SPACES[3]])
def test_a_small_space_is_asked_for_whole_before_anything_twice(name: str, parameters: dict[str, Parameter]) -> None:
    made = on(parameters, name)
    there = brute(parameters)
    sampler, history = samplers.build(made), History([LOSS], parameters)
    for number in range(len(there) + 1):
        params = sampler.suggest(history, number)
        history.add(Past(number, TrialState.COMPLETE, params, (float(number % 7),)))
    trials = [dict(trial.params) for trial in history]
    assert as_set(trials[:-1]) == as_set(there)
    assert made.space.problem(trials[-1]) is None


def test_a_sampler_process_sees_what_it_has_just_asked_for() -> None:
    """A batch made by one request is what asking one by one gives."""
    made = on(SMALL, "random")
    sampler, history = samplers.build(made), History([LOSS], SMALL)
    view = history.view(0, 0, 0)
    answer = Answers().answer(Request(made, view, 0, 30, 60.0))
    assert answer.error == ""
    for number, params in enumerate(answer.params):
        assert params == sampler.suggest(history, number)
        history.add(Past(number, TrialState.RUNNING, params))


def test_values_that_a_narrower_space_does_not_have_make_no_branch() -> None:
    """`narrow` leaves the conditions as they are declared."""
    narrow: dict[str, Parameter] = SMALL | {"a": Categorical(("y",)), "c": Int(2, 3)}
    found = [samplers.build(on(narrow, "grid")).suggest(History([LOSS], narrow), number) for number in range(20)]
    assert Points(narrow).size == 20  # c, e and z; never b, d or f
    assert as_set([dict(params) for params in found]) == as_set(brute(narrow))
    for name in ("gp", "tpe", "random", "qmc"):
        params = samplers.build(on(narrow, name)).suggest(grown_in(narrow, 12), 12)
        assert Space(narrow).problem(params) is None


def grown_in(parameters: Mapping[str, Parameter], count: int) -> History:
    sampler, history = samplers.build(on(parameters, "random")), History([LOSS], parameters)
    for number in range(count):
        history.add(Past(number, TrialState.COMPLETE, sampler.suggest(history, number), (float(number % 5),)))
    return history


def test_conditions_that_combine_in_too_many_ways_make_no_grid_but_can_be_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells, "MOST", 5)
    with pytest.raises(
        InvalidSpec, match=r"^parameters: the conditions combine in more than 5 ways, too many to count"
    ):
        samplers.build(on(SMALL, "grid"))
    made = on(SMALL, "random")
    history = History([LOSS], SMALL)
    assert Points(SMALL).size is None
    assert made.space.problem(samplers.build(made).suggest(history, 0)) is None
