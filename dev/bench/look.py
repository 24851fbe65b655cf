"""What a look at an experiment costs the operator: `python -m dev.bench.look [--running 1000] [--profile]`.

The operator's own cache, reconciler, engine and storage, on a PostgreSQL of its own; the API server answers at once.
Two figures, by processor time of this process: a look when nothing has changed, and the whole life of a trial (its
Job's and pod's eleven events and its report, a look after each), with how long its successor's create took to be sent
after its end was heard of.
"""

import argparse
import contextlib
import cProfile
import functools
import pstats
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, cast

from dev.bench.load import Load
from dev.bench.load import experiment as manifest
from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.controller import act
from kubetune.controller.cache import Cache
from kubetune.controller.cluster import KubeCluster
from kubetune.controller.jobs import Wiring
from kubetune.controller.ports import Rank
from kubetune.controller.reconcile import Reconciler
from kubetune.controller.registry import Registry
from kubetune.controller.status import timestamp
from kubetune.engine.engine import Engine
from kubetune.kube.resources import Resource
from kubetune.metrics.catalog import Metrics
from kubetune.settings import Settings
from kubetune.storage import base, migrate
from kubetune.storage.postgres import PostgresStorage
from tests import postgresql


class Server:
    """An API server that only makes Jobs; it is `kube.client.Client` as far as the loop needs it."""

    def __init__(self) -> None:
        self.versions = 0
        self.jobs: dict[str, Json] = {}  # by UID
        self.created: list[tuple[float, Json]] = []  # monotonic, Job; since last looked at

    def create(self, resource: Resource, namespace: str, body: Json, **_: object) -> Json:
        self.created.append((time.perf_counter(), self.stamped(body)))
        return self.created[-1][1]

    def stamped(self, body: Json) -> Json:
        self.versions += 1
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(time.time()), **body["metadata"]}
        made = {**body, "metadata": {**metadata, "resourceVersion": str(self.versions)}}
        self.jobs[metadata["uid"]] = made
        return made

    def delete(self, *_: object) -> None:
        pass

    def apply(self, *_: object) -> Json:
        return {}

    def log_tail(self, *_: object) -> str:
        return ""

    def event(self, *_: object) -> None:
        pass


def pod_of(server: Server, job: Json, phase: str, node: str | None = "node-1") -> Json:
    """The Job's pod in a phase of its life."""
    now, labels = timestamp(time.time()), job["metadata"]["labels"]
    server.versions += 1
    owner = {"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}
    running = {"running": {"startedAt": now}}
    states: dict[str, Json] = {
        "Running": running,
        "Succeeded": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}},
    }
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now}] if node else []
    statuses = [{"name": "trial", "state": states[phase]}] if phase in states else []
    return {
        "metadata": {
            "name": f"{job['metadata']['name']}-x",
            "namespace": job["metadata"]["namespace"],
            "uid": f"pod-{job['metadata']['uid']}",
            "labels": labels,
            "ownerReferences": [owner],
            "creationTimestamp": job["metadata"]["creationTimestamp"],
            "resourceVersion": str(server.versions),
        },
        "spec": {"containers": [{"name": "trial"}], **({"nodeName": node} if node else {})},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses, "startTime": now},
    }


