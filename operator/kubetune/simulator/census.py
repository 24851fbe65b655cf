"""Which Jobs are in flight, seen from outside the operator and kept as the API server tells of changes.

A Job is in flight until it has ended or is gone, or a pod of it has succeeded: then the Job's end is a formality. One
that is being deleted counts only while a pod of it runs where it is heard of, and for no longer than a grace.
"""

import collections
from collections.abc import Callable

from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.controller import views
from kubetune.simulator.api import ApiServer


class Census:
    """``heard``: whether a pod of the Job with this UID runs on a node that is heard of."""

    def __init__(self, server: ApiServer, heard: Callable[[str], bool]) -> None:
        self._server, self._heard = server, heard
        self._live: dict[tuple[str, bool], dict[str, Json]] = collections.defaultdict(dict)  # whose → Jobs by UID
        self._numbers: dict[tuple[str, bool, int], set[str]] = collections.defaultdict(set)
        self._leaving: dict[str, Json] = {}  # Jobs that are being deleted
        self._over: set[str] = set()  # Jobs of which a pod has succeeded
        server.watchers.append(self._watch)

    def _watch(self, plural: str, raw: Json, deleted: bool) -> None:
        if plural == "pods" and not deleted and (raw.get("status") or {}).get("phase") == "Succeeded":
            uid = raw["metadata"]["ownerReferences"][0]["uid"]
            self._over.add(uid)
            job = self._server.of_uid("jobs", uid)
            if job is not None:
                self._drop(job)
        if plural == "jobs":
            self._job(raw, deleted)

    def _job(self, raw: Json, deleted: bool) -> None:
        self._drop(raw)
        uid = raw["metadata"]["uid"]
        if deleted or uid in self._over or (raw.get("status") or {}).get("conditions"):
            return
        if "deletionTimestamp" in raw["metadata"]:
            self._leaving[uid] = raw
        else:
            self._live[whose(raw)][uid] = raw
            self._numbers[(*whose(raw), number_of(raw))].add(uid)

    def _drop(self, raw: Json) -> None:
        uid = raw["metadata"]["uid"]
        self._leaving.pop(uid, None)
        if self._live[whose(raw)].pop(uid, None) is not None:
            self._numbers[(*whose(raw), number_of(raw))].discard(uid)

    def _lingers(self, job: Json, grace: float) -> bool:
        since = views.epoch(job["metadata"]["deletionTimestamp"]) or 0.0
        return self._heard(job["metadata"]["uid"]) and self._server.now < since + grace

    def _lingering(self, uid: str, worker: bool, grace: float) -> list[Json]:
        return [job for job in self._leaving.values() if whose(job) == (uid, worker) and self._lingers(job, grace)]

    def count(self, uid: str, grace: float, worker: bool = False) -> int:
        """Of an experiment's trials, or of its workers."""
        return len(self._live[uid, worker]) + len(self._lingering(uid, worker, grace))

    def count_of(self, uid: str, number: int, grace: float, worker: bool = False) -> int:
        """Of one trial, or of one worker."""
        lingering = sum(number_of(job) == number for job in self._lingering(uid, worker, grace))
        return len(self._numbers[uid, worker, number]) + lingering

    def jobs(self, grace: float) -> list[Json]:
        live = [job for jobs in self._live.values() for job in jobs.values()]
        return [*live, *(job for job in self._leaving.values() if self._lingers(job, grace))]


def whose(job: Json) -> tuple[str, bool]:
    """(UID of the experiment, or of its phase; whether it is a worker's)."""
    return study_of(job), is_worker(job)


def study_of(raw: Json) -> str:
    """The UID of the experiment whose search a Job or pod belongs to, or that of the phase."""
    labels = raw["metadata"]["labels"]
    return names.phase_uid(labels[names.LABEL_EXPERIMENT_UID], labels.get(names.LABEL_PHASE, ""))


def is_worker(raw: Json) -> bool:
    """Whether a Job or pod is a worker's."""
    return names.LABEL_WORKER in raw["metadata"]["labels"]


def number_of(job: Json) -> int:
    """The trial's, or the worker's."""
    return int(job["metadata"]["labels"][names.LABEL_WORKER if is_worker(job) else names.LABEL_TRIAL])


def trial_of(raw: Json) -> tuple[str, int, int]:
    """(UID of the experiment or its phase, trial, attempt) of a Job or pod."""
    labels = raw["metadata"]["labels"]
    return study_of(raw), int(labels[names.LABEL_TRIAL]), int(labels[names.LABEL_ATTEMPT])
