"""How many writes at once, against servers on virtual time: what is asked of the policy is where it settles."""

import dataclasses
import heapq
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetune.kube.limiter import FLOOR, MAX_HOLD, START, Limiter, Outcome

MOST = 64


@dataclasses.dataclass
class Server:
    """Deals with ``slots`` requests at once, first come first served, each in ``seconds``."""

    slots: int
    seconds: float

    def __post_init__(self) -> None:
        self._free = [0.0] * self.slots

    def answers_at(self, now: float) -> float:
        end = max(now, heapq.heappop(self._free)) + self.seconds
        heapq.heappush(self._free, end)
        return end


@dataclasses.dataclass
class Run:
    """Creates sent one after the other, as many at once as the limit says: there is always one more to send."""

    limiter: Limiter
    server: Server
    now: float = 0.0

    def __post_init__(self) -> None:
        self._flying: list[tuple[float, int, float]] = []
        self._order = itertools.count()

    def until(self, end: float) -> float:
        """Answers in a second."""
        begun, answered = self.now, 0
        while True:
            while len(self._flying) < self.limiter.limit:
                heapq.heappush(self._flying, (self.server.answers_at(self.now), next(self._order), self.now))
            if self._flying[0][0] > end:
                return answered / (end - begun)
            self.now, _, sent = heapq.heappop(self._flying)
            answered += 1
            flying = len(self._flying) + 1
            self.limiter.observe(self.now, "create", self.now - sent, Outcome.ANSWERED, flying)


def test_a_server_that_has_room_gets_all_that_may_be_sent() -> None:
    run = Run(Limiter(MOST), Server(slots=1000, seconds=0.03))
    run.until(5)
    assert run.limiter.limit == MOST


@pytest.mark.parametrize(("slots", "seconds"), [(1, 0.006), (4, 0.020), (8, 0.050)])
def test_a_server_at_its_limit_is_kept_busy_and_not_buried(slots: int, seconds: float) -> None:
    run = Run(Limiter(MOST), Server(slots, seconds))
    run.until(5)
    rate = run.until(60)
    assert rate >= 0.98 * slots / seconds
    assert run.limiter.limit <= 8 * slots
    assert run.limiter.limit < MOST


def test_a_server_that_became_slower_for_good_gets_as_much_again_in_minutes() -> None:
    run = Run(Limiter(MOST), Server(slots=1000, seconds=0.01))
    run.until(5)
    run.server = Server(slots=1000, seconds=0.1)
    run.until(10)
    assert run.limiter.limit < 10
    run.until(400)
    assert run.limiter.limit == MOST


def test_refusals_of_one_burst_cut_once_and_the_servers_wish_is_kept() -> None:
    limiter = Limiter(MOST)
    run = Run(limiter, Server(slots=1000, seconds=0.01))
    run.until(5)
    for wait in (1.0, 3.0, 2.0):
        limiter.observe(6.0, "create", 0.02, Outcome.REFUSED, MOST, wait)
    assert limiter.limit == MOST // 2
    assert limiter.held_until == 9.0
    limiter.observe(10.0, "create", 0.02, Outcome.REFUSED, MOST, 1e6)
    assert limiter.limit == MOST // 4
    assert limiter.held_until == 10 + MAX_HOLD


def test_an_answer_to_what_was_sent_before_a_cut_counts_for_nothing() -> None:
    limiter = Limiter(MOST)
    limiter.observe(6.0, "create", 0.02, Outcome.LOST, 8)
    cut = limiter.limit
    for _ in range(100):
        limiter.observe(6.01, "create", 0.02, Outcome.ANSWERED, 8)
    assert limiter.limit == cut


def test_what_is_not_used_does_not_grow() -> None:
    limiter = Limiter(MOST)
    for second in range(1000):
        limiter.observe(float(second), "create", 0.01, Outcome.ANSWERED, in_flight=1)
    assert limiter.limit == START


def test_slow_deletes_do_not_make_creates_look_slow() -> None:
    limiter = Limiter(MOST)
    for number in range(2000):
        verb, seconds = ("delete", 0.2) if number % 2 else ("create", 0.01)
        limiter.observe(number / 100, verb, seconds, Outcome.ANSWERED, limiter.limit)
    assert limiter.limit == MOST


@given(
    most=st.integers(1, 100),
    answers=st.lists(
        st.tuples(
            st.floats(1e-4, 60),
            st.sampled_from(Outcome),
            st.integers(0, 100),
            st.none() | st.floats(0, 1e9),
            st.sampled_from(("create", "delete")),
        ),
        max_size=200,
    ),
)
def test_whatever_comes_the_limit_lets_something_through_and_the_hold_ends(
    most: int, answers: list[tuple[float, Outcome, int, float | None, str]]
) -> None:
    limiter, now = Limiter(most), 0.0
    for seconds, outcome, flying, wait, verb in answers:
        now += seconds / 3
        limit = limiter.observe(now, verb, seconds, outcome, flying, wait)
        assert min(FLOOR, most) <= limit == limiter.limit <= most
        assert limiter.held_until <= now + MAX_HOLD
