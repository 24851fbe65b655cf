"""What `decide` sees (Observed) and says (Plan). Plain data: it runs the same on a cluster and in the simulator."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import TypeAlias

from kubetune.api.trial import Counts, Reason, TrialRow


class JobPhase(enum.StrEnum):
    """A Job and its pod in one word, as far as an outcome needs it."""

    PENDING = "Pending"  # no pod yet, or the pod waits (for a node, an image, a volume)
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclasses.dataclass(frozen=True)
class PodView:
    """The last known state of a Job's pod, kept in the cache after the pod is gone. Times in epoch seconds."""

    uid: str
    name: str
    node: str | None = None
    phase: str = "Pending"  # as Kubernetes has it
    created: float = 0.0
    started: float | None = None  # status.startTime of a pod whose trial container has started, else None
    deleted: bool = False  # has a deletionTimestamp or is gone
    gone: bool = False
    scheduled: bool = False
    bound: float | None = None  # when it was given its node
    unschedulable: str | None = None  # the scheduler's message
    disruption: str | None = None  # reason of condition DisruptionTarget, e.g. EvictionByEvictionAPI
    reason: str | None = None  # pod.status.reason: Evicted, DeadlineExceeded, NodeLost, …
    waiting: str | None = None  # the trial container's waiting reason: ImagePullBackOff, …
    waiting_message: str = ""
    exit_code: int | None = None  # of the trial container
    terminated: str | None = None  # its reason: Completed, Error, OOMKilled, …
    terminated_message: str = ""  # its termination message
    ended: float | None = None  # when the trial container ended


@dataclasses.dataclass(frozen=True)
class JobView:
    """A trial's Job as the cache has it."""

    name: str
    uid: str
    number: int
    attempt: int
    created: float
    phase: JobPhase
    deleting: bool = False
    deleted: float | None = None  # its deletionTimestamp; None: we deleted it a moment ago, or nobody did
    failure: str | None = None  # reason of condition Failed: BackoffLimitExceeded, PodFailurePolicy, …
    failure_message: str = ""
    ended: float | None = None
    pod: PodView | None = None


@dataclasses.dataclass(frozen=True)
class Observed:
    """All that one decision rests on."""

    running: Mapping[int, TrialRow]  # the RUNNING trials, by number
    counts: Counts
    jobs: tuple[JobView, ...]  # every Job of the experiment in the cache, any attempt
    exhausted: bool = False  # the sampler has nothing left to ask (grid)
    target_reached: bool = False
    best: float | None = None
    started: float | None = None  # when the study was created
    ended: Reason | None = None  # the study's end is committed, for this reason
    end_message: str = ""
    recent_failures: tuple[Reason, ...] = ()  # reasons of the last ended trials, newest first
    backoff: Mapping[int, float] = dataclasses.field(default_factory=dict)  # number → not before (epoch seconds)
    nodes_gone: frozenset[str] = frozenset()  # unreachable for longer than nodeLostAfter, or deleted
    troubled_since: Mapping[str, float] = dataclasses.field(default_factory=dict)  # Job UID → start trouble first seen
    over_since: Mapping[str, float] = dataclasses.field(default_factory=dict)  # Job UID → first seen ended, recorded
    last_failure: str = ""  # message of the trial that failed last, as far as this process saw it


@dataclasses.dataclass(frozen=True)
class Ask:
    """Ask the sampler for ``count`` new trials, commit them, create their Jobs."""

    count: int
    reason: Reason


@dataclasses.dataclass(frozen=True)
class CreateJob:
    """A committed trial without a Job: create it (its name is fixed; act looks live before it does)."""

    number: int
    attempt: int
    reason: Reason


@dataclasses.dataclass(frozen=True)
class RecordJob:
    """The current attempt's Job is there and not recorded: adopt it."""

    number: int
    attempt: int
    job: str
    job_uid: str


@dataclasses.dataclass(frozen=True)
class NewAttempt:
    """The current attempt is lost to infrastructure: the next one is current. A Job still there is deleted."""

    number: int
    lost: int
    reason: Reason
    message: str
    job: str | None = None
    job_uid: str | None = None


@dataclasses.dataclass(frozen=True)
class RequestStop:
    """Tell the trial to stop at its next report."""

    number: int
    reason: Reason


@dataclasses.dataclass(frozen=True)
class Finish:
    """The trial's attempt has an outcome: commit the end (the engine settles state and values from all accepted
    reports), then delete the Job. ``failure`` None: ended well, or stopped on request."""

    number: int
    attempt: int
    failure: Reason | None
    message: str
    job: str | None = None
    job_uid: str | None = None


@dataclasses.dataclass(frozen=True)
class DeleteJob:
    """A Job that nothing needs any more."""

    name: str
    uid: str
    reason: Reason


@dataclasses.dataclass(frozen=True)
class End:
    """The experiment is over: commit it. No trial is RUNNING any more."""

    reason: Reason
    message: str


Action: TypeAlias = Ask | CreateJob | RecordJob | NewAttempt | RequestStop | Finish | DeleteJob | End


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now, in this order, and when to look again at the latest (seconds; None: when woken)."""

    actions: tuple[Action, ...]
    state: str  # Pending | Running | Suspended | Stopping | Complete | Failed
    reason: Reason
    message: str
    again_in: float | None = None
