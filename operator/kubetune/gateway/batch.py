"""Group commit: reports that arrive at about the same time share one transaction.

A commit costs a flush of the database's log however many rows it has, so single reports would be bound by flushes per
second. Each report is answered after the commit of its batch, never before. At most two batches are on the way: while
one commits, the next one gathers; what waits behind them is bounded, and beyond that refused, to be sent again.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import TypeAlias

from kubetune.metrics.catalog import Metrics
from kubetune.storage import base

IN_FLIGHT = 2  # batches
QUEUE_LIMIT = 20_000  # reports that wait

logger = logging.getLogger(__name__)

Answers: TypeAlias = list[base.Answer | Exception]


class Overloaded(Exception):  # noqa: N818
    """Too many reports wait for their commit, or the gateway is stopping: send it again in a moment."""


@dataclasses.dataclass
class _Waiting:
    """One request's reports: they stay together and in order."""

    reports: Sequence[base.Incoming]
    answers: asyncio.Future[Answers]
    arrived: float  # monotonic


class Batcher:
    """Commits reports in batches, in threads of its own. Make and use it in one event loop.

    Args:
        delay: seconds to wait for more reports before a commit, when nothing is on the way.
        size: reports in one batch; one request that has more goes alone.
    """

    def __init__(
        self,
        storage: base.GatewayStorage,
        metrics: Metrics,
        delay: float = 0.002,
        size: int = 500,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        self._delay = delay
        self._size = size
        self._queue_limit = queue_limit
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._count = 0  # reports in _waiting
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._threads = concurrent.futures.ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="commit")
        self._commits: set[asyncio.Task[None]] = set()
        self._began: dict[int, float] = {}  # batches on the way, when they began
        self._closed = False
        self._gatherer = asyncio.get_running_loop().create_task(self._gather())

    async def submit(self, reports: Sequence[base.Incoming]) -> Answers:
        """One answer for each report, after their commit: an Answer, NotCurrent, NotRecorded, or ValueError.

        Raises:
            Overloaded: nothing was written.
            StorageUnavailable: the same reports (same keys) may be sent again.
        """
        if self._closed or self._count + len(reports) > self._queue_limit:
            raise Overloaded("too many reports are waiting" if not self._closed else "the gateway is stopping")
        waiting = _Waiting(reports, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(waiting)
        self._count += len(reports)
        self._arrived.set()
        return await waiting.answers

    @property
    def slowest(self) -> float:
        """Seconds that the oldest batch on the way has taken so far; 0.0 if there is none."""
        return time.monotonic() - min(self._began.values(), default=time.monotonic())

    async def close(self) -> None:
        """Take no more reports, commit those taken."""
        self._closed = True
        self._arrived.set()
        await self._gatherer
        while self._commits:
            await asyncio.wait(self._commits)
        self._threads.shutdown(wait=False)

    async def _gather(self) -> None:
        while not (self._closed and not self._waiting):
            await self._arrived.wait()
            self._arrived.clear()
            if not self._closed and self._count < self._size:
                await asyncio.sleep(self._delay)
            while self._waiting:
                await self._slots.acquire()
                batch = self._take()
                commit = asyncio.get_running_loop().create_task(self._commit(batch))
                self._commits.add(commit)
                commit.add_done_callback(self._commits.discard)

    def _take(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        count = len(batch[0].reports)
        while self._waiting and count + len(self._waiting[0].reports) <= self._size:
            batch.append(self._waiting.popleft())
            count += len(batch[-1].reports)
        self._count -= count
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        self._began[id(batch)] = time.monotonic()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self._accept, batch)
        finally:
            del self._began[id(batch)]
            self._slots.release()
        for waiting, result in zip(batch, results, strict=True):
            self._answer(waiting, result)

    def _accept(self, batch: Sequence[_Waiting]) -> Sequence[Answers | Exception]:
        """In a thread: commit the batch. One request that breaks it fails alone, not with its neighbours."""
        try:
            answers = self._storage.accept([incoming for waiting in batch for incoming in waiting.reports])
        except base.StorageUnavailable as error:
            return [error] * len(batch)
        except Exception as error:
            if len(batch) == 1:
                logger.exception("a report could not be committed: %s", error)
                return [error]
            return [result for waiting in batch for result in self._accept([waiting])]
        rest = iter(answers)
        return [[next(rest) for _ in waiting.reports] for waiting in batch]

    def _answer(self, waiting: _Waiting, result: Answers | Exception) -> None:
        if not isinstance(result, Exception):
            accepted = sum(isinstance(answer, base.Answer) for answer in result)
            self._metrics.reports_accepted.inc(accepted)
            self._metrics.report.observe(time.monotonic() - waiting.arrived)
        if waiting.answers.done():  # whoever asked has gone
            return
        if isinstance(result, Exception):
            waiting.answers.set_exception(result)
        else:
            waiting.answers.set_result(result)
