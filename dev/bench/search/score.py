"""From runs to figures: regret beside random search's, its interval, ranks, and how soon a target is reached.

The normalised regret of a run is what it lacks of the problem's best value, over the median of what `random` lacks at
the end of the same budget: 0 is the best there is, 1 as good as random search, 0.1 a tenth of what random search
leaves. Above `MOST` it counts as `MOST`, so that no single run (one without a trial that keeps the constraints, say)
makes a mean.
"""

import collections
import dataclasses
import math
import random
import statistics
from collections.abc import Mapping, Sequence

from dev.bench.search.race import Run

MOST = 3.0
DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Row:
    """One searcher on one family of problems.

    Args:
        regret: the mean normalised regret at the end, over problems and seeds.
        low, high: its 95 % interval; nan: not with one seed.
        rank: the mean place among all who took part, where at least half of all did; equal ones share theirs. nan: it
            took part in no such contest.
        reached: in which part of the runs it came to what random search reaches with the whole budget.
        after: the median of evaluations until then, as a part of the budget; infinite: most never did.
        cost: CPU milliseconds of a suggestion, mean.
    """

    entrant: str
    problems: int
    runs: int
    regret: float
    low: float
    high: float
    rank: float
    reached: float
    after: float
    cost: float


class Scale:
    """What regrets are measured against, problem by problem."""

    def __init__(self, runs: Sequence[Run], least: Mapping[str, float], baseline: str) -> None:
        self._least = dict(least)
        self._unit: dict[str, float] = {}
        by_problem = collections.defaultdict(list)
        for run in runs:
            by_problem[run.problem].append(run)
        for problem, group in by_problem.items():
            best = min(run.reached[-1] for run in group)
            self._least.setdefault(problem, best)
            finals = [run.reached for run in group if run.entrant == baseline]
            self._unit[problem] = self._typical(problem, finals)

    def _typical(self, problem: str, finals: Sequence[Sequence[float]]) -> float:
        """Where random search mostly finds the best there is: what it lacks earlier on."""
        if not finals:
            raise ValueError(f"{problem}: nobody ran random search on it")
        length = len(finals[0])
        for place in range(length - 1, -1, -1):
            unit = statistics.median(each[place] for each in finals) - self._least[problem]
            if unit > 1e-12:
                return unit
        return 1.0

    def regrets(self, run: Run) -> list[float]:
        """Normalised, after each evaluation."""
        least, unit = self._least[run.problem], self._unit[run.problem]
        return [min(MOST, max(0.0, (value - least) / unit)) for value in run.reached]


def rows(runs: Sequence[Run], scale: Scale) -> list[Row]:
    """Of one family, the best first."""
    finals = {(run.problem, run.entrant, run.seed): scale.regrets(run)[-1] for run in runs}
    places = _places(finals)
    by_entrant = collections.defaultdict(list)
    for run in runs:
        by_entrant[run.entrant].append(run)
    made = [_row(name, group, scale, places) for name, group in by_entrant.items()]
    return sorted(made, key=lambda row: (math.isnan(row.rank), row.rank))


def _places(finals: Mapping[tuple[str, str, int], float]) -> dict[tuple[str, str, int], float]:
    contests = collections.defaultdict(list)
    for (problem, entrant, seed), regret in finals.items():
        contests[problem, seed].append((regret, entrant))
    entrants = {entrant for _, entrant, _ in finals}
    places = {}
    for (problem, seed), contest in contests.items():
        if 2 * len(contest) < len(entrants):
            continue  # some alone, with further seeds: their places are among few
        values = sorted(regret for regret, _ in contest)
        for regret, entrant in contest:
            better = sum(value < regret for value in values)
            places[problem, entrant, seed] = better + (values.count(regret) + 1) / 2
    return places


def _row(name: str, group: Sequence[Run], scale: Scale, places: Mapping[tuple[str, str, int], float]) -> Row:
    regrets = collections.defaultdict(list)
    soon = []
    ranks = [places[key] for run in group if (key := (run.problem, run.entrant, run.seed)) in places]
    for run in group:
        steps = scale.regrets(run)
        regrets[run.problem].append(steps[-1])
        first = next((place for place, regret in enumerate(steps, start=1) if regret <= 1.0), math.inf)
        soon.append(first / len(steps))
    low, high = interval(list(regrets.values()))
    return Row(
        name,
        len(regrets),
        len(group),
        statistics.fmean(statistics.fmean(each) for each in regrets.values()),
        low,
        high,
        statistics.fmean(ranks) if ranks else math.nan,
        sum(map(math.isfinite, soon)) / len(soon),
        statistics.median(soon),
        statistics.fmean(run.cost for run in group),
    )


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The 95 % interval of the mean of the groups' means: seeds drawn again within each problem. It says how sure the
    figure is for these problems, not for others. nan: a problem has one seed."""
    if min(map(len, groups)) < 2:
        return math.nan, math.nan
    dice = random.Random(0)
    means = sorted(
        statistics.fmean(statistics.fmean(dice.choices(group, k=len(group))) for group in groups) for _ in range(DRAWS)
    )
    return means[round(0.025 * DRAWS)], means[round(0.975 * DRAWS) - 1]


def beside(runs: Sequence[Run], scale: Scale, one: str, other: str) -> tuple[float, float, float] | None:
    """The mean of the differences of normalised regret, one less the other, with its 95 % interval; by pairs of the
    same problem and seed. None: there is no pair."""
    finals = {(run.problem, run.seed, run.entrant): scale.regrets(run)[-1] for run in runs}
    pairs = collections.defaultdict(list)
    for problem, seed, entrant in finals:
        if entrant == one and (problem, seed, other) in finals:
            pairs[problem].append(finals[problem, seed, one] - finals[problem, seed, other])
    if not pairs:
        return None
    groups = list(pairs.values())
    low, high = interval(groups)
    return statistics.fmean(map(statistics.fmean, groups)), low, high


def curve(runs: Sequence[Run], scale: Scale, entrant: str, points: int = 50) -> list[tuple[float, float]]:
    """The mean normalised regret by the part of the budget that is spent."""
    steps = [scale.regrets(run) for run in runs if run.entrant == entrant]
    found = []
    for point in range(1, points + 1):
        part = point / points
        found.append((part, statistics.fmean(each[max(0, math.ceil(part * len(each)) - 1)] for each in steps)))
    return found
