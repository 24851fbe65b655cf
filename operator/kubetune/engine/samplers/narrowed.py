"""A sampler on the narrower space of `spec.narrow`, shown the whole past in that space's terms.

The inner sampler knows the narrower space only. Of the trials outside of it TPE keeps all numbers: its estimators take
observations beyond the bounds, as Optuna's do where a range changes between trials. A choice that is not allowed any
more has no place in the narrower space: to TPE such a trial is one without that parameter, which still counts for what
is good and what is bad. Samplers with a model of the whole box (`gp`), and those whose population is made of the trials
that ended, are not shown trials outside of it: the population is what of it lies inside, and fills up again.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kubetune.api.spec import Categorical, ExperimentSpec, InvalidSpec, Parameter, ParamValue
from kubetune.engine.columns import Columns, Floats, Points
from kubetune.engine.ended import Ended
from kubetune.engine.history import History, View
from kubetune.engine.samplers.base import Sampler

TAKES_ANY = frozenset({"tpe", "random", "qmc"})  # trials outside may be shown to them
REFUSE: Mapping[str, str] = {
    "cmaes": "its distribution is one of the whole box; begin another experiment with warmStart from this one",
    "pbt": "its members train on where they are; enqueue what you want tried",
    "schedule": "it trains what it is given",
    "external": "its searcher was told the whole space; let the searcher narrow it",
}


def within(spec: ExperimentSpec) -> ExperimentSpec:
    """The spec as the inner sampler has it."""
    return dataclasses.replace(spec, parameters=spec.asked, narrow={})


class Narrower:
    """Rows of the declared space's `Columns` in the terms of the narrower one."""

    def __init__(self, spec: ExperimentSpec) -> None:
        declared = Columns(spec.parameters)
        self._codes = [_codes(each, spec.asked[name]) for name, each in declared.parameters.items()]
        self._bounds = [spec.asked[name] for name in declared.names]

    def __call__(self, params: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The columns as the narrower space has them, and which rows lie inside of it."""
        made, inside = params.copy(), np.ones(len(params), dtype=np.bool_)
        for place, (codes, bounds) in enumerate(zip(self._codes, self._bounds, strict=True)):
            column = made[:, place]
            known = ~np.isnan(column)
            if codes is not None:
                column[known] = codes[column[known].astype(np.int64)]
                inside &= ~known | ~np.isnan(column)
            elif not isinstance(bounds, Categorical):
                inside &= ~known | ((column >= bounds.low) & (column <= bounds.high))
        return made, inside


class NarrowedSampler(Sampler):
    """Asks ``inner``, which was built for `within`."""

    def __init__(self, spec: ExperimentSpec, inner: Sampler) -> None:
        name = spec.sampler.name
        why = "it tries every point by its number" if inner.capacity() is not None else REFUSE.get(name)
        if why is not None:
            raise InvalidSpec("narrow", f"{name} cannot be narrowed while it runs: {why}; tpe, gp and most others can")
        self._inner = inner
        self._keeps = spec.sampler.name in TAKES_ANY
        self._narrower = Narrower(spec)
        self._points, self._inner_points = Points(spec.parameters), Points(spec.asked)
        self.sight = inner.sight

    def immediate(self, history: History) -> bool:
        return self._inner.immediate(history)

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        params, inside = self._narrower(view.params)
        past = None if view.past is None else self._past(view.past)
        shown = dataclasses.replace(view, params=params, taken=self._taken(view.taken), past=past)
        return self._inner.choose(shown if self._keeps else _rows(shown, inside), number)

    def _past(self, past: Ended) -> Ended:
        """Those inside. Of two pasts of which one is the beginning of the other it still is."""
        params, inside = self._narrower(past.params)
        return Ended(
            past.key,
            0,
            past.numbers[inside],
            past.states[inside],
            params[inside],
            past.values[inside],
            past.lasts[inside],
            past.penalties[inside],
            past.slopes[inside],
            past.members[inside],
        )

    def _taken(self, taken: frozenset[int]) -> frozenset[int]:
        """The points that are inside, by the narrower space's numbers."""
        if not taken or self._points.size is None or self._inner_points.size is None:
            return frozenset()
        rows, inside = self._narrower(self._points.rows(sorted(taken)))
        return frozenset(self._inner_points.of(rows[inside]).tolist())


def _codes(declared: Parameter, narrow: Parameter) -> Floats | None:
    """Of each choice declared, its place among those that are left; nan: it is not."""
    if not isinstance(declared, Categorical) or not isinstance(narrow, Categorical):
        return None
    left = {choice: float(place) for place, choice in enumerate(narrow.choices)}
    return np.array([left.get(choice, np.nan) for choice in declared.choices])


def _rows(view: View, inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> View:
    return dataclasses.replace(
        view,
        numbers=view.numbers[inside],
        states=view.states[inside],
        params=view.params[inside],
        values=view.values[inside],
        steps=view.steps[inside],
        lasts=view.lasts[inside],
        penalties=None if view.penalties is None else view.penalties[inside],
    )
