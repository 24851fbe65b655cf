"""What surrounds the gateway when reports are measured: a PostgreSQL of its own, the stub of an API server, processes.

The API server's part is one TokenReview and one read of a pod for each pod and minute, whose answers the gateway
keeps; a stub on loopback gives them. Everything else is real: PostgreSQL with fsync, TLS, the gateway's process.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import urllib3

from dev.bench import reports_loop
from kubetune.api import spec
from kubetune.api.trial import Ending, Reason, TrialState
from kubetune.storage import base, migrate, postgres
from tests import gateway_world, postgresql
from tests.integration.test_gateway_process import free_port

ROOT = pathlib.Path(__file__).parents[2]
NAMESPACE, NAME = "bench", "reports"
COMPLETE = 10  # trials whose accuracy is 0.5 at every step: what a median pruner compares with
STEPS = 200  # of those
ENDING = Ending(TrialState.COMPLETE, Reason.COMPLETED, "", (0.5,))
SPACE: Mapping[str, spec.Parameter] = {"x": spec.Double(0.0, 1.0)}
TOKEN_LENGTH = 1100  # characters, as of a projected service account token
PATIENCE = 60.0  # seconds


class World:
    """One experiment with trials that run, and the processes that serve them."""

    def __init__(self, folder: pathlib.Path, server: postgresql.Server, api: gateway_world.World) -> None:
        self.folder = folder
        self.server = server
        self.api = api
        self.url = server.create_database()
        migrate.migrate(self.url)
        self.uid = str(uuid.uuid4())
        self.ports = (free_port(), free_port())
        self.authority = gateway_world.certificates(folder / "tls") / "ca.crt"
        self.tokens: list[str] = []

    # ---- the study

    def fill(self, trials: int) -> None:
        """``COMPLETE`` trials, and after them so many that run and report."""
        with contextlib.closing(postgres.PostgresStorage(self.url)) as storage:
            storage.acquire("bench")
            storage.open_study(self.uid, NAMESPACE, NAME, ["accuracy"], ["maximize"])
            numbers = range(COMPLETE + trials)
            storage.create_trials(self.uid, SPACE, [base.NewTrial(number, {"x": 0.5}) for number in numbers])
            self._sql("UPDATE kubetune.experiment_trials SET job_uid = 'job-' || number")
            for number in range(COMPLETE):
                metrics = {"accuracy": 0.5, "loss": 0.5}
                storage.accept([base.Incoming(self.who(number), str(step), step, metrics) for step in range(STEPS)])
                storage.finish_trial(self.uid, number, 1, lambda *_: ENDING, None)
        self.tokens = [
            self.api.api.knows(self.who(number), f"{number}-".ljust(TOKEN_LENGTH, "x")) for number in numbers[COMPLETE:]
        ]
        self._sql("VACUUM ANALYZE")

    def who(self, number: int) -> base.Identity:
        return base.Identity(self.uid, NAMESPACE, NAME, number, 1, f"job-{number}", f"pod-{number}")

    def _sql(self, statement: str) -> None:
        with contextlib.closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def transactions(self) -> int:
        """How many writing transactions there have been."""
        with contextlib.closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            (count,) = cursor.fetchone() or (0,)
        return int(count)

    # ---- processes

    @contextlib.contextmanager
    def gateway(self) -> Iterator[subprocess.Popen[bytes]]:
        """`kubetune gateway` for the length of the block, ready. Raises RuntimeError if it does not become so."""
        environment = {
            "KUBECONFIG": str(self.api.kubeconfig),
            "KUBETUNE_LISTEN_PORT": str(self.ports[0]),
            "KUBETUNE_HTTP_PORT": str(self.ports[1]),
            "KUBETUNE_TLS_DIRECTORY": str(self.authority.parent),
        }
        with self.process("kubetune", "gateway", **environment) as process:
            end = time.monotonic() + PATIENCE
            while not self._ready():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the gateway does not start: {(self.folder / 'kubetune.log').read_text()}")
                time.sleep(0.1)
            yield process

    def _ready(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError), urllib3.PoolManager(retries=False) as pool:
            return pool.request("GET", f"http://127.0.0.1:{self.ports[1]}/readyz", timeout=5).status == 200
        return False

    @contextlib.contextmanager
    def process(self, module: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """A module of this tree as a process for the length of the block; its errors go to MODULE.log."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("KUBETUNE_", "KUBERNETES_"))
        }
        given = {
            **inherited,
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
            "KUBETUNE_DATABASE_URL": self.url,
            **environment,
        }
        with (self.folder / f"{module}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=given,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if module.endswith("load") else log,
                stderr=log,
                cwd=ROOT,
            )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)

    @contextlib.contextmanager
    def load(self, begin: int = 0, end: int | None = None) -> Iterator["Load"]:
        """A process that stands for the running trials from ``begin`` to ``end``, connected."""
        tokens = self.tokens[begin:end]
        with self.process("dev.bench.reports_load") as process:
            load = Load(process, self.folder / "dev.bench.reports_load.log")
            load.tell(port=self.ports[0], authority=str(self.authority), tokens=tokens)
            load.ask(do="connect", trials=len(tokens))
            yield load

    @contextlib.contextmanager
    def loop(self) -> Iterator[subprocess.Popen[bytes]]:
        """The operator's loop, listening and idle."""
        trials = COMPLETE + len(self.tokens)
        form = json.dumps(reports_loop.resource(self.uid, NAMESPACE, NAME, trials))
        with self.process("dev.bench.reports_loop", form, str(COMPLETE), str(trials)) as process:
            log, end = self.folder / "dev.bench.reports_loop.log", time.monotonic() + PATIENCE
            while reports_loop.READY not in log.read_text():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the loop does not start: {log.read_text()}")
                time.sleep(0.1)
            yield process


class Load:
    """The load's process, spoken to line by line."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: pathlib.Path) -> None:
        self._process = process
        self._log = log

    def tell(self, **command: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load failed: {self._log.read_text()[-2000:]}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def ask(self, **command: Any) -> dict[str, Any]:
        self.tell(**command)
        return self.hear()


@contextlib.contextmanager
def world(trials: int) -> Iterator[World]:
    """A world with so many trials that run, for the length of the block, or until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to stop"))
    with (
        tempfile.TemporaryDirectory(prefix="kubetune-bench-") as name,
        postgresql.running(fsync=True) as server,
        contextlib.closing(gateway_world.World(pathlib.Path(name))) as api,
    ):
        made = World(pathlib.Path(name), server, api)
        made.fill(trials)
        yield made


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that processes have taken so far; those that are gone count nothing."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
