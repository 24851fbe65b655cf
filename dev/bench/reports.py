"""Reports: how many a gateway takes in, how long each waits for its commit, and how soon a bad one stops its trial.

Everything runs on this machine at once: one gateway (TLS, PostgreSQL with fsync), the load, for pruning also the
operator's loop. What the load and other programs take from the cores is missing to the gateway, so the notes tell the
load average and the processor time of one report. Limits, in the same run: the same rows inserted in batches of the
same size by a bare client (a report of ours also locks its trial, looks for its key and moves the trial on), and for
pruning a commit whose NOTIFY another connection answers with a commit of its own.
"""

import contextlib
import math
import os
import select
import statistics
import threading
import time

import psycopg2

from dev.bench.reports_load import percentile
from dev.bench.reports_world import Load, World, cpu_seconds, world
from dev.bench.result import Goal, Result, judge
from tests.postgresql import descendants

NAMES = ("reports", "reports-p99", "prune-p50")

RATE = 1000  # reports a second that must be taken
OFFERED = 1.03 * RATE  # so that as many are accepted, the last answers' time counted
CLOSE = 1.1  # between a rate that is kept and one that is not
P99 = 0.2  # seconds within which 99 of 100 must be answered
PRUNE = 0.25  # seconds within which half of the bad ones must be stopped
KEPT = 0.95  # of a rate, to count as kept
_ROW = "(%s, %s, 1, %s, '0123456789abcdef0123456789abcdef', '{\"accuracy\": 0.9, \"loss\": 0.1234}', 0.0)"


def run(quick: bool) -> list[Result]:
    """About two minutes; quick: half a minute, with fewer trials and shorter rates."""
    trials, seconds, victims, step = (200, 2.0, 15, 1.6) if quick else (1000, 8.0, 60, 1.25)
    before = os.getloadavg()[0]
    with world(trials + victims) as served, served.gateway() as gateway:
        with served.load(end=trials) as load:
            taken = Taken(served, gateway.pid, load, seconds)
            steady = taken.at(OFFERED, 2.0 * seconds)
            best = taken.most(steady, step)
            limit = bare(served, best["batch"], seconds)
            paced = bare(served, steady["batch"], seconds, RATE)
            results = [_most(best, limit, trials, before), _tail(steady, paced, trials)]
        with served.load(end=trials) as load, served.load(begin=trials) as bad, served.loop():
            waits = prunes(load, bad, victims)
        return [*results, _prune(waits, round_trips(served, 100), trials)]


class Taken:
    """Rates tried on one gateway."""

    def __init__(self, served: World, gateway: int, load: Load, seconds: float) -> None:
        self._world = served
        self._gateway = gateway
        self._load = load
        self._seconds = seconds
        self._seed = 0

    def at(self, rate: float, seconds: float | None = None) -> dict[str, float]:
        """What the load says of one rate, and beside it reports per transaction and processor time per report."""
        self._seed += 1
        begun, transactions = self._processor(), self._world.transactions()
        found: dict[str, float] = self._load.ask(
            do="rate", rate=rate, seconds=seconds or self._seconds, seed=self._seed
        )
        used = [after - before for after, before in zip(self._processor(), begun, strict=True)]
        accepted = max(1.0, found["accepted"])
        found["rate"] = accepted / found["seconds"]
        found["batch"] = accepted / (self._world.transactions() - transactions)
        found["gateway"], found["database"] = (1e6 * each / accepted for each in used)
        found["kept"] = found["rate"] >= KEPT * rate and found["p99"] <= P99 and not found["refused"]
        return found

    def most(self, steady: dict[str, float], step: float) -> dict[str, float]:
        """The highest rate kept: by factors of ``step`` up to one that is not (or, if the one found already was not
        kept, down to one that is), then closer."""
        best = steady
        low, high = (OFFERED, 0.0) if steady["kept"] else (0.0, OFFERED)
        while not (low and high and high / low < CLOSE) and RATE / 10 < (low or high) < RATE * 10:
            rate = math.sqrt(low * high) if low and high else low * step or high / step
            found = self.at(rate)
            if found["kept"]:
                best, low = found, rate
            else:
                high = rate
        return best

    def _processor(self) -> tuple[float, float]:
        return cpu_seconds([self._gateway]), cpu_seconds(descendants(self._world.server.pid))


