"""A large study, written in bulk as kubetune would have left it: for benchmarks that load one.

`tests/integration/test_bulk_study.py` holds its rows to what the real writer writes.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json, parse
from kubetune.storage import pool, space
from kubetune.storage.postgres import PostgresStorage

NAMESPACE, NAME = "bench", "large"
UID = "00000000-0000-4000-8000-000000000001"
METRIC = "loss"
UNLIMITED = {"statement_timeout": "0", "lock_timeout": "0"}


@dataclasses.dataclass(frozen=True)
class Size:
    """Trials that ended (a quarter of them pruned half way), trials that run (half way, better than all others), and
    how often a whole one reports."""

    ended: int
    running: int
    reports: int


def resource(size: Size) -> Json:
    """Its Experiment, as the API server would show it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"namespace": NAMESPACE, "name": NAME, "uid": UID, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "objective": {"metric": METRIC, "direction": "minimize"},
            "parameters": {
                "lr": {"double": [1e-5, 0.1], "scale": "log"},
                "momentum": {"double": [0.0, 0.99]},
                "dropout": {"double": [0.0, 0.5]},
                "layers": {"int": [1, 8]},
                "units": {"int": [16, 1024]},
                "optimizer": {"choice": ["adam", "sgd"]},
            },
            "sampler": {"name": "tpe"},
            "pruner": {"name": "median"},
            "maxTrials": 2 * (size.ended + size.running),
            "maxFailedTrials": 100,
            "parallelism": {"max": size.running},
            "template": {"spec": {"containers": [{"name": "trial", "image": "trial:1", "args": ["--lr=$(lr)"]}]}},
        },
    }


def write(url: str, size: Size, now: float) -> ExperimentSpec:
    """Write it into a migrated, empty database. Foreign keys are not checked and most indexes are made last: rows by
    the million."""
    spec = parse(resource(size))
    storage = PostgresStorage(url, size=1)
    storage.acquire("bench")
    storage.open_study(spec.uid, spec.namespace, spec.name, [METRIC], ["minimize"])
    storage.close()
    given = {**dataclasses.asdict(size), "now": now, "uid": spec.uid}
    with _connected(url) as cursor:
        for statement in _trials():
            cursor.execute(statement, given)
    threads = concurrent.futures.ThreadPoolExecutor()  # a processor each
    try:
        list(threads.map(lambda statements: _fill(url, statements), (REPORTS, OPTUNA_REPORTS, _the_rest(spec))))
    finally:
        threads.shutdown(wait=False)  # whose time is over stops the server, and with it the others
    with _connected(url) as cursor:
        cursor.execute(
            "UPDATE kubetune.experiment_trials SET series_steps = NULL, series_values = NULL WHERE state = 'RUNNING'"
        )
    with contextlib.closing(pool.connect(url, "bench", **UNLIMITED)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("VACUUM (ANALYZE) kubetune.experiment_trials")
        cursor.execute("ANALYZE")
    return spec


@contextlib.contextmanager
def _connected(url: str) -> Iterator[pool.Cursor]:
    with contextlib.closing(pool.connect(url, "bench", **UNLIMITED)) as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica; SET maintenance_work_mem = '256MB'; SELECT setseed(0)")
        yield cursor
        connection.commit()


def _fill(url: str, statements: Sequence[str]) -> None:
    """Carry out statements; the table of reports that the first one fills gets its indexes afterwards."""
    table = statements[0].split()[2]
    with _connected(url) as cursor, _indexes_last(cursor, table):
        for statement in statements:
            cursor.execute(statement)


@contextlib.contextmanager
def _indexes_last(cursor: pool.Cursor, table: str) -> Iterator[None]:
    """Drop a table's unique constraints and indexes for the length of the block."""
    cursor.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype IN ('p', 'u')",
        (table,),
    )
    constraints = cursor.fetchall()
    for name, _ in constraints:
        cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass",
        (table,),
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        cursor.execute(definition)
    for name, definition in constraints:
        cursor.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')


