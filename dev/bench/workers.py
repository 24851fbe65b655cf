"""Short trials in workers, on the real kubelet: what a trial of one second takes of its slot, beside as many pods that
loop over the same command without us; and how many trials a second that do nothing, beside a Job for each of them.

What a worker does is taken from ends of trials, whole waves of them (as many as there are slots), without the first
quarter, in which the pods start, and without the last wave; so are the bare pods' loops, of which fewer are run: it is
a rate. The trial sleeps first and then reports, so it pays for its report within what is measured; without us the same
command prints it.
"""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Sequence

from dev.bench import load
from dev.bench.api import Api, Gateway, Json
from dev.bench.result import Goal, Result, judge
from kubetune.api import names
from kubetune.api.spec import parse
from kubetune.cli.access import Access
from kubetune.cli.access import Gateway as Service
from kubetune.controller.jobs import build_job
from kubetune.kube import resources
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials

NAMES = ["workers", "workers-noop"]
SECOND = ["python3", "-c", "import time, kubetune_trial as kt; time.sleep(1); kt.report(0, score=1.0)"]
NOTHING = ["true"]  # each such trial ends without a metric, so it fails: nothing is as short as that
# Without a process of its own for the clock: /proc/uptime is the node's, in hundredths of a second.
LOOP = 'seq "$0" | while read -r _; do "$@" < /dev/null; read -r up _ < /proc/uptime; echo "ended $up"; done'
SKIP = 0.25  # of the waves
LOOK = 0.5  # seconds between two looks at an experiment


@dataclasses.dataclass(frozen=True)
class Size:
    """``slots`` at once; trials of a second, loops of each bare pod, trials that do nothing in workers and as Jobs;
    seconds that the first of these may take, and each of the others."""

    slots: int
    seconds: int
    loops: int
    nothings: int
    jobs: int
    patience: float
    others: float


FULL, QUICK = Size(16, 10_000, 20, 1_600, 48, 720, 60), Size(8, 80, 6, 240, 16, 30, 20)


def run(quick: bool) -> list[Result]:
    """About 800 s, quick 50 s."""
    return asyncio.run(_run(QUICK if quick else FULL))


async def _run(size: Size) -> list[Result]:
    async with load.connected() as (api, door):
        bare = await _bare(api, door, size)
        ours = await _kubetune(api, "workers", size, SECOND, size.seconds, size.patience)
        nothings = await _kubetune(api, "workers", size, NOTHING, size.nothings, size.others)
        jobs = await _kubetune(api, "jobs", size, NOTHING, size.jobs, size.others)
    return [_paced(size, ours, bare), _rates(size, nothings, jobs)]


# ---- the figures


@dataclasses.dataclass(frozen=True)
class Ended:
    """When trials, or loops, ended; ``begun``: when they were asked for, by the same clock. Seconds."""

    begun: float
    ends: Sequence[float]
    wanted: int
    good: int

    @property
    def whole(self) -> bool:
        return len(self.ends) >= self.wanted

    @property
    def total(self) -> float:
        return max(self.ends, default=float("nan")) - self.begun


def pace(ends: Sequence[float], slots: int) -> float:
    """Seconds from one end to the next in a slot; NaN where fewer than three waves ended."""
    waves = len(ends) // slots - 1
    first = max(1, round(SKIP * waves))
    if waves <= first:
        return float("nan")
    ordered = sorted(ends)
    return (ordered[waves * slots - 1] - ordered[first * slots - 1]) / (waves - first)


def _paced(size: Size, ours: Ended, bare: Ended) -> Result:
    note = (
        f"seconds of its slot that a trial of a second takes; {size.slots} workers, {ours.good} of {ours.wanted} "
        f"trials well, {ours.total:.0f} s in all from the request on; bare: {size.slots} pods x {size.loops} loops"
    )
    found = judge("workers", pace(ours.ends, size.slots), "s", pace(bare.ends, size.slots), _PACE, note)
    well = ours.whole and bare.whole and ours.good == ours.wanted
    return found if well else dataclasses.replace(found, holds=False, note=f"not all ended well; {note}")


