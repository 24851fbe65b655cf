"""Pruners whose trials compete with all others that have come as far, running ones included.

A trial leaves a mark at each checkpoint that it passes; a mark is a function of its series, so that a restart finds the
same ones. What differs is where the checkpoints are, what the mark is, and which marks are good enough.
"""

import abc
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kubetune.api.trial import TrialState
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Committed, Pruner
from kubetune.engine.pruners.ranked import Ranked
from kubetune.storage.base import Mark
from kubetune.storage.series import Maker, Piece

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Competing(Pruner, abc.ABC):
    """State: the marks at each checkpoint in order, 8 bytes each; those of a running trial are on its curve too."""

    def __init__(self) -> None:
        self._places: list[Ranked] = []

    @abc.abstractmethod
    def marks(self, steps: NDArray[np.int64], values: NDArray[np.float64], mark: Mark | None) -> NDArray[np.float64]:
        """The marks of an ended trial at the checkpoints that it passed, the first ones first. ``mark`` None: it
        runs."""

    def load(self, committed: Committed) -> None:
        for state in ENDED:
            known = {mark.number: mark for mark in committed.marks(state)}
            committed.series(state, lambda piece, known=known: self.take(piece, known))  # type: ignore[misc]
        self.sort()

    def take(self, piece: Piece, known: Mapping[int, Mark]) -> None:
        """Enter many ended trials; `sort` comes after the last of them."""
        made = Maker()
        for number, steps, values in piece.each():
            marks = self.marks(steps, values, known[number])
            made.add(number, np.arange(len(marks)), marks)
        for place, marks in made.piece().by_step():
            self._at(place).extend(marks)

    def sort(self) -> None:
        for place in self._places:
            place.sort()

    def withdraw(self, curve: Curve) -> None:
        for place, mark in enumerate(curve.marks):
            self._places[place].remove(mark)
        del curve.marks[:]

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        """What it left while it ran gives way to what it leaves for good: as after a restart."""
        self.withdraw(curve)
        steps, values = np.array(list(series), np.int64), np.array(list(series.values()), np.float64)
        for place, value in enumerate(self.marks(steps, values, mark).tolist()):
            self._at(place).add(value)

    def enter(self, curve: Curve, mark: float) -> Ranked:
        """A running trial's next mark; returns all at that checkpoint, this one included."""
        at = self._at(len(curve.marks))
        at.add(mark)
        curve.marks.append(mark)
        return at

    def _at(self, place: int) -> Ranked:
        while place >= len(self._places):
            self._places.append(Ranked())
        return self._places[place]


class AtIntervals(Competing):
    """Checkpoints once in so many reports; the mark is the best of all reports until then.

    As in the policies of Azure ML (bandit, truncation selection): a report is an interval, ``delay`` is the number of
    them before which nothing is decided.
    """

    def __init__(self, interval: int, delay: int, maximize: bool) -> None:
        super().__init__()
        self._best = np.fmax if maximize else np.fmin
        self._interval = interval
        self._first = max(1, math.ceil(delay / interval)) * interval  # reports

    def marks(self, steps: NDArray[np.int64], values: NDArray[np.float64], mark: Mark | None) -> NDArray[np.float64]:
        return self._best.accumulate(values)[self._first - 1 :: self._interval] if len(values) else values

    def resume(self, curve: Curve) -> None:
        while self.due(curve) <= min(curve.rung or 0, len(curve)):
            self.enter(curve, curve.best_of_first(self.due(curve)))

    def due(self, curve: Curve) -> int:
        """Reports at the next checkpoint."""
        return self._first + len(curve.marks) * self._interval

    def prune(self, curve: Curve) -> str | None:
        while (due := self.due(curve)) <= len(curve):
            best = curve.best_of_first(due)
            at = self.enter(curve, best)
            curve.rung = due
            if math.isnan(best):
                return f"at report {due}: no report was a number"
            why = self.judge(best, at, curve.maximize)
            if why is not None:
                return f"at report {due}: {why}"
        return None

    @abc.abstractmethod
    def judge(self, best: float, at: Ranked, maximize: bool) -> str | None:
        """Why a trial that has come to ``best`` is to stop, ``at`` holding what all came to, its own included."""
