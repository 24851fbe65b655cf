"""All ended trials of a study in the order in which they ended: what samplers that learn from their whole past read.

That order is part of the record (each end has its time; of those at one time the lower number is first), and what is
in it never moves. So a state that follows from the first thousand trials is still right when there are two thousand,
and who has the first thousand need only be sent the others.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from kubetune.engine.columns import Floats

_keys = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """Ended trials, one row of each array for each, but for ``first`` at the beginning, which the receiver has.

    Of two with the same ``key`` the shorter is the beginning of the longer. A key is unique in the operator's process
    and those that it started.
    """

    key: int
    first: int
    numbers: npt.NDArray[np.int64]
    states: npt.NDArray[np.uint8]  # places in `history.STATES`
    params: Floats  # as `Columns` has them
    values: Floats  # nan: none
    lasts: Floats  # value of the last report; nan: none
    penalties: Floats  # by how much constraints are broken, 0: feasible; nan: there are none, or it is not known
    slopes: Floats  # of the first objective along each column; nan: not reported. No columns: nobody asked for them
    members: npt.NDArray[np.int64]  # of which member of a population it is a segment; -1: none

    def __len__(self) -> int:
        """With those left out."""
        return self.first + len(self.numbers)

    def rows(self, begin: int, end: int) -> "Ended":
        """Those from ``begin`` to before ``end``, counted from the first that ever ended."""
        places = slice(begin - self.first, end - self.first)
        return Ended(
            self.key,
            begin,
            self.numbers[places],
            self.states[places],
            self.params[places],
            self.values[places],
            self.lasts[places],
            self.penalties[places],
            self.slopes[places],
            self.members[places],
        )


class Log:
    """Grows at its end, at the cost of what is added. What `upto` gave stays as it was: later rows are written behind
    it, or into new arrays."""

    def __init__(self, begin: Ended, key: int | None = None) -> None:
        """``key`` None: one of its own. Raises ValueError: the beginning is missing."""
        if begin.first:
            raise ValueError(f"the first {begin.first} trials are missing")
        self.key = next(_keys) if key is None else key
        self._count = len(begin)
        self._columns = _columns(begin)

    def __len__(self) -> int:
        return self._count

    def extend(self, more: Ended) -> None:
        """What follows; what of it is here already is left out. Raises ValueError: something between is missing."""
        if more.first > self._count:
            raise ValueError(f"trials {self._count} to {more.first - 1} in the order of ending are missing")
        end = len(more)
        if end <= self._count:
            return
        room = len(self._columns[0])
        if end > room:
            self._grow(max(end - room, room // 2))
        for column, rows in zip(self._columns, _columns(more.rows(self._count, end)), strict=True):
            column[self._count : end] = rows
        self._count = end

    def _grow(self, room: int) -> None:
        self._columns = tuple(
            np.concatenate([column, np.empty((room, *column.shape[1:]), column.dtype)]) for column in self._columns
        )

    def upto(self, count: int) -> Ended:
        """The first ``count``."""
        return Ended(self.key, 0, *(column[:count] for column in self._columns))


def _columns(ended: Ended) -> tuple[npt.NDArray[Any], ...]:
    known = ended.numbers, ended.states, ended.params, ended.values, ended.lasts
    return *known, ended.penalties, ended.slopes, ended.members
