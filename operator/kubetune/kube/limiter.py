"""How many writes the API server is sent at once: more while it answers as fast as ever, fewer when it does not. Pure.

Additive increase, multiplicative decrease, on concurrency and not on rate: what a server takes in a second differs from
cluster to cluster by a factor of a hundred, and is found out by its answers. Two things say `fewer`:

- Refusals (429, also those of priority and fairness, and 503, 504) cut the limit by half, once for all writes that were
  in flight together, and no write begins before the time that the server asked for (Retry-After) is over.
- Latency: when answers commonly take more than `TOLERANCE` times what this server's quickest do, the queue is at the
  server, where it delays everybody (scheduler, kubelets), and not here, where it can be put in order. Verbs are
  compared with themselves. It never says fewer than `START`: on two busy cores answers took 10 to 300 ms whatever was
  sent, a limit of 3 followed, and trials began at a third of the rate of a client without a limit.

The quickest falls at once and rises within minutes, so that a server that has become slower for good (a webhook) is
not sent less for ever.
"""

import dataclasses
import enum
import math

FLOOR = 2.0  # writes at once, however bad it looks: less could not find out that it is better
START = 8.0
TOLERANCE = 3.0  # times the quickest answer's latency
FORGET = 600.0  # seconds in which the quickest moves (by 63 %) towards what the quickest is now
ROUND = 8  # answers at least that make a judgement
MAX_HOLD = 30.0  # seconds; nobody's API server asks for longer
_CUT = 0.5


class Outcome(enum.Enum):
    """What came of a write, as far as it tells how the server is."""

    ANSWERED = "answered"  # well or not: it was dealt with
    REFUSED = "refused"  # 429, 503, 504: too busy, or not there
    LOST = "lost"  # no answer in time, or no connection


@dataclasses.dataclass
class _Quickest:
    """One verb's best latency (seconds)."""

    seconds: float
    at: float

    def move(self, seconds: float, now: float) -> None:
        if seconds < self.seconds:
            self.seconds = seconds
        else:
            self.seconds += (seconds - self.seconds) * (1.0 - math.exp(-(now - self.at) / FORGET))
        self.at = now


class Limiter:
    """Not thread-safe; times are monotonic seconds. ``most``: the limit never exceeds it."""

    def __init__(self, most: int) -> None:
        self._most = float(max(1, most))
        self._floor = min(FLOOR, self._most)
        self._limit = min(START, self._most)
        self._quickest: dict[str, _Quickest] = {}
        self._round: dict[str, list[float]] = {}
        self._cut_at = -math.inf
        self.held_until = -math.inf  # no write is to begin before

    @property
    def limit(self) -> int:
        """Writes that may be in flight at once."""
        return int(self._limit)

    def observe(
        self, now: float, verb: str, seconds: float, outcome: Outcome, in_flight: int, wait: float | None = None
    ) -> int:
        """One write was answered.

        Args:
            seconds: from sending it to the answer; above 0.
            in_flight: writes at that moment, this one too.
            wait: seconds that the server asked for.

        Returns:
            The limit from now on.
        """
        if outcome is Outcome.ANSWERED:
            self._answered(now, verb, seconds, in_flight)
            return self.limit
        if wait:
            self.held_until = max(self.held_until, now + min(wait, MAX_HOLD))
        if now - seconds >= self._cut_at:  # it was sent after the last cut: that one was not enough
            self._limit = max(self._floor, self._limit * _CUT)
            self._cut_at = now
            self._round.clear()
        return self.limit

    def _answered(self, now: float, verb: str, seconds: float, in_flight: int) -> None:
        if now - seconds < self._cut_at:  # sent when there were more: says nothing about the limit in force
            return
        answers = self._round.setdefault(verb, [])
        answers.append(seconds)
        if len(answers) < max(ROUND, self._limit):
            return
        answers.sort()
        quickest = self._quickest.setdefault(verb, _Quickest(answers[0], now))
        quickest.move(answers[0], now)
        slack = min(1.0, TOLERANCE * quickest.seconds / answers[len(answers) // 2])
        room = math.sqrt(self._limit) if 2 * in_flight >= self._limit else 0.0  # unused, a limit is no experience
        enough = min(self._limit, START)  # slow answers alone take nobody below: a busy machine's are always uneven
        self._limit = min(self._most, max(enough, self._limit * max(_CUT, slack) + room))
        answers.clear()
