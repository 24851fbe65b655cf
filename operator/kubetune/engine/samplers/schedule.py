"""A recorded schedule trained again: one segment after the other, each from the checkpoint of the one before.

As Ray's `PopulationBasedTrainingReplay`: what population-based training found is no set of parameters but a sequence of
them. `kubectl tune schedule -o sampler` writes these settings from an experiment's record; they stand by themselves.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kubetune.api import given as api
from kubetune.api.spec import ExperimentSpec, Given, InvalidSpec, ParamValue
from kubetune.api.trial import Segment
from kubetune.engine.ended import Ended
from kubetune.engine.history import COMPLETE, History, View
from kubetune.engine.samplers.base import Sampler, Sight
from kubetune.engine.samplers.replay import Replay

MOST = 1000  # segments


class Done:
    """The segments that are trained: their trials, in order."""

    def __init__(self) -> None:
        self.trials: list[int] = []

    def learn(self, more: Ended) -> None:
        good = (more.states == COMPLETE) & (more.members == 0)
        self.trials += more.numbers[np.flatnonzero(good)].tolist()


class ScheduleSampler(Sampler):
    """One member, who trains what is not trained yet; a segment that failed is tried again."""

    sight = Sight(whole=True)
    leads = True

    def __init__(self, segments: Sequence[dict[str, ParamValue]]) -> None:
        self._segments = segments
        self._replay = Replay(Done)

    def over(self, history: History) -> bool:
        return len(self._done(history)) >= len(self._segments)

    def room(self, history: History) -> int:
        return 0 if history.busy_members() else 1

    def needed(self, history: History) -> frozenset[int]:
        return frozenset(self._done(history)[-1:])

    def _done(self, history: History) -> list[int]:
        return self._replay.at(history.view(*dataclasses.astuple(self.sight)).past).trials

    def segment(self, view: View, number: int) -> Segment | None:
        done = self._replay.at(view.past).trials
        return Segment(0, done[-1] if done else None)

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        return dict(self._segments[len(self._replay.at(view.past).trials)])


def build(spec: ExperimentSpec) -> ScheduleSampler:
    field = "sampler.settings.segments"
    unknown = sorted(spec.sampler.settings.keys() - {"segments"})
    if unknown:
        raise InvalidSpec(f"sampler.settings.{unknown[0]}", "schedule has no such setting; its setting is segments")
    if spec.parallelism > 1:
        raise InvalidSpec("parallelism.max", "a schedule is one segment after the other: set it to 1")
    if spec.fidelity is not None:
        raise InvalidSpec("fidelity", "a schedule is trained in segments, not in rungs; drop it")
    if spec.given:
        raise InvalidSpec(
            spec.given[0].field.partition("[")[0],
            "a schedule says what every trial has; drop this, or take another sampler",
        )
    forms = spec.sampler.settings.get("segments")
    if not isinstance(forms, list | tuple) or not 0 < len(forms) <= MOST:
        raise InvalidSpec(field, f"needs a list of 1 to {MOST} parameter sets; kubectl tune schedule -o sampler has it")
    return ScheduleSampler([_segment(spec, f"{field}[{place}]", form) for place, form in enumerate(forms)])


def _segment(spec: ExperimentSpec, field: str, form: Any) -> dict[str, ParamValue]:
    """Raises InvalidSpec: no trial of this space can have just these parameters."""
    if not isinstance(form, Mapping):
        raise InvalidSpec(field, f"needs a value for each parameter, such as {{lr: 0.01}}, but is {form!r}")
    params = api.read(spec.space, Given("", field, form)).params
    problem = spec.space.problem(params)
    if problem is not None:
        raise InvalidSpec(f"{field}.{problem[0]}", problem[1])
    return {name: params[name] for name in spec.space.order if name in params}
