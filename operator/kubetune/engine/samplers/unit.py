"""A search space as the unit cube: what continuous methods calculate in.

A number lies where it is between its bounds, on its scale; one in steps in the middle of its step, so that all are
equally wide, and so does a choice with an order; any other is one column for each value, 1 at the one that is chosen.
Parameters of one value have none. One that a trial does not have, since its condition does not hold, lies in the
middle; a choice then has no 1.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kubetune.api.parameters import searched, within
from kubetune.api.space import Space
from kubetune.api.spec import Categorical, Double, Int, Parameter, ParamValue
from kubetune.engine.columns import Columns, Floats

Places = npt.NDArray[np.int64]
MANY = 64  # values of one parameter that are tried out at most


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One parameter: ``place`` in the columns, ``begin`` and ``end`` of its part of the cube."""

    place: int
    begin: int
    end: int
    parameter: Parameter

    @property
    def continuous(self) -> bool:
        return isinstance(self.parameter, Double) and self.parameter.step is None

    def encode(self, numbers: Floats) -> Floats:
        if isinstance(self.parameter, Categorical):
            return np.asarray(numbers[:, None] == np.arange(self.end - self.begin), dtype=np.float64)
        low, high = self._bounds(self.parameter)
        scaled = np.log(numbers) if self.parameter.log else numbers
        places = (scaled - low) / (high - low)
        return np.asarray(np.where(np.isnan(places), 0.5, places)[:, None], dtype=np.float64)

    def decode(self, cube: Floats) -> Floats:
        if isinstance(self.parameter, Categorical):
            return np.asarray(np.argmax(cube, axis=1), dtype=np.float64)
        parameter = self.parameter
        low, high = self._bounds(parameter)
        numbers = low + cube[:, 0] * (high - low)
        if parameter.log:
            numbers = np.exp(numbers)
        if parameter.step is not None:
            steps = np.rint((numbers - parameter.low) / parameter.step)
            numbers = parameter.low + np.clip(steps, 0, self._steps(parameter)) * parameter.step
        return np.asarray(np.clip(numbers, parameter.low, parameter.high), dtype=np.float64)

    def values(self, dice: np.random.Generator) -> Floats:
        """All its values, or some of many, as parts of the cube."""
        if isinstance(self.parameter, Categorical):
            return np.eye(self.end - self.begin)
        assert self.parameter.step is not None
        count = self._steps(self.parameter) + 1
        steps = np.arange(count) if count <= MANY else np.unique(dice.integers(0, count, MANY))
        return self.encode(np.asarray(self.parameter.low + steps * float(self.parameter.step), dtype=np.float64))

    def slopes(self, numbers: Floats, slopes: Floats) -> Floats:
        """Of a continuous parameter, by the chain rule: along its place in the cube instead of along its value."""
        assert not isinstance(self.parameter, Categorical)
        low, high = self._bounds(self.parameter)
        return np.asarray(slopes * (high - low) * (numbers if self.parameter.log else 1.0), dtype=np.float64)

    @staticmethod
    def _steps(parameter: Double | Int) -> int:
        assert parameter.step is not None
        return int((parameter.high - parameter.low) / parameter.step + 1e-9)

    @classmethod
    def _bounds(cls, parameter: Double | Int) -> tuple[float, float]:
        low, high = float(parameter.low), float(parameter.high)
        if parameter.step is not None:
            high = low + cls._steps(parameter) * parameter.step + parameter.step / 2
            low -= parameter.step / 2
        return (float(np.log(low)), float(np.log(high))) if parameter.log else (low, high)


class Unit:
    """Rows of `Columns`' numbers as points in [0, 1] ** ``width``, and back.

    Attributes:
        continuous: the places, in a point, of parameters that can be anywhere.
        discrete: of each other parameter the first place in a point and the one after its last.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.columns = Columns(parameters)
        self._conditions = _conditions(Space(parameters), self.columns)
        self._firsts = self.columns.row(self.columns.firsts())
        self._axes: list[_Axis] = []
        begin = 0
        for place, parameter in enumerate(map(searched, self.columns.parameters.values())):
            if _several(parameter):
                end = begin + (len(parameter.choices) if isinstance(parameter, Categorical) else 1)
                self._axes.append(_Axis(place, begin, end, parameter))
                begin = end
        self.width = begin
        self.continuous: Places = np.array([axis.begin for axis in self._axes if axis.continuous], dtype=np.int64)
        self.discrete = [(axis.begin, axis.end) for axis in self._axes if not axis.continuous]

    def encode(self, rows: Floats) -> Floats:
        return np.hstack([axis.encode(rows[:, axis.place]) for axis in self._axes])

    def slopes(self, rows: Floats, slopes: Floats) -> Floats:
        """Slopes along each column, at these rows, as slopes along the axes of the cube; of continuous parameters."""
        along = [axis.slopes(rows[:, axis.place], slopes[:, axis.place]) for axis in self._axes if axis.continuous]
        return np.column_stack(along) if along else np.empty((len(rows), 0))

    def decode(self, points: Floats) -> Floats:
        """The nearest rows: in steps where there are steps, one value of each choice, nan where a condition fails."""
        rows = np.repeat(self._firsts, len(points), axis=0)
        for axis in self._axes:
            rows[:, axis.place] = axis.decode(points[:, axis.begin : axis.end])
        off = [~np.logical_and.reduce([np.isin(rows[:, at], of) for at, of in when]) for _, when in self._conditions]
        for (place, _), without in zip(self._conditions, off, strict=True):
            rows[without, place] = np.nan
        return rows

    def nearest(self, points: Floats) -> Floats:
        """The nearest points that a trial can have."""
        return self.encode(self.decode(points))

    def replaced(self, point: Floats, begin: int, dice: np.random.Generator) -> Floats:
        """The point with each value of the discrete parameter at ``begin``, or some of many."""
        axis = next(axis for axis in self._axes if axis.begin == begin)
        values = axis.values(dice)
        points = np.repeat(point[None], len(values), axis=0)
        points[:, axis.begin : axis.end] = values
        return points


def _conditions(space: Space, columns: Columns) -> list[tuple[int, list[tuple[int, list[float]]]]]:
    """The place of each parameter with conditions, and the places and numbers that it needs of those above it."""
    places = {name: place for place, name in enumerate(columns.names)}

    def number(parent: str, value: ParamValue) -> float:
        parameter = space.parameters[parent]
        return float(parameter.choices.index(value) if isinstance(parameter, Categorical) else value)

    return [
        (
            places[name],
            [
                (places[up], [number(up, one) for one in of if within(space.parameters[up], one)])
                for up, of in space.needs(name).items()
            ],
        )
        for name in space.independent
    ]


def _several(parameter: Parameter) -> bool:
    if isinstance(parameter, Categorical):
        return len(parameter.choices) > 1
    return parameter.low < parameter.high
