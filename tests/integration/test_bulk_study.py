"""The large study of the benchmarks, in small: what is written in bulk is what the real writer leaves."""

import contextlib
from typing import Any

import optuna
import psycopg2

from dev.bench import study
from kubetune.api.spec import parse
from kubetune.api.trial import Reason
from kubetune.engine.engine import Engine
from kubetune.storage import base
from kubetune.storage.migrate import migrate
from kubetune.storage.postgres import PostgresStorage
from tests.postgresql import Server

SIZE = study.Size(ended=8, running=3, reports=6)
TABLES = {  # and how a table's rows of one trial are found
    "kubetune.experiment_trials": "t.id = x.id",
    "kubetune.reports": "t.id = x.trial_id",
    "kubetune.attempts": "t.id = x.trial_id",
    "trials": "t.optuna_id = x.trial_id",
    "trial_params": "t.optuna_id = x.trial_id",
    "trial_values": "t.optuna_id = x.trial_id",
    "trial_intermediate_values": "t.optuna_id = x.trial_id",
    "trial_user_attributes": "t.optuna_id = x.trial_id",
}


def shape(url: str, table: str, number: int) -> list[tuple[Any, ...]]:
    """Of each of a trial's rows which columns have a value."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT x.* FROM kubetune.experiment_trials t JOIN {table} x ON {TABLES[table]} WHERE t.number = %s",
            (number,),
        )
        return sorted(tuple(value is None for value in row) for row in cursor.fetchall())


def written(url: str) -> None:
    """Trials 0 (COMPLETE), 1 (PRUNED) and 2 (RUNNING) of the same experiment, by kubetune itself."""
    spec = parse(study.resource(SIZE))
    with contextlib.closing(PostgresStorage(url)) as storage:
        storage.acquire("test")
        engine = Engine(spec, storage, storage.clock)
        rows = engine.ask(3)
        for row in rows:
            assert engine.record_job(row.number, 1, f"job-{row.number}")
        engine.record_start({row.number: 1.0 for row in rows})
        for number, steps in ((0, 6), (1, 3), (2, 3)):
            who = base.Identity(spec.uid, spec.namespace, spec.name, number, 1, f"job-{number}", "pod")
            storage.accept([base.Incoming(who, f"{number}-{step}", step, {"loss": 0.5}) for step in range(steps)])
        storage.finish(base.Identity(spec.uid, spec.namespace, spec.name, 0, 1, "job-0", "pod"), "complete", "")
        engine.tail()
        engine.request_stop({1: Reason.PRUNED})
        for number in (0, 1):
            engine.finish(number, 1, None, "")


def test_rows_have_the_shape_of_real_ones(postgres_server: Server) -> None:
    bulk, real = postgres_server.create_database(), postgres_server.create_database()
    for url in (bulk, real):
        migrate(url)
    study.write(bulk, SIZE, 1e9)
    written(real)
    for table in TABLES:
        for ours, theirs in ((0, 0), (3, 1), (8, 2)):
            assert shape(bulk, table, ours) == shape(real, table, theirs), table


def test_engine_and_optuna_load_it(postgres_server: Server) -> None:
    url = postgres_server.create_database()
    migrate(url)
    spec = study.write(url, SIZE, 1e9)
    with contextlib.closing(PostgresStorage(url)) as storage:
        storage.acquire("test")
        engine = Engine(spec, storage, storage.clock)
        assert (engine.counts.complete, engine.counts.pruned, engine.counts.running) == (6, 2, 3)
        assert engine.saved_steps == (6 * 6 + 2 * 3, 2 * 3)
        assert [row.last_step for row in engine.running.values()] == [2, 2, 2]
        best = engine.best[0]
        seen = optuna.load_study(study_name=engine.study, storage=url.replace("postgresql:", "postgresql+psycopg2:"))
        assert (seen.best_trial.number, seen.best_trial.params) == (best.number, dict(best.params))
        assert [len(trial.intermediate_values) for trial in seen.trials] == [6, 6, 6, 3, 6, 6, 6, 3, 0, 0, 0]
        assert engine.ask(1)[0].number == 11
