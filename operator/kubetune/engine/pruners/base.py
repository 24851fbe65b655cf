"""What a pruner is: a policy in memory, fed with what is committed, asked at every report."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from kubetune.engine.curve import Curve
from kubetune.storage.series import Take

Read: TypeAlias = Callable[[Take], None]  # hands on the first objective's series of all COMPLETE trials, in pieces


class Pruner(Protocol):
    """Decides which running trials to stop. Deterministic; its memory is a function of what it was told."""

    def load(self, read: Read) -> None:
        """Take in all COMPLETE trials there are, before anything else. Who needs none of them does not ``read``."""

    def completed(self, series: Mapping[int, float]) -> None:
        """A trial is COMPLETE; its first objective by step. Once per trial, in any order."""

    def prune(self, curve: Curve) -> bool:
        """Whether to stop the trial that has just reported, all of its reports so far being in ``curve``."""
