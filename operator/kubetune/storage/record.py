"""What is kept so that every decision can be made again: in which order things happened, and what was known then.

The engine counts what happens in a study: each end of a trial, each judgement of the pruner, each thing that people
did or that begins has a place in one order; so has each end of a leg (`api.trial.Placing`) and each promotion. Of an
ask is kept the place up to which the sampler knew what had happened. Times do not do: clocks are set back, and two
things may happen at one time.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kubetune.api.trial import TrialRow

RUNG, STOP, LOST, PROMOTED = "rung", "stop", "lost", "promoted"


@dataclasses.dataclass(frozen=True)
class Judged:
    """The pruner judged a trial by its reports up to ``seq``: it came to a rung (or interval), or it is to stop; or an
    attempt was lost, and with it what it had left in the competition (``seq`` 0); or its course had it go on that had
    waited at ``rung``, by what had happened up to ``known``."""

    order: int
    number: int
    attempt: int
    kind: str  # RUNG | STOP | LOST | PROMOTED
    seq: int = 0
    rung: int | None = None
    why: str = ""  # to stop, as the pruner says it
    time: float = 0.0  # of the commit
    known: int | None = None


class Point(NamedTuple):
    """A report of the first objective."""

    attempt: int
    seq: int
    step: int
    value: float


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """A trial and what was decided about it."""

    row: TrialRow
    known: int | None  # place in the order up to which its sampler knew; None: it was asked before that was kept
    order: int | None  # place of its end
    points: Sequence[Point] = ()  # all that were accepted, in order
    whole: bool = True  # they are the reports as they came; else only the series, by step
    judged: Sequence[Judged] = ()  # in order
    series: Mapping[int, float] = dataclasses.field(default_factory=dict)  # of an ended trial, as Optuna has it
    legs: int = 0  # that ended: as many as the row has, if it has them at all

    @property
    def placed(self) -> bool:
        """Whether it is known where its legs ended in what happened."""
        return len(self.row.legs) == self.legs and all(leg.placing is not None for leg in self.row.legs)
