"""Which finalist is best, by its fresh runs alone, and whether it can be told from the next one. Pure.

The search's own values take no part: the best of many noisy values is the best partly by luck, so it promises too much
(the winner's curse; Smith and Winkler, "The Optimizer's Curse", Management Science 52 (2006) 311-322).

All finalists run with the same seeds, so the winner and the runner-up are compared seed by seed: the paired t-test of
Student (Biometrika 6 (1908) 1-25), as ``scipy.stats.ttest_rel`` has it; what a seed does to both of them cancels out
(common random numbers; Law, Simulation Modeling and Analysis, ch. 11). Where fewer than two seeds are common, Welch's
test (Biometrika 34 (1947) 28-35), as ``scipy.stats.ttest_ind(equal_var=False)``. The interval is that of Student's t.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from kubetune.api.spec import ParamValue

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A trial of the search, and its fresh runs. ``values``: of the COMPLETE ones, by replicate; ``broken``: they
    break a constraint, in the mean."""

    trial: int
    params: Mapping[str, ParamValue]
    values: Mapping[int, float]
    broken: bool = False

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values.values())


@dataclasses.dataclass(frozen=True)
class Winner:
    """``interval``: of the mean, at 95 %; None: one run says nothing about it. ``p``: of a difference as large as that
    to the runner-up, if there were none; None: there are too few runs, or no runner-up."""

    trial: int
    params: Mapping[str, ParamValue]
    mean: float
    interval: tuple[float, float] | None
    runs: int
    runner_up: int | None
    p: float | None
    sentence: str

    @property
    def distinguishable(self) -> bool | None:
        """None: there is no runner-up."""
        return None if self.runner_up is None else self.p is not None and self.p < 1 - CONFIDENCE


def judge(finalists: Sequence[Finalist], maximize: bool, metric: str) -> Winner | None:
    """The best mean wins; None: no run has completed. Those with less than half of the runs that another has are left
    out, and so are those that break a constraint, unless all do."""
    most = max((len(each.values) for each in finalists), default=0)
    stable = [each for each in finalists if each.values and len(each.values) >= most / 2]
    feasible = [each for each in stable if not each.broken] or stable
    ranked = sorted(feasible, key=lambda each: ((-each.mean if maximize else each.mean), each.trial))
    if not ranked:
        return None
    first, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    interval = _interval(list(first.values.values()))
    p = None if second is None else _difference(first, second)
    next_one = None if second is None else second.trial
    found = Winner(first.trial, first.params, first.mean, interval, len(first.values), next_one, p, sentence="")
    return dataclasses.replace(found, sentence=_sentence(found, second, metric))


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean, by Student's t; None for one value, or where one is infinite."""
    count = len(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return None
    from scipy import special  # few experiments need it, and scipy.stats takes a second to import

    half = float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / math.sqrt(count)
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _difference(one: Finalist, other: Finalist) -> float | None:
    """The two-sided p of the hypothesis that their means are equal; None: too few runs."""
    common = sorted(one.values.keys() & other.values.keys())
    if len(common) >= 2:
        return paired([one.values[place] for place in common], [other.values[place] for place in common])
    if len(one.values) >= 2 and len(other.values) >= 2:
        return welch(list(one.values.values()), list(other.values.values()))
    return None


def paired(one: Sequence[float], other: Sequence[float]) -> float:
    """The paired t-test's p. Equal differences that are not zero: 0."""
    differences = [first - second for first, second in zip(one, other, strict=True)]
    if not all(map(math.isfinite, differences)):
        return 1.0
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _p(statistics.fmean(differences), error, len(differences) - 1)


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """The p of Welch's t-test, with the degrees of freedom of Welch and Satterthwaite."""
    if not all(map(math.isfinite, [*one, *other])):
        return 1.0
    parts = [statistics.variance(values) / len(values) for values in (one, other)]
    freedom = sum(parts) ** 2 / (sum(part**2 / (len(v) - 1) for part, v in zip(parts, (one, other), strict=True)) or 1)
    return _p(statistics.fmean(one) - statistics.fmean(other), math.sqrt(sum(parts)), freedom)


def _p(difference: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    from scipy import special

    return float(2 * special.stdtr(freedom, -abs(difference / error)))


def _sentence(winner: Winner, second: Finalist | None, metric: str) -> str:
    runs = f"{winner.runs} fresh run{'' if winner.runs == 1 else 's'}"
    spread = "" if winner.interval is None else f" (95 %: {winner.interval[0]:.4g} to {winner.interval[1]:.4g})"
    said = f"trial {winner.trial} wins: {metric} = {winner.mean:.4g}{spread}, the mean of {runs}"
    if second is None:
        return f"{said}; no other finalist is left to compare it with"
    next_one = f"trial {second.trial} ({second.mean:.4g})"
    if winner.p is None:
        return f"{said}; one run each does not tell it from {next_one}: set finalists.replicates to 5"
    if winner.distinguishable:
        return f"{said}; it is better than {next_one}, p = {winner.p:.2g}"
    return f"{said}; it cannot be told from {next_one}, p = {winner.p:.2g}: take the one that is cheaper, or run more"
