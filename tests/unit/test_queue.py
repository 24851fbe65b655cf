"""The work queue, word for word as its docstring promises."""

import collections
import threading
from time import sleep

import pytest

from kubetune.controller.queue import BACKOFF_BASE, BACKOFF_CAP, Queue
from tests.unit.clock import Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def queue(time: Time, waits: list[float]) -> Queue:
    return Queue(monotonic=time, chance=lambda: 1.0, on_wait=waits.append)


def drain(queue: Queue) -> list[str]:
    """All keys that are to be had now, each worked on successfully."""
    keys = []
    while (key := queue.get(timeout=0)) is not None:
        keys.append(key)
        queue.done(key)
    return keys


def test_a_key_added_twice_is_handed_out_once_in_order_of_the_first(queue: Queue) -> None:
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    assert len(queue) == 3
    assert drain(queue) == ["a", "b", "c"]


def test_nothing_to_do(queue: Queue) -> None:
    assert queue.get(timeout=0) is None


def test_a_key_in_work_is_not_handed_out_again_until_done(queue: Queue) -> None:
    queue.add("a")
    assert queue.get(timeout=0) == "a"
    queue.add("a")
    queue.add("a")
    assert queue.get(timeout=0) is None
    queue.done("a")
    assert drain(queue) == ["a"]


def test_a_key_is_not_handed_out_before_its_time(queue: Queue, time: Time) -> None:
    queue.add_after("later", 10)
    queue.add_after("sooner", 5)
    assert drain(queue) == []
    time.now = 5
    assert drain(queue) == ["sooner"]
    time.now = 10
    assert drain(queue) == ["later"]


def test_the_earlier_of_two_dates_stands_and_is_the_only_one(queue: Queue, time: Time) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    time.now = 5
    assert drain(queue) == ["a"]
    time.now = 100
    assert drain(queue) == []


def test_a_look_now_makes_the_look_planned_for_later_unnecessary(queue: Queue, time: Time) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert drain(queue) == ["a"]
    time.now = 10
    assert drain(queue) == []


def test_a_date_that_comes_while_the_key_is_in_work_is_kept(queue: Queue, time: Time) -> None:
    queue.add("a")
    queue.get(timeout=0)
    queue.add_after("a", 1)
    time.now = 2
    assert queue.get(timeout=0) is None
    queue.done("a")
    assert drain(queue) == ["a"]


def test_done_can_name_the_next_date(queue: Queue, time: Time) -> None:
    queue.add("a")
    queue.get(timeout=0)
    queue.done("a", again_in=30)
    assert drain(queue) == []
    time.now = 30
    assert drain(queue) == ["a"]


def test_failures_wait_twice_as_long_each_time_up_to_the_cap_and_success_forgets(queue: Queue, time: Time) -> None:
    rests = []
    queue.add("a")
    for _ in range(10):
        assert queue.get(timeout=0) == "a"
        rests.append(queue.failed("a"))
        assert queue.get(timeout=0) is None
        time.now += rests[-1]
    assert rests == [min(BACKOFF_CAP, BACKOFF_BASE * 2**times) for times in range(10)]
    assert queue.get(timeout=0) == "a"
    queue.done("a")
    queue.add("a")
    queue.get(timeout=0)
    assert queue.failed("a") == BACKOFF_BASE


def test_the_jitter_halves_the_rest_at_most(time: Time) -> None:
    queue = Queue(monotonic=time, chance=lambda: 0.0)
    queue.add("a")
    queue.get(timeout=0)
    assert queue.failed("a") == BACKOFF_BASE / 2


def test_the_servers_wish_to_wait_is_respected(queue: Queue) -> None:
    queue.add("a")
    queue.get(timeout=0)
    assert queue.failed("a", at_least=17) == 17


