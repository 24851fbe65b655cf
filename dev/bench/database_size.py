"""What 1,000 trials of 100 reports take: of the database, and of an operator's memory and CPU when it loads them.

`python -m dev.bench.database_size`. Not one of `make bench`: it changes only with the tables and the engine. The
figures are in docs/sizing.md.
"""

import contextlib
import random
import time
import tracemalloc
import uuid
from collections.abc import Mapping, Sequence

import psycopg2

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, Objective, Parameter, ParamValue
from kubetune.api.trial import Ending, Finish, JobRecord, Reason, Report, TrialState
from kubetune.engine.engine import Engine
from kubetune.storage import base, migrate, postgres
from tests import postgresql

TRIALS, REPORTS = 1000, 100
AT_ONCE = 250  # reports a commit
LOG = "epoch 1: loss=0.1234 accuracy=0.9\n" * 30  # the end of a log that is kept
SPACE: Mapping[str, Parameter] = {
    "lr": Double(1e-5, 0.1, log=True),
    "momentum": Double(0.0, 1.0),
    "dropout": Double(0.0, 0.5),
    "layers": Int(1, 8),
    "width": Int(16, 1024, log=True),
    "optimizer": Categorical(("adam", "sgd")),
}
PARAMS: Mapping[str, ParamValue] = {
    "lr": 0.00123456789,
    "momentum": 0.987654321,
    "dropout": 0.123456789,
    "layers": 3,
    "width": 64,
    "optimizer": "adam",
}
TABLES = """
    SELECT n.nspname || '.' || c.relname, pg_total_relation_size(c.oid) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN ('kubetune', 'public')
    ORDER BY 2 DESC LIMIT 6
"""


def fill(storage: postgres.PostgresStorage, uid: str) -> None:
    """Trials with two metrics in each report, all COMPLETE."""
    storage.acquire("size")
    storage.open_study(uid, "team", "experiment", ["accuracy"], ["maximize"])
    storage.create_trials(uid, SPACE, [base.NewTrial(number, PARAMS) for number in range(TRIALS)])
    jobs = [str(uuid.uuid4()) for _ in range(TRIALS)]
    storage.record_jobs(uid, [JobRecord(number, 1, job) for number, job in enumerate(jobs)])
    for step in range(REPORTS):
        coming = [
            base.Incoming(
                base.Identity(uid, "team", "experiment", number, 1, job, ""),
                uuid.uuid4().hex,
                step,
                {"accuracy": random.random(), "loss": random.random()},
            )
            for number, job in enumerate(jobs)
        ]
        for first in range(0, TRIALS, AT_ONCE):
            storage.accept(coming[first : first + AT_ONCE])
    storage.finish_trials(uid, [base.ToEnd(number, 1, _settle, LOG) for number in range(TRIALS)])


def _settle(reports: Sequence[Report], finish: Finish | None) -> Ending:
    return Ending(TrialState.COMPLETE, Reason.COMPLETED, "", (reports[-1].metrics["accuracy"],))


def tell(url: str, what: str) -> None:
    """Print what the tables take, without what dead rows leave behind."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM FULL ANALYZE")
            cursor.execute("SELECT pg_database_size(current_database())")
            (total,) = cursor.fetchone() or (0,)
            cursor.execute(TABLES)
            largest = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in cursor.fetchall())
    print(f"{what}: {total / 2**20:.1f} MiB ({largest})")


def tell_load(storage: postgres.PostgresStorage, spec: ExperimentSpec) -> None:
    """Print what an engine takes of memory (what Python and numpy have allocated, the second engine of this process)
    and of CPU (this process alone, the best of three)."""
    Engine(spec, storage, time.time)
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        Engine(spec, storage, time.time)
        seconds.append(time.process_time() - begun)
    tracemalloc.start()
    engine = Engine(spec, storage, time.time)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"loaded, {engine.counts.finished} trials: {held / 2**20:.2f} MiB, {1000 * min(seconds):.0f} ms of CPU")


def experiment(uid: str) -> ExperimentSpec:
    """The one that the trials are of, with the pruner that remembers most."""
    return ExperimentSpec(
        namespace="team",
        name="experiment",
        uid=uid,
        generation=1,
        objectives=(Objective("accuracy", "maximize"),),
        parameters=SPACE,
        template={},
        sampler=Algorithm("tpe"),
        pruner=Algorithm("median"),
    )


def main() -> None:
    with postgresql.running() as server:
        url, uid = server.create_database(), str(uuid.uuid4())
        migrate.migrate(url)
        tell(url, "empty")
        with contextlib.closing(postgres.PostgresStorage(url)) as storage:
            fill(storage, uid)
            tell(url, f"{TRIALS} trials, {REPORTS} reports each")
            tell_load(storage, experiment(uid))
            while storage.remove_reports(-1.0):
                pass
        tell(url, "after the reports' retention")


if __name__ == "__main__":
    main()
