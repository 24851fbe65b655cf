"""The cluster as end-to-end tests see it: from outside, by kubectl and the database, never through kubetune's code."""

import dataclasses
import json
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
NAMESPACE = "kubetune"  # of the release under test
CHART = pathlib.Path(__file__).parents[2] / "charts" / "kubetune"
IMAGE_PREFIX = os.environ.get("IMAGE_PREFIX", "")  # a registry with our images, where the cluster is one of your own
TRIALS = "kubetune.experiment_trials t JOIN kubetune.experiments e ON e.id = t.experiment_id"
EVERYTHING = os.environ.get("KUBETUNE_TEST_ALL") == "1"  # make test-all


class CommandError(AssertionError):
    """A command ended with another exit code than 0; the message holds what it printed."""


def run(*command: str, stdin: str | None = None, timeout: float = 120) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
    return run("kubectl", *arguments, stdin=stdin, timeout=timeout)


def kubectl_json(*arguments: str) -> Json:
    answer: Json = json.loads(kubectl(*arguments, "-o", "json"))
    return answer


def upgrade(*values: str) -> None:
    """`helm upgrade` of the release; ``values``: its flags, which say what becomes of those that it has."""
    command = ("helm", "upgrade", "kubetune", str(CHART), "--namespace", NAMESPACE, *values)
    run(*command, "--wait", "--timeout", "4m", timeout=300)


def helm_values() -> Json:
    """What the release was installed with, beside the chart's defaults."""
    found: Json = json.loads(run("helm", "get", "values", "kubetune", "--namespace", NAMESPACE, "-o", "json")) or {}
    return found


def wait_for(what: str, check: Callable[[], Any], timeout: float = 120, every: float = 0.5) -> Any:
    """The first true value of ``check``; a failure tells what was waited for and what was seen last."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            seen: Any = check()
            if seen:
                return seen
        except CommandError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s for {what}; last seen: {seen}")
        time.sleep(every)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment in a namespace of its test."""

    namespace: str
    name: str

    def get(self) -> Json:
        return kubectl_json("get", "experiment", self.name, "-n", self.namespace)

    def status(self) -> Json:
        status: Json = self.get().get("status") or {}
        return status

    def patch(self, spec: Json) -> None:
        patch = json.dumps({"spec": spec})
        kubectl("patch", "experiment", self.name, "-n", self.namespace, "--type=merge", "-p", patch)

    def delete(self) -> None:
        kubectl("delete", "experiment", self.name, "-n", self.namespace, "--wait=true", timeout=60)

    def wait(self, condition: str, timeout: float = 300) -> Json:
        """Until the condition is True; its failure shows the whole status."""

        def check() -> bool:
            return any(
                entry["type"] == condition and entry["status"] == "True"
                for entry in self.status().get("conditions", ())
            )

        try:
            wait_for(f"condition {condition} of {self.name}", check, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(), indent=1)}") from None
        return self.status()

    def condition(self, kind: str) -> Json:
        found: Json = next(entry for entry in self.status()["conditions"] if entry["type"] == kind)
        return found

    def jobs(self) -> list[Json]:
        selector = f"kubetune.dev/experiment={self.name}"
        jobs: list[Json] = kubectl_json("get", "jobs", "-n", self.namespace, "-l", selector)["items"]
        return jobs

    def pods(self) -> list[Json]:
        selector = f"kubetune.dev/experiment={self.name}"
        pods: list[Json] = kubectl_json("get", "pods", "-n", self.namespace, "-l", selector)["items"]
        return pods

    def running_pods(self) -> list[Json]:
        return [pod for pod in self.pods() if pod["status"].get("phase") == "Running"]

    def uid(self) -> str:
        return str(self.get()["metadata"]["uid"])

    def trials(self) -> list[Json]:
        """kubetune's own rows, straight from the database."""
        rows = sql(
            "SELECT json_build_object('number', t.number, 'state', t.state, 'reason', t.reason, 'attempt', t.attempt,"
            " 'message', t.message, 'values', t.objective_values, 'params', t.params, 'source', t.source,"
            " 'parent', t.parent)"
            f" FROM {TRIALS} WHERE e.uid = '{self.uid()}' ORDER BY t.number"
        )
        return [json.loads(row) for row in rows]


def sql(statement: str) -> list[str]:
    """Rows of one statement, by psql in the bundled PostgreSQL's pod; columns joined by |."""
    pod = database_pod()
    out = kubectl(
        "exec", "-n", NAMESPACE, pod, "-c", "postgresql", "--",
        "psql", "-U", "kubetune", "-d", "kubetune", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement,
    )  # fmt: skip
    return [line for line in out.splitlines() if line]


def component_pods(component: str) -> list[str]:
    """Names of the release's pods of one component: operator, gateway, postgresql."""
    selector = f"app.kubernetes.io/instance=kubetune,app.kubernetes.io/component={component}"
    items = kubectl_json("get", "pods", "-n", NAMESPACE, "-l", selector)["items"]
    return [str(item["metadata"]["name"]) for item in items if not item["metadata"].get("deletionTimestamp")]


