"""A trial's states, the reasons of its end, and rows that controller, engine, gateway and storage pass around."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from kubetune.api.spec import ParamValue


class TrialState(enum.StrEnum):
    """As in Optuna. A trial is RUNNING from the commit of its parameters on, whether or not its pod runs yet."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class Reason(enum.StrEnum):
    """Why a trial, an attempt or an experiment is where it is: condition, event, log line and metric label at once."""

    # a trial's end
    COMPLETED = "Completed"
    PRUNED = "Pruned"  # by the pruner
    NOT_PROMOTED = "NotPromoted"  # paused when nothing more could come
    STOPPED = "Stopped"  # by the user: spec.stopTrials
    EXIT_CODE = "ExitCode"
    OOM_KILLED = "OOMKilled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # the trial's own
    NO_METRIC = "NoMetric"
    NOT_A_NUMBER = "NotANumber"
    IMAGE = "Image"  # pull failed, bad name
    CONFIG = "Config"  # CreateContainerConfigError, start error
    JOB_REFUSED = "JobRefused"  # the API server refused the Job
    TRIAL_FAILED = "TrialFailed"  # the trial itself said so (finish, status failed)
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"  # lost to infrastructure too often
    EXPERIMENT_ENDED = "ExperimentEnded"  # cut short by the end of its experiment
    EXPERIMENT_DELETED = "ExperimentDeleted"
    # an attempt lost to infrastructure: a new attempt, no failure
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    JOB_DELETED = "JobDeleted"
    WORKER_LOST = "WorkerLost"  # the worker said nothing for longer than its lease
    RETURNED = "Returned"  # the worker had to stop and gave the trial back
    SUSPENDED = "Suspended"
    # starting, waiting
    SLOT_FREE = "SlotFree"
    PROMOTED = "Promoted"  # a paused trial goes on
    JOB_MISSING = "JobMissing"  # committed, no Job yet: create it
    UNSCHEDULABLE = "Unschedulable"
    DRAINED = "Drained"  # a worker that is not needed any more
    STALE_ATTEMPT = "StaleAttempt"  # a Job whose attempt is not the current one
    # the parallelism in force
    SPEC = "Spec"  # all that spec.parallelism.max allows
    NO_NODES = "NoNodes"
    QUOTA = "Quota"
    FAIR_SHARE = "FairShare"
    # an experiment's state
    RUNNING = "Running"
    MAX_TRIALS = "MaxTrials"
    SPACE_EXHAUSTED = "SpaceExhausted"  # grid: every cell was asked
    TARGET_REACHED = "TargetReached"
    NO_IMPROVEMENT = "NoImprovement"  # spec.stop.noImprovement
    REGRET_BOUND = "RegretBound"  # spec.stop.regretBound
    MAX_FAILED_TRIALS = "MaxFailedTrials"
    START_FAILURES = "StartFailures"  # the same start failure three times in a row
    EXPERIMENT_DEADLINE = "ExperimentDeadline"
    INVALID_SPEC = "InvalidSpec"
    AWAITING = "Awaiting"  # another experiment, which spec.initCheckpoint names
    PHASE_FAILED = "PhaseFailed"  # what comes after the search did not come to its end


NO_LOSS = frozenset({Reason.SUSPENDED, Reason.UNSCHEDULABLE})  # an attempt given up for these counts against nobody


@dataclasses.dataclass(frozen=True)
class Report:
    """One accepted report. ``seq`` counts 1, 2, … within its trial, over all attempts, without gaps."""

    seq: int
    attempt: int
    step: int
    metrics: Mapping[str, float]  # may hold nan and inf
    time: float  # of acceptance, seconds since the epoch


@dataclasses.dataclass(frozen=True)
class Finish:
    """What the trial itself said of its end."""

    attempt: int
    status: str  # complete | failed | pruned
    message: str
    time: float


@dataclasses.dataclass(frozen=True)
class Exit:
    """How a process that a worker ran for a trial ended. ``reason`` None: well; RETURNED: not by its own account."""

    reason: Reason | None
    message: str
    time: float = 0.0  # seconds since the epoch; when it was committed


