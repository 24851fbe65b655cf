"""What `decide` sees (Observed) and says (Plan). Plain data: it runs the same on a cluster and in the simulator."""

import dataclasses
import enum
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from kubetune.api.stop import Regret
from kubetune.api.trial import Counts, Reason, TrialRow, WorkerRow
from kubetune.controller.parallelism import Allowed


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
    began: float | None = None  # when the trial container started
    deleted: bool = False  # has a deletionTimestamp or is gone
    gone: bool = False
    scheduled: bool = False
    bound: float | None = None  # when it was given its node
    unschedulable: str | None = None  # the scheduler's message
    unschedulable_since: float | None = None  # the scheduler tried, and found no node
    disruption: str | None = None  # reason of condition DisruptionTarget, e.g. EvictionByEvictionAPI
    reason: str | None = None  # pod.status.reason: Evicted, DeadlineExceeded, NodeLost, …
    waiting: str | None = None  # the trial container's waiting reason: ImagePullBackOff, …
    waiting_message: str = ""
    image: str = ""  # of the trial container, as the kubelet names what it runs: with the digest
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
    worker: bool = False  # a worker's Job: ``number`` is the worker's, ``attempt`` its incarnation
    leased: "Leased | None" = None  # no Job at all: a trial that a worker has on lease, under its worker's Job's UID


@dataclasses.dataclass(frozen=True)
class Leased:
    """What has become of a lease, in the words of `outcome.Outcome`. ``over`` False: it runs."""

    over: bool = False
    lost: bool = False
    reason: Reason | None = None  # None: it ended well
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Crew:
    """An experiment's workers, where it has any or is to have some."""

    mode: str  # jobs | workers: where attempts begin now
    workers: Mapping[int, WorkerRow]  # the latest incarnations, by number
    jobs: tuple[JobView, ...]  # of workers, any incarnation
    slots: int = 1  # of each worker
    ahead: int = 0  # trials that may wait for a slot
    backoff: Mapping[int, float] = dataclasses.field(default_factory=dict)  # worker → not before (epoch seconds)
    why: str = ""  # why ``mode``, in words for people


@dataclasses.dataclass(frozen=True)
class Apart:
    """The steady trials (`steady.is_steady`), and everything else: their numbers are in none of the others' rows, their
    Jobs none of the others' Jobs."""

    steady: Collection[int]
    rows: Mapping[int, TrialRow]
    jobs: tuple[JobView, ...]


@dataclasses.dataclass(frozen=True)
class Observed:
    """All that one decision rests on."""

    running: Mapping[int, TrialRow]  # the RUNNING trials, by number
    counts: Counts
    jobs: tuple[JobView, ...]  # every Job of the experiment in the cache, any attempt
    exhausted: bool = False  # the sampler has nothing left to ask (grid)
    askable: int | None = None  # trials that it would give now (the next stage waits for the last); None: maxTrials
    target_reached: bool = False
    stagnation: int = 0  # the most trials that ended in a row without an improvement
    regret: Regret | None = None  # what is left to gain, where that is asked for
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
    crew: Crew | None = None
    creating: Mapping[int, int] = dataclasses.field(default_factory=dict)  # number → attempt: its Job is on its way
    force: Allowed | None = None  # the parallelism in force; None: all of the spec's
    paused: Mapping[int, TrialRow] = dataclasses.field(default_factory=dict)  # between two legs; none is in ``running``
    promotable: Sequence[int] = ()  # of them, best first: to go on as slots are free; of many, as many as may run
    overtime: Sequence[int] = ()  # of them: to go on before the end, when nothing else does
    more_legs: bool = False  # trials that run may have another leg
    order: int = 0  # place of what happened last, of what is known here
    apart: Apart | None = None  # ``running`` and ``jobs`` without the steady trials; None: nobody has told them apart

    def left(self, max_trials: int) -> int:
        """How many trials may be asked for now."""
        left = max_trials - self.counts.total
        return left if self.askable is None else min(left, self.askable)

    @property
    def stirring(self) -> Apart:
        """The trials and Jobs that have to be looked at one by one."""
        return self.apart or Apart((), self.running, self.jobs)


@dataclasses.dataclass(frozen=True)
class Ask:
    """Ask the sampler for ``count`` new trials, commit them, create their Jobs."""

    count: int
    reason: Reason


@dataclasses.dataclass(frozen=True)
class Promote:
    """Paused trials, best first, go on with their next leg: commit it, create their Jobs. ``offered``: in workers.
    ``known``: `Observed.order`, for the record."""

    numbers: tuple[int, ...]
    reason: Reason
    offered: bool = False
    known: int = 0


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
    """The trial's attempt has an outcome: commit the end of the trial, or of its leg (the engine settles which, state
    and values from the reports that count), then delete the Job. ``failure`` None: ended well, or stopped on request.
    Of a paused trial, which has no attempt under way: it does not go on any more."""

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


@dataclasses.dataclass(frozen=True)
class Offer:
    """Committed trials without a Job are for workers now; and ``ask`` new ones, offered as they are committed."""

    attempts: tuple[tuple[int, int], ...]  # (number, attempt)
    ask: int = 0


@dataclasses.dataclass(frozen=True)
class OpenWorker:
    """Commit the next incarnation of a worker, or take the one there is, and create its Job."""

    number: int


@dataclasses.dataclass(frozen=True)
class RecordWorker:
    """A worker's Job is there and not recorded: adopt it."""

    number: int
    incarnation: int
    job_uid: str


@dataclasses.dataclass(frozen=True)
class DrainWorkers:
    """They begin nothing new and exit when what they run has ended."""

    numbers: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class EndWorker:
    """A worker is over; its Job, if there is one, is deleted. What it has on lease is for the next look."""

    number: int
    incarnation: int
    reason: Reason
    message: str
    job: str | None = None
    job_uid: str | None = None


Action: TypeAlias = (
    Ask
    | Promote
    | CreateJob
    | RecordJob
    | NewAttempt
    | RequestStop
    | Finish
    | DeleteJob
    | End
    | Offer
    | OpenWorker
    | RecordWorker
    | DrainWorkers
    | EndWorker
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now, in this order, and when to look again at the latest (seconds; None: when woken)."""

    actions: tuple[Action, ...]
    state: str  # Pending | Running | Suspended | Stopping | Complete | Failed
    reason: Reason
    message: str
    again_in: float | None = None
