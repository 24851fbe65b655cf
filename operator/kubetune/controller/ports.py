"""What the loop asks of the cluster and of an experiment's engine, whoever answers.

`kube` and `engine` are the real ones; the simulator brings its own cluster and drives the same loop with it.
"""

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from kubetune.api.checkpoints import Taken
from kubetune.api.insight import Insight
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.stages import Current
from kubetune.api.stop import Regret
from kubetune.api.trial import AttemptEnd, Counts, JobRecord, Reason, TrialRow, WorkerRow
from kubetune.api.trial import Best as Best
from kubetune.controller.plan import JobView
from kubetune.storage.base import KeptSpec, Steer, StudyRow, Version

Clock = Callable[[], float]  # seconds since the epoch


class Rank(enum.IntEnum):
    """Of calls to the cluster: under pressure the lower go first."""

    READ = 0
    DELETE = 1  # of what still runs: frees what creates need
    CREATE = 2
    CLEAR = 3  # deletes of what has ended; in turn with creates when they pile up


class Parallel(Protocol):
    """Carries out calls to the cluster at the same time, in any order."""

    def __call__(self, calls: Sequence[Callable[[], object]], key: str, rank: Rank) -> list[object]:
        """What each returned, or the ClusterUnavailable that it raised, in their order. Raises what else one raised,
        after all of them.

        Args:
            key: whose calls these are; nobody's many hold up another's few.
        """


class Start(Protocol):
    """Begins calls to the cluster without waiting for them."""

    def __call__(
        self, calls: Sequence[Callable[[], object]], key: str, rank: Rank, done: Callable[[int, object], None]
    ) -> None:
        """``done`` is told the index of each call that is over, and what it returned or the Exception that it raised:
        from any thread, perhaps before this returns. It must be quick, raise nothing and begin nothing.

        Args:
            key: as for `Parallel`.
        """


class Withdrawn(Exception):  # noqa: N818
    """What was begun was taken back before it was sent."""


