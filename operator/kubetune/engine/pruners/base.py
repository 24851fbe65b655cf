"""What a pruner is: a policy in memory, fed with what is committed, asked at every report."""

from collections.abc import Mapping
from typing import Protocol

from kubetune.engine.curve import Curve


class Pruner(Protocol):
    """Decides which running trials to stop. Deterministic; its memory is a function of what it was told."""

    def completed(self, series: Mapping[int, float]) -> None:
        """A trial is COMPLETE; its first objective by step. Once per trial, in any order."""

    def prune(self, curve: Curve) -> bool:
        """Whether to stop the trial that has just reported, all of its reports so far being in ``curve``."""
