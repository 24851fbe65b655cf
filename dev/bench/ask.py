"""How long one TPE suggestion takes with 1,000, 10,000 and 100,000 finished trials and 2,000 running.

Ours is `Engine.ask`: the request to a sampler process, the suggestion, and its commit to PostgreSQL; the trials lie in
the database as kubetune writes them, and each ask follows the end of a trial. Beside it plain Optuna on the same
trials, in a process of its own: in memory, and on the same PostgreSQL as far as it comes within its time.
"""

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time

from dev.bench import study
from dev.bench.result import Goal, Result, judge
from kubetune.api.trial import Reason
from kubetune.engine.engine import Engine
from kubetune.engine.sampling.pool import Pool
from kubetune.storage import migrate
from kubetune.storage.postgres import PostgresStorage
from tests import postgresql

NAMES = ("ask-1k", "ask-10k", "ask-100k", "ask-growth")
RUNNING, REPORTS = 2000, 2
FIRST = 5  # asks that are not timed
GOAL, GROWTH = Goal("value", "<=", 50.0), Goal("value", "<=", 1.5)


@dataclasses.dataclass(frozen=True)
class Size:
    """So many finished trials; seconds that plain Optuna may take in memory and on PostgreSQL (0: not tried)."""

    name: str
    ended: int
    memory: float = 0.0
    database: float = 0.0
    asks: int = 60


FULL = (Size("1k", 1_000, 30, 60), Size("10k", 10_000, 45, 60), Size("100k", 100_000, 60, 45))
# Writing 100,000 trials alone takes half a minute.
QUICK = (Size("1k", 1_000, asks=15), Size("10k", 5_000, asks=15), Size("100k", 20_000, asks=15))


@dataclasses.dataclass(frozen=True)
class Asked:
    """Milliseconds of one ask; MiB of the sampler processes together."""

    median: float
    p90: float
    memory: float


def ours(url: str, size: Size) -> Asked:
    """Ask, with the end of a running trial before each."""
    spec = study.write(url, study.Size(size.ended, RUNNING, REPORTS), time.time())
    pool = Pool(2)
    with contextlib.closing(PostgresStorage(url, size=2)) as storage, contextlib.closing(pool):
        storage.acquire("bench")
        engine = Engine(spec, storage, time.time, pool)
        took = []
        for number in sorted(engine.running)[: FIRST + size.asks]:
            engine.finish(number, 1, Reason.EXIT_CODE if number % 10 == 0 else None, "")
            begun = time.perf_counter()
            while not engine.ask(1):
                pass
            took.append(1e3 * (time.perf_counter() - begun))
        took = sorted(took[FIRST:])
        return Asked(statistics.median(took), took[round(0.9 * len(took))], sum(map(resident, pool.pids)))


def resident(pid: int) -> float:
    """MiB of memory that a process has, as the kernel counts it for limits: what it shares is divided."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def plain(url: str, where: str, seconds: float) -> float | None:
    """Milliseconds of plain Optuna's ask; None: not done in time."""
    if not seconds:
        return None
    with tempfile.TemporaryFile("w+") as out:
        command = [sys.executable, "-m", "dev.bench.ask_plain", where, url, str(seconds)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, stdout=out, timeout=seconds, check=True)
        out.seek(0)
        took = [json.loads(line) for line in out]
    return statistics.median(took) if took else None


def measure(server: postgresql.Server, size: Size) -> tuple[Asked, Result]:
    url = server.create_database()
    migrate.migrate(url)
    asked = ours(url, size)
    memory, database = plain(url, "memory", size.memory), plain(url, "database", size.database)
    beside = [
        f"{text} {_said(value, seconds)}"
        for text, value, seconds in (
            ("in memory", memory, size.memory),
            ("on this PostgreSQL", database, size.database),
        )
        if seconds
    ]
    note = "; ".join(
        [
            f"{size.ended} finished, {RUNNING} running",
            f"90 % within {asked.p90:.0f} ms",
            f"sampler processes {asked.memory:.0f} MiB",
            *(f"plain Optuna {each}" for each in beside),
        ]
    )
    return asked, judge(f"ask-{size.name}", asked.median, "ms", memory, GOAL, note)


def _said(value: float | None, seconds: float) -> str:
    return f"no ask done after {seconds:.0f} s" if value is None else f"{value:.0f} ms"


def run(quick: bool) -> list[Result]:
    sizes = QUICK if quick else FULL
    with postgresql.running(fsync=True) as server:
        measured = [measure(server, size) for size in sizes]
    growth = measured[-1][0].median / measured[0][0].median
    note = f"{sizes[-1].ended} over {sizes[0].ended} finished trials"
    return [*(result for _, result in measured), judge("ask-growth", growth, "x", None, GROWTH, note)]
