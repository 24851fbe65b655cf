"""Descent along the slope, measured by central differences: for continuous parameters of a smooth, exact objective.

A round asks for the centre and a step to either side of it in each parameter, then moves the centre as Adam does
(Kingma and Ba, ICLR 2015, algorithm 1) with a rate that falls to nothing over the descent (Loshchilov and Hutter, ICLR
2017, without restarts). A descent begins in the middle, the next ones at points drawn by the seed. While all of a
descent's round is under way, further trials belong to the next descent: any parallelism is used.

Nothing is kept: which trial belongs to which round is found again by going through the descents, of which each point
follows from the values before it, and looking each point up among the trials.
"""

import dataclasses
from collections.abc import Generator, Mapping
from typing import TypeAlias

import numpy as np

from kubetune.api.spec import Double, ExperimentSpec, InvalidSpec, ParamValue
from kubetune.engine import feasible, options
from kubetune.engine.columns import Floats
from kubetune.engine.history import COMPLETE, RUNNING, History, View
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.unit import Unit

OPTIONS: Mapping[str, options.Option] = {
    "learningRate": options.Real(0.1, 1e-6, 1.0),  # how far a round may move, as a part of each range
    "finiteDiffStep": options.Real(0.01, 1e-6, 0.5),  # to either side, as a part of each range
    "rounds": options.Whole(30, low=1),  # of one descent
}
STARTS = 3_000_000  # which of a number's seeds draws where a descent begins
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

Key: TypeAlias = tuple[str, ...]
Told: TypeAlias = tuple[float, float]  # a trial's value, to be minimised, and what it breaks


@dataclasses.dataclass(frozen=True)
class Settings:
    """See `OPTIONS`."""

    rate: float
    step: float
    rounds: int


def descent(start: Floats, settings: Settings) -> Generator[Floats, Floats, None]:
    """Rounds of points, the centre first, then below and above it in each parameter. Each next round is to be sent the
    values of the last one, to be minimised; nan: there is none, the centre's or the other side's stands in."""
    centre, mean, square = start, np.zeros_like(start), np.zeros_like(start)
    for turn in range(1, settings.rounds + 1):
        points = around(centre, settings.step)
        values = yield points
        slope = difference(points, values)
        mean = _BETA1 * mean + (1 - _BETA1) * slope
        square = _BETA2 * square + (1 - _BETA2) * slope**2
        move = (mean / (1 - _BETA1**turn)) / (np.sqrt(square / (1 - _BETA2**turn)) + _EPSILON)
        rate = settings.rate * 0.5 * (1 + np.cos(np.pi * (turn - 1) / settings.rounds))
        centre = np.clip(centre - rate * move, 0.0, 1.0)


def around(centre: Floats, step: float) -> Floats:
    sides = np.eye(len(centre)) * step
    return np.clip(np.vstack([centre[None], centre - sides, centre + sides]), 0.0, 1.0)


def judged(values: Floats, broken: Floats) -> Floats:
    """A round's values with constraints: those that break some are no better than the worst that keeps them, and the
    worse the more they break (`feasible.fitness`). So the slope at the edge points back."""
    known = ~np.isnan(values)
    made = values.copy()
    made[known] = feasible.fitness(values[known], broken[known])
    return made


def difference(points: Floats, values: Floats) -> Floats:
    """The slope at the first of a round's points; 0 where nothing is known."""
    width = points.shape[1]
    places = np.arange(width)
    ends = []
    for first in (1, 1 + width):
        at, value = points[first:, :][places, places], values[first : first + width]
        known = ~np.isnan(value)
        ends.append((np.where(known, at, points[0]), np.where(known, value, values[0])))
    (low, below), (high, above) = ends
    span = high - low
    slope = (above - below) / np.where(span > 0, span, 1.0)
    return np.asarray(np.where((span > 0) & ~np.isnan(slope), slope, 0.0))


class GradientSampler(Sampler):
    """See the module."""

    sight = Sight(running=1_000_000, whole=True)

    def __init__(self, spec: ExperimentSpec, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._sign = -1.0 if spec.objectives[0].direction == "maximize" else 1.0
        self._unit = Unit(spec.parameters)

    def immediate(self, history: History) -> bool:
        return False

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        known = self._known(view)
        place = 0
        while (row := self._open(place, known)) is None:
            place += 1
        return self._unit.columns.decode(row.tolist())

    def _open(self, place: int, known: Mapping[Key, Told | None]) -> Floats | None:
        """The first point of a descent that was not asked for. None: it is over, or its round is under way."""
        rounds = descent(self._start(place), self._settings)
        points = next(rounds)
        while True:
            rows = self._unit.decode(points)
            keys = [_key(row) for row in rows]
            for key, row in zip(keys, rows, strict=True):
                if key not in known:
                    return np.asarray(row)
            told = [known[key] for key in keys]
            ended = [each for each in told if each is not None]
            if len(ended) < len(told):
                return None
            values, broken = np.array(ended, dtype=np.float64).T
            try:
                points = rounds.send(judged(values, broken))
            except StopIteration:
                return None

    def _start(self, place: int) -> Floats:
        if place == 0:
            return np.full(self._unit.width, 0.5)
        return np.random.default_rng(seed_of(self._spec, place, STARTS)).random(self._unit.width)

    def _known(self, view: View) -> dict[Key, Told | None]:
        """By point; None: a trial is RUNNING there; nan: one ended without a value."""
        found: dict[Key, Told | None] = {}
        for row in view.params[view.states == RUNNING]:
            found[_key(row)] = None
        if view.past is not None:
            complete = view.past.states == COMPLETE
            values = np.where(complete, self._sign * view.past.values[:, 0], np.nan)
            values[~np.isfinite(values)] = np.nan
            broken = feasible.broken(view.past.penalties)
            for row, *told in zip(view.past.params, values.tolist(), broken.tolist(), strict=True):
                found[_key(row)] = (told[0], told[1])
        return found


def _key(row: Floats) -> Key:
    """To nine digits: another machine's logarithm may differ in the last."""
    return tuple(f"{number:.9e}" for number in row.tolist())


def build(spec: ExperimentSpec) -> GradientSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    if len(spec.objectives) > 1:
        raise InvalidSpec("objectives", "gradient follows the slope of one metric; give one objective, or take tpe")
    for name, parameter in sorted(spec.parameters.items()):
        if not isinstance(parameter, Double) or parameter.step is not None:
            raise InvalidSpec(
                f"parameters.{name}",
                "gradient moves along continuous parameters; make it a double without step, or take another sampler, "
                "for example tpe",
            )
    return GradientSampler(spec, Settings(given["learningRate"], given["finiteDiffStep"], given["rounds"]))
