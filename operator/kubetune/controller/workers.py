"""Threads that take keys from the queue and work on them; what went wrong decides when a key comes again."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubetune import logs
from kubetune.controller.health import HEARTBEAT, Health
from kubetune.controller.ports import ClusterUnavailable
from kubetune.controller.queue import Queue
from kubetune.kube import errors
from kubetune.metrics.catalog import Metrics
from kubetune.storage.base import Fenced, StorageUnavailable

logger = logging.getLogger(__name__)

Work = Callable[[str], float | None]  # a key → seconds until the next look, or None: when woken


class Workers:
    """``count`` threads.

    Args:
        work: may raise anything; what it raises decides how the key comes again.
        about: what a key's log lines are about (`logs.FIELDS`).
        on_failure: told of a key whose work failed for another reason than the API server: what is in memory of it
            is not to be trusted.
        on_fenced: another operator took over; no more keys are taken.
    """

    def __init__(
        self,
        queue: Queue,
        work: Work,
        on_failure: Callable[[str], None],
        on_fenced: Callable[[], None],
        health: Health,
        metrics: Metrics,
        count: int,
        about: Callable[[str], Mapping[str, Any]] = lambda key: {},
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._work = work
        self._on_failure = on_failure
        self._on_fenced = on_fenced
        self._health = health
        self._metrics = metrics
        self._about = about
        self._monotonic = monotonic
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{number}", daemon=True) for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """Take no more keys; wait for the work in hand, for so long at most."""
        self._queue.close()
        end = self._monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - self._monotonic()))

    def _run(self) -> None:
        while (key := self._queue.get()) is not None:
            with logs.about(**self._about(key)):
                self.handle(key)

    def handle(self, key: str) -> None:
        """Work on one key that was taken from the queue, and give it back. Raises nothing."""
        self._health.began(key)
        begun, well = self._monotonic(), False
        try:
            again_in = self._work(key)
            self._queue.done(key, again_in)
            well = True
        except Fenced:
            logger.error("another operator took over; this one stops")
            self._queue.close()
            self._on_fenced()
        except StorageUnavailable as error:
            self._again(key, "database", error)
        except (ClusterUnavailable, errors.Unavailable) as error:
            self._again(key, "cluster", error)
        except Exception as error:  # noqa: BLE001 - a fault in one experiment stops no other
            self._again(key, "unexpected", error)
        finally:
            self._health.ended(key, well)
            if key != HEARTBEAT:
                self._metrics.reconcile.observe(self._monotonic() - begun)

    def _again(self, key: str, kind: str, error: Exception) -> None:
        if kind != "cluster":
            self._on_failure(key)
        self._metrics.reconcile_errors.labels(kind).inc()
        rest = self._queue.failed(key, at_least=_asked_to_wait(error))
        if kind == "unexpected":
            logger.exception("the reconcile failed, again in %.1f s: %s", rest, error)
        else:
            logger.warning("the %s is not available, again in %.1f s: %s", kind, rest, error)


def _asked_to_wait(error: BaseException | None) -> float:
    """Seconds that the API server asked for, wherever in the chain of causes it did."""
    while error is not None:
        if isinstance(error, errors.Unavailable):
            return error.retry_after or 0.0
        error = error.__cause__
    return 0.0