def test_a_failing_key_rests_whatever_wakes_it_and_delays_no_other(queue: Queue, time: Time) -> None:
    queue.add("poison")
    queue.get(timeout=0)
    queue.add("poison")  # an event while it was in work
    queue.add_after("poison", 0.1)  # and a report
    rest = queue.failed("poison")
    queue.add("poison")  # and both after
    queue.add_after("poison", 0.1)
    time.now = rest - 0.01
    queue.add("healthy")
    assert drain(queue) == ["healthy"]
    time.now = rest
    assert drain(queue) == ["poison"]
    assert drain(queue) == []


def test_when_the_cause_has_passed_nobody_rests_longer(queue: Queue) -> None:
    for key in ("a", "b"):
        queue.add(key)
        queue.get(timeout=0)
        queue.failed(key)
    queue.retry_now()
    assert drain(queue) == ["a", "b"]


def test_a_discarded_key_does_not_come(queue: Queue, time: Time) -> None:
    queue.add("a")
    queue.add_after("b", 1)
    queue.discard("a")
    queue.discard("b")
    time.now = 2
    assert drain(queue) == []


def test_the_wait_counts_from_when_the_key_was_due(queue: Queue, time: Time, waits: list[float]) -> None:
    queue.add("a")
    queue.add_after("b", 2)
    time.now = 5
    drain(queue)
    assert waits == [5, 3]


def test_what_nobody_could_work_on_waits_from_now_on(queue: Queue, time: Time, waits: list[float]) -> None:
    queue.add("b")
    queue.add("a")
    time.now += 100
    queue.refresh()
    time.now += 1
    assert [queue.get(timeout=0), queue.get(timeout=0)] == ["b", "a"]
    assert waits == [1, 1]


def test_a_closed_queue_lets_its_workers_go() -> None:
    queue = Queue()
    threads = [threading.Thread(target=queue.get) for _ in range(3)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join()
    queue.add("a")
    assert queue.get() is None


class Mill:
    """Workers that note which key saw how many of the additions, and whether two held one key at once."""

    def __init__(self, keys: list[str], additions: int) -> None:
        self.queue = Queue()
        self.keys, self.additions = keys, additions
        self.lock = threading.Lock()
        self.added: collections.Counter[str] = collections.Counter()
        self.seen: collections.Counter[str] = collections.Counter()
        self.at_work: set[str] = set()
        self.shared: list[str] = []
        self.finished = threading.Event()

    def work(self) -> None:
        while (key := self.queue.get()) is not None:
            with self.lock:
                self.shared += [key] if key in self.at_work else []
                self.at_work.add(key)
                self.seen[key] = self.added[key]
            sleep(0.0001)
            with self.lock:
                self.at_work.discard(key)
                if all(self.seen[each] == self.additions for each in self.keys):
                    self.finished.set()
            self.queue.done(key)

    def produce(self) -> None:
        for _ in range(50):
            for key in self.keys:
                with self.lock:
                    self.added[key] += 1
                self.queue.add(key)


def test_many_workers_never_share_a_key_and_miss_no_addition() -> None:
    mill = Mill([f"k{number}" for number in range(5)], additions=4 * 50)
    workers = [threading.Thread(target=mill.work) for _ in range(4)]
    producers = [threading.Thread(target=mill.produce) for _ in range(4)]
    for thread in workers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    assert mill.finished.wait(60)
    mill.queue.close()
    for thread in workers:
        thread.join()
    assert mill.shared == []


def test_an_event_during_a_repetition_that_succeeds_is_looked_at_at_once(queue: Queue, time: Time) -> None:
    queue.add("a")
    queue.get(timeout=0)
    queue.failed("a")
    queue.retry_now()
    assert queue.get(timeout=0) == "a"
    queue.add("a")
    queue.done("a")
    assert drain(queue) == ["a"]


def test_a_report_during_a_repetition_waits_for_no_rest_that_is_over(queue: Queue, time: Time) -> None:
    queue.add("a")
    queue.get(timeout=0)
    rest = queue.failed("a")
    queue.retry_now()
    assert queue.get(timeout=0) == "a"
    queue.add_after("a", rest / 10)
    queue.done("a")
    time.now = rest / 10
    assert drain(queue) == ["a"]
