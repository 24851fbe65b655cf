"""Work beside other work: while one thread makes sense of what came from the database, another waits for more."""

import concurrent.futures
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Beside(Protocol):
    def __call__(self, work: Callable[[], T]) -> Callable[[], T]:
        """Begin the work; what is returned gives its result, or raises what it raised."""


def at_once(work: Callable[[], T]) -> Callable[[], T]:
    """Before anything else: in the simulator everything has its order."""
    result = work()
    return lambda: result


def in_a_thread(work: Callable[[], T]) -> Callable[[], T]:
    """In a thread of its own, which ends with the work."""
    one = concurrent.futures.ThreadPoolExecutor(1, "beside")
    future = one.submit(work)
    one.shutdown(wait=False)
    return future.result
