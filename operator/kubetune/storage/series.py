"""Series of many trials as columns: ten million reports take seconds and 16 bytes each, where rows of Python objects
would take minutes and gigabytes.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from kubetune.api.trial import Report


@dataclasses.dataclass(frozen=True)
class Piece:
    """The series of some trials, one after the other. ``lengths``: how many reports each of them has."""

    numbers: NDArray[np.int64]  # of the trials
    lengths: NDArray[np.int64]
    steps: NDArray[np.int64]  # of all reports
    values: NDArray[np.float64]

    def each(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
        """Trial by trial: number, steps, values."""
        end = 0
        for number, length in zip(self.numbers.tolist(), self.lengths.tolist(), strict=True):
            start, end = end, end + length
            yield number, self.steps[start:end], self.values[start:end]

    def by_step(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Step by step, ascending: all values reported at it."""
        order = np.argsort(self.steps, kind="stable")
        steps, values = self.steps[order], self.values[order]
        different, starts = np.unique(steps, return_index=True)
        ends = [*starts[1:].tolist(), len(values)]
        for step, start, end in zip(different.tolist(), starts.tolist(), ends, strict=False):  # none: one end too many
            yield step, values[start:end]


Take = Callable[[Piece], None]


def piece(series: Mapping[int, Iterable[tuple[int, float]]]) -> Piece:
    """A piece of series given as steps and values by the trial's number."""
    made = Maker()
    for number, points in series.items():
        pairs = list(points)
        made.add(
            number,
            np.array([step for step, _ in pairs], np.int64),
            np.array([value for _, value in pairs], np.float64),
        )
    return made.piece()


def of_reports(reports: Mapping[int, Iterable[Report]], metric: str) -> Piece:
    """A piece of a metric's series, in order of acceptance, as trials' reports have it; trials without are left out."""
    points = {
        number: [(each.step, each.metrics[metric]) for each in came if metric in each.metrics]
        for number, came in reports.items()
    }
    return piece({number: those for number, those in points.items() if those})


class Maker:
    """Puts a piece together, trial by trial."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._steps: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float64]] = []

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, number: int, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        self._numbers.append(number)
        self._steps.append(steps)
        self._values.append(values)

    def piece(self) -> Piece:
        return Piece(
            np.array(self._numbers, np.int64),
            np.array([len(values) for values in self._values], np.int64),
            np.concatenate([np.empty(0, np.int64), *self._steps]).astype(np.int64),
            np.concatenate([np.empty(0, np.float64), *self._values]).astype(np.float64),
        )
