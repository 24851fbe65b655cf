"""Beginning with other experiments' trials: what is taken and how it is mapped, what samplers make of it, restarts."""

import dataclasses
import itertools
import math
import statistics
from typing import Any

import numpy as np
import optuna
import pytest

from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Constraint,
    Double,
    ExperimentSpec,
    Given,
    Int,
    InvalidSpec,
    Parameter,
)
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import samplers, warm
from kubetune.engine.check import check
from kubetune.engine.engine import Engine
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space
from kubetune.storage.base import EndedTrial, KeptSpec, WarmTrial
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import ACCURACY, SPACE, Trials, spec

FORMS: dict[str, Any] = {
    "lr": {"double": [1e-5, 1e-1], "scale": "log"},
    "momentum": {"double": [0.0, 0.9], "step": 0.1},
    "layers": {"int": [1, 4]},
    "optimizer": {"choice": ["adam", "sgd"]},
}
TPE = Algorithm("tpe", {"nStartupTrials": 5})


def ended(number: int, loss: float | None = None, **params: Any) -> EndedTrial:
    state = TrialState.PRUNED if loss is None else TrialState.COMPLETE
    given: dict[str, Any] = {"lr": 0.01, "momentum": 0.3, "layers": 2, "optimizer": "adam"} | params
    values = None if loss is None else (loss,)
    return EndedTrial(number, state, Reason.COMPLETED, given, values, 0.0, 1, (0, 1.0))


def taken(*trials: EndedTrial, spec: ExperimentSpec, space: dict[str, Parameter] | None = None) -> list[Any]:
    return warm.mapped(spec, warm.Source("other", "u", space or SPACE, trials), warm.MOST)


class TestMapping:
    def test_the_same_space_gives_all_complete_and_pruned_trials_as_they_are(self) -> None:
        failed = EndedTrial(2, TrialState.FAIL, Reason.EXIT_CODE, {"lr": 0.1}, None, 0.0, 0, None)
        found = taken(ended(0, 1.0), ended(1), failed, ended(3, 0.5), spec=spec())
        assert [(each.number, each.state.value, each.values) for each in found] == [
            (0, "COMPLETE", (1.0,)),
            (1, "PRUNED", None),
            (3, "COMPLETE", (0.5,)),
        ]
        assert found[0].params == ended(0).params
        assert (found[0].source, found[0].source_uid, found[1].last) == ("other", "u", (0, 1.0))

    @pytest.mark.parametrize(
        ("name", "parameter", "kept"),
        [
            ("lr", Double(0.005, 0.1), {"lr": 0.01}),
            ("lr", Double(0.05, 0.1), None),
            ("lr", Int(0, 1), {"lr": 0}),
            ("momentum", Double(0.0, 0.9, step=0.25), {"momentum": 0.25}),
            ("layers", Double(0.0, 3.5), {"layers": 2.0}),
            ("layers", Categorical((2, 4)), {"layers": 2}),
            ("layers", Categorical(("2", "4")), None),
            ("optimizer", Categorical(("adam", "lion")), {"optimizer": "adam"}),
            ("optimizer", Categorical(("lion",)), None),
            ("optimizer", Double(0.0, 1.0), None),
        ],
    )
    def test_a_value_is_kept_moved_to_a_step_or_its_trial_left_out(
        self, name: str, parameter: Parameter, kept: dict[str, Any] | None
    ) -> None:
        found = taken(ended(0, 1.0), spec=spec(parameters={**SPACE, name: parameter}))
        if kept is None:
            assert found == []
        else:
            assert found[0].params == dict(ended(0).params) | kept
            assert type(found[0].params[name]) is type(kept[name])

    def test_what_is_missing_is_drawn_and_what_is_more_left_out(self) -> None:
        parameters = {"lr": SPACE["lr"], "width": Int(1, 1000)}
        found = taken(*(ended(number, 1.0) for number in range(256)), spec=spec(parameters=parameters))
        assert len(found) == 256 // 2**4  # layers, momentum, optimizer and width differ
        assert {each.params["lr"] for each in found} == {0.01}
        assert all(each.params.keys() == parameters.keys() for each in found)
        assert len({each.params["width"] for each in found}) > 10

    def test_spaces_that_differ_halve_what_is_taken_evenly_over_the_ranks(self) -> None:
        trials = [ended(number, float(number)) for number in range(40)]
        assert len(taken(*trials, spec=spec())) == 40
        narrower = spec(parameters={**SPACE, "lr": Double(1e-3, 1e-1, log=True)})
        assert [each.number for each in taken(*trials, spec=narrower)] == list(range(0, 40, 2))
        upwards = dataclasses.replace(narrower, objectives=(dataclasses.replace(ACCURACY, metric="loss"),))
        assert [each.number for each in taken(*trials, spec=upwards)] == list(range(1, 40, 2))

    def test_no_more_than_its_share(self) -> None:
        trials = [ended(number, float(number)) for number in range(1000)]
        assert len(taken(*trials, spec=spec())) == warm.MOST

    def test_constraints_have_to_be_known(self) -> None:
        made = spec(constraints=(Constraint("latency", "max", 20.0),))
        told = ended(1, 1.0)._replace(constraints={"latency.max": 3.0, "size.max": 1.0})
        found = taken(ended(0, 0.5), told, spec=made)
        assert [(each.number, each.constraints) for each in found] == [(1, {"latency.max": 3.0})]

    def test_a_parameter_with_a_condition_is_there_only_with_it(self) -> None:
        parameters: dict[str, Parameter] = {
            "optimizer": Categorical(("adam", "sgd")),
            "momentum": Double(0.0, 0.9, when=(("optimizer", ("sgd",)),)),
        }
        found = taken(ended(0, 1.0), ended(1, 0.5, optimizer="sgd"), spec=spec(parameters=parameters), space=parameters)
        assert [each.params for each in found] == [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.3}]


