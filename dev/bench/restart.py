"""restart, restart-rss, status-size: an operator with 100,000 finished trials is killed, and its standby goes on.

Everything is real but the cluster: two operator processes, their Lease, a PostgreSQL of its own with ten million
reports in it. The API server is a small one in Python that serves their Jobs and pods from memory.
"""

import contextlib
import dataclasses
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2

from dev.bench import study
from dev.bench.result import Goal, Result, judge
from kubetune.api import names
from kubetune.api.spec import Objective, parse
from kubetune.api.trial import Best, Counts, Reason
from kubetune.controller import jobs, plan, status
from kubetune.storage import base, migrate
from kubetune.storage.postgres import PostgresStorage
from tests import postgresql
from tests.api_server import ApiServer
from tests.integration.test_operators import Process
from tests.unit.test_kube_client import KUBECONFIG

NAMES = ("restart", "restart-rss", "status-size")
FULL, QUICK = study.Size(100_000, 1_000, 100), study.Size(1_000, 100, 50)
ENDED_MEANWHILE = 5  # trials that end when nobody leads
PATIENCE = 180.0  # seconds for each thing that is waited for
NODE = "node-1"

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a take-over took: seconds from SIGKILL to the next Job; bytes of memory, at rest and at most."""

    seconds: float
    memory: int
    peak: int


def run(quick: bool) -> list[Result]:
    size = QUICK if quick else FULL
    with postgresql.running() as server, tempfile.TemporaryDirectory() as folder:
        url = server.create_database()
        migrate.migrate(url)
        begun = time.monotonic()
        study.write(url, size, time.time())
        print(f"{size.ended * size.reports:,} reports written in {time.monotonic() - begun:.0f} s", flush=True)
        with _cluster(url, pathlib.Path(folder)) as (api, begin):
            taken = _take_over(url, size, api, begin)
            largest = max(status.size(raw["status"]) for raw in api.all("experiments"))
        limit = _plain_read(url)
    largest = max(largest, _largest_status())
    what = f"{size.ended:,} finished trials of {size.reports} reports, {size.running:,} running"
    return [
        judge(
            "restart",
            taken.seconds,
            "s",
            limit,
            Goal("value", "<=", 10),
            f"{what}; from SIGKILL to the next trial's Job: Lease, lists, study, the end of a trial, a suggestion; "
            "limit: Python and Optuna imported, the same rows of trials and series read by psycopg2",
        ),
        judge(
            "restart-rss",
            taken.memory / 2**20,
            "MiB",
            None,
            Goal("value", "<=", 512),
            f"{what}; all its processes, the larger of both operators; at most {taken.peak / 2**20:.0f} MiB",
        ),
        judge(
            "status-size",
            largest / 1024,
            "KiB",
            None,
            Goal("value", "<=", 16),
            "also with 64 parameters, 8 objectives and names and values as long as they may be",
        ),
    ]


# ---- the cluster


@contextlib.contextmanager
def _cluster(url: str, folder: pathlib.Path) -> Iterator[tuple[ApiServer, Callable[[str], Process]]]:
    api = ApiServer()
    api.start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(port=api.port))
    processes: list[Process] = []

    def begin(host: str) -> Process:
        processes.append(Process(folder, kubeconfig, url, host))
        return processes[-1]

    try:
        yield api, begin
    finally:
        for process in processes:
            process.process.kill()
            process.process.wait()
        api.stop()


def _fill(url: str, api: ApiServer, size: study.Size) -> dict[int, base.Identity]:
    """The experiment, and a Job with a running pod for each trial that runs. Who they are, by number."""
    raw = study.resource(size)
    spec = parse(raw)
    api.put("experiments", raw)
    api.put("nodes", {"metadata": {"name": NODE}, "spec": {}, "status": {}})
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT number, params, job_uid FROM kubetune.experiment_trials WHERE state = 'RUNNING'")
        running = cursor.fetchall()
    found = {}
    for number, params, job_uid in running:
        job = jobs.build_job(spec, number, 1, params, jobs.Wiring("http://gateway.test"))
        job["metadata"]["uid"] = job_uid
        api.put("jobs", {**job, "status": {"active": 1}})
        pod = api.put("pods", _pod(job))
        found[number] = base.Identity(
            spec.uid, spec.namespace, spec.name, number, 1, job_uid, str(pod["metadata"]["uid"])
        )
    return found


def _pod(job: Json, ended: bool = False) -> Json:
    metadata = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T01:00:00Z"}
    state = {"terminated": {**times, "exitCode": 0, "reason": "Completed"}} if ended else {"running": times}
    template = job["spec"]["template"]
    return {
        "metadata": {
            "name": f"{metadata['name']}-pod",
            "namespace": metadata["namespace"],
            "labels": template["metadata"]["labels"],
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {"containers": template["spec"]["containers"], "nodeName": NODE},
        "status": {
            "phase": "Succeeded" if ended else "Running",
            "startTime": times["startedAt"],
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": times["startedAt"]}],
            "containerStatuses": [{"name": template["spec"]["containers"][0]["name"], "state": state}],
        },
    }


# ---- the take-over


def _take_over(url: str, size: study.Size, api: ApiServer, begin: Callable[[str], Process]) -> Taken:
    who = _fill(url, api, size)
    first = begin("pod-a")
    _wait_for("the first operator's status", lambda: any(_total(raw) for raw in api.all("experiments")), first)
    other = begin("pod-b")
    _wait_for("the standby", other.ready, other)
    time.sleep(2.0)  # the first look's other work is done
    before = {raw["metadata"]["name"] for raw in api.all("jobs")}
    used = _memory(first.process.pid)
    killed = time.monotonic()
    first.end(signal.SIGKILL)
    _end_some(url, api, who)
    _wait_for("the next Job", lambda: bool(_new(api, before)), other)
    seconds = time.monotonic() - killed
    _check(url, size, api, before)
    time.sleep(2.0)
    after = _memory(other.process.pid)
    return Taken(seconds, max(used[0], after[0]), max(used[1], after[1]))


def _end_some(url: str, api: ApiServer, who: dict[int, base.Identity]) -> None:
    """The first trials say that they are complete, and their pods end."""
    by_number = {int(raw["metadata"]["labels"][names.LABEL_TRIAL]): raw for raw in api.all("jobs")}
    with contextlib.closing(PostgresStorage(url, size=1)) as gateway:
        for number in sorted(who)[:ENDED_MEANWHILE]:
            gateway.finish(who[number], "complete", "")
            api.put("pods", _pod(by_number[number], ended=True))


def _new(api: ApiServer, before: set[str]) -> list[Json]:
    return [raw for raw in api.all("jobs") if raw["metadata"]["name"] not in before]


def _check(url: str, size: study.Size, api: ApiServer, before: set[str]) -> None:
    """That it was the right action: a trial that had ended is, and the next number was given, once."""
    expected = size.ended + size.running
    (number, *_) = sorted(int(raw["metadata"]["labels"][names.LABEL_TRIAL]) for raw in _new(api, before))
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT state FROM kubetune.experiment_trials WHERE number = ANY(%s) ORDER BY number",
            ([size.ended, expected],),
        )
        states = [state for (state,) in cursor.fetchall()]
    if number != expected or states != ["COMPLETE", "RUNNING"]:
        raise RuntimeError(f"trial {number} was started, {expected} is next; their states are {states}")


def _wait_for(what: str, holds: Callable[[], bool], process: Process) -> None:
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > PATIENCE or process.process.poll() is not None:
            raise RuntimeError(f"no sign of {what}; the end of its log:\n{process.log.read_text()[-3000:]}")
        time.sleep(0.02)


def _total(raw: Json) -> int:
    return int(((raw.get("status") or {}).get("counts") or {}).get("total", 0))


def _memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process and all below it: now, and each one's most."""
    now = peak = 0
    left = [pid]
    while left:
        each = left.pop()
        with contextlib.suppress(OSError):
            lines = pathlib.Path(f"/proc/{each}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines)
            now += 1024 * int(fields["VmRSS"].split()[0])
            peak += 1024 * int(fields["VmHWM"].split()[0])
            for task in pathlib.Path(f"/proc/{each}/task").iterdir():
                left += [int(child) for child in (task / "children").read_text().split()]
    return now, peak


# ---- what it is measured against

_PLAIN = """
import sys
import optuna, psycopg2
with psycopg2.connect(sys.argv[1]) as connection, connection.cursor("rows") as cursor:
    cursor.itersize = 5000
    cursor.execute("SELECT number, state, params, objective_values, ended, series_steps, series_values"
                   " FROM kubetune.experiment_trials")
    print(sum(1 for row in cursor))
"""


def _plain_read(url: str) -> float:
    """Seconds of a bare Python that reads the same rows."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", _PLAIN, url], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _largest_status() -> int:
    """Bytes of the status of an experiment that goes to all limits of the resource."""
    spec = parse(study.resource(FULL))
    objectives = tuple(Objective(f"{place}".ljust(128, "m"), "minimize") for place in range(8))
    spec = dataclasses.replace(spec, namespace="n" * 63, name="e" * 63, objectives=objectives)
    parameters = {f"{place}".ljust(63, "p"): "\u00fc" * 1024 for place in range(64)}
    best = [Best(10**6 + number, (-1.2345678901234567e-300,) * 8, parameters) for number in range(20)]
    seen = plan.Observed(running={}, counts=Counts(complete=100_000), jobs=(), recent_failures=(Reason.EXIT_CODE,) * 10)
    facts = status.Facts(f"{'n' * 63}/{'e' * 63}-12345678", best, (10**9, 10**9))
    body: Json | None = None
    for state in ("Suspended", "Running", "Complete"):
        body = status.status(spec, plan.Plan((), state, Reason.RUNNING, "m" * 4096), seen, facts, body, time.time())
    return status.size(body or {})
