"""What follows from the trials that ended, one after the other: worked out once, and kept in the process."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from kubetune.engine.ended import Ended


class Learner(Protocol):
    """A state that is a function of the trials that ended, in the order in which they did."""

    def learn(self, more: Ended) -> None:
        """The trials that ended next."""


T = TypeVar("T", bound=Learner)


class Replay(Generic[T]):
    """The state after a past. Asked again with a longer one it learns what is new, with another it begins anew: so what
    it gives never depends on what it was asked before."""

    def __init__(self, begin: Callable[[], T]) -> None:
        self._begin = begin
        self._state: T | None = None
        self._key, self._learned = 0, 0

    def at(self, past: Ended | None) -> T:
        """Raises ValueError: the view is one without a past."""
        if past is None or past.first:
            raise ValueError("a sampler that learns from its whole past was not shown it")
        if self._state is None or past.key != self._key or len(past) < self._learned:
            self._state, self._key, self._learned = self._begin(), past.key, 0
        state, begin = self._state, self._learned
        if len(past) > begin:
            self._state = None  # of no use if it fails halfway
            state.learn(past.rows(begin, len(past)))
        self._state, self._learned = state, len(past)
        return state
