"""Raw Jobs, pods and nodes as the few fields that decisions rest on. Pure: JSON in, views out.

The trial container is the first one in the pod's spec.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from kubetune.api import names
from kubetune.controller.plan import JobPhase, JobView, PodView

Raw: TypeAlias = Mapping[str, Any]

_NOT_STARTED = 1.0  # a container that could not be started has startedAt 1970-01-01T00:00:00Z
_INIT_GOES_ON = ("", "PodInitializing", "ContainerCreating")  # waiting reasons that say nothing went wrong


def epoch(text: str | None) -> float | None:
    """RFC 3339 as seconds since the epoch; None as None."""
    return datetime.datetime.fromisoformat(text).timestamp() if text else None


def experiment_uid(raw: Raw) -> str | None:
    """The UID of the experiment that owns a Job, or of the phase of it (`names.phase_uid`); None: it is neither trial
    nor worker. The label alone could be anybody's."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    uid: str | None = labels.get(names.LABEL_EXPERIMENT_UID)
    if uid is None or uid != _controller(metadata, names.KIND) or not _numbered(labels):
        return None
    return names.phase_uid(uid, labels.get(names.LABEL_PHASE, ""))


def _numbered(labels: Mapping[str, str]) -> bool:
    """A trial's, or a worker's."""
    pairs = ((names.LABEL_TRIAL, names.LABEL_ATTEMPT), (names.LABEL_WORKER, names.LABEL_INCARNATION))
    return any(all(str(labels.get(label)).isdigit() for label in pair) for pair in pairs)


def owner_uid(raw: Raw) -> str | None:
    """The UID of the Job that a pod belongs to."""
    return _controller(raw["metadata"], "Job")


def _controller(metadata: Raw, kind: str) -> str | None:
    owners = metadata.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller") and owner.get("kind") == kind), None)


