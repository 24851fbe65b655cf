"""Which stage of a study is under way, and over which space: decided once, when a stage begins, and recorded. Pure.

A stage begins when all trials of the one before have ended, so that it knows all of them. What is recorded (`Steer` of
kind `STAGE`) is the number of its first trial and its space; with the spec that says how any of its trials is asked.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubetune.api import narrow
from kubetune.api.phases import POPULATIONS
from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.api.stages import Current, Stage
from kubetune.engine import samplers
from kubetune.engine.around import around
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import narrowed, where
from kubetune.engine.samplers.base import Sampler
from kubetune.engine.steering import STAGE as STAGE
from kubetune.storage.base import Steer

Forms = Mapping[str, Mapping[str, Any]]  # as `narrow` has them


@dataclasses.dataclass(frozen=True)
class Begun:
    """``place``: of the stage, from 0. ``first``: number of its first trial."""

    place: int = 0
    first: int = 0
    space: Forms = dataclasses.field(default_factory=dict)


def latest(recorded: Sequence[Steer]) -> Begun | None:
    """The stage that began last; None: none did."""
    for each in reversed(recorded):
        if each.kind == STAGE:
            return Begun(each.detail["stage"] - 1, each.detail["first"], each.detail["narrow"])
    return None


def asked(spec: ExperimentSpec, begun: Begun | None) -> ExperimentSpec:
    """The spec as the stage's sampler has it. What a person narrows goes before what the stage does, from now on; a
    grid keeps the cells that it began with."""
    if not spec.stages:
        return spec
    begun = begun or Begun(space=_forms(spec, spec.narrow))
    stage = spec.stages[begun.place]
    own = narrow.parse(begun.space, spec.parameters)
    space = own if stage.sampler.name == "grid" else {**own, **spec.narrow}
    return dataclasses.replace(
        spec, sampler=stage.sampler, max_trials=stage.max_trials, narrow=space, before=begun.first
    )


def begin(spec: ExperimentSpec, before: Begun | None, history: History) -> Steer:
    """What is to be recorded of the stage that follows ``before``, all of whose trials have ended."""
    place = 0 if before is None else before.place + 1
    stage = spec.stages[place]
    decided, best = _narrowed(spec, before, stage, history)
    made = _record(place, stage, len(history), decided, best)
    if best and not _possible(asked(spec, latest([made]))):  # `where` leaves nothing of it
        made = _record(place, stage, len(history), {} if before is None else before.space, ())
    return made


def _record(place: int, stage: Stage, first: int, space: Forms, best: Sequence[int]) -> Steer:
    detail = {
        "stage": place + 1,
        "first": first,
        "sampler": stage.sampler.name,
        "maxTrials": stage.max_trials,
        "best": list(best),
        "narrow": dict(space),
    }
    return Steer(STAGE, stage.name, detail)


def _narrowed(
    spec: ExperimentSpec, before: Begun | None, stage: Stage, history: History
) -> tuple[Forms, Sequence[int]]:
    """The stage's space, and the trials that it is narrowed around."""
    decided: Forms = {}
    best: Sequence[int] = ()
    if stage.around is not None and before is not None:
        best = history.best(stage.around.best)
        found: list[Past] = [history[number] for number in best]
        if found:
            now = asked(spec, before).asked
            decided = _forms(spec, around(spec.parameters, now, [each.params for each in found], stage.around.to))
        else:
            decided = before.space  # none completed: nothing says where to look
    if stage.sampler.name == "grid":
        decided = {**decided, **_forms(spec, spec.narrow)}
    return decided, best


def _forms(spec: ExperimentSpec, narrower: Mapping[str, Any]) -> Forms:
    return {name: narrow.form(each) for name, each in narrower.items() if each != spec.parameters[name]}


def _possible(spec: ExperimentSpec) -> bool:
    try:
        if samplers.build(spec).capacity() is None:
            where.check(spec)
    except InvalidSpec:
        return False
    return True


def end(spec: ExperimentSpec, begun: Begun | None, sampler: Sampler) -> int:
    """How many trials there are at the end of the stage, with those before it; of a spec without stages, at all."""
    now = begun or Begun()
    last = now.first + spec.stages[now.place].max_trials if spec.stages else spec.max_trials
    capacity = sampler.capacity()
    return last if capacity is None else min(last, capacity)


def follows(spec: ExperimentSpec, begun: Begun | None) -> Stage | None:
    """The stage after this one."""
    place = 0 if begun is None else begun.place + 1
    return spec.stages[place] if place < len(spec.stages) else None


def current(spec: ExperimentSpec, begun: Begun | None, sampler: str) -> Current | None:
    """For people. ``sampler``: the one in use."""
    if begun is None or not spec.stages:
        return None
    stage = spec.stages[begun.place]
    space = {name: each for name, each in asked(spec, begun).narrow.items() if each != spec.parameters[name]}
    return Current(begun.place + 1, stage.name, sampler, begun.first, stage.max_trials, space)


# ---- before anything is created


def each(spec: ExperimentSpec) -> Iterator[tuple[ExperimentSpec, Sampler]]:
    """The spec of each stage over the declared space, as far as nobody narrowed it, with its sampler; of a spec without
    stages, that spec.

    Raises:
        InvalidSpec: with the field.
    """
    if not spec.stages:
        yield spec, samplers.build(spec)
    for place, stage in enumerate(spec.stages):
        one = asked(spec, Begun(place))
        try:
            sampler = samplers.build(one)
        except InvalidSpec as error:
            if not error.field.startswith("sampler"):
                raise
            raise InvalidSpec(f"stages[{place}].{error.field}", error.message) from None
        _check(f"stages[{place}].sampler.name", stage)
        yield one, sampler


def _check(field: str, stage: Stage) -> None:
    if stage.sampler.name in ("pbt", "schedule"):
        raise InvalidSpec(field, f"{stage.sampler.name} trains its members on from part to part; it is no stage")
    if stage.sampler.name == "bruteForce":
        raise InvalidSpec(field, "bruteForce goes through a whole study's space by itself; take grid for a stage")
    if stage.sampler.name in POPULATIONS:
        raise InvalidSpec(field, f"{stage.sampler.name} trains on and on: make it an experiment of its own")
    if stage.around is not None and stage.sampler.name in narrowed.REFUSE:
        raise InvalidSpec(
            field,
            f"{stage.sampler.name} cannot be narrowed while an experiment runs; take another, for example grid, "
            "tpe or gp, or drop narrow",
        )
