"""PostgreSQL under several writers at once: what was acknowledged is settled, and nobody waits in a circle."""

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg2
import pytest

from kubetune.api.trial import Ending, Exit, Finish, Reason, Report, TrialState
from kubetune.storage import base, pool, postgres
from tests.conftest import TickingClock
from tests.integration.experiments import Experiment, Settled, completed
from tests.integration.workers import offer, worker


@pytest.fixture
def storage(postgres_url: str) -> Iterator[postgres.PostgresStorage]:
    storage = postgres.PostgresStorage(postgres_url, clock=TickingClock())
    storage.acquire("test")
    yield storage
    storage.close()


@pytest.fixture
def gateway(postgres_url: str) -> Iterator[postgres.PostgresStorage]:
    """A gateway replica with connections of its own."""
    storage = postgres.PostgresStorage(postgres_url)
    yield storage
    storage.close()


def at_once(*calls: Callable[[], object]) -> list[Future[object]]:
    """All calls in threads of their own, let loose together; done when this returns."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [threads.submit(run, call) for call in calls]


def test_two_operators_take_the_epoch_at_once_and_one_of_them_writes(postgres_url: str) -> None:
    operators = [postgres.PostgresStorage(postgres_url) for _ in range(4)]
    epochs = [future.result() for future in at_once(*(lambda o=o: o.acquire("x") for o in operators))]
    assert len(set(epochs)) == 4
    outcomes = at_once(*(lambda o=o: Experiment(o) for o in operators))
    refused = [future.exception() for future in outcomes]
    assert [type(error) for error in refused].count(base.Fenced) == 3
    assert refused.count(None) == 1
    for operator in operators:
        operator.close()


def test_a_transaction_under_way_is_over_before_the_successor_has_the_epoch(
    storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
) -> None:
    experiment = Experiment(storage)
    experiment.create(0)
    settling, go_on = threading.Event(), threading.Event()

    def settle(reports: Sequence[Report], finish: Finish | None) -> Ending:
        settling.set()
        assert go_on.wait(20)
        return completed(1.0)

    with ThreadPoolExecutor(2) as threads:
        finishing = threads.submit(storage.finish_trial, experiment.uid, 0, 1, settle, None)
        assert settling.wait(20)
        acquiring = threads.submit(gateway.acquire, "successor")
        with pytest.raises(TimeoutError):
            acquiring.result(timeout=0.3)
        go_on.set()
        assert finishing.result().state is TrialState.COMPLETE
        acquiring.result()
    with pytest.raises(base.Fenced):
        experiment.lose(0)


@pytest.mark.parametrize("round_", range(5))
def test_what_is_acknowledged_is_settled_and_nothing_comes_after(
    storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage, round_: int
) -> None:
    experiment = Experiment(storage)
    numbers = range(4)
    experiment.create(*numbers)
    settled = {number: Settled(completed(1.0)) for number in numbers}
    acknowledged: dict[int, set[int]] = collections.defaultdict(set)

    def report(start: int) -> None:
        open_trials = set(numbers)
        while open_trials:
            batch = [experiment.incoming((start + number) % 4) for number in numbers]
            for incoming, answer in zip(batch, gateway.accept(batch), strict=True):
                if isinstance(answer, base.Answer):
                    acknowledged[incoming.who.number].add(answer.seq)
                else:
                    open_trials.discard(incoming.who.number)

    def finish() -> None:
        for number in numbers:
            while experiment.row(number).last_seq < 5 * (round_ + 1):
                pass
            storage.finish_trial(experiment.uid, number, 1, settled[number], None)

    for future in at_once(*(lambda start=start: report(start) for start in range(4)), finish):
        future.result()
    for number in numbers:
        seqs = [report.seq for report in settled[number].reports]
        assert seqs == list(range(1, len(seqs) + 1))
        assert set(seqs) == acknowledged[number]
        assert [report.seq for report in experiment.reports(number)] == seqs


def test_a_key_sent_by_many_at_once_counts_once(
    storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
) -> None:
    experiment = Experiment(storage)
    experiment.create(0)
    same = experiment.incoming(0, key="the same")
    futures = at_once(*[lambda: gateway.accept([same])] * 8)
    assert [future.result() for future in futures] == [[base.Answer(1, False, "")]] * 8
    assert len(experiment.reports(0)) == 1


def test_batches_over_the_same_trials_in_any_order_do_not_deadlock(
    storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
) -> None:
    experiment = Experiment(storage)
    numbers = list(range(20))
    experiment.create(*numbers)

    def accept(order: Sequence[int]) -> None:
        for _ in range(15):
            answers = gateway.accept([experiment.incoming(number) for number in order])
            assert all(isinstance(answer, base.Answer) for answer in answers)

    def operate() -> None:
        for index in range(15):
            storage.request_stop(experiment.uid, dict.fromkeys(reversed(numbers), Reason.PRUNED))
            storage.record_start(experiment.uid, dict.fromkeys(reversed(numbers), float(index)))

    orders = [numbers, numbers[::-1], numbers[::2] + numbers[1::2]]
    for future in at_once(*(lambda order=order: accept(order) for order in orders), operate):
        future.result()
    assert {experiment.row(number).last_seq for number in numbers} == {45}


def test_two_allocators_of_numbers_one_fails_loudly(storage: postgres.PostgresStorage) -> None:
    experiment = Experiment(storage)
    futures = at_once(*[lambda: experiment.create(0, 1, 2, recorded=False)] * 4)
    errors = [future.exception() for future in futures]
    assert errors.count(None) == 1
    assert [type(error) for error in errors].count(ValueError) == 3
    assert len(storage.load_trials(experiment.uid)) == 3


def test_a_study_opened_by_many_at_once_is_made_once(storage: postgres.PostgresStorage) -> None:
    futures = at_once(*[lambda: Experiment(storage, uid="one-uid", name="one-name").study] * 6)
    assert len({str(future.result()) for future in futures}) == 1


def test_a_trial_that_someone_holds_does_not_hold_up_the_others(
    storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool.SERVER_SETTINGS, "lock_timeout", "200ms")
    experiment = Experiment(storage)
    experiment.create(0, 1)
    with contextlib.closing(psycopg2.connect(storage.url)) as holder, holder.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM kubetune.experiment_trials t JOIN kubetune.experiments e ON t.experiment_id = e.id"
            " WHERE e.uid = %s AND t.number = 0 FOR UPDATE OF t",
            (experiment.uid,),
        )
        answers = gateway.accept([experiment.incoming(0), experiment.incoming(1)])
        assert [type(answer) for answer in answers] == [base.StorageUnavailable, base.Answer]
    assert experiment.report(0) == base.Answer(1, False, "")


def test_no_more_connections_than_the_pool_is_large(postgres_url: str) -> None:
    storage = postgres.PostgresStorage(postgres_url, size=3, application="a-small-pool")

    def connections() -> int:
        with storage.pool.transaction() as cursor:
            cursor.execute("SELECT pg_sleep(0.02)")
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'a-small-pool'")
            (count,) = cursor.fetchone() or (0,)
            return int(count)

    counts = [future.result() for future in at_once(*[connections] * 12)]
    assert max(counts) == 3  # type: ignore[type-var]
    storage.close()


class TestNotifications:
    def test_each_acceptance_wakes_with_the_experiments_uid(
        self, storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
    ) -> None:
        experiment, other = Experiment(storage), Experiment(storage)
        experiment.create(0)
        other.create(0)
        with woken(storage) as woke:
            assert woke.wait_for("")
            gateway.accept([experiment.incoming(0)])
            assert woke.wait_for(experiment.uid)
            gateway.finish(experiment.who(0), "complete", "")
            assert woke.wait_for(experiment.uid)
            gateway.claim_log(experiment.who(0), "me", 60)
            gateway.save_log(experiment.who(0), "me", "", True)
            assert woke.wait_for(experiment.uid)
            assert other.uid not in woke.seen

    def test_a_broken_connection_is_made_anew_and_wakes_for_what_may_have_come(
        self, storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
    ) -> None:
        experiment = Experiment(storage)
        experiment.create(0)
        with woken(storage) as woke:
            assert woke.wait_for("")
            with storage.pool.transaction() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%-listen'"
                )
            assert woke.wait_for("")
            gateway.accept([experiment.incoming(0)])
            assert woke.wait_for(experiment.uid)

    def test_a_callback_that_raises_is_called_again(
        self, storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
    ) -> None:
        experiment = Experiment(storage)
        experiment.create(0)
        with woken(storage) as woke:
            woke.fail = True
            assert woke.wait_for("")
            gateway.accept([experiment.incoming(0)])
            assert woke.wait_for(experiment.uid)

    def test_only_the_end_of_a_leased_trial_is_urgent(
        self, storage: postgres.PostgresStorage, gateway: postgres.PostgresStorage
    ) -> None:
        experiment = Experiment(storage)
        offer(experiment, 0, 1)
        who = worker(experiment)
        with woken(storage, urgent := Woke()) as woke:
            assert woke.wait_for("")
            assert gateway.lease(who, 0, 60.0).number == 0
            assert woke.wait_for(experiment.uid)
            gateway.accept([base.Incoming(who.of_trial(0, 1), "key", 0, {"loss": 1.0})])
            assert woke.wait_for(experiment.uid)
            assert experiment.uid not in urgent.seen  # both channels are one connection's, heard in order
            gateway.lease(who, 0, 60.0, base.Ended(0, 1, Exit(None, ""), None))
            assert urgent.wait_for(experiment.uid)


class Woke:
    """What a listener was called with."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fail = False
        self._condition = threading.Condition()
        self._read = 0

    def __call__(self, uid: str) -> None:
        with self._condition:
            self.seen.append(uid)
            self._condition.notify_all()
        if self.fail:
            raise ZeroDivisionError

    def wait_for(self, uid: str) -> bool:
        """Whether this came, after what was waited for before, within a time that no machine needs."""
        with self._condition:
            if not self._condition.wait_for(lambda: uid in self.seen[self._read :], timeout=60):
                return False
            self._read = self.seen.index(uid, self._read) + 1
            return True


@contextlib.contextmanager
def woken(storage: postgres.PostgresStorage, urgent: Woke | None = None) -> Iterator[Woke]:
    woke, stop = Woke(), threading.Event()
    thread = storage.listen(woke, stop, urgent)
    try:
        yield woke
    finally:
        stop.set()
        thread.join()
