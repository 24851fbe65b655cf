"""How many trials each experiment may have in flight within limits that all have in common. Pure.

Weighted max-min fairness: each experiment gets one trial, as far as the limits reach, in order of priority; what is
left rises evenly for all like water, twice as fast with each step of priority, until an experiment has what it can use,
its namespace is full, or the cluster's limit is reached. So a high priority takes more, and starves nobody.
"""

import collections
import dataclasses
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

_HALVINGS = 40  # of the level: what is left then is a few trials for each experiment
_DRY = -1.0  # a level at which nobody has anything; from 0 on each has one


@dataclasses.dataclass(frozen=True)
class Caps:
    """Trials in flight at most; 0: no limit."""

    cluster: int = 0
    namespace: int = 0  # each one

    @property
    def none(self) -> bool:
        return not self.cluster and not self.namespace


@dataclasses.dataclass(frozen=True)
class Demand:
    """How many trials in flight an experiment could use."""

    uid: str
    namespace: str
    priority: int
    wanted: int

    @property
    def weight(self) -> float:
        return float(2.0**self.priority)

    def at(self, level: float) -> int:
        """What it has when the water stands there."""
        return min(self.wanted, max(1, int(level * self.weight))) if level >= 0 else 0


def shares(demands: Iterable[Demand], caps: Caps) -> dict[str, int]:
    """Each experiment's share, by UID. The same demands, in whatever order, give the same shares."""
    wanting = sorted(demands, key=lambda each: (-each.priority, each.uid))
    highest = max((each.wanted / each.weight for each in wanting), default=0.0)
    homes: dict[str, list[Demand]] = collections.defaultdict(list)
    for each in wanting:
        homes[each.namespace].append(each)
    levels = {
        home: _level(lambda level, members=members: _sum(members, level), caps.namespace, highest)  # type: ignore[misc]
        for home, members in homes.items()
    }
    top = _level(
        lambda level: sum(_sum(homes[home], min(level, levels[home])) for home in homes), caps.cluster, highest
    )
    given = {each.uid: each.at(min(top, levels[each.namespace])) for each in wanting}
    _fill(wanting, given, caps)
    return given


def _sum(demands: Sequence[Demand], level: float) -> int:
    return sum(each.at(level) for each in demands)


def _level(taken: Callable[[float], int], cap: int, highest: float) -> float:
    """The highest level, nearly, at which no more than ``cap`` is taken."""
    if not cap or taken(highest) <= cap:
        return highest
    if taken(0.0) > cap:
        return _DRY
    low, high = 0.0, highest
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        low, high = (level, high) if taken(level) <= cap else (low, level)
    return low


def _fill(wanting: Sequence[Demand], given: dict[str, int], caps: Caps) -> None:
    """What whole numbers have left over: one by one to whoever is lowest, until nobody may have more."""
    homes: dict[str, int] = collections.defaultdict(int)
    for each in wanting:
        homes[each.namespace] += given[each.uid]
    total = sum(homes.values())
    heap = [(_price(each, given), index) for index, each in enumerate(wanting)]
    heapq.heapify(heap)
    while heap and not (caps.cluster and total >= caps.cluster):
        _, index = heapq.heappop(heap)
        each = wanting[index]
        if given[each.uid] >= each.wanted or (caps.namespace and homes[each.namespace] >= caps.namespace):
            continue
        given[each.uid] += 1
        homes[each.namespace] += 1
        total += 1
        heapq.heappush(heap, (_price(each, given), index))


def _price(demand: Demand, given: Mapping[str, int]) -> float:
    """Where the water stands when it gets one more; the first one is free."""
    return (given[demand.uid] + 1) / demand.weight if given[demand.uid] else 0.0
