"""What goes between the operator and a sampler process: pickles with their length before them, on a socket pair.

Both ends are this program, started by each other, so what is unpickled is one's own.
"""

import dataclasses
import pickle
import socket
import struct
from typing import Any, TypeAlias

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine.columns import Floats
from kubetune.engine.ended import Ended
from kubetune.engine.history import View
from kubetune.engine.regret_model import Bound

_LENGTH = struct.Struct("!Q")


@dataclasses.dataclass(frozen=True)
class Request:
    """Parameters for trials ``first``, ``first`` + 1, …: as many of ``count`` as are made in so many seconds, and
    one at the least. All that the answer depends on is here: any process can give it, and give it again. Of a whole
    past (``view.past``) a process is sent what it does not have yet."""

    spec: ExperimentSpec
    view: View
    first: int
    count: int
    seconds: float

    @property
    def key(self) -> str:
        """Of those that are made of the same, and take about as long."""
        return self.spec.uid

    @property
    def past(self) -> Ended | None:
        return self.view.past

    @property
    def patient(self) -> bool:
        """Nobody waits for the answer: it comes after what others wait for."""
        return False

    def but(self, known: int) -> "Request":
        """Without the first ``known`` of the past."""
        past = self.view.past
        if past is None or not known:
            return self
        view = dataclasses.replace(self.view, past=past.rows(known, len(past)))
        return dataclasses.replace(self, view=view)


@dataclasses.dataclass(frozen=True)
class Doubt:
    """How much better than the best of these trials could another one be? As `regret_model.bound` takes them."""

    spec: ExperimentSpec
    params: Floats
    values: Floats
    penalties: Floats

    @property
    def key(self) -> str:
        return f"{self.spec.uid}/regret"  # however long it takes, suggestions are not slow for it

    @property
    def past(self) -> Ended | None:
        return None

    @property
    def patient(self) -> bool:
        return True

    def but(self, known: int) -> "Doubt":
        return self

    @property
    def given(self) -> tuple[ExperimentSpec, Floats, Floats, Floats]:
        return self.spec, self.params, self.values, self.penalties


Question: TypeAlias = Request | Doubt


@dataclasses.dataclass(frozen=True)
class Answer:
    """``error``: why there are none, as a traceback. ``missing``: the request left out a beginning of the past that
    the process does not have; ask again with all of it."""

    params: tuple[dict[str, ParamValue], ...] = ()
    error: str = ""
    missing: bool = False
    bound: Bound | None = None  # of a doubt


def send(end: socket.socket, message: Question | Answer) -> None:
    """Raises OSError: the other end is gone; TimeoutError: it does not read."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    end.sendall(_LENGTH.pack(len(body)) + body)


class Receiver:
    """Takes messages off a socket. After a TimeoutError `receive` goes on where it was."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = bytearray()

    def receive(self) -> Any:
        """The next message. Raises EOFError: the other end is gone; OSError, TimeoutError: as the socket does."""
        self._fill(_LENGTH.size)
        (length,) = _LENGTH.unpack_from(self._buffer)
        self._fill(_LENGTH.size + length)
        message = pickle.loads(memoryview(self._buffer)[_LENGTH.size : _LENGTH.size + length])
        self._buffer = self._buffer[_LENGTH.size + length :]
        return message

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            more = self._end.recv(1 << 20)
            if not more:
                raise EOFError
            self._buffer += more