@dataclasses.dataclass(frozen=True)
class Lease:
    """Which worker has a trial's current attempt. ``expired``: when it was read, by the database's clock."""

    job_uid: str
    pod_uid: str
    slot: int
    expired: bool = False
    exit: Exit | None = None


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a longer training that is a trial of its own: of which member of a population (0, 1, …), and the trial
    whose checkpoint it goes on from; None: it begins anew."""

    member: int
    parent: int | None


@dataclasses.dataclass(frozen=True)
class Placing:
    """Where the end of a leg stands in what happened in its study (`storage.record`)."""

    order: int
    known: int  # the place up to which was known what had happened when it was decided what follows
    last: tuple[int, float] | None = None  # step and value of the first objective's last report; None: one of its own


@dataclasses.dataclass(frozen=True)
class Leg:
    """An ended leg of a trial: it ended well, by this attempt. Its place in `TrialRow.legs` is its number."""

    attempt: int
    last_step: int | None  # the highest that it, or a leg that it went on from, reported
    values: tuple[float, ...]  # one per objective, as `Objective.value` has it
    resumes: bool = True  # the next leg goes on from here: its reports are of the same series
    broken: float = 0.0  # by how much constraints are (`penalty`)
    placing: Placing | None = None  # None: it ended before that was kept


@dataclasses.dataclass(frozen=True)
class NextLeg:
    """What an attempt comes to that ends its leg and not its trial. ``environment``: of the next leg."""

    values: tuple[float, ...]
    paused: bool
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resumes: bool = True
    broken: float = 0.0
    placing: Placing | None = None


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """A trial as the database has it. Times in seconds since the epoch."""

    number: int
    state: TrialState
    params: Mapping[str, ParamValue]
    attempt: int
    created: float
    job_uid: str | None = None  # of the current attempt; None: not created, or created and not recorded
    started: float | None = None  # the first pod's start, any attempt
    ended: float | None = None
    values: tuple[float, ...] | None = None  # one per objective; PRUNED: the last one; FAIL: None
    reason: Reason | None = None
    message: str = ""
    last_seq: int = 0
    stop_requested: float | None = None
    stop_reason: Reason | None = None  # PRUNED, STOPPED or EXPERIMENT_ENDED
    stop_message: str = ""  # why, where the reason is not all that there is to say
    rung: int | None = None  # of the current attempt, and ended legs: where the pruner judged last, in steps or reports
    finish: Finish | None = None  # of the current attempt
    log_read: bool = False  # of the current attempt: the follower has read its log to the end
    last_step: int | None = None
    last_metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    losses: int = 0  # attempts lost to infrastructure so far; those given up for a `NO_LOSS` are none
    offered: bool = False  # the current attempt is a worker's to run, leased or not; no Job is made for it
    lease: Lease | None = None  # of the current attempt
    constraints: Mapping[str, float] | None = None  # as `Ending` has them
    source: str | None = None  # `spec.Given.source`: a person gave parameters; None: the sampler chose all of them
    parent: int | None = None  # the trial whose checkpoint it goes on from, unless it has one of its own already
    member: int | None = None  # `Segment.member`; None: it is no segment
    leg: int = 0  # the current one, or of a paused trial the one that would be next
    paused: bool = False  # between two legs: RUNNING for Optuna, but nothing of it runs or is to run now
    legs: tuple[Leg, ...] = ()  # those that ended
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of the current leg, beside parameters


@dataclasses.dataclass(frozen=True)
class JobRecord:
    """The Job of a trial's attempt, to be recorded."""

    number: int
    attempt: int
    job_uid: str


@dataclasses.dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, to be settled. ``failure`` None: its Job ended well, or it was stopped on request."""

    number: int
    attempt: int
    failure: Reason | None
    message: str
    log_tail: str | None = None


@dataclasses.dataclass(frozen=True)
class WorkerRow:
    """One incarnation of a worker: a Job whose pod leases trial after trial. Times in seconds since the epoch."""

    number: int  # 0, 1, … of its experiment
    incarnation: int  # 1, 2, …: each is a Job of its own
    created: float
    job_uid: str | None = None  # None: not created, or created and not recorded
    draining: bool = False  # it gets no more leases and exits when it has none
    ended: float | None = None
    reason: Reason | None = None
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Ending:
    """A trial's final state, to be written once."""

    state: TrialState
    reason: Reason
    message: str
    values: tuple[float, ...] | None
    constraints: Mapping[str, float] | None = None  # by name, by how much broken; None: there are none, or not known
    series: Mapping[int, float] | None = None  # the first objective by step; None: as the reports that count have it
    leg: tuple[float, ...] | None = None  # of a trial made of several legs: what the last one came to
    placing: Placing | None = None  # of that leg


def penalty(constraints: Mapping[str, float] | None) -> float:
    """By how much the constraints are broken together; 0: the trial is feasible. As Optuna's samplers add it up."""
    return sum(excess for excess in (constraints or {}).values() if excess > 0)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Trials by state; ``total`` is all that were ever asked. ``running``: but for those that are paused."""

    running: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    lost_attempts: int = 0
    paused: int = 0

    @property
    def total(self) -> int:
        return self.running + self.paused + self.complete + self.pruned + self.failed

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


@dataclasses.dataclass(frozen=True)
class Best:
    """The best trial so far (one objective), or one of the Pareto front (several)."""

    number: int
    values: tuple[float, ...]
    params: Mapping[str, ParamValue]
    broken: Mapping[str, float] = dataclasses.field(default_factory=dict)  # constraints, by how much; empty: feasible
    runs: tuple[float, ...] = ()  # of the first objective, where a trial's value is the mean of several runs


def to_json_metrics(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Metrics as JSON can hold them: nan and ±inf as strings."""
    return {
        name: value if value == value and abs(value) != float("inf") else str(value) for name, value in metrics.items()
    }


def from_json_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The inverse of `to_json_metrics`. Raises ValueError or TypeError for what is no number."""
    return {name: float(value) for name, value in metrics.items()}