def database_pod() -> str:
    return str(wait_for("the database's pod", lambda: component_pods("postgresql"))[0])


def component_ready(component: str) -> bool:
    selector = f"app.kubernetes.io/instance=kubetune,app.kubernetes.io/component={component}"
    items = kubectl_json("get", "pods", "-n", NAMESPACE, "-l", selector)["items"]
    return any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for item in items
        if not item["metadata"].get("deletionTimestamp")
        for entry in item["status"].get("conditions", ())
    )


def manifest(name: str, script: str, **spec: Any) -> Json:
    """An experiment whose trials run a Python script on the trial base image."""
    body: Json = {
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"double": [0, 1]}, "k": {"int": [1, 9]}},
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "seed": 7,
        "maxTrials": 4,
        "parallelism": {"max": 2},
        "execution": "jobs",  # what most tests look at is a trial's own Job; test_workers.py has the others
        "template": {
            "spec": {
                "terminationGracePeriodSeconds": 2,
                "containers": [
                    {
                        "name": "trial",
                        "image": f"{IMAGE_PREFIX}kubetune/trial:0.1.0",
                        "command": ["python3", "-c", script],
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    }
                ],
            }
        },
    }
    body.update(spec)
    return {"apiVersion": "kubetune.dev/v1alpha1", "kind": "Experiment", "metadata": {"name": name}, "spec": body}


def apply(namespace: str, body: Json) -> Experiment:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body))
    return Experiment(namespace, str(body["metadata"]["name"]))


class JobAudit:
    """A watch on a namespace's Jobs and pods that runs beside kubetune and believes nothing it says.

    The two watches are put in order by their resource versions, one count for the whole server. A Job is live
    from its creation until it has ended, is being deleted, or its pod has succeeded (its own word comes later).

    ``names``: every Job ever seen, by (trial, attempt); ``overlaps``: trials with two live Jobs at one moment;
    ``most``: the most live Jobs at once.
    """

    def __init__(self, namespace: str) -> None:
        self._paths = [f"/apis/batch/v1/namespaces/{namespace}/jobs", f"/api/v1/namespaces/{namespace}/pods"]
        self._events: list[Json] = []
        self._stop = threading.Event()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads = [threading.Thread(target=self._follow, args=(path,), daemon=True) for path in self._paths]

    def __enter__(self) -> "JobAudit":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for process in self._processes.values():
            process.terminate()
        for thread in self._threads:
            thread.join(timeout=10)

    def _follow(self, path: str) -> None:
        while not self._stop.is_set():
            command = ["kubectl", "get", "--raw", f"{path}?watch=true"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                self._processes[path] = process
                assert process.stdout
                for line in process.stdout:
                    self._events.append(json.loads(line))
            time.sleep(0.2)

    @property
    def names(self) -> dict[tuple[int, int], set[str]]:
        found: dict[tuple[int, int], set[str]] = {}
        for event in list(self._events):
            if event["object"]["kind"] == "Job" and (who := _attempt_of(event["object"])):
                found.setdefault(who, set()).add(event["object"]["metadata"]["uid"])
        return found

    @property
    def overlaps(self) -> set[int]:
        return {trial for trials in self._moments() for trial in trials if trials.count(trial) > 1}

    @property
    def most(self) -> int:
        return max(map(len, self._moments()), default=0)

    def _moments(self) -> list[list[int]]:
        """The trials of the live Jobs after each event."""
        live: dict[str, int] = {}
        over: set[str] = set()
        moments = []
        for event in sorted(self._events, key=lambda event: int(event["object"]["metadata"]["resourceVersion"])):
            it, who = event["object"], _attempt_of(event["object"])
            if who is None:
                continue
            uid = it["metadata"]["uid"] if it["kind"] == "Job" else it["metadata"]["ownerReferences"][0]["uid"]
            if it["kind"] == "Pod":
                over |= {uid} if it["status"].get("phase") == "Succeeded" else set()
            elif event["type"] == "DELETED" or _has_ended(it):
                over.add(uid)
            else:
                live[uid] = who[0]
            if uid in over:
                live.pop(uid, None)
            moments.append(list(live.values()))
        return moments


def _attempt_of(raw: Json) -> tuple[int, int] | None:
    labels = raw["metadata"].get("labels", {})
    if "kubetune.dev/trial" not in labels:
        return None
    return int(labels["kubetune.dev/trial"]), int(labels["kubetune.dev/attempt"])


def _has_ended(job: Json) -> bool:
    conditions = job["status"].get("conditions", ())
    ended = any(entry["type"] in ("Complete", "Failed") and entry["status"] == "True" for entry in conditions)
    return ended or bool(job["metadata"].get("deletionTimestamp"))
