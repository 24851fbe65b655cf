"""Simulated controllers and kubelets: from a Job to a pod on a node to its end, with all that can come between.

What matters is kept as Kubernetes has it: deleting a Job removes it at once and its pods a moment later; nothing is
heard of a node that is cut off, though its containers run on; a Job whose pod was disrupted fails by its
podFailurePolicy.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kubetune.api.spec import Json
from kubetune.controller.status import timestamp
from kubetune.simulator.api import ApiServer
from kubetune.simulator.census import Census
from kubetune.simulator.world import World

Exit = Callable[[int, str], None]  # exit code, reason
FINALIZER = "example.com/held"
UNREACHABLE_AFTER = 40.0  # seconds of silence until a node is marked


@dataclasses.dataclass
class Node:
    name: str
    slots: int
    reachable: bool = True
    used: int = 0  # of its slots
    held_back: list[Callable[[], None]] = dataclasses.field(default_factory=list)  # what its kubelet has not told yet


@dataclasses.dataclass
class Container:
    """What a kubelet runs. ``trouble``: why it can never start (reason, message)."""

    start: Callable[[Json, Exit], Callable[[], None]]  # pod, exit → kill
    trouble: tuple[str, str] | None = None
    deadline: float | None = None


@dataclasses.dataclass
class Pod:
    """A pod beyond its raw object."""

    name: str
    namespace: str
    job_uid: str
    container: Container
    node: Node | None = None
    over: bool = False  # its container has ended, or never will start
    kill: Callable[[], None] | None = None


class Cluster:
    """Runs Jobs. ``build``: the container of a Job's pod."""

    def __init__(self, world: World, server: ApiServer, nodes: int, slots: int, build: Callable[[Json], Container]):
        self.world, self.server, self._build = world, server, build
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}  # by name
        self.jobs_made: list[Json] = []
        self._known: set[str] = set()  # their UIDs
        self._pods_of: dict[str, list[Pod]] = collections.defaultdict(list)  # by the Job's UID
        self._unbound: dict[str, Pod] = {}  # that wait for a node
        self.disturbed: dict[str, str] = {}  # Job UID → what was done to it
        self.waited: set[str] = set()  # UIDs of Jobs whose pod found no node at some time
        self._slots = slots
        self.census = Census(server, self._is_heard)
        for number in range(nodes):
            self.add_node(f"node-{number}")
        server.watchers.append(self._watch)

    def _watch(self, plural: str, raw: Json, deleted: bool) -> None:
        if plural != "jobs":
            return
        if deleted:
            self.world.soon(0.05, 1.0, lambda: self._collect(raw["metadata"]["uid"]))
        elif raw["metadata"]["uid"] not in self._known:
            self._known.add(raw["metadata"]["uid"])
            self.jobs_made.append(raw)
            self.world.soon(0.05, 1.0, lambda: self._make_pod(raw))

    def _job(self, uid: str) -> Json | None:
        return self.server.of_uid("jobs", uid)

    # ---- pods

    def _make_pod(self, job: Json) -> None:
        metadata = job["metadata"]
        there = self._job(metadata["uid"])
        if there is None or "deletionTimestamp" in there["metadata"]:
            return
        name = f"{metadata['name']}-{metadata['uid'][-5:]}"  # a Job's name may come again, its pods' never
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        body = {
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": metadata["labels"],
                "ownerReferences": [{**owner, "controller": True}],
            },
            "spec": {"containers": [{"name": "trial"}]},
            "status": {"phase": "Pending"},
        }
        self.server.add("pods", body)
        pod = Pod(name, metadata["namespace"], metadata["uid"], self._build(job))
        self.pods[name] = self._unbound[name] = pod
        self._pods_of[pod.job_uid].append(pod)
        self.schedule()

    def schedule(self) -> None:
        """Bind every pod that waits, where a slot is free."""
        for pod in list(self._unbound.values()):
            raw = self._raw(pod)
            if raw is None or "deletionTimestamp" in raw["metadata"]:
                continue
            node = next((node for node in self.nodes.values() if node.reachable and node.used < node.slots), None)
            if node is None:
                self.waited.add(pod.job_uid)
                if not raw["status"].get("conditions"):
                    self._condition(pod, "PodScheduled", "Unschedulable", "0/1 nodes are available", "False")
                continue
            pod.node = node
            node.used += 1
            del self._unbound[pod.name]
            scheduled = {"conditions": [_true("PodScheduled", "", timestamp(self.world.now))]}
            spec, status = {**raw["spec"], "nodeName": node.name}, {**raw["status"], **scheduled}
            self.server.put("pods", {**raw, "spec": spec, "status": status})  # in one write, as the API server does
            self.world.soon(0.2, 3.0, lambda pod=pod: self._tell_from(pod, lambda: self._start(pod)))  # type: ignore[misc]

    def _start(self, pod: Pod) -> None:
        raw = self._raw(pod)
        if raw is None or pod.over or "deletionTimestamp" in raw["metadata"]:
            return
        if pod.container.trouble:
            reason, message = pod.container.trouble
            waiting = {"waiting": {"reason": reason, "message": message}}
            self._status(pod, {"phase": "Pending", "startTime": timestamp(self.world.now), **_container(waiting)})
            return
        running = {"running": {"startedAt": timestamp(self.world.now)}}
        self._status(pod, {"phase": "Running", "startTime": timestamp(self.world.now), **_container(running)})
        pod.kill = pod.container.start(raw, lambda code, reason: self._ended(pod, code, reason))
        if pod.container.deadline is not None:
            self.world.after(pod.container.deadline, lambda: self._ended(pod, 137, "Error", "DeadlineExceeded"))

    def _ended(self, pod: Pod, code: int, reason: str, pod_reason: str | None = None) -> None:
        """The container is over; the API server hears of it when its node is heard of."""
        if pod.over:
            return
        self._kill(pod)
        ended = timestamp(self.world.now)
        terminated = {"exitCode": code, "reason": reason, "startedAt": ended, "finishedAt": ended, "message": ""}
        status = {"phase": "Succeeded" if code == 0 else "Failed", **_container({"terminated": terminated})}
        self._tell_from(pod, lambda: self._told(pod, {**status, "reason": pod_reason}))

    def _told(self, pod: Pod, status: Mapping[str, Any]) -> None:
        if self._raw(pod) is None:
            return
        self._status(pod, status)
        self.schedule()
        self.world.soon(0.05, 1.0, lambda: self._end_job(pod))

    def _end_job(self, pod: Pod) -> None:
        """The Job controller's verdict."""
        job, raw = self._job(pod.job_uid), self._raw(pod)
        if job is None or (job.get("status") or {}).get("conditions"):
            return
        status = (raw or {}).get("status") or {}
        disrupted = any(entry["type"] == "DisruptionTarget" for entry in status.get("conditions") or ())
        now = timestamp(self.world.now)
        if status.get("phase") == "Succeeded":
            told = {"conditions": [_true("Complete", "", now)], "completionTime": now}
        else:
            reason = "PodFailurePolicy" if disrupted else "BackoffLimitExceeded"
            told = {"conditions": [_true("Failed", reason, now)]}
        self.server.put("jobs", {**job, "status": told})

    def _collect(self, job_uid: str) -> None:
        """The Job is gone: so will its pods be."""
        for pod in list(self._pods_of.get(job_uid, ())):
            self._mark_deleted(pod)
            self.world.soon(0.1, 2.0, lambda pod=pod: self._tell_from(pod, lambda: self._remove(pod)))  # type: ignore[misc]

    def _remove(self, pod: Pod) -> None:
        self._kill(pod)
        raw = self._raw(pod)
        if self.pods.pop(pod.name, None) is not None:
            self._pods_of[pod.job_uid].remove(pod)
            if not self._pods_of[pod.job_uid]:
                del self._pods_of[pod.job_uid]
        if raw is not None:
            self.server.remove("pods", raw)
        self.schedule()

    def _kill(self, pod: Pod) -> None:
        if not pod.over and pod.node is not None:
            pod.node.used -= 1
        pod.over = True
        self._unbound.pop(pod.name, None)
        if pod.kill:
            pod.kill()

    # ---- what goes wrong

    def evict(self, pod: Pod, reason: str = "EvictionByEvictionAPI") -> None:
        """Its node wants it gone: a disruption, SIGTERM, the end."""
        if pod.over:
            return
        self.disturbed[pod.job_uid] = reason
        self._condition(pod, "DisruptionTarget", reason, "")
        self._mark_deleted(pod)
        self.world.soon(0.1, 2.0, lambda: self._ended(pod, 137, "Error"))

    def delete_pod(self, pod: Pod) -> None:
        """By hand."""
        if pod.over:
            return
        self.disturbed[pod.job_uid] = "pod deleted"
        self._mark_deleted(pod)
        self.world.soon(0.1, 2.0, lambda: self._ended(pod, 137, "Error"))

    def delete_job(self, job: Json) -> None:
        """By hand."""
        if not (job.get("status") or {}).get("conditions"):
            self.disturbed[job["metadata"]["uid"]] = "job deleted"
            self.server.remove("jobs", job)

    def hold_job(self, job: Json, seconds: float, foreground: bool) -> None:
        """Deleted by hand, and held by somebody's finalizer for a while. ``foreground``: its pods go first."""
        if (job.get("status") or {}).get("conditions") or "deletionTimestamp" in job["metadata"]:
            return
        uid = job["metadata"]["uid"]
        self.disturbed[uid] = "job deleted and held"
        held = self.server.put("jobs", {**job, "metadata": {**job["metadata"], "finalizers": [FINALIZER]}})
        self.server.remove("jobs", held)
        if foreground:
            self._collect(uid)
        self.world.after(seconds, lambda: self._let_go(uid))

    def _let_go(self, uid: str) -> None:
        job = self._job(uid)
        if job is not None:
            self.server.remove(
                "jobs", self.server.put("jobs", {**job, "metadata": {**job["metadata"], "finalizers": []}})
            )

    def add_node(self, name: str) -> None:
        self.nodes[name] = Node(name, self._slots)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": timestamp(self.world.now)}
        self.server.add("nodes", {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [ready]}})

    def cut_off(self, node: Node, seconds: float) -> None:
        """Nothing is heard of a node for a while; its containers run on."""
        if not node.reachable:
            return
        node.reachable = False
        for pod in self.pods.values():
            if pod.node is node:
                self.disturbed[pod.job_uid] = "node cut off"
        self.world.after(UNREACHABLE_AFTER, lambda: self._mark_node(node))
        self.world.after(seconds, lambda: self._back(node))

    def _mark_node(self, node: Node) -> None:
        if not node.reachable and node.name in self.nodes:
            self._ready(node, "Unknown")

    def _back(self, node: Node) -> None:
        if node.name not in self.nodes:
            return
        node.reachable = True
        self._ready(node, "True")
        held, node.held_back = node.held_back, []
        for tell in held:
            tell()
        self.schedule()

    def _ready(self, node: Node, value: str) -> None:
        raw = self.server.get("nodes", "", node.name)
        if raw is not None:
            ready = {"type": "Ready", "status": value, "lastTransitionTime": timestamp(self.world.now)}
            self.server.put("nodes", {**raw, "status": {"conditions": [ready]}})

    def lose(self, node: Node) -> None:
        """A node and all on it are gone for good; another takes its place."""
        raw = self.server.get("nodes", "", node.name)
        if raw is None:
            return
        del self.nodes[node.name]
        self.server.remove("nodes", raw)
        for pod in [pod for pod in self.pods.values() if pod.node is node]:
            self._lose_pod(pod)
        self.add_node(f"{node.name}x")
        self.world.soon(1.0, 30.0, self.schedule)

    def _lose_pod(self, pod: Pod) -> None:
        self.disturbed[pod.job_uid] = "node lost"
        raw = self._raw(pod)
        if raw is not None and raw["status"].get("phase") not in ("Succeeded", "Failed"):
            self._condition(pod, "DisruptionTarget", "DeletionByPodGC", "")
            self._status(pod, {"phase": "Failed"})
        self._kill(pod)
        self.world.soon(0.5, 5.0, lambda: self._end_job(pod))
        self.world.soon(6.0, 9.0, lambda: self._remove(pod))

    # ---- raw objects

    def _raw(self, pod: Pod) -> Json | None:
        return self.server.get("pods", pod.namespace, pod.name)

    def _tell_from(self, pod: Pod, tell: Callable[[], None]) -> None:
        """What a kubelet has to tell: now, or when its node is heard of again; never, if that is gone."""
        if pod.node is None or pod.node.reachable:
            tell()
        else:
            pod.node.held_back.append(tell)

    def _status(self, pod: Pod, change: Mapping[str, Any]) -> None:
        raw = self._raw(pod)
        if raw is not None:
            self.server.put("pods", {**raw, "status": {**raw["status"], **change}})

    def _condition(self, pod: Pod, kind: str, reason: str, message: str, value: str = "True") -> None:
        raw = self._raw(pod)
        if raw is None:
            return
        others = [entry for entry in raw["status"].get("conditions") or () if entry["type"] != kind]
        entry = {**_true(kind, reason, timestamp(self.world.now)), "message": message, "status": value}
        self._status(pod, {"conditions": [*others, entry]})

    def _mark_deleted(self, pod: Pod) -> None:
        raw = self._raw(pod)
        if raw is not None and "deletionTimestamp" not in raw["metadata"]:
            stamped = {**raw["metadata"], "deletionTimestamp": timestamp(self.world.now)}
            self.server.put("pods", {**raw, "metadata": stamped})

    def live_jobs(self, grace: float) -> list[Json]:
        """Jobs in flight; see `census`."""
        return self.census.jobs(grace)

    def _is_heard(self, job_uid: str) -> bool:
        pods = [pod for pod in self._pods_of.get(job_uid, ()) if not pod.over]
        return any(pod.node is None or pod.node.reachable for pod in pods)


def _container(state: Json) -> Json:
    return {"containerStatuses": [{"name": "trial", "state": state}]}


def _true(kind: str, reason: str, now: str) -> Json:
    return {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now}
