"""Migrations on empty, half-made and finished databases, alone and at once; and what their absence looks like."""

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import optuna
import psycopg2
import pytest

from kubetune.api.trial import Reason
from kubetune.storage import base, migrate, postgres
from tests import postgresql
from tests.integration.experiments import Experiment

OWN = {
    "leader",
    "experiments",
    "experiment_trials",
    "attempts",
    "reports",
    "logs",
    "workers",
    "leases",
    "versions",
    "steering",
    "warm_trials",
    "init_checkpoints",
    "checkpoints",
    "resumes",
    "judgements",
    "kubetune_version",
}


def tables(url: str, schema: str) -> set[str]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
        return {name for (name,) in cursor.fetchall()}


def optuna_url(url: str) -> str:
    return url.replace("postgresql", "postgresql+psycopg2", 1)


def test_an_empty_database_gets_both_schemas(empty_database: str) -> None:
    migrate.migrate(empty_database)
    assert tables(empty_database, "kubetune") == OWN
    assert {"studies", "trials", "trial_values", "alembic_version"} <= tables(empty_database, "public")


def test_no_table_of_ours_is_named_as_one_of_optunas(empty_database: str) -> None:
    """The role is named like our schema: Optuna's tools would find ours first."""
    migrate.migrate(empty_database)
    assert not tables(empty_database, "kubetune") & tables(empty_database, "public")


def test_run_again_it_keeps_what_is_there(empty_database: str) -> None:
    migrate.migrate(empty_database)
    storage = postgres.PostgresStorage(empty_database)
    storage.acquire("test")
    experiment = Experiment(storage)
    experiment.create(0)
    migrate.migrate(empty_database)
    assert experiment.row(0).job_uid is not None
    assert storage.acquire("test") == 2
    storage.close()


def test_what_the_first_version_recorded_is_taken_over(empty_database: str) -> None:
    """Attempts given up for a suspend were counted as lost."""
    migrate.migrate(empty_database)
    storage = postgres.PostgresStorage(empty_database)
    storage.acquire("test")
    experiment = Experiment(storage)
    experiment.create(0, 1)
    for lost, reason in enumerate((Reason.SUSPENDED, Reason.EVICTED, Reason.SUSPENDED), 1):
        experiment.lose(0, lost, reason)
    experiment.finish(1)
    with contextlib.closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as cursor:
        later = ["losses", "offered", "reports_removed", "source", "stop_message", "rung", "constraint_values"]
        later += ["parent", "member", "leg", "paused", "legs", "environment", "known", "end_order"]
        cursor.execute(f"ALTER TABLE kubetune.experiment_trials {', '.join(f'DROP {name}' for name in later)}")
        gone = ["workers", "leases", "steering", "warm_trials", "checkpoints", "resumes", "judgements", "versions"]
        gone += ["init_checkpoints"]
        cursor.execute(f"DROP TABLE kubetune.{', kubetune.'.join(gone)}")
        later = ["spec", "generation", "warm_started", "phase", "uploaded", "swept"]
        cursor.execute(f"ALTER TABLE kubetune.experiments {', '.join(f'DROP {name}' for name in later)}")
        cursor.execute("UPDATE kubetune.kubetune_version SET version_num = '0001'")
        connection.commit()
    with pytest.raises(base.StorageUnavailable, match="is of version 0001, this operator needs"):
        migrate.check(empty_database)
    storage.confirm()
    migrate.migrate(empty_database)
    migrate.check(empty_database)
    assert [row.losses for row in storage.load_trials(experiment.uid)] == [1, 0]
    with pytest.raises(base.Fenced):  # who was at work when the tables changed writes no more
        storage.confirm()
    storage.close()


def test_run_many_at_once_each_succeeds(empty_database: str) -> None:
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        migrate.migrate(empty_database)

    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(run) for _ in range(4)]:
            future.result()
    assert tables(empty_database, "kubetune") == OWN


def test_a_database_that_optuna_uses_already_keeps_its_studies(empty_database: str) -> None:
    theirs = optuna.create_study(storage=optuna_url(empty_database), study_name="theirs")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    migrate.migrate(empty_database)
    storage = postgres.PostgresStorage(empty_database)
    storage.acquire("test")
    Experiment(storage).create(0)
    assert len(optuna.load_study(study_name="theirs", storage=optuna_url(empty_database)).trials) == 2
    storage.close()


def test_optunas_own_tools_open_it_as_the_same_role(empty_database: str) -> None:
    migrate.migrate(empty_database)
    assert optuna.storages.RDBStorage(optuna_url(empty_database)).get_all_studies() == []
    assert tables(empty_database, "kubetune") == OWN


def test_optuna_tables_of_another_version_are_refused(empty_database: str) -> None:
    migrate.migrate(empty_database)
    with contextlib.closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE public.alembic_version SET version_num = 'v9.9.9'")
        connection.commit()
    with pytest.raises(RuntimeError, match="optuna"):
        migrate.migrate(empty_database)


def test_before_it_ran_the_storage_says_what_to_do(empty_database: str) -> None:
    storage = postgres.PostgresStorage(empty_database)
    assert not storage.healthy()
    with pytest.raises(base.StorageUnavailable, match="kubetune migrate"):
        storage.acquire("test")
    storage.close()


def test_it_waits_for_the_database_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    server = postgresql.Server()
    try:
        starter = threading.Timer(0.5, server.start)
        with caplog.at_level(logging.INFO, "kubetune"), pytest.raises(TimeoutError, match="did not answer"):
            migrate.migrate(server.url("postgres"), wait=0)
        with caplog.at_level(logging.INFO, "kubetune"):
            starter.start()
            migrate.migrate(server.url("postgres"), wait=60)
        assert any("waiting for the database" in message for message in caplog.messages)
        starter.join()
    finally:
        server.remove()


def test_options_in_the_url_stand_beside_ours(empty_database: str) -> None:
    migrate.migrate(empty_database)
    storage = postgres.PostgresStorage(f"{empty_database}?options=-c%20statement_timeout%3D7s&application_name=mine")
    with storage.pool.transaction() as cursor:
        for setting, value in (
            ("statement_timeout", "7s"),
            ("lock_timeout", "5s"),
            ("application_name", "mine"),
            ("search_path", "public"),
        ):
            cursor.execute(f"SHOW {setting}")
            assert cursor.fetchone() == (value,)
    storage.close()
