"""Virtual time: a clock, a heap of things to come, and one source of chance. The same seed, the same run."""

import heapq
import itertools
import random
from collections.abc import Callable

from kubetune.simulator.violation import Violation

AT_ONCE = 1000  # things that may happen at one moment
BEGIN = 1_800_000_000.0  # epoch seconds at which every run begins


class World:
    """Things happen one after the other; between two of them no time passes for anybody."""

    def __init__(self, seed: int | str) -> None:
        self.dice = random.Random(seed)
        self.now = BEGIN
        self.trace: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._at_once = 0

    def clock(self) -> float:
        return self.now

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._heap, (self.now + max(0.0, seconds), next(self._order), happen))

    def soon(self, least: float, most: float, happen: Callable[[], None]) -> None:
        """Let something happen after a delay by chance."""
        self.after(self.dice.uniform(least, most), happen)

    def step(self) -> bool:
        """The next thing; False if there is none."""
        if not self._heap:
            return False
        before = self.now
        self.now, _, happen = heapq.heappop(self._heap)
        self._at_once = self._at_once + 1 if self.now == before else 0
        if self._at_once > AT_ONCE:
            raise Violation("I7", f"{AT_ONCE} things in a row and no time passed: something looks again and again")
        happen()
        return True

    def note(self, what: str) -> None:
        """A line of the run's story."""
        self.trace.append(f"{self.now - BEGIN:9.2f}  {what}")
