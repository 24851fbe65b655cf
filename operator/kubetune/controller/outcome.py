"""What has become of an attempt, read from its Job and pod: one name for every way a trial can end.

Pure. An infrastructure loss is told apart from a failure of the trial's own, and waiting for a node is no outcome at
all (SEMANTICS.md, Outcomes). The Job decides that an attempt failed, its pod says why; where the pod's last words have
not come yet (its watch lags behind the Job's), the answer is to wait a moment.
"""

import dataclasses
import enum

from kubetune.api.trial import Reason
from kubetune.controller.plan import JobPhase, JobView, Leased, PodView


class Kind(enum.Enum):
    """What to do about an attempt depends on this alone."""

    WELL = "ended well"
    FAILED = "failed by the trial's own doing"
    LOST = "lost to infrastructure"
    RUNNING = "its container runs"
    STARTING = "not running yet, nothing wrong so far"
    WAITING = "waits for a node"
    TROUBLED = "cannot start, but may yet: within its grace"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one attempt; ``reason`` names FAILED, LOST, WAITING and TROUBLED."""

    kind: Kind
    reason: Reason | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        """The attempt is over."""
        return self.kind in (Kind.WELL, Kind.FAILED, Kind.LOST)


IMAGE_TROUBLE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
CONFIG_TROUBLE = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
KILLED = 137  # the exit code after SIGKILL
GOING = (JobPhase.PENDING, JobPhase.RUNNING)
JUST_BOUND = 30.0  # seconds in which the scheduler's word that a node is there is newer than our cache's of its loss
NO_POD = 30.0  # seconds in which the pod of a Job that is being deleted may yet be seen
START_ERRORS = frozenset({"StartError", "ContainerCannotRun", "ContainerCannotStart"})
START_FAILURES = frozenset({Reason.IMAGE, Reason.CONFIG, Reason.JOB_REFUSED})

# pod.status.reason where the node or its kubelet took the pod away, or turned it away at the door
_TAKEN_BY_NODE = {
    "Evicted": Reason.EVICTED,
    "Preempting": Reason.PREEMPTED,
    "NodeLost": Reason.NODE_LOST,
    "NodeShutdown": Reason.NODE_LOST,
    "Shutdown": Reason.NODE_LOST,
    "Terminated": Reason.NODE_LOST,  # graceful shutdown of the node
    "NodeAffinity": Reason.EVICTED,
    "UnexpectedAdmissionError": Reason.EVICTED,  # a device plugin's, for one
    "OutOfcpu": Reason.EVICTED,
    "OutOfmemory": Reason.EVICTED,
    "OutOfpods": Reason.EVICTED,
    "OutOfephemeral-storage": Reason.EVICTED,
}
# reason of the pod's condition DisruptionTarget
_DISRUPTION = {
    "PreemptionByScheduler": Reason.PREEMPTED,
    "PreemptionByKubeScheduler": Reason.PREEMPTED,
    "DeletionByTaintManager": Reason.EVICTED,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "DeletionByPodGC": Reason.NODE_LOST,
    "TerminationByKubelet": Reason.EVICTED,
}


def trouble(job: JobView) -> Reason | None:
    """IMAGE or CONFIG: the pod waits for something that may never come. Its grace counts from when this began."""
    if job.phase is not JobPhase.PENDING or job.pod is None or job.pod.waiting is None:
        return None
    if job.pod.waiting in IMAGE_TROUBLE:
        return Reason.IMAGE
    return Reason.CONFIG if job.pod.waiting in CONFIG_TROUBLE else None


def holds_slot(job: JobView, now: float, *, nodes_gone: frozenset[str], grace: float) -> bool:
    """It has not ended, and is not on its way out for so long that nobody waits for it (`lost_deletion`). One whose pod
    was never seen may have one that runs: its next attempt may begin, and its slot is kept for the whole grace."""
    if job.phase not in GOING or not job.deleting:
        return job.phase in GOING
    unseen = job.pod is None and job.deleted is not None and now < job.deleted + grace
    return unseen or lost_deletion(job, now, nodes_gone=nodes_gone, grace=grace) is None


def lost_deletion(
    job: JobView, now: float, *, nodes_gone: frozenset[str] = frozenset(), grace: float = 300.0
) -> tuple[Reason, str] | None:
    """Why a Job that somebody is deleting is not waited for any more; None: its pod may still run where we hear of it.

    A Job stays while a finalizer holds it, or (deleted in the foreground) while its pods do; nothing says for how long.
    """
    pod = job.pod
    if pod is not None and _on_lost_node(pod, now, nodes_gone):
        return Reason.NODE_LOST, f"its Job is being deleted, and node {pod.node} is gone or unreachable"
    if pod is not None and (pod.gone or (pod.deleted and pod.phase in ("Succeeded", "Failed"))):
        return Reason.JOB_DELETED, "its Job is being deleted, and its pod has ended"
    if now < deletion_until(job, now, grace):
        return None
    held = "its pod was never seen" if pod is None else f"its pod {pod.name} has not ended"
    return Reason.JOB_DELETED, f"its Job has been on its way out for {now - (job.deleted or now):.0f} s, and {held}"


def deletion_until(job: JobView, now: float, grace: float) -> float:
    """Until when (epoch seconds) a Job that is being deleted is waited for at most."""
    return (now if job.deleted is None else job.deleted) + (grace if job.pod is not None else min(grace, NO_POD))


def judge(
    job: JobView,
    now: float,
    *,
    nodes_gone: frozenset[str] = frozenset(),
    troubled_since: float | None = None,
    image_grace: float = 60.0,
    config_grace: float = 10.0,
    patience: float = 330.0,
) -> Outcome:
    """What has become of the attempt that ``job`` belongs to.

    Args:
        job: A Job that is not being deleted, or whose pod ended by itself before that took it.
        now: Epoch seconds.
        nodes_gone: Nodes deleted or unreachable for longer than the patience with them.
        troubled_since: When its start failure (`trouble`) was first seen; None: just now.
        image_grace, config_grace: Seconds such a trouble may last.
        patience: Seconds to wait, after a Job failed, for its pod's last words: longer than the cache takes to heal.
    """
    if job.leased is not None:
        return _leased(job.leased)
    if job.phase is JobPhase.SUCCEEDED:
        return _succeeded(job)
    lost = _loss(job, now, nodes_gone)
    if lost is not None:
        return lost
    if job.phase is JobPhase.FAILED:
        return _failed(job, now, patience)
    if job.phase is JobPhase.RUNNING:
        return Outcome(Kind.RUNNING)
    return _starting(job, now, troubled_since, image_grace, config_grace)


def _leased(lease: Leased) -> Outcome:
    if not lease.over:
        return Outcome(Kind.RUNNING)
    if lease.lost:
        return Outcome(Kind.LOST, lease.reason, lease.message)
    return Outcome(Kind.WELL if lease.reason is None else Kind.FAILED, lease.reason, lease.message)


def _succeeded(job: JobView) -> Outcome:
    """Exit 0 on the eviction's SIGTERM is a half-done trial, not a complete one."""
    if job.pod is not None and job.pod.disruption is not None:
        return _disrupted(job.pod)
    return Outcome(Kind.WELL)


