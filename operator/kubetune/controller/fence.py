"""Whether this operator still leads, asked of the database no more often than needed."""

import threading
import time
from collections.abc import Callable


class Recently:
    """``confirm`` (which raises Fenced), asked anew only if it was last well for more than ``seconds``. May be called
    from any thread."""

    def __init__(
        self, confirm: Callable[[], None], seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._confirm = confirm
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._told = float("-inf")

    def __call__(self) -> None:
        with self._lock:
            begun = self._monotonic()
            if begun - self._told > self._seconds:
                self._confirm()
                self._told = begun
