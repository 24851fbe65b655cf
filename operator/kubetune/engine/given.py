"""Parameters that people want tried: handed out once each, filled up where they are partial.

What was handed out is known from the trials themselves (`TrialRow.source`), so nothing is tried twice over a restart,
nor lost: a set is taken when the trial made of it is committed.
"""

import dataclasses
from collections.abc import Collection, Mapping

from kubetune.api.given import read
from kubetune.api.spec import ExperimentSpec, Given, Params, ParamValue
from kubetune.engine.samplers.random import RandomSampler

TRIES = 100
ALONE = 1_000_000  # which of a number's seeds fills a set up: no sampler draws a trial so often


class Queue:
    """The sets of one experiment that no trial was made of yet.

    Args:
        taken: sources of which there are trials.
    """

    def __init__(self, spec: ExperimentSpec, taken: Collection[str]) -> None:
        self._taken = set(taken)
        self.update(spec)

    def update(self, spec: ExperimentSpec) -> None:
        """What was added, changed or taken back since; a set of which there is a trial is over."""
        self._spec = spec
        self._waiting = [read(spec.space, each) for each in spec.given if each.source not in self._taken]

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def taken(self) -> Collection[str]:
        """Sources of the sets of which there are trials."""
        return self._taken

    @property
    def first(self) -> Given | None:
        """The next one."""
        return self._waiting[0] if self._waiting else None

    def is_whole(self, given: Given) -> bool:
        """Whether nothing is left to sample."""
        return self._spec.space.problem(given.params) is None

    def take(self, given: Given) -> None:
        """A trial is made of it."""
        self._taken.add(given.source)
        self._waiting.remove(given)

    def filled(self, given: Given, drawn: Params, number: int) -> dict[str, ParamValue]:
        """A whole set: what was given, then what the sampler drew for trial ``number``. A parameter that the sampler
        left out, since by its own draw the trial would not have it, is drawn at random; and so is all that was not
        given while `where` does not hold, as often as `TRIES` times."""
        chosen = self._filled(given, drawn, number)
        for again in range(TRIES):
            if self._spec.space.holds(chosen):
                break
            chosen = self._filled(given, RandomSampler(self._spec).draw(number, ALONE + 1 + again), number)
        return chosen

    def _filled(self, given: Given, drawn: Params, number: int) -> dict[str, ParamValue]:
        chosen: dict[str, ParamValue] = {}
        for name in self._spec.space.order:
            if self._spec.space.is_active(name, chosen):
                known: Mapping[str, ParamValue] = given.params if name in given.params else drawn
                chosen[name] = known[name] if name in known else self._alone(name, number)
        return chosen

    def _alone(self, name: str, number: int) -> ParamValue:
        parameter = dataclasses.replace(self._spec.parameters[name], when=())
        only = dataclasses.replace(self._spec, parameters={name: parameter}, where=(), given=())
        return RandomSampler(only).draw(number, again=ALONE)[name]
