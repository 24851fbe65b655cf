"""The committed trials as a sampler sees them: compact, ordered, and indexed for a bounded view.

Sampling is a function of (seed, number, this), so whatever a sampler reads is here, and what is here is what the
database has: after a restart the same history is built from the same rows.
"""

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from kubetune.api.spec import Objective, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine.front import Front


@dataclasses.dataclass(frozen=True, slots=True)
class Past:
    """One trial, RUNNING or ended. ``last``: step and value of the first objective's last report."""

    number: int
    state: TrialState
    params: Mapping[str, ParamValue]
    values: tuple[float, ...] | None = None
    last: tuple[int, float] | None = None


class History:
    """All trials of a study by number; each is added RUNNING or ended, and ends once."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._trials: list[Past] = []
        self._running: dict[int, None] = {}  # numbers in order
        self._learned: list[int] = []  # numbers of COMPLETE and PRUNED trials, ascending
        self._ranking: list[tuple[float, int]] = []  # one objective: COMPLETE trials, best first, earliest of equals
        self.front = Front([objective.direction == "maximize" for objective in objectives])

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, number: int) -> Past:
        return self._trials[number]

    def __iter__(self) -> Iterator[Past]:
        return iter(self._trials)

    def add(self, trial: Past) -> None:
        """The next trial by number."""
        if trial.number != len(self._trials):
            raise ValueError(f"trial {trial.number} given, trial {len(self._trials)} is next: rows are missing")
        self._trials.append(trial)
        if trial.state is TrialState.RUNNING:
            self._running[trial.number] = None
        else:
            self._index(trial)

    def replace(self, trial: Past) -> None:
        """What is now known of a RUNNING trial; ended, it stays as it is."""
        self._trials[trial.number] = trial
        if trial.state is not TrialState.RUNNING:
            del self._running[trial.number]
            self._index(trial)

    def _index(self, trial: Past) -> None:
        if trial.state is TrialState.FAIL:
            return
        bisect.insort(self._learned, trial.number)
        if trial.state is TrialState.COMPLETE and trial.values is not None:
            self.front.add(trial.number, trial.values)
            if len(trial.values) == 1:
                bisect.insort(self._ranking, (self.front.losses(trial.values)[0], trial.number))

    def best(self, count: int) -> list[int]:
        """Numbers of the ``count`` best COMPLETE trials; of several objectives, of the Pareto front, earliest first."""
        if self._ranking:
            return [number for _, number in self._ranking[:count]]
        return self.front.numbers[:count]

    def view(self, best: int, latest: int, running: int) -> list[Past]:
        """A bounded part in order of number: the best, the latest that taught something, the latest running."""
        numbers = {*self.best(best), *self._learned[-latest:], *list(self._running)[len(self._running) - running :]}
        return [self._trials[number] for number in sorted(numbers)]
