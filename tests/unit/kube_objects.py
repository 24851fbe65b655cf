"""Jobs, pods and nodes as the API server shows them, for tests: only what is said differs from a healthy one."""

from typing import Any

from kubetune.api import names

Json = dict[str, Any]
EXPERIMENT = "3b3c2f2e-1d9a-4c54-9f6c-0a1b2c3d4e5f"
CREATED = "2026-03-01T10:00:00Z"
STARTED = "2026-03-01T10:00:02Z"
RUNNING = "2026-03-01T10:00:05Z"  # its container, after the image was pulled
ENDED = "2026-03-01T10:05:00Z"
CREATED_AT, STARTED_AT, RUNNING_AT, ENDED_AT = 1772359200.0, 1772359202.0, 1772359205.0, 1772359500.0


def metadata(name: str, uid: str, version: int, owner: tuple[str, str], **more: Any) -> Json:
    labels = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_EXPERIMENT: "digits",
        names.LABEL_EXPERIMENT_UID: EXPERIMENT,
        names.LABEL_TRIAL: "17",
        names.LABEL_ATTEMPT: "2",
    }
    kind, owner_uid = owner
    owners = [{"apiVersion": "x/v1", "kind": kind, "name": "o", "uid": owner_uid, "controller": True}]
    return {
        "name": name,
        "namespace": "team-a",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
        "labels": labels,
        "ownerReferences": owners,
        **more,
    }


def job(uid: str = "job-1", version: int = 10, status: Json | None = None, **more: Any) -> Json:
    """A trial's Job: number 17, attempt 2."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(more.pop("name", f"digits-{uid}"), uid, version, ("Experiment", EXPERIMENT), **more),
        "status": status or {},
    }


def condition(kind: str, reason: str = "", message: str = "", at: str = ENDED, value: str = "True") -> Json:
    return {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": at}


def complete_job(**more: Any) -> Json:
    ending = {"conditions": [condition("SuccessCriteriaMet"), condition("Complete")], "completionTime": ENDED}
    return job(status={"succeeded": 1, "startTime": CREATED, **ending}, **more)


def failed_job(reason: str = "BackoffLimitExceeded", message: str = "Job has reached the limit", **more: Any) -> Json:
    conditions = [condition("FailureTarget", reason, message), condition("Failed", reason, message)]
    return job(status={"failed": 1, "startTime": CREATED, "conditions": conditions}, **more)


def container(name: str = "trial", **state: Json) -> Json:
    return {"name": name, "ready": False, "restartCount": 0, "image": "x", "imageID": "", "state": state}


def running(at: str = RUNNING) -> Json:
    return {"running": {"startedAt": at}}


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, reason: str = "Error", at: str = ENDED, started: str = RUNNING, **more: Any) -> Json:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "startedAt": started,
            "finishedAt": at,
            "containerID": "containerd://0a1b",
            **more,
        }
    }


def pod(
    uid: str = "pod-1",
    version: int = 20,
    owner: str = "job-1",
    node: str | None = "node-a",
    phase: str = "Running",
    containers: list[Json] | None = None,
    init: list[Json] | None = None,
    conditions: list[Json] | None = None,
    created: str = CREATED,
    deletion: str | None = None,
    status: Json | None = None,
    namespace: str = "team-a",
) -> Json:
    """A trial's pod; by default its trial container runs and a second container beside it too."""
    meta = metadata(f"digits-{uid}", uid, version, ("Job", owner), namespace=namespace, creationTimestamp=created)
    if deletion:
        meta["deletionTimestamp"] = deletion
    spec: Json = {"containers": [{"name": "trial"}, {"name": "sidecar"}]} | ({"nodeName": node} if node else {})
    shown = containers if containers is not None else [container("sidecar", **running()), container(**running())]
    base: Json = {"phase": phase, "containerStatuses": shown, "initContainerStatuses": init or []}
    scheduled = [condition("PodScheduled", at=CREATED)] if node else []
    base["conditions"] = scheduled + (conditions or [])
    if node:
        base["startTime"] = STARTED
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": base | (status or {})}


def node(name: str = "node-a", ready: str = "True", since: str = CREATED, taints: tuple[str, ...] = ()) -> Json:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": {"taints": [{"key": key, "effect": "NoExecute"} for key in taints]},
        "status": {
            "conditions": [condition("MemoryPressure", value="False"), condition("Ready", at=since, value=ready)]
        },
    }
