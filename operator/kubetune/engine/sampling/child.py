"""A sampler process as the operator holds it: started, asked one request at a time, ended."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import cast

import kubetune
from kubetune.engine.sampling.wire import Answer, Question, Receiver, send

START = 60.0  # seconds that a process may take to start
_KNOWN = 1000  # experiments


class Process:
    """A running sampler process. Not thread-safe, but for `close` and `interrupt`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._end, other = socket.socketpair()
        self._receiver = Receiver(self._end)
        with other:
            self._process = subprocess.Popen(command, stdin=other.fileno(), env=_environment())
        self._known: dict[str, tuple[int, int]] = {}  # experiment → key of the past that it was sent, and how much

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

    def ask(self, request: Question, slow: float, limit: float, on_slow: Callable[[], None]) -> Answer:
        """Raises TimeoutError after ``limit`` seconds; EOFError or OSError: the process is gone. ``on_slow`` is called
        if it takes longer than ``slow``."""
        answer = self._answer(request.but(self._has(request)), slow, limit, on_slow)
        if answer.missing:
            answer = self._answer(request, slow, limit, on_slow)
        self._knows(request)
        return answer

    def _answer(self, request: Question, slow: float, limit: float, on_slow: Callable[[], None]) -> Answer:
        end = time.monotonic() + limit
        self._end.settimeout(limit)
        send(self._end, request)
        self._end.settimeout(slow)
        with contextlib.suppress(TimeoutError):
            return cast(Answer, self._receiver.receive())
        on_slow()
        self._end.settimeout(max(0.001, end - time.monotonic()))
        return cast(Answer, self._receiver.receive())

    def _has(self, request: Question) -> int:
        """How much of the request's past it was sent before; it may have forgotten."""
        past = request.past
        key, count = self._known.get(request.key, (0, 0))
        return min(count, len(past)) if past is not None and past.key == key else 0

    def _knows(self, request: Question) -> None:
        past = request.past
        if past is not None:
            self._known.pop(request.key, None)
            self._known[request.key] = past.key, len(past)
            if len(self._known) > _KNOWN:
                del self._known[next(iter(self._known))]

    def fate(self) -> str:
        """How it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._process.wait(1.0)}"
        return "it closed its socket"

    def interrupt(self) -> None:
        """Let whoever waits for its answer find it gone."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, at once."""
        self.interrupt()
        self._process.kill()
        self._process.wait()
        self._end.close()  # only now: who waits on it has been told by the shutdown


def _environment() -> dict[str, str]:
    """One thread for numpy (more gain nothing here, and each takes memory); nothing that only the operator may know."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("KUBETUNE_")}
    home = str(pathlib.Path(kubetune.__file__).parent.parent)
    path = os.pathsep.join([home, *filter(None, [own.get("PYTHONPATH")])])
    return {**own, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
