"""What a worker does with each way its work can end."""

import threading
from collections.abc import Callable

import pytest

from kubetune.controller import ports
from kubetune.controller.health import Health
from kubetune.controller.queue import BACKOFF_BASE, Queue
from kubetune.controller.workers import Workers
from kubetune.kube import errors
from kubetune.metrics.catalog import Metrics
from kubetune.storage.base import Fenced, StorageUnavailable


class Bench:
    """One worker's hands, without its thread; time stands still until told."""

    def __init__(self, work: Callable[[str], float | None]) -> None:
        self.now = 0.0
        self.queue = Queue(monotonic=lambda: self.now, chance=lambda: 1.0)
        self.distrusted: list[str] = []
        self.fenced: list[bool] = []
        self.metrics = Metrics()
        self.workers = Workers(
            self.queue,
            work,
            self.distrusted.append,
            lambda: self.fenced.append(True),
            Health(300, lambda: self.now),
            self.metrics,
            1,
            monotonic=lambda: self.now,
        )

    def pass_on(self, key: str = "a") -> None:
        self.queue.add(key)
        taken = self.queue.get(timeout=0)
        assert taken == key
        self.workers.handle(taken)

    def due_in(self) -> float | None:
        """Seconds until the queue hands out the next key; None: within two hours it does not."""
        begun = self.now
        for step in range(7200 * 4):
            self.now = begun + step / 4
            if self.queue.get(timeout=0) is not None:
                return step / 4
        return None


def raising(error: Exception) -> Callable[[str], float | None]:
    def work(key: str) -> float | None:
        raise error

    return work


def waiting(seconds: float) -> Exception:
    error = ports.ClusterUnavailable("429")
    error.__cause__ = errors.Unavailable(429, "TooManyRequests", "slow down", retry_after=seconds)
    return error


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_done_and_when_to_look_again(seconds: float | None) -> None:
    bench = Bench(lambda key: seconds)
    bench.pass_on()
    assert bench.due_in() == seconds
    assert bench.distrusted == []


@pytest.mark.parametrize(
    ("error", "kind", "distrusted", "rest"),
    [
        (StorageUnavailable("away"), "database", ["a"], BACKOFF_BASE),
        (ports.ClusterUnavailable("away"), "cluster", [], BACKOFF_BASE),
        (errors.Unavailable(0, "", "away"), "cluster", [], BACKOFF_BASE),
        (waiting(17), "cluster", [], 17),
        (ZeroDivisionError("a fault of ours"), "unexpected", ["a"], BACKOFF_BASE),
    ],
)
def test_a_failure_comes_again_and_its_memory_is_dropped_unless_the_cluster_was_at_fault(
    error: Exception, kind: str, distrusted: list[str], rest: float
) -> None:
    bench = Bench(raising(error))
    bench.pass_on()
    assert bench.due_in() == rest
    assert bench.distrusted == distrusted
    assert bench.metrics.registry.get_sample_value("kubetune_reconcile_errors_total", {"kind": kind}) == 1


def test_a_fenced_worker_stops_everything() -> None:
    bench = Bench(raising(Fenced("epoch 8 is in force")))
    bench.pass_on()
    assert bench.fenced == [True]
    bench.queue.add("b")
    assert bench.due_in() is None


def test_a_poison_experiment_delays_no_other() -> None:
    """Invariant I8, with real threads: more keys that always fail than workers, and one that is well."""
    well = threading.Event()

    def work(key: str) -> float | None:
        if key == "well":
            well.set()
            return None
        raise ZeroDivisionError(key)

    queue = Queue()
    workers = Workers(queue, work, lambda key: None, lambda: None, Health(300), Metrics(), 2)
    workers.start()
    for number in range(20):
        queue.add(f"poison-{number}")
    queue.add("well")
    assert well.wait(30)
    workers.stop(30)
