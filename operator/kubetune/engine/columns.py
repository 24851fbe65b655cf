"""Parameters as numbers in columns, and the points of a finite space counted through.

As Optuna has them inside: of a choice its index, of a number itself. A trial is then a row of floats: 100,000 trials of
six parameters are 5 MB, and what a sampler is shown is a slice that travels to another process as it is.
"""

import functools
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kubetune.api.space import Space
from kubetune.api.spec import Categorical, Double, Parameter, Params, ParamValue
from kubetune.engine.cells import Cells, TooTangled

Floats = npt.NDArray[np.float64]

SMALL = 10_000  # points of a space that is remembered whole
_COUNTABLE = 2**62


class Columns:
    """Of each parameter, in order of name, a number."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = dict(sorted(parameters.items()))
        self.names = tuple(self.parameters)
        self._indexes = {
            name: {choice: index for index, choice in enumerate(parameter.choices)}
            for name, parameter in self.parameters.items()
            if isinstance(parameter, Categorical)
        }

    def encode(self, params: Params) -> list[float]:
        """nan: the trial does not have the parameter."""
        numbers = []
        for name in self.names:
            if name not in params:
                numbers.append(math.nan)
            elif name in self._indexes:
                numbers.append(float(self._indexes[name][params[name]]))
            else:
                numbers.append(float(params[name]))
        return numbers

    def row(self, params: Params) -> Floats:
        """One row, as a matrix."""
        return np.array([self.encode(params)])

    def firsts(self) -> dict[str, ParamValue]:
        """The first value of each."""
        return {
            name: parameter.choices[0] if isinstance(parameter, Categorical) else parameter.low
            for name, parameter in self.parameters.items()
        }

    def decode(self, numbers: Sequence[float]) -> dict[str, ParamValue]:
        """The values again, plain Python ones."""
        return {
            name: _value(parameter, number)
            for (name, parameter), number in zip(self.parameters.items(), numbers, strict=True)
            if number == number
        }


def _value(parameter: Parameter, number: float) -> ParamValue:
    if isinstance(parameter, Categorical):
        return parameter.choices[int(number)]
    return float(number) if isinstance(parameter, Double) else int(number)


class Points:
    """The points of a space, each with a number. ``size``: how many; None: no end of them, or more than can be told
    apart here. Where every trial has all parameters they are 0 … ``size`` - 1."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._space = Space(parameters)
        axes = [_axis(parameter) for parameter in self._space.parameters.values()]
        span = math.prod(count for _, _, count in axes)
        self._lows = np.array([low for low, _, _ in axes])
        self._highs = np.array([_highest(parameter) for parameter in self._space.parameters.values()])
        self._strides = np.array([stride for _, stride, _ in axes])
        self._always = np.array([not parameter.when for parameter in self._space.parameters.values()])
        counts = [int(count) for _, _, count in axes] if span < _COUNTABLE else []
        weights = [math.prod(counts[place + 1 :]) for place in range(len(counts))]
        self._weights = np.array(weights, dtype=np.int64)
        self._counts = np.array(counts, dtype=np.int64)
        self.size: int | None = int(span) if counts else None
        self._cells: Cells | None = None
        if counts and self._space.independent:
            self._count_cells(counts)

    def _count_cells(self, counts: Sequence[int]) -> None:
        try:
            self._cells = Cells(self._space, dict(zip(self._space.parameters, counts, strict=True)))
            self.size = self._cells.count
        except TooTangled:
            self.size = None

    @property
    def small(self) -> bool:
        """Few enough to remember each that was ever asked for."""
        return self.size is not None and self.size <= SMALL

    def of(self, rows: Floats) -> npt.NDArray[np.int64]:
        """The points of rows of `Columns`' numbers; only where there is a ``size``. A parameter that a trial does not
        have counts as its first value: its parents tell that point from the one that has it."""
        rows = np.where(np.isnan(rows), self._lows, rows)
        steps = np.rint((rows - self._lows) / self._strides).astype(np.int64)
        return np.asarray(steps @ self._weights, dtype=np.int64)

    def rows(self, points: Sequence[int]) -> Floats:
        """The rows of points, where there is a ``size``; a parameter that a trial does not have at its first value."""
        steps = np.array(points, dtype=np.int64)[:, None] // self._weights % self._counts
        return np.asarray(np.minimum(self._lows + steps * self._strides, self._highs), dtype=np.float64)

    def at(self, row: Floats) -> int | None:
        """The point of one row, as a matrix. None: there is no ``size``, or a parameter that every trial has is not
        set."""
        if self.size is None or np.isnan(row[0, self._always]).any():
            return None
        return int(self.of(row)[0])

    def free(self, taken: Collection[int], draw: int) -> Floats | None:
        """Of the points of a small space that are not taken, one by the number drawn, as a row. None: all are."""
        left = sorted(set(self.numbers).difference(taken))
        if not left:
            return None
        point = left[draw % len(left)]
        steps = point // self._weights % self._counts
        row = np.asarray(np.minimum(self._lows + steps * self._strides, self._highs), dtype=np.float64)
        if self._cells is not None:
            names = self._space.parameters
            has = self._cells.cell(self.numbers.index(point))
            row[[name not in has for name in names]] = np.nan
        return row

    @functools.cached_property
    def numbers(self) -> Sequence[int]:
        """The points of a small space, in the order of its cells."""
        if self._cells is None:
            return range(self.size or 0)
        cells = map(self._cells.cell, range(self._cells.count))
        return [self._number(cell) for cell in cells]

    def _number(self, cell: Mapping[str, int]) -> int:
        steps = [cell.get(name, 0) for name in self._space.parameters]
        return int(np.array(steps, dtype=np.int64) @ self._weights)


def _axis(parameter: Parameter) -> tuple[float, float, float]:
    """(lowest number, distance to the next, how many)."""
    if isinstance(parameter, Categorical):
        return 0.0, 1.0, len(parameter.choices)
    if parameter.high == parameter.low:
        return float(parameter.low), 1.0, 1
    if parameter.step is None:
        return 0.0, 1.0, math.inf
    steps = math.floor((parameter.high - parameter.low) / parameter.step + 1e-9)
    return float(parameter.low), float(parameter.step), steps + 1


def _highest(parameter: Parameter) -> float:
    return float(len(parameter.choices) - 1 if isinstance(parameter, Categorical) else parameter.high)
