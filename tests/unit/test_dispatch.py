"""Calls to the cluster, many at once: who goes first, how many go together, and what comes back."""

import threading
from collections.abc import Callable, Iterator

import pytest

from kubetune.controller.dispatch import PATIENCE, PILE, TRIES, Dispatcher
from kubetune.controller.ports import ClusterUnavailable, Rank, Refused, Withdrawn
from kubetune.controller.workers import _asked_to_wait
from kubetune.kube.limiter import Limiter
from tests.unit.clock import Time


class Bench:
    """One write at a time, in the order noted. The first, `hold`, keeps the others waiting until `go`."""

    def __init__(self, most: int = 1, threads: int = 4) -> None:
        self.time = Time(100.0)
        self.waited: list[tuple[str, float]] = []
        self.limiter = Limiter(most)
        self.dispatch = Dispatcher(
            self.limiter, threads, lambda rank, seconds: self.waited.append((rank, seconds)), self.time
        )
        self.order: list[str] = []
        self.go = threading.Event()
        self._held = threading.Event()
        self._callers: list[threading.Thread] = []

    def hold(self) -> None:
        def call() -> None:
            self._held.set()
            self.go.wait()

        self._send([call], "first", Rank.CREATE)
        self._held.wait()

    def send(self, key: str, rank: Rank, *names: str) -> None:
        """Returns when they wait in line."""
        before = self._waiting()
        self._send([self._noting(name) for name in names], key, rank)
        while self._waiting() < before + len(names):
            pass

    def finish(self) -> list[str]:
        self.go.set()
        for caller in self._callers:
            caller.join()
        return self.order

    def _noting(self, name: str) -> Callable[[], object]:
        return lambda: self.order.append(name)

    def _send(self, calls: list[Callable[[], object]], key: str, rank: Rank) -> None:
        caller = threading.Thread(target=self.dispatch, args=(calls, key, rank))
        caller.start()
        self._callers.append(caller)

    def _waiting(self) -> int:
        return sum(len(lane) for lanes in self.dispatch._lanes.values() for lane in lanes.values())


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.go.set()
    made.dispatch.close()


def test_results_come_in_the_order_of_their_calls(bench: Bench) -> None:
    for rank in Rank:
        assert bench.dispatch([lambda n=n: n for n in range(50)], "a", rank) == list(range(50))  # type: ignore[misc]
        assert bench.dispatch([], "a", rank) == []


def test_one_experiments_burst_does_not_hold_up_anothers_single_create(bench: Bench) -> None:
    bench.hold()
    bench.send("burst", Rank.CREATE, *(f"burst-{number}" for number in range(100)))
    bench.send("other", Rank.CREATE, "other")
    assert bench.finish().index("other") <= 1


def test_deletes_go_before_creates(bench: Bench) -> None:
    bench.hold()
    bench.send("a", Rank.CREATE, "create-1", "create-2")
    bench.send("a", Rank.DELETE, "delete-1", "delete-2")
    assert bench.finish() == ["delete-1", "delete-2", "create-1", "create-2"]


def test_reads_wait_for_no_write(bench: Bench) -> None:
    bench.hold()
    bench.send("a", Rank.CREATE, "create")
    assert bench.dispatch([lambda: 1, lambda: 2], "a", Rank.READ) == [1, 2]
    assert bench.order == []
    assert bench.finish() == ["create"]


def test_never_more_writes_at_once_than_the_limit_says() -> None:
    bench, together, most = Bench(most=3, threads=8), [0], [0]
    lock, all_in = threading.Lock(), threading.Barrier(3, timeout=30)

    def call() -> None:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        all_in.wait()  # three are let in together, or this breaks
        with lock:
            together[0] -= 1

    assert bench.dispatch([call] * 30, "a", Rank.CREATE) == [None] * 30
    assert most == [3]
    bench.dispatch.close()


def test_a_failure_of_the_server_is_a_result_as_a_refusal_is_and_a_fault_is_raised(bench: Bench) -> None:
    away, refused = ClusterUnavailable("away"), Refused("no")

    def fail(error: Exception) -> Callable[[], object]:
        def call() -> object:
            raise error

        return call

    assert bench.dispatch([fail(away), lambda: refused, lambda: 3], "a", Rank.CREATE) == [away, refused, 3]
    with pytest.raises(ZeroDivisionError):
        bench.dispatch([lambda: 1, fail(ZeroDivisionError())], "a", Rank.CREATE)


def busy(times: int) -> Callable[[], object]:
    """Refused with 429 so often, then taken."""
    left = [times]

    def call() -> object:
        if left[0]:
            left[0] -= 1
            raise ClusterUnavailable("429", busy=True)
        return "created"

    return call


