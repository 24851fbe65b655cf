"""How many trials may be in flight now: a pure policy of what is asked for, what was seen, and the time.

While nothing is in the way, all trials that are wanted are started; no more than a window of them may be without the
scheduler's verdict, so that what finds no node is bounded. Two ceilings can come into the way:

- Nodes: pods that the scheduler finds no node for. Nothing more is created; after `Tuning.patience` all of them but a
  few are withdrawn. Those few stay: they tell an autoscaler that a node is wanted, and take the next place that is
  free without any delay.
- Quota: Jobs that the API server refused. What is there already stays; a place of our own that is freed is filled.

A ceiling rises with every trial that does get through, each letting one more try beside it: where there is room again,
what is tried doubles with every round. Where nothing moves, more is tried after a wait that doubles too.
docs/decisions/0011-elastic-parallelism.md has the reasons, docs/parallelism.md the figures behind the constants.
"""

import dataclasses
import math

from kubetune.api.trial import Reason


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The policy's constants; `simulator.compare` measures others. Times in seconds."""

    window: int = 256  # Jobs without the scheduler's verdict at once, at least; more where as many run already
    patience: float = 30.0  # a pod may find no node for so long before the surplus is withdrawn
    signal: float = 0.1  # pods left waiting for a node, as a share of the trials that have one …
    signal_most: int = 20  # … at most; one at least
    no_pod: float = 300.0  # a Job without a pod for so long is held up by a quota on pods
    first_wait: float = 30.0  # until more is tried where nothing moved; doubled each time
    longest_wait: float = 600.0


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A trial, or a slot of a worker, whose pod finds no node. ``work``: what the trial has reported so far; ``since``:
    epoch seconds."""

    number: int
    since: float
    work: int = 0
    worker: bool = False  # ``number`` is the worker's


@dataclasses.dataclass(frozen=True)
class Sight:
    """An experiment's Jobs that have not ended, and what was refused.

    Attributes:
        placed: those whose pod has a node.
        ending: those whose pod has ended, or is being deleted: they hold a slot, and no place on a node.
        fresh: those of which nobody knows yet: no pod so far, or no verdict of the scheduler.
        waiting: those that find no node.
        refused: how many Jobs a quota has refused so far, as far as this process has seen.
        under_way: those of ``fresh`` whose creation is not answered yet.
    """

    placed: int = 0
    fresh: int = 0
    waiting: tuple[Waiting, ...] = ()
    refused: int = 0
    ending: int = 0
    under_way: int = 0

    @property
    def live(self) -> int:
        return self.placed + self.fresh + len(self.waiting) + self.ending

    @property
    def through(self) -> int:
        """Jobs that the server has taken."""
        return self.live - self.under_way


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """What stands in the way. Times in epoch seconds."""

    found: int  # trials that got through when it was last met
    extra: int  # that may try beside them
    wait: float  # seconds of the last wait
    retry_at: float  # when more may be tried

    @property
    def height(self) -> int:
        return self.found + self.extra

    def risen(self, through: int) -> "Ceiling":
        """So many have got through by now: each lets one more try, and the next wait is a first one."""
        more = through - self.found
        return dataclasses.replace(self, found=through, extra=self.extra + more, wait=0.0) if more > 0 else self


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is remembered from look to look. Lost (a restart), it is found out anew: a retry comes sooner."""

    nodes: Ceiling | None = None
    quota: Ceiling | None = None
    refused: int = 0  # the refusals that ``quota`` knows of


@dataclasses.dataclass(frozen=True)
class Allowed:
    """The parallelism in force.

    Attributes:
        current: trials that may be in flight.
        reason: SPEC (all that `parallelism.max` allows), NO_NODES, QUOTA, FAIR_SHARE, SUSPENDED.
        start: Jobs that may be created right now.
        open: slots of workers that may be opened right now.
        withdraw: trials whose Job is to be taken back. Of workers those go that ``current`` leaves no room for.
        again_at: when to look again at the latest (epoch seconds).
        wants: what it could use, were the cluster-wide limits none.
    """

    current: int
    reason: Reason = Reason.SPEC
    start: int = 1_000_000
    open: int = 1_000_000
    withdraw: frozenset[int] = frozenset()
    again_at: float | None = None
    wants: int = 0


def look(
    least: int, most: int, share: int | None, sight: Sight, kept: Kept, now: float, tuning: Tuning
) -> tuple[Allowed, Kept]:
    """What is in force now, and what to remember.

    Args:
        least: `parallelism.min`: pods that find no node do not lower the number below it.
        most: `parallelism.max`; 0 while suspended or over.
        share: of the limits that all experiments have in common; None: there are none.
    """
    wanted = most if share is None else min(most, share)
    kept = _learn(least, most, sight, kept, now, tuning)
    nodes, quota = _height(kept.nodes, least, most), _height(kept.quota, 0, most)
    bounds = ((nodes, Reason.NO_NODES), (quota, Reason.QUOTA), (most, Reason.SPEC), (share, Reason.FAIR_SHARE))
    current, reason = _lowest(*bounds)
    again = [time for time in _dates(sight, kept, now, tuning) if time > now]
    force = Allowed(
        current=current,
        reason=reason,
        start=_start(min(least, wanted), current, sight, kept, tuning),
        withdraw=_surplus(min(least, wanted), wanted, sight, now, tuning),
        again_at=min(again) if again else None,
        wants=min(number for number in (most, nodes, quota) if number is not None),
    )
    return force, kept


