"""The queue of experiments to look at: each at most once in it, and never by two workers at the same time.

Watches add keys as fast as they like; a key that is added while it is being worked on comes again afterwards. A key
whose work failed waits longer each time and holds up nobody else (invariant I8). Time and chance are injected.
"""

import collections
import dataclasses
import heapq
import itertools
import math
import random
import threading
import time
from collections.abc import Callable

BACKOFF_BASE = 0.5  # seconds after the first failure; doubled with each further one
BACKOFF_CAP = 60.0


@dataclasses.dataclass
class _Failing:
    """A key whose last work failed: how often in a row, and until when it rests."""

    times: int
    until: float


class Queue:
    """A thread-safe, deduplicating, fair work queue of string keys.

    Args:
        monotonic: seconds, never going back.
        chance: a number in [0, 1), for the jitter of the backoff.
        on_wait: told how many seconds a key waited from being due to being handed out.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._on_wait = on_wait
        self._changed = threading.Condition()
        self._ready: collections.OrderedDict[str, float] = collections.OrderedDict()  # key → since when
        self._working: set[str] = set()
        self._again: set[str] = set()  # added while being worked on
        self._due: dict[str, float] = {}  # key → not before
        self._heap: list[tuple[float, int, str]] = []  # of _due; an entry that _due disowns is skipped
        self._order = itertools.count()
        self._failing: dict[str, _Failing] = {}
        self._closed = False

    def __len__(self) -> int:
        """Keys ready and not handed out yet."""
        with self._changed:
            self._promote(self._monotonic())
            return len(self._ready)

    def add(self, key: str) -> None:
        """Work on ``key`` as soon as a worker is free; if it is failing, when its rest is over."""
        with self._changed:
            now = self._monotonic()
            rests_until = self._rests_until(key)
            if rests_until > now:
                self._schedule(key, rests_until)
            else:
                self._push(key, now)

    def add_after(self, key: str, seconds: float) -> None:
        """Work on ``key`` in so many seconds at the latest (if it is failing, not before its rest is over); an
        earlier date stands."""
        with self._changed:
            self._schedule(key, max(self._monotonic() + seconds, self._rests_until(key)))

    def _rests_until(self, key: str) -> float:
        failing = self._failing.get(key)
        return -math.inf if failing is None else failing.until

    def get(self, timeout: float | None = None) -> str | None:
        """The next key, to be given back by `done` or `failed`. None after ``timeout`` seconds or `close`."""
        with self._changed:
            end = None if timeout is None else self._monotonic() + timeout
            while True:
                now = self._monotonic()
                self._promote(now)
                if self._closed:
                    return None
                if self._ready:
                    return self._hand_out(now)
                if end is not None and now >= end:
                    return None
                self._changed.wait(self._patience(now, end))

    def done(self, key: str, again_in: float | None = None) -> None:
        """The work on ``key`` succeeded; look again in ``again_in`` seconds."""
        with self._changed:
            self._failing.pop(key, None)
            self._release(key)
            if again_in is not None:
                self._schedule(key, self._monotonic() + max(0.0, again_in))

    def failed(self, key: str, at_least: float = 0.0) -> float:
        """The work on ``key`` failed: it comes again after a rest, whose seconds are returned."""
        with self._changed:
            failing = self._failing.setdefault(key, _Failing(0, 0.0))
            rest = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failing.times, 30))
            rest = max(at_least, rest * (0.5 + self._chance() / 2))
            failing.times += 1
            failing.until = self._monotonic() + rest
            self._again.discard(key)
            self._due.pop(key, None)  # whatever woke it while it was in work waits as well
            self._release(key)
            self._schedule(key, failing.until)
            return rest

    def refresh(self) -> None:
        """Let what is ready count as added now: nobody was there to work on it before."""
        with self._changed:
            now = self._monotonic()
            self._ready.update(dict.fromkeys(self._ready, now))

    def retry_now(self) -> None:
        """What the failing keys failed for has passed (the database is back): let none of them rest longer."""
        with self._changed:
            now = self._monotonic()
            for key, failing in self._failing.items():
                failing.until = now
                if key in self._due:
                    self._schedule(key, now)

    def discard(self, key: str) -> None:
        """Forget ``key`` and its failures; a worker that is at it finishes."""
        with self._changed:
            self._ready.pop(key, None)
            self._due.pop(key, None)
            self._failing.pop(key, None)
            self._again.discard(key)

    def close(self) -> None:
        """Every `get` returns None, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _push(self, key: str, since: float) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = since
            self._changed.notify()

    def _schedule(self, key: str, due: float) -> None:
        if key in self._ready or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        self._changed.notify()

    def _promote(self, now: float) -> None:
        """Move what is due to the ready ones."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._push(key, due)

    def _hand_out(self, now: float) -> str:
        key, since = self._ready.popitem(last=False)
        self._due.pop(key, None)  # this look is that look too
        self._working.add(key)
        self._on_wait(now - since)
        return key

    def _patience(self, now: float, end: float | None) -> float | None:
        """Seconds until something may be due, or the caller's patience ends; None: until notified."""
        dates = [self._heap[0][0]] if self._heap else []
        dates += [end] if end is not None else []
        return max(0.0, min(dates) - now) if dates else None

    def _release(self, key: str) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._push(key, self._monotonic())