def bare(served: World, batch: float, seconds: float, rate: float | None = None) -> dict[str, float]:
    """A client that inserts report rows and commits every ``batch`` of them, as fast as it goes or at a rate (1/s)."""
    size, latencies = max(1, round(batch)), []
    with contextlib.closing(psycopg2.connect(served.url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bare (LIKE kubetune.reports INCLUDING DEFAULTS)")
        cursor.execute("ALTER TABLE bare ADD PRIMARY KEY (trial_id, seq)" if rate is None else "SELECT 1")
        connection.commit()
        begun = due = time.monotonic()
        first = -time.monotonic_ns() // 1000  # a key that no earlier call has used
        while due < begun + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            rows = b",".join(cursor.mogrify(_ROW, (first, seq, seq)) for seq in range(size))
            first += 1
            cursor.execute(b"INSERT INTO bare VALUES " + rows)
            connection.commit()
            latencies.append(time.monotonic() - due)
            due = time.monotonic() if rate is None else due + size / rate
    return {"rate": size * len(latencies) / (time.monotonic() - begun), "p99": percentile(latencies, 0.99)}


def prunes(load: Load, bad: Load, victims: int) -> list[float]:
    """Seconds from a bad report to the answer that says stop, while the other trials report at half the rate."""
    waits: list[float] = []
    load.tell(do="rate", rate=RATE / 2, seconds=victims * 0.5, seed=0)
    for number in range(victims):
        waits.append(bad.ask(do="prune", trial=number)["seconds"])
        time.sleep(0.05)
    load.hear()
    return waits


def round_trips(served: World, count: int) -> list[float]:
    """Seconds from before a commit with a NOTIFY until another connection, woken by it, has committed too."""
    table = "CREATE TABLE trips (trip integer, word text)"
    with (
        contextlib.closing(psycopg2.connect(served.url)) as here,
        contextlib.closing(psycopg2.connect(served.url)) as there,
    ):
        for connection, statements in ((here, (table, "LISTEN back")), (there, ("LISTEN forth",))):
            connection.autocommit = True
            for statement in statements:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
        answering = threading.Thread(target=_answer, args=(there, count))
        answering.start()
        waits = []
        for trip in range(count):
            begun = time.monotonic()
            _commit(here, trip, "forth")
            _wait_for_word(here)
            waits.append(time.monotonic() - begun)
        answering.join()
    return waits


def _answer(connection: "psycopg2.extensions.connection", count: int) -> None:
    for trip in range(count):
        _wait_for_word(connection)
        _commit(connection, trip, "back")


def _commit(connection: "psycopg2.extensions.connection", trip: int, word: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO trips VALUES (%s, %s); SELECT pg_notify(%s, ''); COMMIT", (trip, word, word))


def _wait_for_word(connection: "psycopg2.extensions.connection") -> None:
    while not connection.notifies:
        select.select([connection], [], [], 10.0)
        connection.poll()
    connection.notifies.clear()


# ---- what is told


def _most(best: dict[str, float], limit: dict[str, float], trials: int, load: float) -> Result:
    note = (
        f"{trials} trials, p99 {1000 * best['p99']:.0f} ms, {best['batch']:.0f} reports a commit; processor time each:"
        f" gateway {best['gateway']:.0f} us, PostgreSQL {best['database']:.0f} us; load average {load:.1f} before,"
        f" {os.getloadavg()[0]:.1f} after; limit: a bare client's inserts"
    )
    return judge(
        "reports", best["rate"] if best["kept"] else 0.0, "1/s", limit["rate"], Goal("value", ">=", RATE), note
    )


def _tail(steady: dict[str, float], limit: dict[str, float], trials: int) -> Result:
    note = (
        f"{steady['rate']:.0f} reports/s of {trials} trials at random moments, from the moment meant to the answer;"
        f" p50 {1000 * steady['p50']:.0f} ms, worst {1000 * steady['worst']:.0f} ms, {steady['batch']:.1f} reports a"
        f" commit, {steady['refused']:.0f} refused; limit: a bare client's commits at the same rate"
    )
    value = 1000 * steady["p99"] if not steady["refused"] else math.nan
    return judge("reports-p99", value, "ms", 1000 * limit["p99"], Goal("value", "<=", 1000 * P99), note)


def _prune(waits: list[float], limit: list[float], trials: int) -> Result:
    note = (
        f"{len(waits)} bad reports among {RATE // 2} reports/s of {trials} running trials, from sending one to the"
        f" first answer that says stop; worst {1000 * max(waits):.0f} ms; limit: commit, NOTIFY, commit, NOTIFY"
    )
    value, floor = 1000 * statistics.median(waits), 1000 * statistics.median(limit)
    return judge("prune-p50", value, "ms", floor, Goal("value", "<=", 1000 * PRUNE), note)