def version(raw: Raw) -> int | None:
    """The resourceVersion as a number; None where the server does not count (then nothing can be compared)."""
    text = str(raw["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdigit() else None


def conditions(raw: Raw) -> dict[str, Raw]:
    """The status's conditions by type."""
    return {entry["type"]: entry for entry in (raw.get("status") or {}).get("conditions") or ()}


def is_true(condition: Raw) -> bool:
    return condition.get("status") == "True"


def job(raw: Raw) -> JobView:
    """A trial's or worker's Job (one with an `experiment_uid`) without its pod."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    labels = metadata["labels"]
    worker = names.LABEL_WORKER in labels
    found = conditions(raw)
    failed = found.get("Failed") or {}
    phase, ended = JobPhase.PENDING, None
    if is_true(found.get("Complete") or {}):
        phase, ended = JobPhase.SUCCEEDED, status.get("completionTime") or found["Complete"].get("lastTransitionTime")
    elif is_true(failed):
        phase, ended = JobPhase.FAILED, failed.get("lastTransitionTime")
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        number=int(labels[names.LABEL_WORKER if worker else names.LABEL_TRIAL]),
        attempt=int(labels[names.LABEL_INCARNATION if worker else names.LABEL_ATTEMPT]),
        worker=worker,
        created=epoch(metadata.get("creationTimestamp")) or 0.0,
        phase=phase,
        deleting=bool(metadata.get("deletionTimestamp")),
        deleted=epoch(metadata.get("deletionTimestamp")),
        failure=failed.get("reason") if phase is JobPhase.FAILED else None,
        failure_message=str(failed.get("message") or "") if phase is JobPhase.FAILED else "",
        ended=epoch(ended),
    )


def join(view: JobView, pods: Iterable[PodView]) -> JobView:
    """A Job with the newest of its pods, and the phase that both together say.

    A pod that succeeded is enough for SUCCEEDED: its Job says so only a second later, and the slot is free now. A
    failure is the Job's to say: its policy may replace the pod.
    """
    pod = max(pods, key=lambda pod: (pod.created, not pod.deleted, pod.uid), default=None)
    phase, ended = view.phase, view.ended
    if pod is not None and phase is JobPhase.PENDING:
        if pod.phase == "Succeeded":
            phase, ended = JobPhase.SUCCEEDED, pod.ended
        elif pod.started is not None or pod.phase in ("Running", "Failed"):
            phase = JobPhase.RUNNING
    return dataclasses.replace(view, phase=phase, ended=ended, pod=pod)


def pod(raw: Raw, gone: bool = False) -> PodView:
    """A pod; ``gone``: as it was last seen before it was deleted."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    found = conditions(raw)
    scheduled, disruption = found.get("PodScheduled") or {}, found.get("DisruptionTarget") or {}
    container = _trial_container(spec, status)
    waiting, waiting_message = _waiting(container, status)
    terminated, culprit = _terminated(container, status)
    state = (container.get("state") or {}) if container else {}
    return PodView(
        uid=metadata["uid"],
        name=metadata["name"],
        node=spec.get("nodeName"),
        phase=status.get("phase") or "Pending",
        created=epoch(metadata.get("creationTimestamp")) or 0.0,
        started=epoch(status.get("startTime")) if _has_started(state) else None,
        began=_started_at(state) if _has_started(state) else None,
        deleted=gone or bool(metadata.get("deletionTimestamp")),
        gone=gone,
        scheduled=bool(spec.get("nodeName")) or scheduled.get("status") == "True",
        bound=epoch(scheduled.get("lastTransitionTime")) if is_true(scheduled) else None,
        unschedulable=_unschedulable(scheduled),
        unschedulable_since=_unschedulable_since(scheduled),
        disruption=str(disruption.get("reason") or "") if is_true(disruption) else None,
        reason=status.get("reason"),
        waiting=waiting,
        waiting_message=waiting_message,
        image=str((container or {}).get("imageID") or ""),
        exit_code=terminated.get("exitCode"),
        terminated=terminated.get("reason"),
        terminated_message=_last_words(terminated, culprit, status),
        ended=epoch(terminated.get("finishedAt")),
    )


def _trial_container(spec: Raw, status: Raw) -> Raw | None:
    declared = spec.get("containers") or ()
    wanted = declared[0]["name"] if declared else None
    return next((entry for entry in status.get("containerStatuses") or () if entry["name"] == wanted), None)


def talking_container(raw: Raw) -> str | None:
    """The container whose log tells how a pod ended: the trial's if it ran, else the init container that failed."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    container = _trial_container(spec, status)
    if container is not None and _has_started(container.get("state") or {}):
        return str(container["name"])
    return _terminated(container, status)[1] or None


def _has_started(state: Raw) -> bool:
    return bool(state.get("running")) or (_started_at(state) or 0.0) > _NOT_STARTED


def _started_at(state: Raw) -> float | None:
    return epoch((state.get("running") or state.get("terminated") or {}).get("startedAt"))


def _unschedulable(scheduled: Raw) -> str | None:
    if scheduled.get("status") != "False":
        return None
    return str(scheduled.get("message") or scheduled.get("reason") or "no node yet")


def _unschedulable_since(scheduled: Raw) -> float | None:
    """Not of a pod that a queueing system holds back (SchedulingGated): that one's turn will come."""
    found = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return epoch(scheduled.get("lastTransitionTime")) if found else None


def _waiting(container: Raw | None, status: Raw) -> tuple[str | None, str]:
    """What the trial container waits for; while init containers run, what these wait for."""
    waiting = ((container or {}).get("state") or {}).get("waiting") or {}
    if container is not None and (waiting.get("reason") or "") not in _INIT_GOES_ON:
        return str(waiting["reason"]), str(waiting.get("message") or "")
    for entry in status.get("initContainerStatuses") or ():
        blocked = (entry.get("state") or {}).get("waiting") or {}
        if (blocked.get("reason") or "") not in _INIT_GOES_ON:
            return str(blocked["reason"]), f"init container {entry['name']}: {blocked.get('message') or ''}"
    return waiting.get("reason"), str(waiting.get("message") or "")


def _terminated(container: Raw | None, status: Raw) -> tuple[Raw, str]:
    """How the trial container ended and, if an init container ended the pod before it, that one's name."""
    own = ((container or {}).get("state") or {}).get("terminated")
    if own:
        return own, ""
    if status.get("phase") == "Failed":
        for entry in status.get("initContainerStatuses") or ():
            terminated = (entry.get("state") or {}).get("terminated") or {}
            if terminated.get("exitCode"):
                return terminated, str(entry["name"])
    return {}, ""


def _last_words(terminated: Raw, culprit: str, status: Raw) -> str:
    message = str(terminated.get("message") or status.get("message") or "")
    return f"init container {culprit}: {message}".rstrip(": ") if culprit else message


def unreachable_since(raw: Raw) -> float | None:
    """Since when nothing was heard of a node (epoch seconds); None: it answers, or has never been ready."""
    ready = conditions(raw).get("Ready")
    taints = (raw.get("spec") or {}).get("taints") or ()
    tainted = any(taint.get("key") == "node.kubernetes.io/unreachable" for taint in taints)
    if ready is None or is_true(ready) or not (tainted or ready.get("status") == "Unknown"):
        return None
    return epoch(ready.get("lastTransitionTime")) or 0.0