class World:
    """Experiments that share one storage."""

    def __init__(self) -> None:
        ticks = itertools.count(1000)
        self.storage = MemoryStorage(lambda: float(next(ticks)))
        self.storage.acquire("test")

    def open(self, spec: ExperimentSpec) -> Engine:
        engine = Engine(spec, self.storage, self.storage.clock)
        self.storage.save_spec(spec.uid, KeptSpec(1, {"parameters": FORMS}))
        return engine

    def finished(self, name: str, count: int, **changes: Any) -> ExperimentSpec:
        """Another experiment with so many complete trials."""
        made = spec(name=name, uid=f"uid-{name}", seed=5, **changes)
        engine = self.open(made)
        for number in range(count):
            Trials(made, self.storage).run(engine, 0.1 * (number % 7))
        return made


def test_tpe_draws_as_optunas_does_after_add_trials() -> None:
    world = World()
    other = world.finished("other", 12)
    made = spec(sampler=TPE, seed=1, warm_start=("other",))
    engine = world.open(made)
    ours = [dict(Trials(made, world.storage).run(engine, 0.05 * number).params) for number in range(5)]

    study = optuna.create_study()
    forms = space.distributions_of(dict(sorted(SPACE.items())))
    for row in world.storage.load_trials(other.uid):
        last = {0: (row.values or (0.0,))[0]}
        made_trial = optuna.trial.create_trial(
            params=dict(row.params), distributions=forms, values=row.values, intermediate_values=last
        )
        study.add_trial(made_trial)
    for number, params in enumerate(ours):
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=5, multivariate=True, constant_liar=True, seed=seed_of(made, number)
        )
        trial = study.ask(fixed_distributions=forms)
        assert trial.params == params, number
        trial.report(0.05 * number, 0)
        study.tell(trial, 0.05 * number)


SMOOTH: dict[str, Parameter] = {"x": Double(-4.0, 4.0), "y": Double(1e-4, 1.0, log=True)}


def distance(params: Any) -> float:
    """Least at 3.5, 0.5: far from the middle."""
    return float((params["x"] - 3.5) ** 2 + (math.log10(params["y"] / 0.5)) ** 2)


def begun(sampler: Algorithm, others: int, own: int = 0) -> tuple[ExperimentSpec, History]:
    """A history that begins with so many random trials of another experiment."""
    made = spec(parameters=SMOOTH, sampler=sampler, seed=6, warm_start=("other",))
    drawn = samplers.build(spec(parameters=SMOOTH, seed=9))
    history = History(made.objectives, SMOOTH)
    found = []
    for number in range(others):
        params = drawn.suggest(History(made.objectives, SMOOTH), number)
        found.append(WarmTrial("other", "u", number, TrialState.COMPLETE, params, (distance(params),), None))
    if found:
        history.begin_with(warm.view(made, found))
    inner = samplers.build(made)
    for number in range(own):
        params = inner.suggest(history, number)
        history.add(Past(number, TrialState.COMPLETE, params, (distance(params),), None, float(number)))
    return made, history


def test_cmaes_draws_from_the_distribution_of_their_best_tenth() -> None:
    cmaes = pytest.importorskip("cmaes")
    made, history = begun(Algorithm("cmaes"), 50)
    past = history.view(0, 0, 0, whole=True).past
    assert past is not None
    assert past.numbers.tolist() == list(range(-50, 0))
    points = np.column_stack([(past.params[:, 0] + 4) / 8, (np.log10(past.params[:, 1]) + 4) / 4])
    mean, sigma, cov = cmaes.get_warm_start_mgd(list(zip(points, past.values[:, 0], strict=True)))
    theirs = cmaes.CMA(mean, sigma, np.array([[0.0, 1.0]] * 2), n_max_resampling=20, seed=seed_of(made, 1), cov=cov)
    x, y = theirs.ask()
    asked = samplers.build(made).suggest(history, 1)
    assert (asked["x"], math.log10(float(asked["y"]))) == pytest.approx((8 * x - 4, 4 * y - 4))


