"""Who has how much of the limits that all experiments have in common.

An experiment over its share ends nothing, so what another one may take now is what nobody holds: by trials that run, or
by a grant that it may act on at any moment. Who is to take less, or may take more, is woken.
"""

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterable

from kubetune.controller.shares import Caps, Demand, shares

Claim = tuple[Demand, int]  # what it could use, and how many it has in flight


@dataclasses.dataclass
class _Claim:
    demand: Demand
    live: int
    granted: int = 0
    told: int | None = None  # the share it last acted on, or was woken for

    @property
    def held(self) -> int:
        return max(self.live, self.granted)


class Fair:
    """Thread-safe.

    Args:
        others: the experiments but those of these UIDs, with what they seem to want and have: after a restart they
            hold something before they were looked at.
        wake: have an experiment looked at soon.
    """

    def __init__(
        self, caps: Caps, others: Callable[[Collection[str]], Iterable[Claim]], wake: Callable[[str], None]
    ) -> None:
        self._caps = caps
        self._others = others
        self._wake = wake
        self._lock = threading.Lock()
        self._claims: dict[str, _Claim] = {}
        self._stumbled: set[str] = set()  # experiments whose last look failed

    def grant(self, demand: Demand, live: int) -> int | None:
        """How many trials this experiment may have in flight from now on, ``live`` of which it has; None: no limit."""
        if self._caps.none:
            return None
        with self._lock:
            for other, running in self._others(self._claims.keys()):
                seems = dataclasses.replace(other, wanted=0) if other.uid in self._stumbled else other
                self._claims.setdefault(other.uid, _Claim(seems, running, running))
            self._stumbled.discard(demand.uid)
            mine = self._claims.setdefault(demand.uid, _Claim(demand, live))
            mine.demand, mine.live, mine.granted = demand, live, 0
            found = shares([claim.demand for claim in self._claims.values()], self._caps)
            mine.told = found[demand.uid]
            mine.granted = max(0, min(found[demand.uid], self._left(mine)))
            granted, woken = mine.granted, self._concerned(found, but=demand.uid)
        for uid in woken:
            self._wake(uid)
        return granted

    def stumbled(self, uid: str) -> None:
        """A look at the experiment has failed for a reason of its own: until one succeeds it can use nothing, and
        what it does not hold is the others'."""
        with self._lock:
            self._stumbled.add(uid)
            claim = self._claims.get(uid)
            if claim is None or not claim.demand.wanted:
                return
            claim.demand = dataclasses.replace(claim.demand, wanted=0)
            woken = self._concerned(shares([each.demand for each in self._claims.values()], self._caps), but=uid)
        for each in woken:
            self._wake(each)

    def forget(self, uid: str) -> None:
        """The experiment is gone, or over with nothing left."""
        with self._lock:
            self._stumbled.discard(uid)
            if self._claims.pop(uid, None) is None:
                return
            found = shares([claim.demand for claim in self._claims.values()], self._caps)
            woken = self._concerned(found, but=uid)
        for each in woken:
            self._wake(each)

    def _left(self, mine: _Claim) -> int:
        """What the others leave."""
        others = [claim for claim in self._claims.values() if claim is not mine]
        home = mine.demand.namespace
        left = []
        if self._caps.cluster:
            left.append(self._caps.cluster - sum(claim.held for claim in others))
        if self._caps.namespace:
            held = sum(claim.held for claim in others if claim.demand.namespace == home)
            left.append(self._caps.namespace - held)
        return min(left)

    def _concerned(self, found: dict[str, int], but: str) -> list[str]:
        """Those whose share has changed since they heard of it, and those below theirs that could take something."""
        woken = []
        for uid, claim in self._claims.items():
            below = claim.granted < found[uid] and self._left(claim) > claim.held
            if uid != but and (claim.told != found[uid] or below):
                claim.told = found[uid]
                woken.append(uid)
        return woken