def signal(placed: int, tuning: Tuning) -> int:
    """Pods that are left waiting for a node when so many trials have one."""
    return max(1, min(math.ceil(tuning.signal * placed), tuning.signal_most))


# ---- what is learnt


def _learn(least: int, most: int, sight: Sight, kept: Kept, now: float, tuning: Tuning) -> Kept:
    nodes = None if most == 0 else _nodes(least, most, sight, kept.nodes, now, tuning)
    quota = kept.quota
    if sight.refused != kept.refused:
        quota = _refused(sight.through, quota, now, tuning) if most else None
    elif quota is not None:
        quota = _tried(quota.risen(sight.through), 1, now)
        if most <= min(quota.height, sight.through):
            quota = None
    return Kept(nodes, quota, sight.refused)


def _nodes(least: int, most: int, sight: Sight, before: Ceiling | None, now: float, tuning: Tuning) -> Ceiling | None:
    """Met by a pod that waited out its patience, and again whenever more of them do than the few that stay."""
    few = signal(sight.placed, tuning)
    stuck = len(_stuck(sight, now, tuning))
    if stuck > (max(few, least - sight.placed) if before else 0):
        known = before is not None and (before.found, before.extra) == (sight.placed, few)
        return before if known else Ceiling(sight.placed, few, *_later(before, now, tuning))
    if before is None or sight.placed >= most:
        return None
    risen = _tried(before.risen(sight.placed), few, now)
    return None if risen.extra >= tuning.window else risen


def _refused(live: int, before: Ceiling | None, now: float, tuning: Tuning) -> Ceiling:
    """Many that were tried together are refused one after the other: that is one refusal, and the last one counts."""
    if before is not None and before.extra == 0 and now < before.retry_at:
        return dataclasses.replace(before, found=live)
    return Ceiling(live, 0, *_later(before, now, tuning))


def _later(before: Ceiling | None, now: float, tuning: Tuning) -> tuple[float, float]:
    """The next wait, and when it is over."""
    wait = min(2 * before.wait, tuning.longest_wait) if before and before.wait else tuning.first_wait
    return wait, now + wait


def _tried(ceiling: Ceiling, more: int, now: float) -> Ceiling:
    """Once the wait is over, more may try; the next wait begins when that was in vain."""
    if now < ceiling.retry_at:
        return ceiling
    return dataclasses.replace(ceiling, extra=ceiling.extra + more, retry_at=math.inf)


def _stuck(sight: Sight, now: float, tuning: Tuning) -> list[Waiting]:
    return [each for each in sight.waiting if now - each.since >= tuning.patience]


# ---- what follows


def _height(ceiling: Ceiling | None, least: int, most: int) -> int | None:
    return None if ceiling is None else min(most, max(least, ceiling.height))


def _lowest(*bounds: tuple[int | None, Reason]) -> tuple[int, Reason]:
    """The bound that binds. Of equal ones the first: a ceiling is told of even where it is as high as what is wanted,
    or each try at it would be told as its end."""
    there = [(number, reason) for number, reason in bounds if number is not None]
    return min(there, key=lambda bound: bound[0])


def _start(least: int, current: int, sight: Sight, kept: Kept, tuning: Tuning) -> int:
    """Jobs that may be created now. Under a ceiling that is what it leaves room for. With none, a window's worth may be
    without a verdict; once more than a few have found no node, only what `parallelism.min` insists on. (Those few may
    be no more than places whose last trial is not quite gone, for which nobody else should wait.)"""
    room = max(0, current - sight.live)
    if kept.nodes is not None:
        return room
    if len(sight.waiting) > signal(sight.placed, tuning):
        return max(0, min(room, least - sight.live))
    return max(0, min(room, max(tuning.window, sight.placed) - sight.fresh))


def _surplus(least: int, wanted: int, sight: Sight, now: float, tuning: Tuning) -> frozenset[int]:
    """Who is to be withdrawn: of those that have waited long enough, all but the few that stay. Whoever has reported
    most stays, then the one that was asked first."""
    few = min(max(signal(sight.placed, tuning), least - sight.placed), max(0, wanted - sight.placed))
    stuck = sorted(_stuck(sight, now, tuning), key=lambda each: (-each.work, each.number))
    return frozenset(each.number for each in stuck[few:] if not each.worker)


def _dates(sight: Sight, kept: Kept, now: float, tuning: Tuning) -> list[float]:
    """When something changes by the mere passing of time."""
    dates = [each.since + tuning.patience for each in sight.waiting]
    return dates + [ceiling.retry_at for ceiling in (kept.nodes, kept.quota) if ceiling and ceiling.retry_at < math.inf]