class ClusterUnavailable(Exception):  # noqa: N818
    """The API server cannot be reached, or said 429 or 5xx: try again later; the request may have been carried out.

    ``busy``: it was not (429).
    """

    def __init__(self, message: str = "", busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy


class Exists(Exception):  # noqa: N818
    """There is an object of that name already."""


class Refused(Exception):  # noqa: N818
    """The API server refused the object for what it says (400, 403, 422). ``passing``: a quota, which may free."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Cluster(Protocol):
    """The truth about Jobs. Reads by `jobs` come from a cache that may lag; the others are live."""

    def jobs(self, experiment_uid: str) -> tuple[JobView, ...]:
        """All Jobs of an experiment's search, or of a phase of it, with the last known state of their pods."""

    def all_jobs(self, experiment_uid: str) -> tuple[JobView, ...]:
        """Those of the search and of all phases."""

    def nodes_gone(self) -> frozenset[str]:
        """Nodes deleted, or unreachable for longer than settings.node_lost_after."""

    def get_job(self, namespace: str, name: str) -> JobView | None:
        """The Job as it is now, read live; None: there is none. Raises ClusterUnavailable."""

    def create_job(self, body: Json, dry_run: bool = False) -> JobView:
        """Raises Exists, Refused or ClusterUnavailable."""

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete the Job with its pods (background propagation), only if it has this UID. Gone already: done.
        Raises ClusterUnavailable."""

    def log_tail(self, namespace: str, pod: str, limit_bytes: int) -> str | None:
        """The end of the trial container's log; None if it cannot be had."""

    def write_status(self, namespace: str, name: str, uid: str, status: Json) -> None:
        """Server-side apply of the whole status. The experiment gone: done. Raises ClusterUnavailable."""

    def event(self, spec: ExperimentSpec, kind: str, reason: str, message: str) -> None:
        """A Kubernetes event on the experiment (kind Normal | Warning), deduplicated; never raises."""


class Engines(Protocol):
    """Where engines live (`registry.Registry` has it)."""

    def engine(self, spec: ExperimentSpec) -> "Engine":
        """The experiment's engine, loaded if need be. Raises InvalidSpec, StorageUnavailable, Fenced."""

    def drop_engine(self, uid: str) -> None:
        """Forget an engine whose memory is not to be trusted any more, or not needed."""

    def kept_spec(self, uid: str) -> KeptSpec | None:
        """The spec that was committed as the one in force. Raises StorageUnavailable."""

    def keep_spec(self, uid: str, kept: KeptSpec) -> None:
        """Commit the spec in force of an experiment that has an engine. Raises StorageUnavailable, Fenced."""

    def phases(self, uid: str) -> list[StudyRow]:
        """The studies of what came after an experiment's search, as they were begun. Raises StorageUnavailable."""

    def versions(self, uid: str) -> list[Version]:
        """The models that an experiment's refits told of. Raises StorageUnavailable."""

    def trials(self, uid: str) -> list[TrialRow]:
        """All trials of one, in order of number. Raises StorageUnavailable."""


class Meter(Protocol):
    """Where the loop's figures go (`metrics.catalog.Metrics` has it)."""

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Of the metric with the attribute ``name`` in `metrics.catalog.Metrics`: set a gauge, add to a counter,
        observe in a histogram. Never raises for a value."""


class Engine(Protocol):
    """One experiment's study in memory; every change is committed before the call returns.

    After any exception from a method the engine's memory is not to be trusted: drop it and load a new one.
    """

    @property
    def study(self) -> str:
        """The name to give to optuna.load_study."""

    @property
    def running(self) -> Mapping[int, TrialRow]:
        """The RUNNING trials by number, but for the paused ones."""

    @property
    def paused(self) -> Mapping[int, TrialRow]:
        """Trials between two legs, by number: RUNNING for Optuna, and nothing of them runs."""

    @property
    def promotable(self) -> Sequence[int]:
        """Paused trials that are to go on now, best first; of many, as many as may be in flight."""

    @property
    def overtime(self) -> Sequence[int]:
        """Paused trials that are to go on before the experiment ends, when nothing else does."""

    @property
    def more_legs(self) -> bool:
        """Whether trials may have more legs than one."""

    def legs(self, number: int) -> int:
        """How many a trial has at most."""

    @property
    def order(self) -> int:
        """The place, in what happens in the study, of what happened last (`storage.record`)."""

    def promote(self, numbers: Sequence[int], offered: bool, known: int) -> list[TrialRow]:
        """Paused trials go on, ``offered``: in workers; ``known``: `order` as it was when that was decided. Returns
        those that do."""

    @property
    def counts(self) -> Counts: ...

    @property
    def started(self) -> float:
        """When the study was created."""

    @property
    def ended(self) -> tuple[Reason, str] | None:
        """The committed end of the study."""

    @property
    def exhausted(self) -> bool:
        """The sampler has nothing left to ask."""

    @property
    def askable(self) -> int:
        """How many trials more it would give now: those of a stage begin when the one before has ended."""

    @property
    def stage(self) -> Current | None:
        """The stage under way, of a spec that has stages."""

    @property
    def target_reached(self) -> bool:
        """A COMPLETE trial reached the target of every objective that has one (at least one has)."""

    @property
    def stagnation(self) -> int:
        """The most trials that ended in a row without an improvement, as `spec.no_improvement` counts them; 0 if it
        does not ask."""

    @property
    def regret(self) -> Regret | None:
        """What `spec.regret_bound` is held against; None: it does not ask."""

    @property
    def recent_reasons(self) -> tuple[Reason, ...]:
        """Reasons of the last ended trials, newest first, at most 10."""

    @property
    def best(self) -> Sequence[Best]:
        """One objective: the best COMPLETE trial (earliest of equals), or nothing. Several: the Pareto front. Feasible
        ones; while there is none, those that break least."""

    def top(self, count: int) -> Sequence[Best]:
        """The ``count`` best COMPLETE trials of one objective, as `best`, no two with the same parameters."""

    @property
    def warm_trials(self) -> int:
        """How many trials of other experiments the sampler began with."""

    @property
    def taken(self) -> Taken | None:
        """The checkpoint of another experiment that every trial starts from."""

    @property
    def infeasible(self) -> int:
        """COMPLETE trials that break a constraint."""

    @property
    def saved_steps(self) -> tuple[int, int]:
        """(steps reported by all ended trials, steps that pruned trials would have taken more to run as long as the
        median COMPLETE trial): what pruning saved."""

    @property
    def sampler(self) -> tuple[str, str]:
        """The name of the sampler in use, and why `auto` picked it ("": it was named)."""

    @property
    def insight(self) -> Insight:
        """What the finished trials say about the search, as of the latest look at them."""

    def update(self, spec: ExperimentSpec) -> Sequence[Steer]:
        """Take over what may change while it runs (limits, parallelism, stopTrials, enqueue, narrow). Returns what
        people did by it that was not on record yet, and is now; and the stages that began since the last time."""

    def tail(self) -> Mapping[int, Reason]:
        """Take in new reports, finishes and read logs; decide about pruning at every new report; commit the stop
        requests. Returns the stops requested now."""

    def ask(self, count: int, offered: bool = False) -> list[TrialRow]:
        """At most ``count`` new trials, committed as RUNNING; fewer if the sampler is exhausted, maxTrials is
        reached, or the sampler is still at it: then the experiment is looked at again when it is not.
        ``offered``: for workers to lease at once."""

    @property
    def workers(self) -> Mapping[int, WorkerRow]:
        """The latest incarnation of each worker, by number."""

    def offer(self, attempts: Mapping[int, int]) -> set[int]: ...

    def withdraw(self, attempts: Mapping[int, int]) -> set[int]: ...

    def leased_log(self, number: int) -> str | None: ...

    def open_worker(self, number: int) -> WorkerRow: ...

    def record_worker(self, number: int, incarnation: int, job_uid: str) -> bool: ...

    def drain_workers(self, numbers: Collection[int]) -> None: ...

    def end_worker(self, number: int, incarnation: int, reason: Reason, message: str) -> None: ...

    def record_jobs(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Whether each is now the recorded Job of its attempt, which is the current one."""

    def record_start(self, starts: Mapping[int, float]) -> None: ...

    def record_images(self, seen: Mapping[str, tuple[str, int]]) -> None:
        """Commit which images trials run on, each once: by digest, its name and a trial of it."""

    def new_attempt(self, number: int, lost: int, reason: Reason, message: str) -> bool: ...

    def request_stop(self, stops: Mapping[int, Reason]) -> None: ...

    def finish_trials(self, ends: Sequence[AttemptEnd]) -> list[TrialRow | Exception]:
        """End trials, or legs of them. Without ``failure``, state and values are settled from a trial's accepted
        reports (COMPLETE, PRUNED if a stop was requested, FAIL with NO_METRIC, NOT_A_NUMBER or TRIAL_FAILED). One
        answer for each: the trial as it is then (RUNNING: its leg has ended), or why nothing ended."""

    def release_checkpoints(self) -> None:
        """Checkpoints of trials that ended may go, but for those of the best and, until the end, of those that others
        may go on from."""

    def end(self, reason: Reason, message: str) -> None:
        """Commit the study's end."""
