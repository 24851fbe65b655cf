"""The operator's loop over one experiment as a process, without an API server: what it decides about reports is real.

Queue, workers, reconciler, engine, storage and NOTIFY are the operator's own. Only the cluster is missing: every Job
that a RUNNING trial has is there and runs, and whatever is written to it is taken.
"""

import json
import os
import signal
import sys
import threading
import time

from kubetune.api.spec import ExperimentSpec, Json
from kubetune.controller import act, handlers
from kubetune.controller.health import Health
from kubetune.controller.jobs import Wiring
from kubetune.controller.plan import JobPhase, JobView, PodView
from kubetune.controller.queue import Queue
from kubetune.controller.reconcile import Reconciler
from kubetune.controller.registry import Registry
from kubetune.controller.workers import Workers
from kubetune.engine.engine import Engine
from kubetune.metrics.catalog import Metrics
from kubetune.settings import Settings
from kubetune.storage.postgres import PostgresStorage

READY = "the loop runs"


class Still:
    """A cluster in which nothing happens. Keeps `controller.ports.Cluster`."""

    def __init__(self, numbers: range) -> None:
        now = time.time()
        self._jobs = tuple(
            JobView(
                name=f"job-{number}",
                uid=f"job-{number}",
                number=number,
                attempt=1,
                created=now,
                phase=JobPhase.RUNNING,
                pod=PodView(f"pod-{number}", f"pod-{number}", "node", "Running", now, now, scheduled=True, bound=now),
            )
            for number in numbers
        )

    def jobs(self, experiment_uid: str) -> tuple[JobView, ...]:
        return self._jobs

    def all_jobs(self, experiment_uid: str) -> tuple[JobView, ...]:
        return self._jobs

    def nodes_gone(self) -> frozenset[str]:
        return frozenset()

    def get_job(self, namespace: str, name: str) -> JobView | None:
        return next((job for job in self._jobs if job.name == name), None)

    def create_job(self, body: Json, dry_run: bool = False) -> JobView:
        raise AssertionError("all trials of this experiment have their Jobs")

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        pass

    def log_tail(self, namespace: str, pod: str, limit_bytes: int) -> str | None:
        return None

    def write_status(self, namespace: str, name: str, uid: str, status: Json) -> None:
        pass

    def event(self, spec: ExperimentSpec, kind: str, reason: str, message: str) -> None:
        pass


def resource(uid: str, namespace: str, name: str, trials: int) -> Json:
    """The Experiment: a median pruner, and no trial to be asked beyond those that are there."""
    return {
        "apiVersion": "kubetune.dev/v1alpha1",
        "kind": "Experiment",
        "metadata": {"uid": uid, "namespace": namespace, "name": name, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "parameters": {"x": {"double": [0.0, 1.0]}},
            "sampler": {"name": "random"},
            "pruner": {"name": "median"},
            "maxTrials": trials,
            "parallelism": {"max": trials},
            "template": {"spec": {"containers": [{"name": "trial", "image": "none"}]}},
        },
    }


def main() -> None:
    """Arguments: the Experiment as JSON, the first number of a running trial and the one after the last."""
    experiment, numbers = json.loads(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3]))
    uid = experiment["metadata"]["uid"]
    stop, metrics, settings = threading.Event(), Metrics("operator"), Settings()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    storage = PostgresStorage(os.environ["KUBETUNE_DATABASE_URL"])
    storage.acquire("bench")
    registry = Registry(storage, lambda spec: Engine(spec, storage, time.time))
    registry.put(experiment)
    tools = act.Tools(
        cluster=Still(numbers),
        clock=time.time,
        confirm=storage.confirm,
        wiring=lambda: Wiring(""),
        parallel=act.sequential,
        start=act.at_once,
        withdraw=lambda uid: None,  # nothing waits
        wake=lambda uid: None,
        meter=metrics,
        log_tail_bytes=settings.log_tail_bytes,
    )
    reconciler, queue = Reconciler(registry, tools, settings), Queue()
    reconciler.reconcile(experiment)  # loads the study
    workers = Workers(
        queue,
        lambda key: reconciler.reconcile(experiment),
        registry.drop_engine,
        stop.set,
        Health(settings.relist),
        metrics,
        settings.reconcile_threads,
    )
    workers.start()
    queue.add(uid)
    storage.listen(lambda told: queue.add_after(told or uid, handlers.COALESCE), stop)
    print(READY, flush=True)
    stop.wait()
    workers.stop(5.0)


if __name__ == "__main__":
    main()
