"""Group commit: who shares a transaction, what is bounded, and who fails alone."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from kubetune.gateway import batch
from kubetune.metrics.catalog import Metrics
from kubetune.storage import base, memory
from tests.integration.experiments import Experiment


class Watched(memory.MemoryStorage):
    """Tells how many reports each transaction had; holds them up while ``gate`` is closed."""

    def __init__(self) -> None:
        super().__init__(time.time)
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.poison: str | None = None

    def accept(self, reports: Sequence[base.Incoming]) -> list[base.Answer | Exception]:
        self.batches.append(len(reports))
        assert self.gate.wait(30)
        if any(report.key == self.poison for report in reports):
            raise RuntimeError("a defect")
        return super().accept(reports)


@pytest.fixture
def storage() -> Watched:
    made = Watched()
    made.acquire("test")
    return made


@pytest.fixture
def experiment(storage: Watched) -> Experiment:
    made = Experiment(storage)
    made.create(*range(20))
    return made


def run(
    storage: Watched, work: Callable[[batch.Batcher], Awaitable[None]], size: int = 500, queue_limit: int = 1000
) -> None:
    async def main() -> None:
        batcher = batch.Batcher(storage, Metrics("gateway"), 0.02, size, queue_limit)
        try:
            await work(batcher)
        finally:
            storage.gate.set()
            await batcher.close()

    asyncio.run(main())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


def test_reports_that_come_together_share_a_commit(storage: Watched, experiment: Experiment) -> None:
    async def work(batcher: batch.Batcher) -> None:
        answers = await asyncio.gather(*(batcher.submit([experiment.incoming(number)]) for number in range(20)))
        assert all(isinstance(answer, base.Answer) and answer.seq == 1 for (answer,) in answers)

    run(storage, work)
    assert storage.batches == [20]


def test_at_most_two_commits_are_on_the_way_and_the_next_gathers_what_waits(
    storage: Watched, experiment: Experiment
) -> None:
    async def work(batcher: batch.Batcher) -> None:
        storage.gate.clear()
        first = asyncio.gather(batcher.submit([experiment.incoming(0)]))
        await until(lambda: len(storage.batches) == 1)
        second = asyncio.gather(batcher.submit([experiment.incoming(1)]))
        await until(lambda: len(storage.batches) == 2)
        rest = asyncio.gather(*(batcher.submit([experiment.incoming(number)]) for number in range(2, 20)))
        await asyncio.sleep(0.1)
        assert storage.batches == [1, 1]
        assert batcher.slowest > 0
        storage.gate.set()
        await asyncio.gather(first, second, rest)
        assert batcher.slowest == pytest.approx(0, abs=1e-3)

    run(storage, work)
    # While both were on the way, one more was taken out of the queue to wait for its turn.
    assert sum(storage.batches) == 20
    assert len(storage.batches) <= 4


def test_a_batch_is_bounded_and_a_request_stays_whole(storage: Watched, experiment: Experiment) -> None:
    async def work(batcher: batch.Batcher) -> None:
        requests = [[experiment.incoming(number) for _ in range(3)] for number in range(4)]
        requests.append([experiment.incoming(9) for _ in range(12)])
        answers = await asyncio.gather(*(batcher.submit(request) for request in requests))
        assert [len(each) for each in answers] == [3, 3, 3, 3, 12]
        assert [answer.seq for answer in answers[-1] if isinstance(answer, base.Answer)] == list(range(1, 13))

    run(storage, work, size=7)
    assert storage.batches == [6, 6, 12]


def test_more_than_the_queue_holds_is_refused_at_once(storage: Watched, experiment: Experiment) -> None:
    async def work(batcher: batch.Batcher) -> None:
        storage.gate.clear()
        waiting = []
        for number in range(2):  # on the way
            waiting.append(asyncio.ensure_future(batcher.submit([experiment.incoming(number)])))
            await until(lambda: len(storage.batches) == len(waiting))
        waiting += [asyncio.ensure_future(batcher.submit([experiment.incoming(5)] * 4)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(batch.Overloaded):
            await batcher.submit([experiment.incoming(6)] * 4)
        storage.gate.set()
        await asyncio.gather(*waiting)

    run(storage, work, queue_limit=10)


def test_the_database_away_is_told_to_all_of_the_batch(storage: Watched, experiment: Experiment) -> None:
    def fault(where: str) -> None:
        raise base.StorageUnavailable("away")

    async def work(batcher: batch.Batcher) -> None:
        storage.fault = fault
        requests = (batcher.submit([experiment.incoming(number)]) for number in range(3))
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(result) for result in results] == [base.StorageUnavailable] * 3

    run(storage, work)
    assert storage.batches == [3]  # once: who sent them sends them again


def test_a_report_that_breaks_the_batch_fails_alone(storage: Watched, experiment: Experiment) -> None:
    async def work(batcher: batch.Batcher) -> None:
        storage.poison = "bad"
        good = [batcher.submit([experiment.incoming(number)]) for number in range(3)]
        bad = batcher.submit([experiment.incoming(3, key="bad")])
        *answers, failure = await asyncio.gather(*good, bad, return_exceptions=True)
        assert isinstance(failure, RuntimeError)
        assert all(isinstance(answer, list) for answer in answers)

    run(storage, work)
    assert storage.batches == [4, 1, 1, 1, 1]


def test_one_report_that_is_refused_leaves_the_others(storage: Watched, experiment: Experiment) -> None:
    async def work(batcher: batch.Batcher) -> None:
        old = experiment.incoming(0, attempt=9)
        (refused,), (taken,) = await asyncio.gather(batcher.submit([old]), batcher.submit([experiment.incoming(1)]))
        assert isinstance(refused, base.NotCurrent)
        assert isinstance(taken, base.Answer)

    run(storage, work)


def test_what_was_taken_is_committed_though_the_gateway_stops(storage: Watched, experiment: Experiment) -> None:
    async def main() -> None:
        batcher = batch.Batcher(storage, Metrics("gateway"), 5.0)
        waiting = asyncio.gather(*(batcher.submit([experiment.incoming(number)]) for number in range(5)))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(batch.Overloaded, match="stopping"):
            await batcher.submit([experiment.incoming(9)])
        assert len(await waiting) == 5
        await closing

    asyncio.run(main())
    assert sum(storage.batches) == 5


def test_whoever_asked_may_go_and_the_report_still_counts(storage: Watched, experiment: Experiment) -> None:
    async def work(batcher: batch.Batcher) -> None:
        storage.gate.clear()
        asking = asyncio.ensure_future(batcher.submit([experiment.incoming(0)]))
        await until(lambda: bool(storage.batches))
        asking.cancel()
        storage.gate.set()
        await batcher.submit([experiment.incoming(1)])

    run(storage, work)
    assert len(storage.trial_reports(experiment.namespace, experiment.name, 0)) == 1
