"""One experiment's way to its suggestions: made here if that takes no time, else in a sampler process.

Nothing is asked ahead: a request is for slots that are free, and what is not taken at once (the slots have gone) is
made anew from what is known by then. What is asked for together is a few at a time, for the same reason.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from kubetune.api.searcher import SamplerFailed
from kubetune.api.spec import ExperimentSpec
from kubetune.engine.history import History
from kubetune.engine.samplers import Sampler
from kubetune.engine.samplers.base import Suggestion
from kubetune.engine.sampling.pool import Pool, Ticket
from kubetune.engine.sampling.wire import Request

PATIENCE = 0.1  # seconds that one call waits for its answer
BATCH = 0.05  # seconds in which a sampler makes what one request gets


class Asking:
    """At most one request under way. Not thread-safe."""

    def __init__(self, pool: Pool | None, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._wake = wake
        self._ticket: Ticket | None = None
        self._first = 0  # number of the first trial that it asks about
        self._order = 0  # as of the ticket's view
        self.known = 0  # of the latest suggestions: place in the order up to which the sampler knew what had happened

    def forget(self) -> None:
        """The sampler is another one: what was asked of the old one is not wanted."""
        self._ticket = None

    def suggest(
        self, spec: ExperimentSpec, sampler: Sampler, history: History, count: int, order: int
    ) -> Iterable[Suggestion]:
        """What at most ``count`` trials that follow the history are to be, to be added to it one by one as they are
        taken. Fewer, or none, if they are not made yet: then ``wake`` is called when they are. ``order``: of what
        happened last in the history.

        Raises:
            SamplerFailed: before anything was taken. A sampler that is asked here raises its own errors.
        """
        if count == 0:
            return ()
        if self._pool is None or sampler.immediate(history):
            self.known = order
            return self._here(sampler, history, count)
        if self._ticket is None or self._ticket.stale or self._first != len(history):
            view = history.view(*dataclasses.astuple(sampler.sight))
            self._ticket = self._pool.submit(Request(bare(spec), view, len(history), count, BATCH), self._wake)
            self._first, self._order = len(history), order
        try:
            answer = self._ticket.wait(PATIENCE)
        except SamplerFailed:
            self._ticket = None
            raise
        if answer is None:
            return ()
        self._ticket, self.known = None, self._order
        return [Suggestion(params) for params in answer[:count]]

    def _here(self, sampler: Sampler, history: History, count: int) -> Iterator[Suggestion]:
        for number in range(len(history), len(history) + count):
            if sampler.over(history):
                return
            yield sampler.propose(history, number)


def bare(spec: ExperimentSpec) -> ExperimentSpec:
    """Without what changes while it runs or is large, and concerns nothing that a sampler process does."""
    return ExperimentSpec(
        spec.namespace,
        spec.name,
        spec.uid,
        0,
        spec.objectives,
        spec.parameters,
        {},
        sampler=spec.sampler,
        seed=spec.seed,
        narrow=spec.narrow,
        where=spec.where,
        before=spec.before,
        constraints=spec.constraints,
    )
