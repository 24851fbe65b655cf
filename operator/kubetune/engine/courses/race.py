"""Which trials are worth another run with another seed: a race against the best one, decided after each run. Pure.

A trial gets runs as long as it may still be as good as the best, and none any more once a test calls it worse, as in
Maron and Moore, "Hoeffding Races" (NIPS 6, 1994), and for tuning in Birattari et al., "A Racing Algorithm for
Configuring Metaheuristics" (GECCO 2002). As in the intensification of SMAC (Hutter, Hoos and Leyton-Brown, LION 5,
2011) each challenger races the incumbent alone, and the incumbent always has all its runs, so that no single lucky
run makes a winner.

The test is Student's, one-sided, for two means of normal noise, whose variance is pooled over all trials: a trial's own
two or three runs say nothing about it.
"""

import math
from collections.abc import Sequence

P = 0.1  # a trial is out once it would be so far behind with less than this probability, were it as good as the best
LEAST_FREEDOM = 4  # degrees of freedom before the noise is known at all: until then every trial has all its runs


class Race:
    """Told of complete trials, asked about those under way.

    Args:
        most: runs that a trial has at most, and
        least: before it is judged.
    """

    def __init__(self, maximize: bool, least: int, most: int) -> None:
        from scipy import special  # takes a moment to import, and few need it

        self._quantile = special.stdtrit
        self._sign = 1.0 if maximize else -1.0
        self._least = least
        self._most = most
        self._best: float | None = None  # mean of the best trial that had all its runs, larger being better
        self._squares = 0.0  # of the distances to the trials' means
        self._freedom = 0

    def ended(self, runs: Sequence[float], feasible: bool = True) -> None:
        """A trial is COMPLETE with the values of these runs. To be told once of each, in any order."""
        squares, freedom = _within(runs)
        self._squares += squares
        self._freedom += freedom
        mean = self._sign * sum(runs) / len(runs)
        if feasible and len(runs) >= self._most and not math.isnan(mean):
            self._best = mean if self._best is None else max(self._best, mean)

    def behind(self, runs: Sequence[float]) -> float | None:
        """By how much a trial with these runs so far is behind the best, if it is to have no more of them for that
        reason; None: it goes on, or has had all."""
        if not self._least <= len(runs) < self._most or self._best is None:
            return None
        squares, freedom = _within(runs)
        freedom += self._freedom
        if freedom < LEAST_FREEDOM:
            return None
        distance = self._best - self._sign * sum(runs) / len(runs)
        variance = (self._squares + squares) / freedom
        chance = float(self._quantile(freedom, 1 - P)) * math.sqrt(variance * (1 / len(runs) + 1 / self._most))
        return distance if distance > chance else None


def _within(runs: Sequence[float]) -> tuple[float, int]:
    """Sum of squares about the mean, and its degrees of freedom; nothing where a value is infinite."""
    if len(runs) < 2 or not all(map(math.isfinite, runs)):
        return 0.0, 0
    mean = sum(runs) / len(runs)
    return sum((run - mean) ** 2 for run in runs), len(runs) - 1
