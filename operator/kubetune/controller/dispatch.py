"""Carries out calls to the cluster at the same time: reads, then deletes of what runs, then creates, then the clearing
away of what has ended, which takes turns with creates when it piles up; each experiment in its turn.

A `ports.Parallel` on threads of its own (not those that reconciles run on: they wait for it). How many writes are in
flight is `kube.limiter`'s to say, which is told how requests went. A write that the server refused to look at (429)
is sent again when the server's wish to wait is over; if that is far off, it is given back, and so is what waits behind
it: their reconciles end and come again.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from kubetune.controller.act import attempt
from kubetune.controller.ports import ClusterUnavailable, Rank, Withdrawn
from kubetune.kube import errors
from kubetune.kube.limiter import Limiter, Outcome

PATIENCE = 5.0  # seconds that a write waits here because the server asked for it
PILE = 100  # Jobs that have ended and wait to be deleted; a cluster stalls at thousands (kubernetes #95492)
TRIES = 5  # of one write that is refused with 429 each time
_WRITES = ("create", "delete")
_ORDER = (Rank.DELETE, Rank.CREATE, Rank.CLEAR)
_CLEAR_FIRST = (Rank.DELETE, Rank.CLEAR, Rank.CREATE)
_TROUBLE = {0: Outcome.LOST, 429: Outcome.REFUSED, 503: Outcome.REFUSED, 504: Outcome.REFUSED}


class _Batch:
    """Calls that one caller waits for, or (``tell``) is told the results of."""

    def __init__(
        self,
        calls: Sequence[Callable[[], object]],
        key: str,
        rank: Rank,
        tell: Callable[[int, object], None] | None = None,
    ) -> None:
        self.key, self.rank, self.tell = key, rank, tell
        self.results: list[object] = [None] * len(calls)
        self.fault: Exception | None = None
        self.left = len(calls)
        self.done = threading.Event()


@dataclasses.dataclass(eq=False)
class _Task:
    batch: _Batch
    index: int
    call: Callable[[], object]
    since: float
    tries: int = 0


class Dispatcher:
    """See the module. ``on_wait``: told the rank's name and the seconds that a call waited for its turn."""

    def __init__(
        self,
        limiter: Limiter,
        threads: int,
        on_wait: Callable[[str, float], None] = lambda rank, seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limiter = limiter
        self._on_wait = on_wait
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._lanes: dict[Rank, collections.OrderedDict[str, collections.deque[_Task]]] = {
            rank: collections.OrderedDict() for rank in Rank
        }
        self._writing = 0
        self._last = Rank.CLEAR  # the rank of the last write begun
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"api-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def limit(self) -> int:
        """Writes that may be in flight at once."""
        return self._limiter.limit

    def close(self) -> None:
        """Begin nothing more; what waits is given back."""
        with self._changed:
            self._closed = True
            self._give_back(ClusterUnavailable("the operator stops"))
            self._changed.notify_all()

    def __call__(self, calls: Sequence[Callable[[], object]], key: str, rank: Rank) -> list[object]:
        """See `ports.Parallel`."""
        if not calls or (rank is Rank.READ and len(calls) == 1):
            return [attempt(call) for call in calls]
        batch = _Batch(calls, key, rank)
        self._begin(batch, calls)
        batch.done.wait()
        if batch.fault is not None:
            raise batch.fault
        return batch.results

    def start(
        self, calls: Sequence[Callable[[], object]], key: str, rank: Rank, done: Callable[[int, object], None]
    ) -> None:
        """See `ports.Start`."""
        self._begin(_Batch(calls, key, rank, done), calls)

    def withdraw(self, key: str) -> None:
        """Take back the creates of ``key`` that wait for their turn: they come to `ports.Withdrawn`."""
        with self._changed:
            for task in self._lanes[Rank.CREATE].pop(key, ()):
                self._settle(task, Withdrawn())

    def _begin(self, batch: _Batch, calls: Sequence[Callable[[], object]]) -> None:
        since = self._monotonic()
        tasks = [_Task(batch, index, call, since) for index, call in enumerate(calls)]
        with self._changed:
            if self._closed:
                for task in tasks:
                    self._settle(task, ClusterUnavailable("the operator stops"))
            elif tasks:
                self._lanes[batch.rank].setdefault(batch.key, collections.deque()).extend(tasks)
                self._changed.notify()

    def observed(self, verb: str, plural: str, code: int, seconds: float, wait: float | None) -> None:
        """How a request went, whoever sent it; fits `kube.client.Client`'s ``on_request``."""
        write = plural == "jobs" and verb in _WRITES
        outcome = _TROUBLE.get(code, Outcome.ANSWERED)
        if not write and (code != 429 or plural == "pods/log"):  # a kubelet's trouble is not the server's
            return
        with self._changed:
            self._limiter.observe(self._monotonic(), verb, seconds, outcome, self._writing, wait)

    # ---- the threads

    def _run(self) -> None:
        while (task := self._next()) is not None:
            result: object = None
            try:
                result = attempt(task.call)
            except Exception as error:  # noqa: BLE001 - raised where it is waited for, or told
                result = task.batch.fault = error
            self._ended(task, result)

    def _next(self) -> _Task | None:
        """The next call, when there is one whose turn it is; None: closed."""
        with self._changed:
            while not self._closed:
                now = self._monotonic()
                rank = self._turn(now)
                if rank is not None:
                    task = self._take(rank)
                    if rank is not Rank.READ:
                        self._writing += 1
                        self._last = rank
                    self._on_wait(rank.name.lower(), now - task.since)
                    self._changed.notify()  # there may be a turn for one more
                    return task
                self._changed.wait(self._until_held(now))
            return None

    def _turn(self, now: float) -> Rank | None:
        if self._lanes[Rank.READ]:
            return Rank.READ
        held = self._limiter.held_until - now
        if held > PATIENCE:
            self._give_back(_asked_to_wait(held))
        if held > 0 or self._writing >= self._limiter.limit:
            return None
        order = _CLEAR_FIRST if self._last is Rank.CREATE and self._piles_up() else _ORDER
        return next((rank for rank in order if self._lanes[rank]), None)

    def _piles_up(self) -> bool:
        """Whether so much waits to be cleared away that creates, which keep GPUs busy, no longer go first."""
        return sum(map(len, self._lanes[Rank.CLEAR].values())) > PILE

    def _until_held(self, now: float) -> float | None:
        held = self._limiter.held_until - now
        return held if held > 0 and any(self._lanes[rank] for rank in _ORDER) else None

    def _take(self, rank: Rank) -> _Task:
        lanes = self._lanes[rank]
        key, lane = next(iter(lanes.items()))
        task = lane.popleft()
        if lane:
            lanes.move_to_end(key)
        else:
            del lanes[key]
        return task

    def _ended(self, task: _Task, result: object) -> None:
        batch = task.batch
        with self._changed:
            self._writing -= batch.rank is not Rank.READ
            task.tries += 1
            if isinstance(result, ClusterUnavailable) and result.busy and task.tries < TRIES and not self._closed:
                self._lanes[batch.rank].setdefault(batch.key, collections.deque()).appendleft(task)
            else:
                self._settle(task, result)
            self._changed.notify()

    def _give_back(self, reason: ClusterUnavailable) -> None:
        """All writes that wait are answered with ``reason``; when closed, reads too."""
        for rank, lanes in self._lanes.items():
            if rank is Rank.READ and not self._closed:
                continue
            for lane in lanes.values():
                for task in lane:
                    self._settle(task, reason)
            lanes.clear()

    def _settle(self, task: _Task, result: object) -> None:
        batch = task.batch
        batch.results[task.index] = result
        if batch.tell is not None:
            batch.tell(task.index, result)
        batch.left -= 1
        if batch.left == 0:
            batch.done.set()


def _asked_to_wait(seconds: float) -> ClusterUnavailable:
    told = ClusterUnavailable(f"the API server asked to wait, {seconds:.1f} s more", busy=True)
    told.__cause__ = errors.Unavailable(429, "TooManyRequests", str(told), seconds)
    return told
