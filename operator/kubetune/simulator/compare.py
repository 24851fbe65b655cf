"""``python -m kubetune.simulator compare``: policies of parallelism on nodes that come and go, in virtual time.

The policy is the real one (`controller.parallelism`), asked every second; around it is a model of a scheduler and an
autoscaler, much simpler than the simulated cluster of the invariants and so fast enough for hours of many trials. The
table is kept in docs/parallelism.md.
"""

import collections
import dataclasses
import heapq
import random
import sys
from collections.abc import Mapping

from kubetune.controller.parallelism import Kept, Sight, Tuning, Waiting, look

SLOTS = 8  # of one node
SCHEDULED = 100  # pods a second
SCAN = 10  # seconds between two looks of the autoscaler
IDLE = 600  # seconds after which it takes an empty node away
WANTED = 400


@dataclasses.dataclass(frozen=True)
class Situation:
    """Nodes at the beginning, nodes at most, and what happens. Times in seconds."""

    nodes: int
    most: int
    quota: int = 10_000
    reclaim: int = 0  # when half of the nodes vanish
    lasts: int = 3600


@dataclasses.dataclass
class Figures:
    """``idle``: share of the slots there that no trial had; ``grown``: when nine tenths of all that can run first did;
    ``pending``: pods without a node, on average; ``taken_back``: Jobs withdrawn; ``refused``: by the quota."""

    idle: float = 0.0
    grown: int | None = None
    pending: float = 0.0
    taken_back: int = 0
    refused: int = 0


SITUATIONS: Mapping[str, Situation] = {
    "room for all": Situation(50, 50),
    "8 nodes, no more": Situation(8, 8),
    "autoscaler, 0 to 50 nodes": Situation(0, 50),
    "half reclaimed, autoscaled": Situation(50, 50, reclaim=1800),
    "quota of 100": Situation(50, 50, quota=100),
}
POLICIES: Mapping[str, Tuning] = {
    "ours": Tuning(),
    "never taken back": Tuning(window=10**6, patience=10**9),
    "one pod pending": Tuning(signal=0.0),
    "slow start (window 8)": Tuning(window=8),
    "patience 5 s": Tuning(patience=5.0),
    "patience 120 s": Tuning(patience=120.0),
    "no later tries": Tuning(first_wait=10**9, longest_wait=10**9),
}


class Model:
    """One experiment that always wants `WANTED` trials of about five minutes."""

    def __init__(self, situation: Situation, tuning: Tuning, seed: int) -> None:
        self.situation, self.tuning = situation, tuning
        self.dice = random.Random(seed)
        self.now = 0
        self.ready = situation.nodes
        self.coming: list[int] = []  # when each ordered node is there
        self.empty_since: int | None = None
        self.ends: list[float] = []  # of placed trials
        self.fresh: collections.deque[int] = collections.deque()  # since when
        self.waiting: dict[int, int] = {}  # number → since when
        self.refused = self.number = 0
        self.kept = Kept()
        self.figures = Figures()

    def run(self) -> Figures:
        there = used = pending = 0
        for now in range(self.situation.lasts):
            self.now = now
            self._nodes()
            self._schedule()
            self._look()
            there += self.ready * SLOTS
            used += len(self.ends)
            pending += len(self.waiting) + len(self.fresh)
            goal = 0.9 * min(WANTED, self.situation.most * SLOTS, self.situation.quota)
            if self.figures.grown is None and len(self.ends) >= goal:
                self.figures.grown = self.now
        possible = min(there, self.situation.quota * self.situation.lasts)
        self.figures.idle = 1 - used / possible if possible else 0.0
        self.figures.pending = pending / self.situation.lasts
        self.figures.refused = self.refused
        return self.figures

    def _nodes(self) -> None:
        """Nodes arrive, are ordered for pods that find none, vanish."""
        while self.coming and self.coming[0] <= self.now:
            heapq.heappop(self.coming)
            self.ready += 1
        while self.ends and self.ends[0] <= self.now:
            heapq.heappop(self.ends)
        if self.situation.reclaim and self.now == self.situation.reclaim:
            self.ready -= self.ready // 2
            self.ends = self.dice.sample(self.ends, min(len(self.ends), self.ready * SLOTS))
            heapq.heapify(self.ends)
        if self.now % SCAN == 0:
            lacking = len(self.waiting) - len(self.coming) * SLOTS
            ordered = min(-(-lacking // SLOTS), self.situation.most - self.ready - len(self.coming))
            for _ in range(ordered):
                heapq.heappush(self.coming, self.now + self.dice.randint(90, 150))
        spare = self.ready - -(-len(self.ends) // SLOTS)
        self.empty_since = None if spare < 1 else self.now if self.empty_since is None else self.empty_since
        scales_in = self.situation.nodes < self.situation.most
        if scales_in and self.empty_since is not None and self.now - self.empty_since >= IDLE:
            self.ready -= spare
            self.empty_since = None

    def _schedule(self) -> None:
        """The oldest pods first; what finds no place is told so."""
        for number in list(self.waiting)[: max(0, self.ready * SLOTS - len(self.ends))]:
            del self.waiting[number]
            self._place()
        for _ in range(min(SCHEDULED, len(self.fresh))):
            self.fresh.popleft()
            if len(self.ends) < self.ready * SLOTS:
                self._place()
            else:
                self.number += 1
                self.waiting[self.number] = self.now

    def _place(self) -> None:
        heapq.heappush(self.ends, self.now + self.dice.uniform(240, 360))

    def _look(self) -> None:
        waiting = tuple(Waiting(number, since) for number, since in self.waiting.items())
        sight = Sight(len(self.ends), len(self.fresh), waiting, self.refused)
        allowed, self.kept = look(0, WANTED, None, sight, self.kept, self.now, self.tuning)
        for number in allowed.withdraw:
            del self.waiting[number]
        self.figures.taken_back += len(allowed.withdraw)
        for _ in range(min(allowed.start, max(0, allowed.current - sight.live))):
            if len(self.ends) + len(self.fresh) + len(self.waiting) >= self.situation.quota:
                self.refused += 1
            else:
                self.fresh.append(self.now)


def compare(seeds: int = 5) -> str:
    """The table, in Markdown: means of some seeds."""
    lines = [
        "| situation | policy | slots idle | nine tenths after | pods pending | taken back | refused |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for place, situation in SITUATIONS.items():
        for name, tuning in POLICIES.items():
            runs = [Model(situation, tuning, seed).run() for seed in range(seeds)]
            lines.append(f"| {place} | {name} | {_row(runs)} |")
    return "\n".join(lines)


def _row(runs: list[Figures]) -> str:
    count = len(runs)
    grown = [run.grown for run in runs if run.grown is not None]
    cells = (
        f"{sum(run.idle for run in runs) / count:.1%}",
        f"{sum(grown) / count:.0f} s" if len(grown) == count else "never",
        f"{sum(run.pending for run in runs) / count:.1f}",
        f"{sum(run.taken_back for run in runs) / count:.0f}",
        f"{sum(run.refused for run in runs) / count:.0f}",
    )
    return " | ".join(cells)


def main() -> int:
    sys.stdout.write(compare() + "\n")
    return 0
