"""What the watches have told of trials' Jobs, their pods and the nodes: views only, no raw objects.

kopf's index does not scale to thousands of Jobs and keeps what was deleted during an outage (FACTS.md), so this cache
is fed by watch events and healed by a periodic list. Events may come late, twice and out of order: a UID's
resourceVersion only grows, and a UID that was deleted never comes back.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kubetune.api import names
from kubetune.controller import outcome, views
from kubetune.controller.plan import JobView, PodView
from kubetune.controller.views import Raw

_TOMBSTONES = 100_000  # deleted UIDs remembered, so that a late event does not bring an object back


@dataclasses.dataclass
class _Job:
    view: JobView
    experiment: str  # its UID
    study: str  # the same, or that of the experiment's phase
    namespace: str
    version: int | None
    touched: float  # when it was last heard of, by this process' monotonic clock
    pods: dict[str, "_Pod"] = dataclasses.field(default_factory=dict)
    joined: JobView | None = None  # with its newest pod; None: one of them has changed since

    def with_pod(self) -> JobView:
        if self.joined is None:
            self.joined = views.join(self.view, (pod.view for pod in self.pods.values()))
        return self.joined

    @property
    def going(self) -> bool:
        """It holds a slot."""
        return not self.view.deleting and self.with_pod().phase in outcome.GOING


@dataclasses.dataclass
class _Pod:
    view: PodView
    version: int | None
    touched: float


_EarlyPods: TypeAlias = dict[tuple[str, str], dict[str, _Pod]]  # (namespace, the Job's UID) → pods by UID


class Cache:
    """Jobs by experiment, each with the last known state of its pods. All methods may be called from any thread.

    The ``apply`` methods return the UIDs of the experiments to be woken: those for which something changed.
    """

    def __init__(self, node_lost_after: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.RLock()
        self._monotonic = monotonic
        self._node_lost_after = node_lost_after
        self._jobs: dict[str, _Job] = {}  # by the Job's UID
        self._experiments: dict[str, dict[str, _Job]] = collections.defaultdict(dict)
        self._names: dict[tuple[str, str], str] = {}  # namespace and name → UID
        self._early_pods: _EarlyPods = collections.defaultdict(dict)  # of Jobs not seen yet
        self._gone: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._freed: set[str] = set()  # experiments
        self._unreachable: dict[str, float] = {}  # node → since when (epoch seconds)
        self._nodes_deleted: set[str] = set()

    # reading

    def jobs(self, experiment: str, namespace: str | None = None) -> tuple[JobView, ...]:
        """The Jobs of an experiment's search, or of a phase of it (`names.phase_uid`), that are there (in its own
        namespace, where that is known), each with its newest pod."""
        with self._lock:
            entries = [entry for entry in self._all(experiment, namespace) if entry.study == experiment]
            return tuple([entry.joined or entry.with_pod() for entry in entries])

    def all_jobs(self, experiment: str, namespace: str | None = None) -> tuple[JobView, ...]:
        """As `jobs`, of the search and of all phases together."""
        with self._lock:
            return tuple([entry.joined or entry.with_pod() for entry in self._all(experiment, namespace)])

    def jobs_by_study(self, experiment: str, namespace: str | None = None) -> dict[str, list[JobView]]:
        """As `all_jobs`, by the UID of the search and of each phase that has any."""
        found: dict[str, list[JobView]] = {}
        with self._lock:
            for entry in self._all(experiment, namespace):
                found.setdefault(entry.study, []).append(entry.with_pod())
        return found

    def _all(self, experiment: str, namespace: str | None) -> list[_Job]:
        entries = self._experiments.get(names.base_uid(experiment), {}).values()
        return [entry for entry in entries if namespace is None or entry.namespace == namespace]

    def job(self, uid: str) -> JobView | None:
        """One Job by its UID."""
        with self._lock:
            entry = self._jobs.get(uid)
            return None if entry is None else entry.with_pod()

    def experiments(self) -> frozenset[str]:
        """The experiments that have Jobs here."""
        with self._lock:
            return frozenset(uid for uid, jobs in self._experiments.items() if jobs)

    def nodes_gone(self, now: float) -> frozenset[str]:
        """Nodes deleted, or unreachable for longer than ``node_lost_after``. ``now``: epoch seconds."""
        with self._lock:
            lost = {name for name, since in self._unreachable.items() if now - since >= self._node_lost_after}
            return frozenset(lost | self._nodes_deleted)

    def frees(self, experiment: str) -> bool:
        """Whether a Job of the experiment has ended, or begun to go, since this was last asked."""
        with self._lock:
            freed = experiment in self._freed
            self._freed.discard(experiment)
            return freed

    # events

    def apply_job(self, raw: Raw, deleted: bool = False) -> frozenset[str]:
        """A Job as a watch, a list or an answer showed it."""
        study = views.experiment_uid(raw)
        if study is None:
            return frozenset()
        with self._lock:
            uid = raw["metadata"]["uid"]
            if deleted:
                return self._remove_job(uid)
            if uid in self._gone:
                return frozenset()
            return self._put_job(uid, study, raw)

    def _put_job(self, uid: str, study: str, raw: Raw) -> frozenset[str]:
        version, view, experiment = views.version(raw), views.job(raw), names.base_uid(study)
        entry = self._jobs.get(uid)
        if entry is None:
            entry = _Job(view, experiment, study, raw["metadata"]["namespace"], version, self._monotonic())
            entry.pods = self._early_pods.pop((entry.namespace, uid), {})
            self._jobs[uid] = self._experiments[experiment][uid] = entry
            self._names[entry.namespace, view.name] = uid
            return frozenset({experiment})
        entry.touched = self._monotonic()
        if _is_older(version, entry.version):
            return frozenset()
        view = dataclasses.replace(view, deleting=view.deleting or entry.view.deleting)  # never taken back
        changed, going = view != entry.view, entry.going
        entry.view, entry.version, entry.joined = view, version, None
        self._compare(entry, going)
        return frozenset({experiment}) if changed else frozenset()

    def _remove_job(self, uid: str) -> frozenset[str]:
        self._bury(uid)
        entry = self._jobs.pop(uid, None)
        if entry is None:
            return frozenset()
        if self._names.get((entry.namespace, entry.view.name)) == uid:
            del self._names[entry.namespace, entry.view.name]
        if entry.going:
            self._freed.add(entry.experiment)
        jobs = self._experiments[entry.experiment]
        del jobs[uid]
        if not jobs:
            del self._experiments[entry.experiment]
        return frozenset({entry.experiment})

    def _compare(self, entry: _Job, going: bool) -> None:
        """A Job was ``going`` before what has just been taken in."""
        if going and not entry.going:
            self._freed.add(entry.experiment)

    def _bury(self, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)

    def mark_deleting(self, uid: str) -> None:
        """A Job whose deletion the server has accepted."""
        with self._lock:
            entry = self._jobs.get(uid)
            if entry is not None:
                entry.view, entry.joined = dataclasses.replace(entry.view, deleting=True), None

    def forget_job(self, namespace: str, name: str, before: float) -> frozenset[str]:
        """A live read found no Job of that name: what was last heard of it ``before`` (monotonic) is out of date."""
        with self._lock:
            uid = self._names.get((namespace, name))
            if uid is None or self._jobs[uid].touched >= before:
                return frozenset()
            return self._remove_job(uid)

    def apply_pod(self, raw: Raw, deleted: bool = False) -> frozenset[str]:
        """A Job's pod. Its last state stays until its Job is gone."""
        owner, namespace = views.owner_uid(raw), raw["metadata"]["namespace"]
        with self._lock:
            job = self._jobs.get(owner or "")
            if owner is None or owner in self._gone or (job is not None and job.namespace != namespace):
                return frozenset()
            pods = self._early_pods[namespace, owner] if job is None else job.pods
            going = job is not None and job.going
            changed = self._put_pod(pods, raw, deleted)
            if job is not None:
                job.joined = None
                self._compare(job, going)
            return frozenset({job.experiment}) if changed and job is not None else frozenset()

    def _put_pod(self, pods: dict[str, _Pod], raw: Raw, deleted: bool) -> bool:
        uid, version = raw["metadata"]["uid"], views.version(raw)
        view, known = views.pod(raw, gone=deleted), pods.get(uid)
        if known is None:
            pods[uid] = _Pod(view, version, self._monotonic())
            return True
        known.touched = self._monotonic()
        if _is_older(version, known.version):
            if not deleted or known.view.gone:
                return False
            view = known.view  # gone is gone, however old the state that the event carries
        gone = deleted or known.view.gone
        view = dataclasses.replace(view, deleted=view.deleted or gone or known.view.deleted, gone=gone)
        changed = view != known.view
        known.view, known.version = view, _later(version, known.version)
        return changed

    def apply_node(self, raw: Raw, deleted: bool = False) -> frozenset[str]:
        """A node: wakes whoever has pods on one that was deleted, or was lost and is back."""
        name = raw["metadata"]["name"]
        with self._lock:
            before = name in self._nodes_deleted or name in self._unreachable
            self._unreachable.pop(name, None)
            self._nodes_deleted.discard(name)
            since = views.unreachable_since(raw)
            if deleted:
                self._nodes_deleted.add(name)
            elif since is not None:
                self._unreachable[name] = since
            after = deleted or since is not None
            return self._on_nodes({name}) if before != after else frozenset()

    def _on_nodes(self, nodes: set[str]) -> frozenset[str]:
        return frozenset(
            entry.experiment
            for entry in self._jobs.values()
            if any(pod.view.node in nodes and not pod.view.deleted for pod in entry.pods.values())
        )

    # healing

    def heal_jobs(self, listed: Iterable[Raw], begun: float) -> frozenset[str]:
        """A full list of our Jobs, begun at ``begun`` (monotonic): what it lacks and was not heard of since, is
        gone."""
        seen: set[str] = set()
        woken: set[str] = set()
        for raw in listed:
            seen.add(raw["metadata"]["uid"])
            woken |= self.apply_job(raw)
        with self._lock:
            missing = [uid for uid, entry in self._jobs.items() if uid not in seen and entry.touched < begun]
            return frozenset(woken.union(*(self._remove_job(uid) for uid in missing)))

    def heal_pods(self, listed: Iterable[Raw], begun: float) -> frozenset[str]:
        """A full list of our pods: one that it lacks was deleted; its last state stays with its Job."""
        seen: set[str] = set()
        woken: set[str] = set()
        for raw in listed:
            seen.add(raw["metadata"]["uid"])
            woken |= self.apply_pod(raw)
        with self._lock:
            for entry in self._jobs.values():
                for uid, pod in entry.pods.items():
                    if uid not in seen and pod.touched < begun and not pod.view.gone:
                        pod.view, entry.joined = dataclasses.replace(pod.view, deleted=True, gone=True), None
                        woken.add(entry.experiment)
            self._early_pods = collections.defaultdict(
                dict,
                {
                    owner: pods
                    for owner, pods in self._early_pods.items()
                    if any(uid in seen or pod.touched >= begun for uid, pod in pods.items())
                },
            )
        return frozenset(woken)

    def heal_nodes(self, listed: Iterable[Raw], begun: float) -> frozenset[str]:
        """A full list of nodes: one that it lacks, and that a pod known before ``begun`` is on, was deleted."""
        seen: set[str] = set()
        woken: set[str] = set()
        for raw in listed:
            seen.add(raw["metadata"]["name"])
            woken |= self.apply_node(raw)
        with self._lock:
            pods = [pod for entry in self._jobs.values() for pod in entry.pods.values()]
            used = {pod.view.node for pod in pods if pod.view.node}
            known = {pod.view.node for pod in pods if pod.view.node and pod.touched < begun}
            deleted = (self._nodes_deleted & used) | (known - seen)
            fresh = deleted - self._nodes_deleted
            self._nodes_deleted = deleted - seen
            self._unreachable = {name: since for name, since in self._unreachable.items() if name in seen}
            return frozenset(woken | self._on_nodes(fresh))


def _is_older(version: int | None, known: int | None) -> bool:
    """Whether a state is one that was seen before (the same counts: it is repeated)."""
    return version is not None and known is not None and version <= known


def _later(version: int | None, known: int | None) -> int | None:
    return version if version is None or known is None else max(version, known)