class World:
    """One experiment with ``running`` trials in flight, and one look after another."""

    def __init__(self, url: str, running: int) -> None:
        self._answers: list[Callable[[], None]] = []
        migrate.migrate(url)
        self.storage = PostgresStorage(url)
        self.storage.acquire("look")
        self.server, self.cache, settings = Server(), Cache(300.0), Settings()
        self.looks: list[float] = []  # CPU seconds of each
        client, recorder = cast(Any, self.server), cast(Any, self.server)
        cluster = KubeCluster(client, self.cache, recorder, lambda uid: "bench")
        registry = Registry(self.storage, lambda spec: Engine(spec, self.storage, time.time))
        tools = act.Tools(
            cluster=cluster,
            clock=time.time,
            confirm=lambda: None,
            wiring=lambda: Wiring("https://gateway"),
            parallel=act.sequential,
            start=self._start,
            withdraw=lambda uid: None,
            wake=lambda uid: None,
            meter=Metrics("operator"),
            log_tail_bytes=settings.log_tail_bytes,
        )
        self.reconciler = Reconciler(registry, tools, settings)
        self.resource = manifest("look", Load(1, running, 100_000, 60.0))
        self.resource["metadata"] |= {"namespace": "bench", "uid": str(uuid.uuid4()), "generation": 1}
        registry.put(self.resource)
        for _ in range(20):
            self.look()
            self.settle()
            for job in self.fresh():
                self.hear(self.life(job)[:6])
            if len(self.server.jobs) == running:
                break
        self.look()
        self.looks.clear()

    def _start(
        self, calls: Sequence[Callable[[], object]], key: str, rank: Rank, done: Callable[[int, object], None]
    ) -> None:
        """Sent at once, answered after the look, as by threads."""
        for index, call in enumerate(calls):
            self._answers.append(functools.partial(done, index, act.attempt(call)))

    def settle(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            answer()

    def fresh(self) -> list[Json]:
        made, self.server.created = self.server.created, []
        return [job for _, job in made]

    def look(self) -> None:
        begun = time.process_time()
        self.reconciler.reconcile(self.resource)
        self.looks.append(time.process_time() - begun)

    def hear(self, events: Sequence[tuple[str, Json, bool]]) -> bool:
        woken = False
        for kind, raw, deleted in events:
            take = self.cache.apply_job if kind == "jobs" else self.cache.apply_pod
            woken = bool(take(raw, deleted)) or woken
        return woken

    def life(self, job: Json) -> list[tuple[str, Json, bool]]:
        """All events of a Job that is there: six until it runs, five until it is gone."""

        def changed(**status: object) -> Json:
            self.server.versions += 1
            return {
                **job,
                "metadata": {**job["metadata"], "resourceVersion": str(self.server.versions)},
                "status": status,
            }

        over = {"type": "Complete", "status": "True", "lastTransitionTime": timestamp(time.time())}
        events = [
            ("jobs", job, False),
            ("pods", pod_of(self.server, job, "Pending", None), False),
            ("jobs", changed(active=1), False),
            ("pods", pod_of(self.server, job, "Pending"), False),
            ("pods", pod_of(self.server, job, "Running"), False),
            ("jobs", changed(active=1, ready=1), False),
            ("pods", pod_of(self.server, job, "Succeeded"), False),
            ("jobs", changed(conditions=[over]), False),
        ]
        return [*events, ("pods", events[-2][1], True), ("jobs", events[-1][1], True)]

    def report(self, job: Json) -> None:
        labels, uid = job["metadata"]["labels"], job["metadata"]["uid"]
        who = base.Identity(
            self.resource["metadata"]["uid"], "bench", "look", int(labels[names.LABEL_TRIAL]), 1, uid, "pod"
        )
        self.storage.accept([base.Incoming(who, "0", 0, {"score": 0.5})])


def measure(world: World, lives: int) -> tuple[float, float, float, float]:
    """CPU of a quiet look, CPU of a trial's life, looks of it, and seconds from its end to its successor's create."""
    for _ in range(20):
        world.look()
    quiet = statistics.median(world.looks)
    world.looks.clear()
    old = list(world.server.jobs.values())
    gaps = []
    events_cpu = 0.0
    for number in range(lives):
        job = old[number]
        world.report(job)
        world.look()
        for event in world.life(job)[6:]:
            heard, cpu = time.perf_counter(), time.process_time()
            woken = world.hear([event])
            events_cpu += time.process_time() - cpu
            if woken:
                world.look()
            if world.server.created:
                gaps.append(world.server.created[0][0] - heard)
                for new in world.fresh():
                    for each in world.life(new)[:6]:
                        cpu = time.process_time()
                        woken = world.hear([each])
                        events_cpu += time.process_time() - cpu
                        if woken:
                            world.look()
            if world._answers:
                world.settle()
                world.look()
    return quiet, (sum(world.looks) + events_cpu) / lives, len(world.looks) / lives, statistics.median(gaps)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--running", type=int, default=1000)
    parser.add_argument("--lives", type=int, default=40)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with postgresql.running(fsync=True) as server:
        world = World(server.create_database(), options.running)
        profile = cProfile.Profile() if options.profile else contextlib.nullcontext()
        with profile:
            quiet, life, looks, gap = measure(world, options.lives)
        if isinstance(profile, cProfile.Profile):
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    print(
        f"{options.running} running: a quiet look {1000 * quiet:.1f} ms of CPU; a trial's life {1000 * life:.1f} ms "
        f"in {looks:.1f} looks; from a heard end to the create {1000 * gap:.1f} ms"
    )


if __name__ == "__main__":
    main()
