"""PostgreSQL killed by SIGKILL: what was acknowledged is there when it is back, and storages go on by themselves."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from kubetune.api.trial import Reason, TrialState
from kubetune.storage import base, migrate, postgres
from tests import postgresql
from tests.integration.experiments import Experiment, completed

Result = TypeVar("Result")

TRIALS = range(8)
KILLS = 4


@pytest.fixture(scope="module")
def durable_server() -> Iterator[postgresql.Server]:
    """A server of its own, with fsync as in production."""
    with postgresql.running(fsync=True) as server:
        yield server


@pytest.fixture
def storage(durable_server: postgresql.Server) -> Iterator[postgres.PostgresStorage]:
    url = durable_server.create_database()
    migrate.migrate(url)
    storage = postgres.PostgresStorage(url)
    storage.acquire("test")
    yield storage
    storage.close()


def persist(call: Callable[[], Result]) -> Result:
    """Again and again while the database is away, as trials' clients and the operator do."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return call()
        except base.StorageUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Reporter(threading.Thread):
    """Sends reports of all trials, the same key again until it is answered; remembers every answer."""

    def __init__(self, experiment: Experiment, gateway: postgres.PostgresStorage) -> None:
        super().__init__()
        self.experiment, self.gateway = experiment, gateway
        self.acknowledged: dict[tuple[int, str], int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            batch = [self.experiment.incoming(number) for number in TRIALS]
            answers = persist(lambda batch=batch: self.gateway.accept(batch))  # type: ignore[misc]
            for incoming, answer in zip(batch, answers, strict=True):
                assert isinstance(answer, base.Answer)
                self.acknowledged[incoming.who.number, incoming.key] = answer.seq


def test_acknowledged_reports_survive_kills_in_the_middle_of_accepts(
    durable_server: postgresql.Server, storage: postgres.PostgresStorage
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    experiment = Experiment(storage)
    experiment.create(*TRIALS)
    reporters = [Reporter(experiment, storage) for _ in range(3)]
    for reporter in reporters:
        reporter.start()
    for _ in range(KILLS):
        time.sleep(moments.uniform(0.05, 0.5))
        durable_server.kill()
        durable_server.start()
    for reporter in reporters:
        reporter.over.set()
    for reporter in reporters:
        reporter.join()
    acknowledged = {key: seq for reporter in reporters for key, seq in reporter.acknowledged.items()}
    assert len(acknowledged) == sum(len(reporter.acknowledged) for reporter in reporters) > 0
    with storage.pool.transaction() as cursor:
        cursor.execute(
            "SELECT t.number, r.key, r.seq FROM kubetune.reports r"
            " JOIN kubetune.experiment_trials t ON r.trial_id = t.id"
        )
        stored = {(number, key): seq for number, key, seq in cursor.fetchall()}
    assert stored == acknowledged
    for number in TRIALS:
        seqs = sorted(seq for (of, _), seq in stored.items() if of == number)
        assert seqs == list(range(1, len(seqs) + 1))


def test_an_operator_goes_on_where_it_stood(
    durable_server: postgresql.Server, storage: postgres.PostgresStorage
) -> None:
    """Each step of a trial's life is repeated until it holds: nothing is there twice or half."""
    experiment = Experiment(storage)
    over = threading.Event()

    def kill() -> None:
        for _ in range(KILLS):
            if over.wait(0.4):
                return
            durable_server.kill()
            durable_server.start()

    killer = threading.Thread(target=kill)
    killer.start()
    number = 0
    try:
        while killer.is_alive():
            _one_life(experiment, number)
            number += 1
    finally:
        over.set()
        killer.join()
    rows = persist(lambda: storage.load_trials(experiment.uid))
    assert [row.number for row in rows] == list(range(number))
    assert {(row.state, row.attempt, row.values) for row in rows} == {(TrialState.COMPLETE, 2, (1.0,))}
    assert persist(lambda: storage.count_lost_attempts(experiment.uid)) == number
    with storage.pool.transaction() as cursor:
        for table in ("trials WHERE state = 'COMPLETE'", "trial_values", "kubetune.attempts WHERE attempt = 2"):
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (number,), table


def _one_life(experiment: Experiment, number: int) -> None:
    storage = experiment.storage

    def create() -> None:
        if number not in {row.number for row in storage.load_trials(experiment.uid)}:
            experiment.create(number, recorded=False)

    persist(create)
    assert persist(lambda: experiment.record(number))
    persist(lambda: storage.new_attempt(experiment.uid, number, 1, Reason.EVICTED, ""))
    assert persist(lambda: experiment.record(number, 2))
    persist(lambda: experiment.finish(number, completed(1.0), attempt=2))


def test_a_database_that_is_away_is_unavailable_not_broken(
    durable_server: postgresql.Server, storage: postgres.PostgresStorage
) -> None:
    experiment = Experiment(storage)
    experiment.create(0)
    durable_server.kill()
    try:
        assert not storage.healthy()
        for call in (
            lambda: experiment.report(0),
            lambda: experiment.finish(0),
            lambda: storage.load_trials(experiment.uid),
        ):
            with pytest.raises(base.StorageUnavailable):
                call()
    finally:
        durable_server.start()
    assert persist(storage.healthy)
    assert experiment.row(0).last_seq == 0
    assert experiment.report(0) == base.Answer(1, False, "")