def _rates(size: Size, workers: Ended, jobs: Ended) -> Result:
    note = (
        f"the command is `true`, {size.slots} at once; limit: kubetune with a Job for each trial, {len(jobs.ends)} of "
        f"them from the request on; in workers {len(workers.ends)}"
    )
    rate, single = size.slots / pace(workers.ends, size.slots), len(jobs.ends) / jobs.total
    found = judge("workers-noop", rate, "trials/s", single, _RATE, note)
    return found if workers.whole and jobs.whole else dataclasses.replace(found, holds=False, note=f"not all; {note}")


_PACE, _RATE = Goal("ratio", "<=", 1.05), Goal("ratio", ">=", 10)


# ---- kubetune


def _body(execution: str, command: Sequence[str], slots: int, trials: int) -> Json:
    container = {
        "name": "trial",
        "image": "kubetune/trial:0.1.0",
        "command": list(command),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    return load.experiment(
        "bench",
        load.Load(1, slots, trials, 1),
        execution=execution,
        parameters={"x": {"double": [0, 1]}},
        maxFailedTrials=trials,
        template={"spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}},
    )


async def _kubetune(
    api: Api, execution: str, size: Size, command: Sequence[str], trials: int, patience: float
) -> Ended:
    """One experiment of so many trials, until it is over or time is."""
    async with load.namespace(api, f"bench-{execution}-{command[0]}") as observer:
        begun = time.time()
        await api.create(resources.EXPERIMENTS, observer.namespace, _body(execution, command, size.slots, trials))
        until = time.monotonic() + patience
        while time.monotonic() < until:
            await asyncio.sleep(LOOK)
            resource = await api.get(resources.EXPERIMENTS, observer.namespace, "bench")
            if (resource.get("status") or {}).get("state") in ("Complete", "Failed"):
                break
        rows = await asyncio.to_thread(_trials, observer.namespace)
    ends = [float(row["ended"]) for row in rows if row["ended"] is not None]
    return Ended(begun, ends, trials, sum(row["state"] == "COMPLETE" for row in rows))


def _trials(namespace: str) -> list[Json]:
    """As the command line reads them."""
    client = Client(Credentials.load())
    try:
        return [dict(row) for row in Access(client, namespace, Service(), "default").trials("bench")]
    finally:
        client.close()


# ---- without us


async def _bare(api: Api, door: Gateway, size: Size) -> Ended:
    """As many pods as slots, each looping over the command."""
    async with load.namespace(api, "bench-bare-loops") as observer:
        resource = _body("jobs", ["sh", "-c", LOOP, str(size.loops), *SECOND], size.slots, size.slots)
        resource["metadata"] |= {"namespace": observer.namespace, "uid": str(uuid.uuid4()), "generation": 1}
        spec = parse(resource)
        bodies = [load.made_bare(build_job(spec, number, 1, {"x": 0.5}, door.wiring)) for number in range(size.slots)]
        await asyncio.gather(*(api.create(resources.JOBS, observer.namespace, _alone(body)) for body in bodies))
        await observer.until(lambda seen: len(seen.ended) >= size.slots, size.others)
        pods = await api.items(resources.PODS, observer.namespace)
        texts = [await api.call("GET", _log(pod)) for pod in pods]
    ends = [float(line.split()[1]) for text in texts for line in text.decode().splitlines() if line.startswith("ended")]
    return Ended(float("nan"), ends, size.slots * size.loops, len(ends))


def _alone(job: Json) -> Json:
    """Without a gateway the client prints what it is told to report."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["env"] = [each for each in container["env"] if not each["name"].startswith(names.ENV_GATEWAY)]
    return job


def _log(pod: Json) -> str:
    return resources.PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"], "log")
