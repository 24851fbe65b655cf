"""Descent along the slope: for continuous parameters of a smooth objective that reports its gradient, or is exact.

A round's points give the slope at its centre; then the centre moves as Adam does (Kingma and Ba, ICLR 2015, algorithm
1) with a rate that falls to nothing over the descent (Loshchilov and Hutter, ICLR 2017, without restarts). Where trials
report the gradient a round is one trial, else the centre and a step to either side of it in each parameter. A descent
begins in the middle, or where trials of other experiments were best, the next ones at points drawn by the seed. While
all of a descent's round is under way, further trials belong to the next descent: any parallelism is used.

Nothing is kept: which trial belongs to which round is found again by going through the descents, of which each point
follows from the trials before it, and looking each point up among the trials.
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
    "gradient": options.Choice(("auto", "reported", "finiteDifference")),  # auto: reported, as soon as one trial does
    "finiteDiffStep": options.Real(0.01, 1e-6, 0.5),  # to either side, as a part of each range
    "rounds": options.Whole(30, low=1),  # of one descent
}
STARTS = 3_000_000  # which of a number's seeds draws where a descent begins
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_BACK = 2.0  # times the objective's slope: how steep the way back to what constraints allow is

Key: TypeAlias = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Told:
    """What is known of a point: value and slopes to be minimised, in the unit cube; nan: not known."""

    value: float
    broken: float  # by how much constraints are
    slopes: Floats


@dataclasses.dataclass(frozen=True)
class Settings:
    """See `OPTIONS`."""

    rate: float
    step: float
    rounds: int


def descent(start: Floats, settings: Settings, reported: bool = False) -> Generator[Floats, list[Told], None]:
    """Rounds of points, the centre first and, if the slope is not ``reported``, those below and above it in each
    parameter. Each next round is to be sent what is known of the last one."""
    centre, mean, square = start, np.zeros_like(start), np.zeros_like(start)
    for turn in range(1, settings.rounds + 1):
        points = centre[None] if reported else around(centre, settings.step)
        told = yield points
        slope = np.nan_to_num(told[0].slopes, nan=0.0) if reported else measured(points, told)
        mean = _BETA1 * mean + (1 - _BETA1) * slope
        square = _BETA2 * square + (1 - _BETA2) * slope**2
        move = (mean / (1 - _BETA1**turn)) / (np.sqrt(square / (1 - _BETA2**turn)) + _EPSILON)
        rate = settings.rate * 0.5 * (1 + np.cos(np.pi * (turn - 1) / settings.rounds))
        centre = np.clip(centre - rate * move, 0.0, 1.0)


def measured(points: Floats, told: list[Told]) -> Floats:
    """The slope at a round's centre. Where that breaks constraints, with the slope of what is broken, made steeper than
    the objective's: so less is broken further along, whatever the objective does."""
    values = np.array([each.value for each in told])
    along = difference(points, values)
    if not told[0].broken > 0:
        return along
    broken = np.where(np.isnan(values), np.nan, [each.broken for each in told])
    back = difference(points, broken)
    length = float(np.linalg.norm(back))
    steep = float(np.linalg.norm(along)) or length
    return along + back * (_BACK * steep / length) if length else along


def around(centre: Floats, step: float) -> Floats:
    sides = np.eye(len(centre)) * step
    return np.clip(np.vstack([centre[None], centre - sides, centre + sides]), 0.0, 1.0)


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
    """``reported`` None: if a trial has reported its gradient."""

    def __init__(self, spec: ExperimentSpec, settings: Settings, reported: bool | None) -> None:
        self._spec = spec
        self._settings = settings
        self._reported = reported
        self._sign = -1.0 if spec.objectives[0].direction == "maximize" else 1.0
        self._unit = Unit(spec.parameters)
        self.sight = Sight(running=1_000_000, whole=True, slopes=reported is not False)

    def immediate(self, history: History) -> bool:
        return False

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        known = self._known(view)
        reported = self._reports(known)
        place = 0
        while (row := self._open(self._start(place, view), known, reported)) is None:
            place += 1
        return self._unit.columns.decode(row.tolist())

    def _reports(self, known: Mapping[Key, Told | None]) -> bool:
        """Whether the slopes are taken from the trials. The centre is the first point of either kind of round."""
        if self._reported is not None:
            return self._reported
        return any(told is not None and not np.isnan(told.slopes).all() for told in known.values())

    def _open(self, start: Floats, known: Mapping[Key, Told | None], reported: bool) -> Floats | None:
        """The first point of a descent that was not asked for. None: it is over, or its round is under way."""
        rounds = descent(start, self._settings, reported)
        points = next(rounds)
        while True:
            rows = self._unit.decode(points)
            keys = [_key(row) for row in rows]
            for key, row in zip(keys, rows, strict=True):
                if key not in known:
                    return np.asarray(row)
            told = [each for each in (known[key] for key in keys) if each is not None]
            if len(told) < len(keys):
                return None
            try:
                points = rounds.send(told)
            except StopIteration:
                return None

    def _start(self, place: int, view: View) -> Floats:
        if place:
            return np.random.default_rng(seed_of(self._spec, place, STARTS)).random(self._unit.width)
        assert view.past is not None
        others = np.flatnonzero((view.past.numbers < 0) & (view.past.states == COMPLETE))
        if not len(others):
            return np.full(self._unit.width, 0.5)
        losses, broken = self._sign * view.past.values[others, 0], feasible.broken(view.past.penalties[others])
        best = others[np.argmin(feasible.ranks(losses, broken))]
        return np.asarray(self._unit.encode(view.past.params[best : best + 1])[0])

    def _known(self, view: View) -> dict[Key, Told | None]:
        """By point; None: a trial is RUNNING there."""
        found: dict[Key, Told | None] = {}
        for row in view.params[view.states == RUNNING]:
            found[_key(row)] = None
        assert view.past is not None
        past = view.past
        values = np.where(past.states == COMPLETE, self._sign * past.values[:, 0], np.nan)
        values[~np.isfinite(values)] = np.nan
        slopes = np.full((len(values), self._unit.width), np.nan)
        if past.slopes.shape[1]:
            slopes = self._sign * self._unit.slopes(past.params, past.slopes)
            slopes[~np.isfinite(slopes)] = np.nan
        of_own = zip(past.numbers, past.params, values, feasible.broken(past.penalties), slopes, strict=True)
        for number, row, value, broken, slope in of_own:
            if number >= 0:
                found[_key(row)] = Told(float(value), float(broken), slope)
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
    reported = {"auto": None, "reported": True, "finiteDifference": False}[given["gradient"]]
    if spec.constraints and reported:
        raise InvalidSpec(
            "sampler.settings.gradient",
            "reported gradients say nothing of constraints; take finiteDifference, which measures them, or drop them",
        )
    settings = Settings(given["learningRate"], given["finiteDiffStep"], given["rounds"])
    return GradientSampler(spec, settings, False if spec.constraints else reported)
