"""The engine on PostgreSQL: what it says of a study is what Optuna finds there."""

import dataclasses
import itertools
import math
import random
import uuid
from collections.abc import Iterator

import optuna
import pytest
from optuna.search_space import intersection_search_space

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, Parameter, Validation
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.engine.engine import Engine
from kubetune.storage import space
from kubetune.storage.postgres import PostgresStorage
from tests.unit.engine_objects import ACCURACY, LOSS, Trials, spec


@pytest.fixture
def rdb(postgres_url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's own storage on the same database."""
    storage = optuna.storages.RDBStorage(postgres_url.replace("postgresql", "postgresql+psycopg2", 1))
    yield storage
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresStorage]:
    ticks = itertools.count(1_700_000_000)
    storage = PostgresStorage(postgres_url, clock=lambda: float(next(ticks)))
    storage.acquire("test")
    yield storage
    storage.close()


def named(made: ExperimentSpec) -> ExperimentSpec:
    """An experiment of this test alone."""
    return dataclasses.replace(made, uid=str(uuid.uuid4()))


def run(engine: Engine, trials: Trials, count: int, draw: random.Random) -> list[TrialRow]:
    """Trials to their ends: most complete, some stopped by the pruner, some failed, some without a metric."""
    ended = []
    for _ in range(count):
        (row,) = trials.start(engine)
        level = draw.uniform(0, 2)
        for step in range(4):
            if draw.random() > 0.05 and row.number not in {n for n, live in engine.running.items() if live.stop_reason}:
                trials.report(row, [level + 1 / (step + 1)], first=step)
                engine.tail()
        failure = Reason.OOM_KILLED if draw.random() < 0.1 else None
        ended.append(engine.finish(row.number, 1, failure, "memory" if failure else ""))
    return ended


def test_optuna_reads_the_same_study(database: PostgresStorage, rdb: optuna.storages.RDBStorage) -> None:
    made = named(spec(sampler=Algorithm("tpe"), pruner=Algorithm("median", {"nStartupTrials": 3})))
    engine = Engine(made, database, database.clock)
    trials = Trials(made, database)
    ended = run(engine, trials, 25, random.Random(5))
    held = trials.start(engine, 2)
    study = optuna.load_study(study_name=engine.study, storage=rdb)
    assert [direction.name for direction in study.directions] == ["MINIMIZE"]
    assert study.metric_names == ["loss"]
    assert {row.state for row in ended} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    assert [(trial.number, trial.state.name, trial.params, trial.values) for trial in study.trials] == [
        (row.number, str(row.state), row.params, None if row.values is None else list(row.values)) for row in ended
    ] + [(row.number, "RUNNING", row.params, None) for row in held]
    (best,) = engine.best
    assert (best.number, list(best.values), best.params) == (
        study.best_trial.number,
        study.best_trial.values,
        study.best_trial.params,
    )


def test_runs_of_one_trial_are_its_intermediate_values(
    database: PostgresStorage, rdb: optuna.storages.RDBStorage
) -> None:
    """Folds that end one by one, one trial whole, one stopped by a person, one failed; then a restart."""
    made = named(spec(validation=Validation(folds=3)))
    trials = Trials(made, database)
    engine = Engine(made, database, database.clock)
    engine.ask(3)

    def fold(number: int, value: float, failure: Reason | None = None) -> TrialRow:
        row = engine.running[number]
        assert engine.record_job(number, row.attempt, trials.who(row).job_uid)
        trials.report(row, [9.0, value])
        engine.tail()
        return engine.finish(number, row.attempt, failure, "")

    for value in (0.5, 0.25, 0.75):
        fold(0, value)
    fold(1, 0.5)
    fold(1, 0.125)
    engine = Engine(made, database, database.clock)  # a restart
    assert (engine.running[1].leg, engine.running[1].environment["KUBETUNE_FOLD"]) == (2, "2")
    engine.request_stop({1: Reason.STOPPED})
    fold(1, 0.0)
    fold(2, 0.5)
    fold(2, 0.5, Reason.EXIT_CODE)
    study = optuna.load_study(study_name=engine.study, storage=rdb)
    assert [(trial.state.name, trial.value, trial.intermediate_values) for trial in study.trials] == [
        ("COMPLETE", 0.5, {0: 0.5, 1: 0.25, 2: 0.75}),
        ("PRUNED", 0.125, {0: 0.5, 1: 0.125}),
        ("FAIL", None, {0: 0.5}),
    ]
    (best,) = Engine(made, database, database.clock).best
    assert (best.number, best.values, best.runs) == (0, (0.5,), (0.5, 0.25, 0.75))