def _trials() -> Sequence[str]:
    return (
        # One row per trial: how far it came.
        """
        CREATE TEMP TABLE drawn AS
        SELECT n AS number, e.id AS experiment_id, e.study_id,
            CASE WHEN n >= %(ended)s THEN 'RUNNING' WHEN n %% 4 = 3 THEN 'PRUNED' ELSE 'COMPLETE' END AS state,
            CASE WHEN n >= %(ended)s OR n %% 4 = 3 THEN %(reports)s / 2 ELSE %(reports)s END AS steps,
            exp(random() * ln(1e4) + ln(1e-5)) AS lr, random() * 0.99 AS momentum, random() * 0.5 AS dropout,
            1 + floor(random() * 8)::int AS layers, 16 + floor(random() * 1009)::int AS units,
            floor(random() * 2)::int AS optimizer,
            CASE WHEN n >= %(ended)s THEN 0 ELSE random() END AS quality, gen_random_uuid()::text AS job_uid,
            %(now)s - 3600.0 - (%(ended)s - n) AS created
        FROM kubetune.experiments e, generate_series(0, %(ended)s + %(running)s - 1) n WHERE e.uid = %(uid)s
        """,
        """
        INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete)
        SELECT number, study_id, state::trialstate, to_timestamp(created) AT TIME ZONE 'UTC',
            CASE WHEN state <> 'RUNNING' THEN to_timestamp(created + 600) AT TIME ZONE 'UTC' END
        FROM drawn ORDER BY number
        """,
        """
        INSERT INTO kubetune.experiment_trials (experiment_id, number, optuna_id, state, params, created, job_uid,
            started, ended, objective_values, reason, last_seq, last_step, last_metrics, stop_requested, stop_reason,
            finish_status, finish_message, finish_time, series_steps, series_values, known, end_order)
        SELECT experiment_id, d.number, o.trial_id, d.state, json_build_object('lr', lr, 'momentum', momentum,
                'dropout', dropout, 'layers', layers, 'units', units,
                'optimizer', (ARRAY['adam', 'sgd'])[optimizer + 1]),
            created, job_uid, created + 5, CASE WHEN d.state <> 'RUNNING' THEN created + 600 END,
            CASE WHEN d.state <> 'RUNNING' THEN ARRAY[s.last] END,
            CASE d.state WHEN 'COMPLETE' THEN 'Completed' WHEN 'PRUNED' THEN 'Pruned' END,
            d.steps, d.steps - 1, json_build_object('loss', s.last),
            CASE d.state WHEN 'PRUNED' THEN created + 590 END, CASE d.state WHEN 'PRUNED' THEN 'Pruned' END,
            CASE d.state WHEN 'COMPLETE' THEN 'complete' END, CASE d.state WHEN 'COMPLETE' THEN '' END,
            CASE d.state WHEN 'COMPLETE' THEN created + 599 END, s.steps, s.series, d.number,
            CASE WHEN d.state <> 'RUNNING' THEN d.number + 1 END
        FROM drawn d JOIN trials o USING (study_id, number), LATERAL (
            SELECT array_agg(step::bigint ORDER BY step) AS steps, array_agg(value ORDER BY step) AS series,
                (array_agg(value ORDER BY step DESC))[1] AS last
            FROM (SELECT step, d.quality + 2 * exp(-step / 30.0) + 0.1 * random() AS value
                  FROM generate_series(0, d.steps - 1) step) AS curve) AS s
        ORDER BY d.number
        """,
    )


REPORTS = (
    """
        INSERT INTO kubetune.reports (trial_id, seq, attempt, step, key, metrics, time)
        SELECT t.id, s.step + 1, 1, s.step, replace(gen_random_uuid()::text, '-', ''),
            json_build_object('loss', s.value), t.created + 5 + 5 * s.step
        FROM kubetune.experiment_trials t, unnest(t.series_steps, t.series_values) AS s (step, value)
        ORDER BY t.id, s.step
        """,
)
OPTUNA_REPORTS = (
    """
        INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
        SELECT t.optuna_id, s.step, s.value, 'FINITE'
        FROM kubetune.experiment_trials t, unnest(t.series_steps, t.series_values) AS s (step, value)
        WHERE t.state <> 'RUNNING' ORDER BY t.optuna_id, s.step
        """,
)


def _the_rest(spec: ExperimentSpec) -> Sequence[str]:
    known = space.distributions_of(spec.parameters)
    params = ", ".join(f"('{name}', $${space.to_json(known[name])}$$)" for name in spec.parameters)
    job = names.job_name(spec.name, spec.uid, 0, 1).removesuffix("-0-1")
    return (
        """
        INSERT INTO kubetune.attempts (trial_id, attempt, job_uid, began, ended, reason, message)
        SELECT id, 1, job_uid, created, ended, reason, '' FROM kubetune.experiment_trials WHERE state <> 'RUNNING'
        """,
        """
        INSERT INTO trial_values (trial_id, objective, value, value_type)
        SELECT optuna_id, 0, objective_values[1], 'FINITE' FROM kubetune.experiment_trials WHERE state <> 'RUNNING'
        ORDER BY 1
        """,
        f"""
        INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
        SELECT t.optuna_id, p.name, CASE WHEN p.name = 'optimizer' THEN (t.params ->> p.name = 'sgd')::integer
            ELSE (t.params ->> p.name)::double precision END, p.form
        FROM kubetune.experiment_trials t, (VALUES {params}) AS p (name, form) ORDER BY 1, 2
        """,
        f"""
        INSERT INTO trial_user_attributes (trial_id, key, value_json)
        SELECT optuna_id, a.key, a.value FROM kubetune.experiment_trials t, LATERAL (VALUES
            ('kubetune:reason', to_json(reason)::text), ('kubetune:message', '""'), ('kubetune:attempt', '1'),
            ('kubetune:job', to_json('{job}-' || number || '-1')::text)) AS a (key, value)
        WHERE state <> 'RUNNING' ORDER BY 1
        """,
    )
