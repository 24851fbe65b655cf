"""The two that are compared, kubetune and a bare client, under the same load, with the same simulated kubelet.

The nodes are kwok's: a pod there "runs" for the seconds that its annotation says and succeeds. What a kubelet and a
trial would do beside that is done here: the pod's token is minted and, for kubetune's pods, one metric reported through
the real gateway. The bare client creates the same Jobs (labels, environment, volumes; another managed-by, no owner), as
many at once, as soon as a pod's success frees a slot, and deletes those that are over.
"""

import asyncio
import contextlib
import dataclasses
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

from dev.bench.api import NODE_PORT, RELEASE, Api, ApiError, Gateway, Json, gateway, measured
from dev.bench.observer import Observer
from kubetune.api import names
from kubetune.api.spec import Params, parse
from kubetune.controller.jobs import Wiring, build_job
from kubetune.kube import resources

METRIC = "score"
ENDED, RUNNING = "ended", "running"  # what a run waits for: all trials over, or all slots running at once
KWOK = {"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}
DELAY = "pod-complete.stage.kwok.x-k8s.io/delay"
REPORT_PATIENCE = 60.0  # seconds for which a simulated trial repeats its report
EMPTY_TIMEOUT = 90.0  # seconds until the last Jobs and namespaces are gone


@dataclasses.dataclass(frozen=True)
class Load:
    """``experiments`` of ``total`` trials each, ``in_flight`` of them at once; each runs for ``seconds``."""

    experiments: int
    in_flight: int
    total: int
    seconds: float

    @property
    def slots(self) -> int:
        return self.experiments * self.in_flight

    @property
    def trials(self) -> int:
        return self.experiments * self.total

    def __str__(self) -> str:
        many = f"{self.experiments} experiments x " if self.experiments > 1 else ""
        return f"{many}{self.total} trials of {self.seconds:g} s, {many}{self.in_flight} in flight"


@dataclasses.dataclass
class Run:
    """What one side did. Times are monotonic seconds; ``writes`` and ``cpu``: the API server's, until all was cleared
    away."""

    begun: float
    observer: Observer
    writes: float = 0.0
    cpu: float = 0.0
    seconds: float = float("nan")  # until what was waited for came; NaN: it did not
    creates: list[float] = dataclasses.field(default_factory=list)  # latencies of the bare client's creates
    refused_reports: int = 0

    @property
    def created(self) -> list[float]:
        return list(self.observer.created.values())

    @property
    def ended(self) -> list[float]:
        return list(self.observer.ended.values())


def experiment(name: str, load: Load, **spec: object) -> Json:
    """An experiment whose trials run on kwok's nodes: 4 parameters, random sampler, no pruner, one GPU a trial."""
    body: Json = {
        "objective": {"metric": METRIC, "direction": "maximize"},
        "parameters": {
            "lr": {"double": [1e-5, 1e-1], "scale": "log"},
            "layers": {"int": [1, 8]},
            "dropout": {"double": [0, 0.5]},
            "optimizer": {"choice": ["adam", "sgd"]},
        },
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "seed": 1,
        "maxTrials": load.total,
        "parallelism": {"max": load.in_flight},
        "template": {
            "metadata": {"annotations": {DELAY: f"{load.seconds:g}s"}},
            "spec": {
                "nodeSelector": {"type": "kwok"},
                "tolerations": [KWOK],
                "containers": [
                    {
                        "name": "trial",
                        "image": "kubetune/trial:0.1.0",
                        "args": ["--lr=$(lr)", "--layers=$(layers)"],
                        "resources": {"limits": {"nvidia.com/gpu": 1}},
                    }
                ],
            },
        },
        **spec,
    }
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": body}


class Kubelet:
    """What kwok leaves out of a pod's life: its token and, for a trial of kubetune's (``gateway``), its report."""

    def __init__(self, api: Api, observer: Observer, gateway: Gateway | None) -> None:
        self._api, self._gateway = api, gateway
        self._chance = random.Random(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0
        observer.on_running = self._start

    def _start(self, pod: Json) -> None:
        task = asyncio.create_task(self._run(pod["metadata"]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: Json) -> None:
        try:
            token = await self._api.token(pod["namespace"], pod["name"], pod["uid"], names.TOKEN_AUDIENCE)
        except ApiError:  # the pod is gone already
            return
        if self._gateway is not None:
            until = time.monotonic() + REPORT_PATIENCE
            status = await self._gateway.report(token, {METRIC: self._chance.random()}, until)
            self.refused += status != 200

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def made_bare(job: Json) -> Json:
    """A trial's Job as nobody's: without its owner, and not to be seen by kubetune's watches."""
    metadata = job["metadata"]
    del metadata["ownerReferences"]
    metadata.pop("namespace")
    for labels in (metadata["labels"], job["spec"]["template"]["metadata"]["labels"]):
        labels[names.LABEL_MANAGED_BY] = "barebone"
    return job


class BareClient:
    """Keeps the same Jobs in flight, as tightly as a client can."""

    def __init__(self, api: Api, observer: Observer, load: Load, wiring: Wiring) -> None:
        self._api, self._observer, self._load = api, observer, load
        self._wiring = wiring
        resource = experiment("bare", load)
        resource["metadata"] |= {"namespace": observer.namespace, "uid": str(uuid.uuid4()), "generation": 1}
        self._spec = parse(resource)
        self._created: dict[str, str] = {}  # UID → name
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []
        observer.on_end = self._ended

    def start(self) -> None:
        for _ in range(self._load.slots):
            self._spawn()

    def _spawn(self) -> None:
        if self._next < self._load.trials:
            self._do(self._create(self._next))
            self._next += 1

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _create(self, number: int) -> None:
        params: Params = {"lr": random.random(), "layers": 3, "dropout": random.random(), "optimizer": "adam"}
        body = made_bare(build_job(self._spec, number, 1, params, self._wiring))
        begun = time.monotonic()
        job = await self._api.create(resources.JOBS, self._observer.namespace, body)
        self.latencies.append(time.monotonic() - begun)
        self._created[job["metadata"]["uid"]] = body["metadata"]["name"]

    def _ended(self, job_uid: str) -> None:
        self._spawn()
        if job_uid in self._created:
            self._do(self._api.delete(resources.JOBS, self._observer.namespace, self._created[job_uid]))

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


# ---- a side's run


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Api, Gateway]]:
    """The API server and the gateway; the Service that made it reachable is removed at the end."""
    api = Api()
    door = await gateway(api)
    try:
        yield api, door
    finally:
        await door.close()
        await api.delete(resources.SERVICES, RELEASE, NODE_PORT)
        await api.close()


@contextlib.asynccontextmanager
async def namespace(api: Api, name: str) -> AsyncIterator[Observer]:
    """A new namespace under the restricted Pod Security Standard, observed. One of the name that is there goes first;
    this one is gone when the block is left: clearing away thousands of pods is no part of what is measured next."""
    await api.delete(resources.NAMESPACES, None, name)
    await _until(lambda: _gone(api, name), EMPTY_TIMEOUT)
    metadata = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    await api.create(resources.NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    await _until(lambda: _has_account(api, name), EMPTY_TIMEOUT)
    observer = Observer(api, name)
    observer.start()
    await asyncio.sleep(0.5)
    try:
        yield observer
    finally:
        await observer.stop()
        await api.delete(resources.NAMESPACES, None, name)
        await _until(lambda: _gone(api, name), EMPTY_TIMEOUT)


async def _has_account(api: Api, name: str) -> bool:
    try:
        await api.get(resources.SERVICE_ACCOUNTS, name, "default")
    except ApiError:
        return False
    return True


async def _gone(api: Api, name: str) -> bool:
    try:
        await api.get(resources.NAMESPACES, None, name)
    except ApiError as error:
        return error.status == 404
    return False


async def _until(check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not await check() and time.monotonic() < end:
        await asyncio.sleep(0.5)


async def kubetune(api: Api, door: Gateway, load: Load, goal: str, patience: float) -> Run:
    """kubetune under the load, until the goal: `ENDED` or `RUNNING`."""
    async with namespace(api, "bench-kubetune") as observer:
        kubelet = Kubelet(api, observer, door)
        before, begun = await measured(api), time.monotonic()
        run = Run(begun, observer)
        bodies = [experiment(f"bench-{number}", load) for number in range(load.experiments)]
        await asyncio.gather(*(api.create(resources.EXPERIMENTS, observer.namespace, body) for body in bodies))
        await _measure(api, run, load, goal, patience, before)
        await kubelet.stop()
        run.refused_reports = kubelet.refused
        return run


async def bare(api: Api, door: Gateway, load: Load, goal: str, patience: float) -> Run:
    """The bare client under the same load."""
    async with namespace(api, "bench-bare") as observer:
        kubelet = Kubelet(api, observer, None)
        before, begun = await measured(api), time.monotonic()
        run = Run(begun, observer)
        client = BareClient(api, observer, load, door.wiring)
        client.start()
        await _measure(api, run, load, goal, patience, before)
        await client.stop()
        await kubelet.stop()
        run.creates = client.latencies
        return run


async def _measure(api: Api, run: Run, load: Load, goal: str, patience: float, before: tuple[float, float]) -> None:
    def reached(seen: Observer) -> bool:
        return len(seen.ended) >= load.trials if goal == ENDED else len(seen.running) >= load.slots

    if await run.observer.until(reached, patience):
        moments = run.observer.at_first if goal == RUNNING else run.observer.ended
        run.seconds = max(moments.values()) - run.begun
    if goal == ENDED:  # what is cleared away belongs to a trial's cost
        await run.observer.until(lambda seen: not seen.left, patience / 4)
        writes, cpu = await measured(api)
        run.writes, run.cpu = writes - before[0], cpu - before[1]
