"""A small pool of sampler processes that nobody can hold up for the others.

Each process has a thread here that gives it one request at a time. A request holds all that its answer depends on, so
it may go to any process, and goes to another when one dies: nothing is lost, since nothing of it was committed. It
goes to the process that answered the experiment last if that one is free, for what it worked out then, and to any
other rather than wait.

An experiment whose asks take longer than `SLOW` is slow from then on (until one does not). A process that a slow ask
holds does not count: another is started in its place, up to twice ``size`` in all, and goes when the slow one is back.
Slow asks hold at most ``size`` processes at a time and wait for each other beyond that; where more turn out slow, those
that began last have their process ended once it is wanted, and wait with them. So a process is always found for those
that are not slow.
"""

import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence

from kubetune.api.searcher import SamplerFailed
from kubetune.api.spec import ParamValue
from kubetune.engine.sampling.child import Process
from kubetune.engine.sampling.wire import Answer, Question

COMMAND = (sys.executable, "-m", "kubetune.engine.sampling.process")
SLOW = 1.0  # seconds of one ask
LIMIT = 600.0  # seconds; then it hangs, and is ended
STALE = 5.0  # seconds that an answer may wait to be taken
_ATTEMPTS = 2  # of a request, when its process dies
_HOMES = 1000  # experiments

logger = logging.getLogger(__name__)


class Ticket:
    """A request under way."""

    def __init__(self, request: Question, wake: Callable[[], None]) -> None:
        self.request = request
        self._wake = wake
        self._done = threading.Event()
        self._answer = Answer()
        self._finished = 0.0

    def wait(self, seconds: float) -> Sequence[dict[str, ParamValue]] | None:
        """The suggestions; None: not yet, ``wake`` will be called. Raises SamplerFailed."""
        answer = self.answer(seconds)
        return None if answer is None else answer.params

    def answer(self, seconds: float) -> Answer | None:
        """All of it; as `wait`."""
        if not self._done.wait(seconds):
            return None
        if self._answer.error:
            raise SamplerFailed(self._answer.error)
        return self._answer

    @property
    def key(self) -> str:
        return self.request.key

    @property
    def stale(self) -> bool:
        """Nobody took it for long: there was no free slot, and what ended since is not in it."""
        return self._done.is_set() and time.monotonic() - self._finished > STALE

    def finish(self, answer: Answer) -> None:
        """Wakes whoever waits."""
        self._answer, self._finished = answer, time.monotonic()
        self._done.set()
        self._wake()


