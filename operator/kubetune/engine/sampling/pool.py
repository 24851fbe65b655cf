"""A small pool of sampler processes that nobody can hold up for the others.

Each process has a thread here that gives it one request at a time. A request holds all that its answer depends on, so
it may go to any process, and goes to another when one dies: nothing is lost, since nothing of it was committed.

An experiment whose asks take longer than `SLOW` is slow from then on (until one does not). A process that a slow ask
holds does not count: another is started in its place, up to twice ``size`` in all, and goes when the slow one is back.
Slow asks hold at most ``size`` processes at a time and wait for each other beyond that, so the others find one free.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

import kubetune
from kubetune.api.spec import ParamValue
from kubetune.engine.sampling.wire import Answer, Receiver, Request, send

COMMAND = (sys.executable, "-m", "kubetune.engine.sampling.process")
SLOW = 1.0  # seconds of one ask
LIMIT = 600.0  # seconds; then it hangs, and is ended
START = 60.0  # seconds that a process may take to start
STALE = 5.0  # seconds that an answer may wait to be taken
_ATTEMPTS = 2  # of a request, when its process dies

logger = logging.getLogger(__name__)


class SamplerFailed(Exception):  # noqa: N818
    """The sampler raised an error, hung, or took its process down with it, twice."""


class Ticket:
    """A request under way."""

    def __init__(self, request: Request, wake: Callable[[], None]) -> None:
        self.request = request
        self._wake = wake
        self._done = threading.Event()
        self._answer = Answer()
        self._finished = 0.0

    def wait(self, seconds: float) -> Sequence[dict[str, ParamValue]] | None:
        """The suggestions; None: not yet, ``wake`` will be called. Raises SamplerFailed."""
        if not self._done.wait(seconds):
            return None
        if self._answer.error:
            raise SamplerFailed(self._answer.error)
        return self._answer.params

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
        self._slow: set[str] = set()  # experiments, by UID
        self._held = 0  # processes at a slow ask
        self._threads = 0
        self._idle = 0
        self._processes: set[Process] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        with self._changed:
            return [process.pid for process in self._processes]

    def submit(self, request: Request, wake: Callable[[], None]) -> Ticket:
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
        """Have a thread for what waits, if there may be one more."""
        wanted = min(self._size + self._held, 2 * self._size)
        if not self._closed and len(self._waiting) > self._idle and self._threads < wanted:
            self._threads += 1
            threading.Thread(target=self._serve, name=f"sampler-{self._threads}", daemon=True).start()

    # ---- one thread, one process

    def _serve(self) -> None:
        process: Process | None = None
        while (turn := self._take()) is not None:
            try:
                process, answer = self._answer(process, turn)
            finally:
                self._end(turn)
            turn.ticket.finish(answer)
        if process is not None:
            self._drop(process)

    def _take(self) -> "_Turn | None":
        """The next request that may be worked on. None: this thread is not needed any more."""
        with self._changed:
            self._idle += 1
            try:
                while not self._closed and self._threads <= self._size + self._held:
                    for ticket in self._waiting:
                        turn = _Turn(ticket)
                        if turn.uid not in self._slow or self._held < self._size:
                            self._waiting.remove(ticket)
                            if turn.uid in self._slow:
                                self._hold(turn)
                            return turn
                    self._changed.wait()
                self._threads -= 1
                return None
            finally:
                self._idle -= 1

    def _hold(self, turn: "_Turn") -> None:
        """The turn takes long: somebody else does the others."""
        if not turn.held:
            turn.held = True
            self._held += 1
            self._slow.add(turn.uid)
            self._staff()

    def _took_long(self, turn: "_Turn") -> None:
        with self._changed:
            self._hold(turn)

    def _end(self, turn: "_Turn") -> None:
        with self._changed:
            if turn.held:
                self._held -= 1
            if time.monotonic() - turn.begun < self._slow_after:
                self._slow.discard(turn.uid)
            self._changed.notify_all()

    def _answer(self, process: "Process | None", turn: "_Turn") -> tuple["Process | None", Answer]:
        why, request = "", turn.ticket.request
        for _ in range(_ATTEMPTS):
            try:
                process = process or self._start()
                turn.begun = time.monotonic()
                return process, process.ask(request, self._slow_after, self._limit, lambda: self._took_long(turn))
            except TimeoutError:
                self._lose(process, f"an ask of {request.spec.key} took longer than {self._limit:g} s")
                return None, Answer(error=f"the sampler gave no answer in {self._limit:g} s and was ended")
            except (EOFError, OSError) as error:
                why = process.fate() if process else str(error)
                self._lose(process, f"a sampler process ended while asked by {request.spec.key}: {why}")
                process = None
        return None, Answer(error=f"the sampler's process ended {_ATTEMPTS} times without an answer: {why}")

    def _start(self) -> "Process":
        with self._changed:
            if self._closed:
                raise OSError("the pool is closed")
        process = Process(self._command)
        with self._changed:
            self._processes.add(process)
        process.greet()
        return process

    def _lose(self, process: "Process | None", why: str) -> None:
        if process is not None:
            self._drop(process)
        if not self._closed:
            logger.warning("%s", why)
            self._on_restart()

    def _drop(self, process: "Process") -> None:
        process.close()
        with self._changed:
            self._processes.discard(process)


@dataclasses.dataclass
class _Turn:
    """One request with one process. ``held``: it counts as slow."""

    ticket: Ticket
    begun: float = 0.0
    held: bool = False

    @property
    def uid(self) -> str:
        return self.ticket.request.spec.uid


class Process:
    """A running sampler process. Not thread-safe, but for `close`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._end, other = socket.socketpair()
        self._receiver = Receiver(self._end)
        with other:
            self._process = subprocess.Popen(command, stdin=other.fileno(), env=_environment())

    @property
    def pid(self) -> int:
        return self._process.pid

    def greet(self) -> None:
        """Wait until it has loaded what it needs. Raises EOFError or OSError: it did not start."""
        self._end.settimeout(START)
        try:
            self._receiver.receive()
        except TimeoutError:
            raise EOFError from None

    def ask(self, request: Request, slow: float, limit: float, on_slow: Callable[[], None]) -> Answer:
        """Raises TimeoutError after ``limit`` seconds; EOFError or OSError: the process is gone. ``on_slow`` is called
        if it takes longer than ``slow``."""
        end = time.monotonic() + limit
        self._end.settimeout(limit)
        send(self._end, request)
        self._end.settimeout(slow)
        with contextlib.suppress(TimeoutError):
            return cast(Answer, self._receiver.receive())
        on_slow()
        self._end.settimeout(max(0.001, end - time.monotonic()))
        return cast(Answer, self._receiver.receive())

    def fate(self) -> str:
        """How it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._process.wait(1.0)}"
        return "it closed its socket"

    def close(self) -> None:
        """End it, at once."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._process.kill()
        self._process.wait()
        self._end.close()  # only now: who waits on it has been told by the shutdown


def _environment() -> dict[str, str]:
    """One thread for numpy (more gain nothing here, and each takes memory); nothing that only the operator may know."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("KUBETUNE_")}
    home = str(pathlib.Path(kubetune.__file__).parent.parent)
    path = os.pathsep.join([home, *filter(None, [own.get("PYTHONPATH")])])
    return {**own, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
