"""What goes between the operator and a sampler process: pickles with their length before them, on a socket pair.

Both ends are this program, started by each other, so what is unpickled is one's own.
"""

import dataclasses
import pickle
import socket
import struct
from typing import Any

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine.history import View

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

    def but(self, known: int) -> "Request":
        """Without the first ``known`` of the past."""
        past = self.view.past
        if past is None or not known:
            return self
        view = dataclasses.replace(self.view, past=past.rows(known, len(past)))
        return dataclasses.replace(self, view=view)


@dataclasses.dataclass(frozen=True)
class Answer:
    """``error``: why there are none, as a traceback. ``missing``: the request left out a beginning of the past that
    the process does not have; ask again with all of it."""

    params: tuple[dict[str, ParamValue], ...] = ()
    error: str = ""
    missing: bool = False


def send(end: socket.socket, message: Request | Answer) -> None:
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