def test_a_write_that_the_server_was_too_busy_for_is_sent_again(bench: Bench) -> None:
    assert bench.dispatch([busy(TRIES - 1)], "a", Rank.CREATE) == ["created"]
    (result,) = bench.dispatch([busy(TRIES)], "a", Rank.CREATE)
    assert isinstance(result, ClusterUnavailable)


def test_no_write_begins_before_the_time_the_server_asked_for(bench: Bench) -> None:
    bench.dispatch.observed("create", "jobs", 429, 0.01, PATIENCE)
    bench.send("a", Rank.CREATE, "create")
    assert bench.dispatch([lambda: 1, lambda: 2], "a", Rank.READ) == [1, 2]
    assert bench.order == []
    bench.time.now += PATIENCE
    bench.dispatch([lambda: 0], "b", Rank.DELETE)
    assert bench.finish() == ["create"]
    assert ("create", PATIENCE) in bench.waited


def test_a_wait_that_is_too_long_is_handed_to_the_reconcile(bench: Bench) -> None:
    bench.dispatch.observed("list", "pods", 429, 0.01, PATIENCE + 12)
    results = bench.dispatch([lambda: 1, lambda: 2], "a", Rank.CREATE)
    assert all(isinstance(result, ClusterUnavailable) for result in results)
    assert isinstance(results[0], ClusterUnavailable)
    assert _asked_to_wait(results[0]) == PATIENCE + 12


def test_a_kubelets_trouble_and_others_answers_say_nothing_of_the_server(bench: Bench) -> None:
    before = bench.dispatch.limit
    bench.dispatch.observed("get", "pods/log", 429, 0.01, 60)
    bench.dispatch.observed("list", "jobs", 503, 9.0, None)
    assert bench.dispatch.limit == before
    assert bench.limiter.held_until < bench.time.now


def test_when_it_stops_nobody_waits_for_ever(bench: Bench) -> None:
    bench.hold()
    bench.send("a", Rank.CREATE, "create")
    bench.dispatch.close()
    assert bench.finish() == []
    (result,) = bench.dispatch([lambda: 1], "a", Rank.CREATE)
    assert isinstance(result, ClusterUnavailable)


def test_what_has_ended_is_cleared_away_after_creates_until_it_piles_up(bench: Bench) -> None:
    bench.hold()
    bench.send("a", Rank.CLEAR, "clear-1", "clear-2")
    bench.send("a", Rank.CREATE, "create-1", "create-2")
    assert bench.finish() == ["create-1", "create-2", "clear-1", "clear-2"]


def test_a_pile_to_be_cleared_away_takes_turns_with_creates(bench: Bench) -> None:
    bench.hold()
    bench.send("a", Rank.CLEAR, *(f"clear-{number}" for number in range(PILE + 1)))
    bench.send("a", Rank.CREATE, "create-1", "create-2")
    assert bench.finish()[:3] == ["clear-0", "create-1", "create-2"]  # the one held was a create; then it is no pile


def test_what_is_begun_is_not_waited_for_and_told_when_it_is_over(bench: Bench) -> None:
    bench.hold()
    told: list[tuple[int, object]] = []
    refused, away, bug = Refused("no"), ClusterUnavailable("away"), ValueError("a bug")
    calls = [lambda: "made", *(raising(error) for error in (refused, away, bug))]
    bench.dispatch.start(calls, "a", Rank.CREATE, lambda index, result: told.append((index, result)))
    assert told == []
    bench.finish()
    bench.dispatch([lambda: None], "b", Rank.CLEAR)  # behind them all
    assert told == [(0, "made"), (1, refused), (2, away), (3, bug)]


def test_what_is_begun_when_the_operator_stops_is_given_back(bench: Bench) -> None:
    bench.dispatch.close()
    told: list[object] = []
    bench.dispatch.start([lambda: "made"], "a", Rank.CREATE, lambda index, result: told.append(result))
    assert isinstance(told[0], ClusterUnavailable)


def raising(error: Exception) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


def test_creates_that_wait_are_taken_back_and_those_under_way_and_others_are_not(bench: Bench) -> None:
    results: dict[int, object] = {}
    bench.hold()
    bench.dispatch.start([lambda: "a", lambda: "b"], "mine", Rank.CREATE, results.__setitem__)
    bench.send("mine", Rank.DELETE, "a delete")
    bench.send("another's", Rank.CREATE, "another's")
    bench.dispatch.withdraw("mine")
    assert [type(results[index]) for index in (0, 1)] == [Withdrawn, Withdrawn]
    assert sorted(bench.finish()) == ["a delete", "another's"]
