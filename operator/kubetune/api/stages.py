"""`stages`: searches one after the other within one study, each with its own sampler, budget and space. Pure."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from kubetune.api.algorithm import Algorithm, read
from kubetune.api.parameters import InvalidSpec, Parameter

MOST = 1_000_000  # trials of all stages together, as of `maxTrials`


@dataclasses.dataclass(frozen=True)
class Around:
    """The space of a stage: around the ``best`` trials so far, ``to`` that fraction of the range before."""

    best: int = 3
    to: float = 0.5


@dataclasses.dataclass(frozen=True)
class Stage:
    """One search. ``around`` None: over the whole declared space."""

    name: str
    sampler: Algorithm
    max_trials: int
    around: Around | None = None


@dataclasses.dataclass(frozen=True)
class Current:
    """The stage that is under way, for people."""

    number: int  # from 1
    name: str
    sampler: str
    first: int  # number of its first trial
    max_trials: int  # fewer, if the stage's grid has fewer points
    space: Mapping[str, Parameter]  # what is narrower than declared


def parse(spec: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a spec; (): it has none.

    Raises:
        InvalidSpec: with the field and what to do.
    """
    stages = tuple(_stage(f"stages[{place}]", place, form) for place, form in enumerate(spec.get("stages") or ()))
    if not stages:
        return ()
    names = [stage.name for stage in stages]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InvalidSpec(f"stages[{place}].name", f"{name} is there twice; name each stage once")
    if stages[0].around:
        raise InvalidSpec("stages[0].narrow", "nothing was found before the first stage; drop it")
    total = sum(stage.max_trials for stage in stages)
    if total > MOST:
        raise InvalidSpec("stages", f"they come to {total} trials; at most {MOST} go into one study")
    given = int(spec.get("maxTrials", 100))
    if given not in (100, total):  # 100 is what the API server fills in
        raise InvalidSpec("maxTrials", f"it is {given}, and the stages come to {total}; leave it out")
    if read(spec.get("sampler"), "tpe") != Algorithm("tpe"):
        raise InvalidSpec("sampler", "each of the stages has its own; leave it out")
    return stages


def _stage(field: str, place: int, form: Mapping[str, Any]) -> Stage:
    count = int(form.get("maxTrials", 0))
    if count < 1:
        raise InvalidSpec(f"{field}.maxTrials", "say how many trials the stage has, for example 20")
    sampler = read(form.get("sampler"), "tpe")
    around = None
    if form.get("narrow") is not None:
        around = Around(int(form["narrow"].get("best", Around.best)), float(form["narrow"].get("to", Around.to)))
        if around.best < 1:
            raise InvalidSpec(f"{field}.narrow.best", f"needs a whole number of at least 1, but is {around.best}")
        if not 0 < around.to <= 1 or math.isnan(around.to):
            raise InvalidSpec(f"{field}.narrow.to", f"needs a number above 0 and at most 1, but is {around.to:g}")
    return Stage(str(form.get("name") or f"stage-{place + 1}"), sampler, count, around)