def _loss(job: JobView, now: float, nodes_gone: frozenset[str]) -> Outcome | None:
    pod = job.pod
    over = job.phase is JobPhase.FAILED
    if over and job.failure == "PodFailurePolicy" and (pod is None or pod.disruption is None):
        return Outcome(Kind.LOST, Reason.EVICTED, job.failure_message or "the pod was disrupted")
    if pod is None:
        return None
    if _on_lost_node(pod, now, nodes_gone):
        return Outcome(Kind.LOST, Reason.NODE_LOST, f"node {pod.node} is gone or unreachable")
    if not over:
        return None
    if pod.disruption is not None:
        return _disrupted(pod)
    if pod.reason in _TAKEN_BY_NODE:
        message = f"{pod.reason} on node {pod.node}: {pod.terminated_message}".rstrip(": ")
        return Outcome(Kind.LOST, _TAKEN_BY_NODE[pod.reason], message)
    if pod.deleted and "DeadlineExceeded" not in (pod.reason, job.failure):
        return Outcome(Kind.LOST, Reason.POD_DELETED, f"pod {pod.name} was deleted")
    return None


def _on_lost_node(pod: PodView, now: float, nodes_gone: frozenset[str]) -> bool:
    lately = pod.bound is not None and now - pod.bound < JUST_BOUND
    return pod.node in nodes_gone and not lately and pod.phase not in ("Succeeded", "Failed")