@pytest.mark.parametrize(
    ("sampler", "own"),
    [
        (Algorithm("cmaes"), 30),
        (Algorithm("nsgaii", {"populationSize": 10}), 40),
        (Algorithm("differentialEvolution"), 40),
        (Algorithm("regularizedEvolution", {"populationSize": 20, "tournamentSize": 5}), 40),
        (Algorithm("gradient"), 40),
    ],
)
def test_samplers_of_the_whole_past_begin_where_they_were_good(sampler: Algorithm, own: int) -> None:
    """Their first trials are better than without, and a restart in the middle asks the same."""
    if sampler.name == "cmaes":
        pytest.importorskip("cmaes")
    made, history = begun(sampler, 60, own)
    check(made)
    _, cold = begun(sampler, 0, own)

    def early(found: History) -> float:
        return statistics.median(trial.values[0] for trial in found if trial.values and trial.number < own // 2)

    assert early(history) < early(cold)
    loaded = History(made.objectives, SMOOTH)
    older, again = history._older, samplers.build(made)
    assert older is not None
    loaded.begin_with(older)
    loaded.load(Past(t.number, t.state, t.params, t.values, None, float(t.number)) for t in history)
    assert again.suggest(loaded, own) == samplers.build(made).suggest(history, own)


def test_a_descent_begins_at_the_best_of_them() -> None:
    made, history = begun(Algorithm("gradient"), 60)
    older = history._older
    assert older is not None
    best = older.params[np.argmin(older.values[:, 0])]
    assert list(samplers.build(made).suggest(history, 0).values()) == pytest.approx(best.tolist())


def test_they_are_none_of_its_trials() -> None:
    world = World()
    world.finished("other", 12)
    made = spec(sampler=TPE, seed=1, warm_start=("other",), max_trials=3)
    engine = world.open(made)
    assert (engine.warm_trials, engine.counts.total, list(engine.best)) == (12, 0, [])
    rows = engine.ask(9)
    assert [row.number for row in rows] == [0, 1, 2]
    assert len(world.storage.load_trials(made.uid)) == 3


def test_a_restart_sees_the_same_when_the_other_has_gone_on_or_is_gone() -> None:
    world = World()
    other = world.finished("other", 12)
    made = spec(sampler=TPE, seed=1, warm_start=("other",))
    world.open(made)
    taken = world.storage.warm_trials(made.uid)
    assert taken is not None
    assert [each.number for each in taken] == list(range(12))
    Trials(other, world.storage).run(Engine(other, world.storage, world.storage.clock), 0.0)
    asked = [row.params for row in Engine(made, world.storage, world.storage.clock).ask(1)]
    world.storage.delete_study(other.uid)
    again = Engine(made, world.storage, world.storage.clock)
    assert again.warm_trials == 12
    assert world.storage.warm_trials(made.uid) == taken
    assert [row.params for row in again.running.values()] == asked


def test_the_newest_of_a_name_and_of_the_same_namespace_only() -> None:
    world = World()
    world.finished("other", 6)
    world.open(spec(name="other", uid="uid-newer"))
    world.open(spec(name="elsewhere", uid="uid-elsewhere", namespace="other-team"))
    assert world.open(spec(uid="a", name="a", sampler=TPE, warm_start=("other",))).warm_trials == 0
    with pytest.raises(InvalidSpec, match=r"warmStart.from\[0\]: there is no experiment elsewhere in this namespace"):
        world.open(spec(uid="b", name="b", sampler=TPE, warm_start=("elsewhere",)))
    assert "b" not in {study.uid for study in world.storage.studies()}  # nothing that would bind it later


def test_other_metrics_are_refused() -> None:
    world = World()
    world.finished("other", 3)
    made = spec(uid="a", name="a", sampler=TPE, warm_start=("other",), objectives=(ACCURACY,))
    with pytest.raises(InvalidSpec, match=r"other was made to minimize loss, this one to maximize accuracy"):
        world.open(made)


def test_what_makes_nothing_of_it_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="warmStart: random makes nothing of other experiments' trials"):
        check(spec(warm_start=("other",)))
    with pytest.raises(InvalidSpec, match=r"warmStart.from\[1\]: digits is this experiment itself"):
        check(spec(sampler=TPE, warm_start=("other", "digits")))


def test_auto_picks_a_sampler_that_takes_what_people_know() -> None:
    few: dict[str, Parameter] = {"x": Int(1, 4)}
    auto = spec(sampler=Algorithm("auto"), parameters=few)
    given = Given("initial/0", "initial[0]", {"x": 2})
    assert samplers.pick(auto).name == "bruteForce"
    for known in ({"given": (given,)}, {"narrow": {"x": Int(2, 3)}}, {"warm_start": ("other",)}):
        check(dataclasses.replace(auto, **known))
    wide = dataclasses.replace(auto, parameters=SPACE, parallelism=100, max_trials=100)
    assert samplers.pick(wide).name == "qmc"
    check(dataclasses.replace(wide, warm_start=("other",)))


def test_it_stays_as_it_is() -> None:
    world = World()
    world.finished("other", 3)
    engine = world.open(spec(sampler=TPE, warm_start=("other",)))
    with pytest.raises(InvalidSpec, match="warmStart: warmStart cannot change"):
        engine.update(spec(sampler=TPE))
