"""Arrays out of PostgreSQL by the million: COPY in its binary format, which is the numbers with their lengths."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubetune.storage import pool
from kubetune.storage.series import Maker, Take

PIECE = 4 << 20  # bytes that are decoded at once; a longer series is a piece by itself
PATIENCE = "300s"  # one statement reads it all
_HEADER = 19  # bytes: signature, flags, length of the extension (none)
_TUPLE = struct.Struct(">hii")  # how many fields; length and value of an integer, the trial's number
_ARRAY = struct.Struct(">iiiii")  # of a field: its length; dimensions, whether there are NULLs, type, elements
_EMPTY = struct.Struct(">ii")  # an empty array has no dimension, and its header ends after the type
_END = -1  # in place of the number of fields
_INTEGER = np.dtype([("length", ">i4"), ("value", ">i8")])
_DOUBLE = np.dtype([("length", ">i4"), ("value", ">f8")])


def copy(cursor: pool.Cursor, query: str, arguments: Sequence[Any], take: Take) -> None:
    """Hand on what ``query`` returns, in pieces. The transaction's statements may take longer from here on.

    Args:
        query: its columns are a trial's number (integer), steps (bigint[]) and values (double precision[]), no NULLs.
            One step with several values is the first of consecutive ones.
    """
    sink = Sink(take)
    bound = cursor.mogrify(query, arguments).decode()
    cursor.execute("SET LOCAL statement_timeout = %s", (PATIENCE,))
    cursor.copy_expert(f"COPY ({bound}) TO STDOUT (FORMAT binary)", sink)
    sink.flush()


class Sink:
    """What COPY writes into. The server sends a row at a time; nothing here relies on that."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._skip = _HEADER
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Hand on what is there in full."""
        if len(self._buffer) < self._skip:
            return
        made = Maker()
        end = _rows(memoryview(bytes(self._buffer)), self._skip, made)
        del self._buffer[:end]
        self._skip = 0
        if made:
            self._take(made.piece())


def _rows(data: memoryview, start: int, made: Maker) -> int:
    """Add each row that is there in full; returns where the last of them ends."""
    while start + _TUPLE.size <= len(data):
        fields, _, number = _TUPLE.unpack_from(data, start)
        if fields == _END:
            break
        steps, end = _array(data, start + _TUPLE.size, _INTEGER)
        values, end = _array(data, end, _DOUBLE)
        if steps is None or values is None:
            break
        if len(steps) == 1 < len(values):
            steps = np.arange(steps[0], steps[0] + len(values), dtype=np.int64)
        made.add(number, steps, values)
        start = end
    return start


def _array(data: memoryview, start: int, kind: np.dtype[np.void]) -> tuple[NDArray[Any] | None, int]:
    """A one-dimensional array and where it ends; None: it is not there in full."""
    if start + _EMPTY.size > len(data):
        return None, start
    length, dimensions = _EMPTY.unpack_from(data, start)
    end = start + 4 + length
    if end > len(data):
        return None, start
    if dimensions == 0:
        return np.empty(0, kind["value"]), end
    count = _ARRAY.unpack_from(data, start)[4]
    return np.frombuffer(data, kind, count, start + _ARRAY.size + 4)["value"], end
