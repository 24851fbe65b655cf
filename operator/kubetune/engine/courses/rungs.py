"""One rung of asynchronous successive halving: who has come to it, and who of them is among the best.

Each change costs O(log n): a rung is asked at every look, and 10,000 trials may have come to it.
"""

import heapq

Rank = tuple[float, float, int]  # by how much constraints are broken, the loss, the number: less is better


class Rung:
    """The best 1/``factor`` (rounded down) of all that have come here are *inside*; one that has waited, and is inside,
    is to be promoted."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._ranks: dict[int, Rank] = {}
        self._inside: set[int] = set()
        self._worst: list[tuple[float, float, int]] = []  # of those inside, worst first: ranks with their signs turned
        self._outside: list[Rank] = []  # best first
        self._ready: list[Rank] = []  # that have come inside, best first; some have left it again, or do not wait
        self._waiting: set[int] = set()

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, number: int) -> bool:
        return number in self._ranks

    def add(self, number: int, broken: float, loss: float) -> None:
        """A trial has come here."""
        rank = (broken, loss, number)
        self._ranks[number] = rank
        heapq.heappush(self._outside, rank)
        if len(self._inside) < len(self._ranks) // self._factor:
            self._enter(heapq.heappop(self._outside))
        elif self._worst and self._outside[0] < _turned(self._worst[0]):
            worst = _turned(heapq.heappop(self._worst))
            self._inside.remove(worst[2])
            self._enter(heapq.heappop(self._outside))
            heapq.heappush(self._outside, worst)

    def _enter(self, rank: Rank) -> None:
        self._inside.add(rank[2])
        heapq.heappush(self._worst, _turned(rank))
        heapq.heappush(self._ready, rank)

    def wait(self, number: int, waits: bool) -> None:
        """Whether it waits here; one that does no more never does so again."""
        (self._waiting.add if waits else self._waiting.discard)(number)

    def promotable(self, count: int) -> list[int]:
        """Who is inside and waits, best first, at most ``count``."""
        found: list[Rank] = []
        while self._ready and len(found) < count:
            rank = heapq.heappop(self._ready)
            if rank[2] in self._inside and rank[2] in self._waiting and rank not in found[-1:]:
                found.append(rank)
        for rank in found:
            heapq.heappush(self._ready, rank)
        return [number for _, _, number in found]

    def best_waiting(self) -> int | None:
        """Inside or not. O(n)."""
        return min(self._waiting, key=self._ranks.__getitem__, default=None)


def _turned(rank: Rank) -> Rank:
    broken, loss, number = rank
    return -broken, -loss, -number