def _disrupted(pod: PodView) -> Outcome:
    reason = _DISRUPTION.get(pod.disruption or "", Reason.EVICTED)
    return Outcome(Kind.LOST, reason, f"pod {pod.name} on node {pod.node}: {pod.disruption or 'disrupted'}")


def _failed(job: JobView, now: float, patience: float) -> Outcome:
    pod = job.pod
    if job.failure == "DeadlineExceeded":
        return Outcome(Kind.FAILED, Reason.DEADLINE_EXCEEDED, job.failure_message or "the Job's deadline is over")
    if pod is not None and pod.reason == "DeadlineExceeded":
        return Outcome(Kind.FAILED, Reason.DEADLINE_EXCEEDED, "ran longer than deadline.trial")
    if pod is None or (pod.phase not in ("Failed", "Succeeded") and pod.exit_code is None):
        if now - (job.ended or now) < patience:  # its last words are under way
            return Outcome(Kind.RUNNING)
        message = f"the Job failed ({job.failure}) and its pod's end was never seen"
        return Outcome(Kind.LOST, Reason.POD_DELETED, message)
    if pod.terminated == "OOMKilled":
        return Outcome(Kind.FAILED, Reason.OOM_KILLED, "killed for memory: raise resources.limits.memory")
    if pod.terminated in START_ERRORS:
        return Outcome(Kind.FAILED, Reason.CONFIG, _with(f"could not start ({pod.terminated})", pod.terminated_message))
    return Outcome(Kind.FAILED, Reason.EXIT_CODE, _exit(job, pod))


def _exit(job: JobView, pod: PodView) -> str:
    if pod.exit_code == KILLED:
        words = (
            "killed by SIGKILL; for memory, often, which a busy node does not always tell: see resources.limits.memory"
        )
        return _with(f"exited with code {pod.exit_code} ({words})", pod.terminated_message)
    if pod.exit_code:
        return _with(f"exited with code {pod.exit_code}", pod.terminated_message)
    return _with("another container of the pod failed", pod.terminated_message or job.failure_message)


def _starting(
    job: JobView, now: float, troubled_since: float | None, image_grace: float, config_grace: float
) -> Outcome:
    pod = job.pod
    if pod is None:
        return Outcome(Kind.STARTING, None, "no pod yet")
    reason = trouble(job)
    if reason is not None:
        grace = image_grace if reason is Reason.IMAGE else config_grace
        if pod.waiting == "InvalidImageName":
            grace = 0.0
        over = now - (now if troubled_since is None else troubled_since) >= grace
        message = _with(str(pod.waiting), pod.waiting_message)
        return Outcome(Kind.FAILED if over else Kind.TROUBLED, reason, message)
    if not pod.scheduled:
        return Outcome(Kind.WAITING, Reason.UNSCHEDULABLE, pod.unschedulable or "not scheduled yet")
    return Outcome(Kind.STARTING, None, pod.waiting or "")


def _with(what: str, detail: str) -> str:
    return f"{what}: {detail.strip()}" if detail.strip() else what
