"""What is counted of ended trials: states, the reasons of the last ones, whether a target was reached, steps saved."""

import bisect
import collections
import math
from collections.abc import Iterable, Sequence

from kubetune.api.spec import Objective
from kubetune.api.trial import Counts, Reason, TrialState, penalty
from kubetune.engine import value
from kubetune.engine.endings import Endings
from kubetune.storage.base import EndedTrial

RECENT = 10  # reasons kept


class Tally:
    """Counters over ended trials, each counted once; their size does not grow with the trials, but for the order
    in which they ended."""

    def __init__(self, objectives: Sequence[Objective], lost_attempts: int) -> None:
        self._objectives = objectives
        self._states: collections.Counter[TrialState] = collections.Counter()
        self._recent: list[tuple[float, int, Reason]] = []  # end, number; the last ones, ascending
        self._complete_lengths: collections.Counter[int] = collections.Counter()  # steps of a trial → how many trials
        self._pruned_lengths: collections.Counter[int] = collections.Counter()
        self._steps = 0
        self.lost_attempts = lost_attempts
        self.target_reached = False
        self.infeasible = 0  # COMPLETE trials that break a constraint
        self._endings = Endings()

    def ended(self, trial: EndedTrial) -> None:
        """A trial ended; in any order."""
        self._states[trial.state] += 1
        self._steps += trial.steps
        if trial.reason is not None:
            self._remember(trial.ended, trial.number, trial.reason)
        if trial.reason in (Reason.COMPLETED, Reason.PRUNED):
            good = trial.state is TrialState.COMPLETE and penalty(trial.constraints) == 0
            came_to = trial.values[0] if good and trial.values else math.nan  # only a feasible one improves
            self._endings.add(trial.ended, trial.number, came_to)
        if trial.state is TrialState.COMPLETE:
            self._complete_lengths[trial.steps] += 1
            feasible = penalty(trial.constraints) == 0
            self.infeasible += not feasible
            reached = feasible and value.reaches(self._objectives, trial.values or ())
            self.target_reached = self.target_reached or reached
        elif trial.reason in (Reason.PRUNED, Reason.NOT_PROMOTED):
            self._pruned_lengths[trial.steps] += 1

    def _remember(self, ended: float, number: int, reason: Reason) -> None:
        if len(self._recent) < RECENT or (ended, number) > self._recent[0][:2]:
            bisect.insort(self._recent, (ended, number, reason))
            del self._recent[:-RECENT]

    def look_again(self, objectives: Sequence[Objective], complete: Iterable[Sequence[float]]) -> None:
        """The targets changed: whether one of the feasible COMPLETE trials' values reaches the new ones."""
        self._objectives = objectives
        self.target_reached = any(value.reaches(objectives, values) for values in complete)

    def stagnation(self, min_delta: float) -> int:
        """The most trials that ended in a row, complete or pruned, without one that improved the first objective by
        more than this."""
        return self._endings.longest(self._objectives[0].direction == "maximize", min_delta)

    @property
    def complete(self) -> int:
        return self._states[TrialState.COMPLETE]

    def counts(self, running: int, paused: int = 0) -> Counts:
        return Counts(
            running=running,
            paused=paused,
            complete=self._states[TrialState.COMPLETE],
            pruned=self._states[TrialState.PRUNED],
            failed=self._states[TrialState.FAIL],
            lost_attempts=self.lost_attempts,
        )

    @property
    def recent(self) -> tuple[Reason, ...]:
        """Newest first."""
        return tuple(reason for _, _, reason in reversed(self._recent))

    @property
    def saved_steps(self) -> tuple[int, int]:
        """(steps of all ended trials, steps that the pruner's trials would have taken more to be as long as the
        median COMPLETE trial; of two in the middle the shorter)."""
        median = _median(self._complete_lengths)
        return self._steps, sum(max(0, median - steps) * count for steps, count in self._pruned_lengths.items())


def _median(lengths: collections.Counter[int]) -> int:
    """The lower median of a multiset; 0 of an empty one. O(different lengths)."""
    before, middle = 0, (lengths.total() + 1) // 2
    for length in sorted(lengths):
        before += lengths[length]
        if before >= middle:
            return length
    return 0