class Pool:
    """Thread-safe. Processes are started when first needed.

    Args:
        size: processes for asks that are not slow; at least 1.
        on_restart: told of each process that had to be started anew.
    """

    def __init__(
        self,
        size: int,
        on_restart: Callable[[], None] = lambda: None,
        command: Sequence[str] = COMMAND,
        slow: float = SLOW,
        limit: float = LIMIT,
    ) -> None:
        self._size = size
        self._on_restart = on_restart
        self._command = command
        self._slow_after, self._limit = slow, limit
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._slow: set[str] = set()  # keys of questions
        self._held: list[_Turn] = []  # slow asks under way, in the order in which they turned out so
        self._threads = 0
        self._begun = 0  # threads, ever
        self._idle: set[int] = set()  # threads, by number
        self._homes: dict[str, int] = {}  # key → the thread whose process answered it last
        self._processes: set[Process] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        with self._changed:
            return [process.pid for process in self._processes]

    def submit(self, request: Question, wake: Callable[[], None]) -> Ticket:
        """Ask. ``wake`` is called from another thread, once, when the answer is there."""
        ticket = Ticket(request, wake)
        with self._changed:
            self._waiting.append(ticket)
            self._staff()
            self._changed.notify_all()
        return ticket

    def close(self) -> None:
        """End the processes; what was asked is never answered."""
        with self._changed:
            self._closed = True
            processes = list(self._processes)
            self._changed.notify_all()
        for process in processes:
            process.close()

    def _staff(self) -> None:
        """Have a thread for what waits: one more, if there may be, or that of a slow ask too many."""
        if self._closed or len(self._waiting) <= len(self._idle):
            return
        if self._threads < min(self._size + len(self._held), 2 * self._size):
            self._threads += 1
            self._begun += 1
            name = f"sampler-{self._begun}"
            threading.Thread(target=self._serve, args=(self._begun,), name=name, daemon=True).start()
        elif any(ticket.key not in self._slow for ticket in self._waiting):
            for turn in [turn for turn in self._held if not turn.evicted][: self._size - 1 : -1]:
                if turn.process is not None:
                    turn.evicted = True
                    turn.process.interrupt()
                    break

    # ---- one thread, one process

    def _serve(self, me: int) -> None:
        process: Process | None = None
        while (turn := self._take(me)) is not None:
            process, answer = self._answer(process, turn)
            if turn.evicted and process is not None:  # just when it answered
                self._drop(process)
                process = None
            self._end(turn, me, answer is not None)
            if answer is not None:
                turn.ticket.finish(answer)
        if process is not None:
            self._drop(process)

    def _take(self, me: int) -> "_Turn | None":
        """The next request that may be worked on. None: this thread is not needed any more."""
        with self._changed:
            self._idle.add(me)
            try:
                while not self._closed and self._threads <= self._size + len(self._held):
                    turn = self._next(me)
                    if turn is not None:
                        return turn
                    self._changed.wait()
                self._threads -= 1
                return None
            finally:
                self._idle.discard(me)
                self._changed.notify_all()  # who left a request to this thread looks again

    def _next(self, me: int) -> "_Turn | None":
        """First what this thread's process answered last; of the rest what no other idle thread's did. What nobody
        waits for comes last."""
        for ticket in sorted(self._waiting, key=lambda each: (each.request.patient, self._homes.get(each.key) != me)):
            slow, home = ticket.key in self._slow, self._homes.get(ticket.key)
            if (slow and len(self._held) >= self._size) or (home != me and home in self._idle):
                continue
            self._waiting.remove(ticket)
            turn = _Turn(ticket)
            if slow:
                self._hold(turn)
            return turn
        return None

    def _hold(self, turn: "_Turn") -> None:
        """The turn takes long: somebody else does the others."""
        if turn not in self._held:
            self._held.append(turn)
            self._slow.add(turn.ticket.key)
            self._staff()

    def _took_long(self, turn: "_Turn") -> None:
        with self._changed:
            self._hold(turn)

    def _end(self, turn: "_Turn", me: int, answered: bool) -> None:
        with self._changed:
            key = turn.ticket.key
            if turn in self._held:
                self._held.remove(turn)
            if not answered:
                self._waiting.append(turn.ticket)
            elif time.monotonic() - turn.begun < self._slow_after:
                self._slow.discard(key)
            self._homes.pop(key, None)
            self._homes[key] = me
            if len(self._homes) > _HOMES:
                del self._homes[next(iter(self._homes))]
            self._changed.notify_all()

    def _answer(self, process: Process | None, turn: "_Turn") -> tuple[Process | None, Answer | None]:
        """The answer, and the process to go on with. No answer: the request waits again."""
        why, request = "", turn.ticket.request
        for _ in range(_ATTEMPTS):
            try:
                process = process or self._start()
                turn.process, turn.begun = process, time.monotonic()
                return process, process.ask(request, self._slow_after, self._limit, lambda: self._took_long(turn))
            except TimeoutError:
                self._lose(process, f"an ask of {request.spec.key} took longer than {self._limit:g} s")
                return None, Answer(error=f"the sampler gave no answer in {self._limit:g} s and was ended")
            except (EOFError, OSError) as error:
                if turn.evicted and process is not None:
                    self._drop(process)
                    return None, None
                why = process.fate() if process else str(error)
                self._lose(process, f"a sampler process ended while asked by {request.spec.key}: {why}")
                process = None
        return None, Answer(error=f"the sampler's process ended {_ATTEMPTS} times without an answer: {why}")

    def _start(self) -> Process:
        with self._changed:
            if self._closed:
                raise OSError("the pool is closed")
        process = Process(self._command)
        with self._changed:
            self._processes.add(process)
        process.greet()
        return process

    def _lose(self, process: Process | None, why: str) -> None:
        if process is not None:
            self._drop(process)
        if not self._closed:
            logger.warning("%s", why)
            self._on_restart()

    def _drop(self, process: Process) -> None:
        process.close()
        with self._changed:
            self._processes.discard(process)


@dataclasses.dataclass(eq=False)
class _Turn:
    """One request with one process. ``evicted``: the process is being ended, the request waits again."""

    ticket: Ticket
    process: Process | None = None
    begun: float = 0.0
    evicted: bool = False
