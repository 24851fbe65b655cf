"""The cells of a finite space counted through: each combination of values that a trial can have, exactly once.

A parameter with a condition multiplies the cells only below the values that ask for it. Nothing is enumerated: a cell
is worked out from its number, so a space may be larger than memory. Parameters that no condition connects are counted
apart and multiplied.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from kubetune.api.parameters import Categorical, Parameter, ParamValue, within
from kubetune.api.space import Space

MOST = 100_000  # ways that conditions may combine; counting takes so many steps
_OFF = -1  # the kind of a parameter that the trial does not have


class TooTangled(ValueError):  # noqa: N818
    """The conditions combine in more than `MOST` ways."""


@dataclasses.dataclass(frozen=True)
class _Step:
    """One parameter of a tree. What later conditions ask of the values so far is ``open``: a kind for each parameter
    that they still ask about."""

    name: str
    tests: tuple[tuple[int, frozenset[int]], ...]  # a place in ``open``, and the kinds with which it is active
    runs: tuple[tuple[int, int], ...]  # (how many values in a row, their kind)
    kept: tuple[int, ...]  # places in ``open`` and this one's kind after it that are asked about later

    def after(self, open_: tuple[int, ...], kind: int) -> tuple[int, ...]:
        all_ = (*open_, kind)
        return tuple(all_[place] for place in self.kept)

    def active(self, open_: tuple[int, ...]) -> bool:
        return all(open_[place] in kinds for place, kinds in self.tests)


class Cells:
    """Cells 0 … ``count`` - 1. In order: the last parameter runs fastest, within its parents' values.

    Args:
        sizes: how many values each parameter has.

    Raises:
        TooTangled: while counting.
    """

    def __init__(self, space: Space, sizes: Mapping[str, int]) -> None:
        kinds = {name: _Kinds(space, name, sizes[name]) for name in space.order}
        self._trees = [_Tree(space, names, kinds) for names in _connected(space)]
        self.count = 1
        for tree in self._trees:
            self.count *= tree.count

    def cell(self, number: int) -> dict[str, int]:
        """Of each parameter that a trial in this cell has, which of its values."""
        chosen: dict[str, int] = {}
        for tree in reversed(self._trees):
            number, within = divmod(number, tree.count)
            chosen.update(tree.cell(within))
        return chosen


class _Kinds:
    """A parameter's values, told apart only as far as conditions do."""

    def __init__(self, space: Space, name: str, size: int) -> None:
        whens = [space.parameters[one].when for one in space.order]
        asked = list(dict.fromkeys(values for when in whens for parent, values in when if parent == name))
        parameter = space.parameters[name]
        asked_places = [
            {place_of(parameter, value) for value in values if within(parameter, value)} for values in asked
        ]
        edges = {0, size}.union(edge for places in asked_places for place in places for edge in (place, place + 1))
        starts = sorted(edge for edge in edges if edge <= size)
        self._names: dict[tuple[bool, ...], int] = {}
        self.runs = tuple(
            (end - start, self._kind(tuple(start in places for places in asked_places)))
            for start, end in itertools.pairwise(starts)
        )
        self._asked = asked

    def _kind(self, pattern: tuple[bool, ...]) -> int:
        return self._names.setdefault(pattern, len(self._names))

    def allowed(self, values: tuple[ParamValue, ...]) -> frozenset[int]:
        """The kinds that a condition for these values takes."""
        which = self._asked.index(values)
        return frozenset(kind for pattern, kind in self._names.items() if pattern[which])


def place_of(parameter: Parameter, value: ParamValue) -> int:
    """Which of its values it is, counted from 0."""
    if isinstance(parameter, Categorical):
        return parameter.choices.index(value)
    return round((float(value) - parameter.low) / (parameter.step or 1))


def _connected(space: Space) -> list[list[str]]:
    """Parameters that conditions connect, each lot with parents first and each branch in one piece."""
    children: dict[str, list[str]] = {name: [] for name in space.parameters}
    for name, parameter in space.parameters.items():
        for parent, _ in parameter.when:
            children[parent].append(name)
    done: set[str] = set()

    def walk(name: str, lot: list[str]) -> None:
        if name in done or name in lot:
            return
        for parent, _ in space.parameters[name].when:
            walk(parent, lot)
        if name not in lot:
            lot.append(name)
            for child in children[name]:
                walk(child, lot)

    lots = []
    for name in space.parameters:
        lot: list[str] = []
        walk(name, lot)
        if lot:
            lots.append(lot)
            done.update(lot)
    return lots


class _Tree:
    """Parameters that conditions connect."""

    def __init__(self, space: Space, names: Sequence[str], kinds: Mapping[str, _Kinds]) -> None:
        self._steps: list[_Step] = []
        self._counts: dict[tuple[int, tuple[int, ...]], int] = {}
        open_: list[str] = []
        for place, name in enumerate(names):
            when = space.parameters[name].when
            tests = tuple((open_.index(parent), kinds[parent].allowed(values)) for parent, values in when)
            later = {parent for one in names[place + 1 :] for parent, _ in space.parameters[one].when}
            kept = tuple(index for index, one in enumerate([*open_, name]) if one in later)
            self._steps.append(_Step(name, tests, kinds[name].runs, kept))
            open_ = [[*open_, name][index] for index in kept]
        self.count = self._count(0, ())

    def _count(self, place: int, open_: tuple[int, ...]) -> int:
        """Cells of the parameters from ``place`` on."""
        if place == len(self._steps):
            return 1
        known = self._counts.get((place, open_))
        if known is None:
            step = self._steps[place]
            runs = step.runs if step.active(open_) else ((1, _OFF),)
            known = sum(length * self._count(place + 1, step.after(open_, kind)) for length, kind in runs)
            self._counts[place, open_] = known
            if len(self._counts) > MOST:
                raise TooTangled(f"the conditions combine in more than {MOST} ways")
        return known

    def cell(self, number: int) -> dict[str, int]:
        chosen: dict[str, int] = {}
        open_: tuple[int, ...] = ()
        for place, step in enumerate(self._steps):
            if not step.active(open_):
                open_ = step.after(open_, _OFF)
                continue
            first = 0
            for length, kind in step.runs:
                each = self._count(place + 1, step.after(open_, kind))
                if number < length * each:
                    index, number = divmod(number, each)
                    chosen[step.name] = first + index
                    open_ = step.after(open_, kind)
                    break
                number -= length * each
                first += length
        return chosen
