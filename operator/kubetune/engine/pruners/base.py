"""What a pruner is: a policy in memory, fed with what is committed, asked at every report."""

from collections.abc import Mapping
from typing import Protocol

from kubetune.api.trial import TrialState
from kubetune.engine.curve import Curve
from kubetune.storage.base import Mark
from kubetune.storage.series import Take


class Committed(Protocol):
    """What is committed of the study's ended trials, read when it is asked for."""

    def series(self, state: TrialState, take: Take) -> None:
        """Hand on the first objective's series of all trials that ended in this state, in pieces."""

    def marks(self, state: TrialState) -> list[Mark]:
        """All trials that ended in this state, in order of number."""


class Pruner:
    """Decides which running trials to stop. Deterministic; its memory is a function of what it was told.

    Whoever competes with running trials keeps what it needs of one on its `Curve`, and enters it in `resume`; whoever
    looks at COMPLETE ones only, or at one trial alone, has nothing to do there.
    """

    def load(self, committed: Committed) -> None:
        """Take in all ended trials there are, before anything else."""

    def resume(self, curve: Curve) -> None:
        """A trial was RUNNING when the study was loaded, or when this pruner took over; ``curve.rung``: where it was
        judged before. Its latest report is decided about next."""

    def withdraw(self, curve: Curve) -> None:
        """The attempt was lost, and nothing of it counts."""

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        """A trial that had this curve has ended; ``series`` is its first objective by step, whole. In any order."""

    def prune(self, curve: Curve) -> str | None:
        """Why to stop the trial that has just reported, all of its reports so far being in ``curve``, in words that
        follow "pruned by NAME"; None: it goes on. Not asked again about one that is to stop."""
        raise NotImplementedError


def number(value: float) -> str:
    """As reasons write it."""
    return f"{value:.6g}"
