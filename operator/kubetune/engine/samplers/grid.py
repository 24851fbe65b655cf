"""Exhaustive search: each combination of all values exactly once, then the experiment is complete.

A pure function of the trial's number: cell i of the grid, or of a permutation of it. Nothing is kept, so nothing can
be handed out twice, and a grid may be larger than memory (`maxTrials` cuts it).
"""

import dataclasses
import decimal
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

from kubetune.api.space import Space
from kubetune.api.spec import Categorical, Double, ExperimentSpec, Int, InvalidSpec, Parameter, ParamValue
from kubetune.engine import options
from kubetune.engine.cells import Cells, TooTangled
from kubetune.engine.history import View
from kubetune.engine.samplers.base import Sampler

ENUMERATED = 100_000  # cells that are looked at one by one, where there are conditions among values

OPTIONS: Mapping[str, options.Option] = {
    "shuffle": options.Switch(True),  # in an order drawn from the seed; false: the last by name runs fastest
    "points": options.Whole(None, low=2, optional=True),  # of each range, evenly on its scale; None: every step
}


@dataclasses.dataclass(frozen=True)
class Axis:
    """One parameter's values, worked out when asked for: ``value(0)`` … ``value(size - 1)``."""

    size: int
    value: Callable[[int], ParamValue]


class GridSampler(Sampler):
    """Trial ``before`` + i gets cell i, in plain or shuffled order. Cells are what trials can have: of a parameter with
    a condition every value, once, where the condition holds, and nothing where it does not."""

    def __init__(self, space: Space, axes: Mapping[str, Axis], key: str | None, before: int = 0) -> None:
        self._before = before
        self._order = space.order
        self._where = bool(space.words)
        self._axes = axes
        self._cells = Cells(space, {name: axis.size for name, axis in axes.items()})
        self._key = key  # of the shuffle; None: plain order
        self.allowed = self._allowed(space) if self._where else ()  # cells by number; without `where` all of them
        self._count = len(self.allowed) if self._where else self._cells.count

    def _allowed(self, space: Space) -> Sequence[int]:
        """The cells of which `where` holds."""
        if self._cells.count > ENUMERATED:
            raise InvalidSpec(
                "where",
                f"the grid has {self._cells.count} cells before the conditions, too many to look at each (at most "
                f"{ENUMERATED}); take wider steps, or sampler random or tpe",
            )
        allowed = [cell for cell in range(self._cells.count) if space.holds(self._values(cell))]
        if not allowed:
            raise InvalidSpec("where", f"no cell of the grid fulfils {space.words}; correct it, or widen the ranges")
        return allowed

    def capacity(self) -> int:
        return self._before + self._count

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        cell = number - self._before
        if not 0 <= cell < self._count:
            raise IndexError(f"the grid has {self._count} cells, there is no cell {cell}")
        return self.at(cell if self._key is None else permute(cell, self._count, self._key))

    def at(self, cell: int) -> dict[str, ParamValue]:
        """The values of a cell that `where` allows, in plain order."""
        return self._values(self.allowed[cell] if self._where else cell)

    def _values(self, cell: int) -> dict[str, ParamValue]:
        chosen = self._cells.cell(cell)
        return {name: self._axes[name].value(chosen[name]) for name in self._order if name in chosen}


def axis(name: str, parameter: Parameter, sampler: str = "grid", points: int | None = None) -> Axis:
    """All values of a parameter, in order; of a range so many ``points``. ``sampler``: who tries them.

    Raises:
        InvalidSpec: for a range without steps.
    """
    if isinstance(parameter, Categorical):
        return Axis(len(parameter.choices), lambda index: parameter.choices[index])
    if points is not None:
        values = _evenly(parameter, points)
        return Axis(len(values), lambda index: values[index])
    if parameter.step is None:
        coarse = "sampler.settings.points: 5, " if sampler == "grid" else ""
        raise InvalidSpec(
            f"parameters.{name}",
            f"{sampler} tries every value, and a double without step has no end of them; give it a step, {coarse}or "
            f"list values: [{parameter.low}, {parameter.high}], or take sampler random or tpe",
        )
    if isinstance(parameter, Double):  # in decimals, so that 0.1 + 2 * 0.1 is 0.3
        low, high, step = (decimal.Decimal(str(x)) for x in (parameter.low, parameter.high, parameter.step))
        return Axis(int((high - low) // step) + 1, lambda index: float(low + index * step))
    first, stride = parameter.low, parameter.step
    return Axis((parameter.high - first) // stride + 1, lambda index: first + index * stride)


def _evenly(parameter: Double | Int, points: int) -> list[ParamValue]:
    """So many values from the lowest to the highest, evenly on the parameter's scale: each the nearest that it can
    have, and once."""
    low, high = parameter.low, parameter.high
    shares = [place / (points - 1) for place in range(points)]
    if parameter.log:
        values = [low * (high / low) ** share for share in shares]
    else:
        values = [low + share * (high - low) for share in shares]
    found: dict[ParamValue, None] = {}
    for value in values:
        if parameter.step is None:
            found[min(max(float(f"{value:.12g}"), low), high)] = None
            continue
        most = math.floor((high - low) / parameter.step + 1e-9)
        near = float(f"{low + min(round((value - low) / parameter.step), most) * parameter.step:.15g}")
        found[int(near) if isinstance(parameter, Int) else near] = None
    return list(found)


def permute(index: int, size: int, key: str) -> int:
    """Where a permutation of 0 … size - 1, drawn by ``key``, takes ``index``: no table, any size.

    A Feistel network over the next even number of bits; what falls outside is sent on until it falls inside
    (cycle walking: Black and Rogaway, CT-RSA 2002), fewer than four times on average.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            left, right = right, left ^ (_hash(f"{key} {turn} {right}") & mask)
        index = left << half | right
        if index < size:
            return index


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def whole(spec: ExperimentSpec, key: str | None, sampler: str = "grid", points: int | None = None) -> GridSampler:
    """All cells of the experiment's space, with so many ``points`` of each range. ``sampler``: who tries them.

    Raises:
        InvalidSpec: there is no end of them, or no counting them.
    """
    axes = {name: axis(name, parameter, sampler, points) for name, parameter in spec.space.parameters.items()}
    try:
        return GridSampler(spec.space, axes, key, spec.before)
    except TooTangled as error:
        raise InvalidSpec(
            "parameters",
            f"{error}, too many to count {sampler}'s cells; take sampler random or tpe, or fewer conditions",
        ) from None


def build(spec: ExperimentSpec) -> GridSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    key = spec.uid if spec.seed is None else f"seed {spec.seed}"
    return whole(spec, key if given["shuffle"] else None, points=given["points"])