def test_optuna_goes_on_with_the_study(database: PostgresStorage, rdb: optuna.storages.RDBStorage) -> None:
    """Distributions and intermediate values are such that its own sampler and pruner take them."""
    made = named(spec(pruner=Algorithm("median", {"nStartupTrials": 3})))
    engine = Engine(made, database, database.clock)
    run(engine, Trials(made, database), 12, random.Random(6))
    study = optuna.load_study(
        study_name=engine.study, storage=rdb, sampler=optuna.samplers.TPESampler(n_startup_trials=5, seed=1)
    )
    trial = study.ask(space.distributions_of(made.parameters))
    assert trial.params.keys() == made.parameters.keys()
    trial.report(99.0, 0)
    assert trial.should_prune()
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def test_several_objectives_have_optunas_front(database: PostgresStorage, rdb: optuna.storages.RDBStorage) -> None:
    made = named(spec(objectives=(LOSS, ACCURACY), sampler=Algorithm("tpe")))
    engine, draw = Engine(made, database, database.clock), random.Random(2)
    trials = Trials(made, database)
    for number in range(20):
        (row,) = trials.start(engine)
        trials.report(row, [draw.random()])
        trials.report(row, [draw.random()], metric="accuracy", first=1)
        if number % 7 == 3:
            engine.request_stop({row.number: Reason.STOPPED})
        engine.finish(row.number, 1, None, "")
    study = optuna.load_study(study_name=engine.study, storage=rdb)
    assert [(best.number, list(best.values), best.params) for best in engine.best] == sorted(
        (trial.number, trial.values, trial.params) for trial in study.best_trials
    )
    assert study.ask().number == 20  # Optuna's own sampler takes the stopped trials too


def test_infinite_values_are_values(database: PostgresStorage, rdb: optuna.storages.RDBStorage) -> None:
    made = named(spec())
    engine, trials = Engine(made, database, database.clock), Trials(made, database)
    rows = [trials.run(engine, value) for value in (math.inf, 1.0, -math.inf, math.nan)]
    assert [(row.state, row.reason, row.values) for row in rows] == [
        (TrialState.COMPLETE, Reason.COMPLETED, (math.inf,)),
        (TrialState.COMPLETE, Reason.COMPLETED, (1.0,)),
        (TrialState.COMPLETE, Reason.COMPLETED, (-math.inf,)),
        (TrialState.FAIL, Reason.NOT_A_NUMBER, None),
    ]
    study = optuna.load_study(study_name=engine.study, storage=rdb)
    assert [trial.values for trial in study.trials] == [[math.inf], [1.0], [-math.inf], None]
    assert study.best_trial.number == engine.best[0].number == 2


@pytest.mark.parametrize("sampler", [Algorithm("random"), Algorithm("tpe", {"nStartupTrials": 4}), Algorithm("grid")])
def test_a_restart_changes_nothing(database: PostgresStorage, sampler: Algorithm) -> None:
    parameters = {**spec().parameters} if sampler.name != "grid" else {"layers": Int(1, 40)}
    made = spec(sampler=sampler, pruner=Algorithm("median", {"nStartupTrials": 2}), parameters=parameters, seed=3)

    def run_through(restarts: bool) -> tuple[list[object], list[object]]:
        own = named(made)
        engine, draw = Engine(own, database, database.clock), random.Random(4)
        trials = Trials(own, database)
        for _ in range(5):
            run(engine, trials, 3, draw)
            trials.start(engine)
            if restarts:
                before = [engine.counts, engine.best, engine.recent_reasons, engine.saved_steps, engine.exhausted]
                engine = Engine(own, database, database.clock)
                assert [
                    engine.counts,
                    engine.best,
                    engine.recent_reasons,
                    engine.saved_steps,
                    engine.exhausted,
                ] == before
        asked = [(row.params, row.state, row.values) for row in database.load_trials(own.uid)]
        return list(asked), [engine.counts, engine.best, engine.recent_reasons, engine.saved_steps]

    assert run_through(restarts=True) == run_through(restarts=False)


def test_a_study_with_conditions_is_as_an_objective_writes_it_that_suggests_inside_an_if(
    database: PostgresStorage, rdb: optuna.storages.RDBStorage
) -> None:
    parameters: dict[str, Parameter] = {
        "optimizer": Categorical(("adam", "sgd")),
        "momentum": Double(0.0, 1.0, when=(("optimizer", ("sgd",)),)),
        "lr": Double(1e-4, 1.0, log=True),
    }
    made = named(spec(parameters=parameters, sampler=Algorithm("tpe", {"nStartupTrials": 5})))
    engine = Engine(made, database, database.clock)
    run(engine, Trials(made, database), 14, random.Random(3))
    study = optuna.load_study(study_name=engine.study, storage=rdb)
    has = [trial.params.keys() for trial in study.trials]
    assert {"optimizer", "lr"} in has
    assert {"optimizer", "lr", "momentum"} in has
    for trial in study.trials:
        assert made.space.problem(trial.params) is None
        assert trial.distributions == {name: space.distribution(parameters[name]) for name in trial.params}
    assert intersection_search_space(study.trials).keys() == set(made.space.relative)
    loaded = Engine(made, database, database.clock)
    (row,) = loaded.ask(1)
    assert row.number == 14
    assert made.space.problem(row.params) is None
