"""What the controller, the engine and the gateway ask of the database, whichever one answers.

`storage.postgres` is the real one; `storage.memory` serves the simulator and keeps the same rules. Every method is
one transaction: it happened whole or not at all. A writer's methods check the writer's epoch in that transaction.
"""

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from kubetune.api.checkpoints import Checkpoint, Leftover, Resumed, Start, Taken
from kubetune.api.spec import Given, Json, Parameter, ParamValue
from kubetune.api.trial import (
    Counts,
    Ending,
    Exit,
    Finish,
    JobRecord,
    Lease,
    Leg,
    NextLeg,
    Reason,
    Report,
    TrialRow,
    TrialState,
    WorkerRow,
)
from kubetune.storage.record import Judged, TrialRecord
from kubetune.storage.series import Piece, Take

REMOVE_AT_ONCE = 20  # checkpoints that one trial is told to remove
HOUR = 3600.0
YOUNG = 6 * HOUR  # an object younger than this may still be committed
SWEEP_EVERY = 6 * HOUR  # between two looks through a study's objects
UPLOADING = 600.0  # seconds in which further uploads need not be recorded
SETTLED = YOUNG + 2 * HOUR  # after its last upload, of which an address is good for an hour, all its objects are old
SWEEP_PATIENCE = 7 * 24 * HOUR  # a study is not purged before, while it is not looked through to the end
TELL_AGAIN = 600.0  # seconds after which another one is told, if they are still there


class StorageUnavailable(Exception):  # noqa: N818
    """The database cannot be reached or refused for a passing reason; try again later, nothing was written
    (or, if the connection broke at commit, the whole transaction may have been: every caller is idempotent)."""


class Fenced(Exception):  # noqa: N818
    """Another operator took over (a higher epoch): this one must stop writing and exit."""


class NotCurrent(Exception):  # noqa: N818
    """The trial is not RUNNING or the attempt is not the current one: what was sent is not accepted."""


class NotRecorded(Exception):  # noqa: N818
    """The attempt's Job is not recorded yet (the operator created it a moment ago): send it again."""


@dataclasses.dataclass(frozen=True)
class StudyRow:
    """One experiment as the database knows it. Times in seconds since the epoch."""

    uid: str
    namespace: str
    name: str
    study_name: str  # for optuna.load_study
    created: float
    ended: float | None = None  # its final condition was reached
    end_reason: Reason | None = None
    end_message: str = ""
    metrics: tuple[str, ...] = ()  # as the study was made, in order of the objectives: the engine refuses others
    directions: tuple[str, ...] = ()  # maximize | minimize, the same


@dataclasses.dataclass(frozen=True)
class KeptSpec:
    """An experiment's spec as its resource had it, and that resource's generation."""

    generation: int
    spec: Json


@dataclasses.dataclass(frozen=True)
class Steer:
    """What people did to a running experiment; `engine.steering` knows the kinds."""

    kind: str
    subject: str  # a set's name, a trial's number, or ""
    detail: Json
    time: float = 0.0  # of the commit, seconds since the epoch
    trial: int | None = None  # number of the next trial then; None: not kept
    order: int | None = None  # its place in what happened (`storage.record`)


@dataclasses.dataclass(frozen=True)
class WarmTrial:
    """A trial of another experiment, its parameters as this experiment's space has them."""

    source: str  # the other's name
    source_uid: str
    number: int  # there
    state: TrialState
    params: Mapping[str, ParamValue]
    values: tuple[float, ...] | None
    last: tuple[int, float] | None
    constraints: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class NewTrial:
    """A trial to be committed: RUNNING, attempt 1, no Job yet. ``offered``: for workers to lease, at once."""

    number: int
    params: Mapping[str, ParamValue]
    offered: bool = False
    given: Given | None = None  # what a person fixed of its parameters
    parent: int | None = None  # as `TrialRow` has it
    member: int | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of its first leg
    known: int | None = None  # place in the order up to which its sampler knew what had happened


@dataclasses.dataclass(frozen=True)
class StudyHistory:
    """What holds for a whole study."""

    study: StudyRow
    spec: KeptSpec | None  # in force
    steering: Sequence[Steer]  # in order
    warm: Sequence[WarmTrial]
    phases: Sequence[str] = ()  # what came after it, as they were begun
    versions: Sequence["Version"] = ()  # models that its refits told of, by number
    taken: Taken | None = None  # another experiment's checkpoint that every trial starts from


@dataclasses.dataclass(frozen=True)
class Stop:
    """Why a trial is to stop; in words where the reason is not all that there is to say."""

    reason: Reason
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """What a pruner knows of an ended trial beside its series."""

    number: int
    reason: Reason | None
    value: float | None  # of the first objective, of a feasible trial
    rung: int | None  # as `TrialRow.rung`, of the last attempt


@dataclasses.dataclass(frozen=True)
class News:
    """What trials and the gateway wrote since the engine last looked."""

    reports: Mapping[int, Sequence[Report]]  # by trial number, ascending seq, current attempt and earlier ones
    finishes: Mapping[int, Finish]  # of current attempts, all there are
    logs_read: frozenset[int]  # trials whose current attempt's log was read to its end
    leases: Mapping[int, Lease] = dataclasses.field(default_factory=dict)  # of current attempts, all there are


class EndedTrial(NamedTuple):
    """What the engine keeps of an ended trial. ``steps``: how many reports the first objective's series has (accepted
    attempt, each step once); ``last``: its highest step, and the value there."""

    number: int
    state: TrialState
    reason: Reason | None
    params: Mapping[str, ParamValue]
    values: tuple[float, ...] | None
    ended: float
    steps: int
    last: tuple[int, float] | None
    constraints: Mapping[str, float] | None = None
    gradient: Mapping[str, float] | None = None  # as `rules.gradient`
    member: int | None = None


@dataclasses.dataclass(frozen=True)
class Version:
    """A model that a refit told of. ``number``: 1, 2, … of the experiment; ``time``: seconds since the epoch."""

    number: int
    phase: str  # the refit's
    address: str
    digest: str
    image: str
    params: Mapping[str, ParamValue]
    time: float


@dataclasses.dataclass(frozen=True)
class Score:
    """What a model came to on the test set. ``name``: of the test's phase; ``time``: seconds since the epoch."""

    name: str
    value: float
    time: float


@dataclasses.dataclass(frozen=True)
class Model:
    """A version of an experiment's model, whose refit is complete; ``scores``: in the order in which they were asked
    for."""

    experiment: str
    version: Version
    scores: tuple[Score, ...] = ()


Settle = Callable[[Sequence[Report], Finish | None], Ending | NextLeg]


@dataclasses.dataclass(frozen=True)
class ToEnd:
    """A trial, or a leg of it, to be ended: by which attempt, and what ``settle`` makes of the reports that count
    (`rules.chain`). It may be asked twice."""

    number: int
    attempt: int
    settle: Settle
    log_tail: str | None = None
    order: int | None = None  # place of the end


def raised(answer: TrialRow | Exception) -> TrialRow:
    """An answer of `EngineStorage.finish_trials`; raises it if it is an exception."""
    if isinstance(answer, Exception):
        raise answer
    return answer


class EngineStorage(Protocol):
    """The single writer's side: the operator."""

    def acquire(self, holder: str) -> int:
        """Take the epoch; from here on every older writer is `Fenced`. Returns the epoch."""

    def confirm(self) -> None:
        """Raises Fenced if another writer took over: to be asked before a write to the cluster that no commit of
        ours has just gone before."""

    def open_study(
        self, uid: str, namespace: str, name: str, metrics: Sequence[str], directions: Sequence[str]
    ) -> StudyRow:
        """The study of an experiment, made if it is not there (an Optuna study and kubetune's row). Idempotent: one
        that is there is returned as it was made, with its own metrics and directions."""

    def save_spec(self, uid: str, kept: KeptSpec) -> None:
        """The spec that is in force from now on. Raises KeyError if there is no such study."""

    def load_spec(self, uid: str) -> KeptSpec | None:
        """The spec that was saved last; None: none was."""

    def steering(self, uid: str) -> list[Steer]:
        """What people did, in order."""

    def record_steering(self, uid: str, steers: Sequence[Steer]) -> None:
        """It takes effect now; their times are not looked at. Raises KeyError if there is no such study."""

    def warm_trials(self, uid: str) -> list[WarmTrial] | None:
        """What the study began with, in order; None: that is not settled yet."""

    def save_warm_trials(self, uid: str, trials: Sequence[WarmTrial]) -> None:
        """Settle it, once. Raises KeyError if it is settled, or there is no such study."""

    def taken_checkpoint(self, uid: str) -> Taken | None:
        """The other experiment's checkpoint that was recorded; None: none was."""

    def latest_checkpoint(self, uid: str, number: int) -> Checkpoint | None:
        """The latest good one of an ended trial that is not released."""

    def take_checkpoint(self, uid: str, taken: Taken) -> Taken:
        """Record it, once, and return what is recorded. From then on, until this experiment is deleted, it is released
        no more, whatever becomes of the one that it is of. Raises NotCurrent: it is released, or that experiment is
        deleted; KeyError: there is no such study."""

    def load_trials(self, uid: str) -> list[TrialRow]:
        """All trials in order of number."""

    def load_running(self, uid: str) -> tuple[list[TrialRow], list[Piece]]:
        """RUNNING trials in order of number and, as of the same moment, their reports of the first objective: of the
        current attempts, in order of acceptance."""

    def load_ended(self, uid: str, after: int, limit: int) -> list[EndedTrial]:
        """At most ``limit`` ended trials with numbers above ``after``, in order of number."""

    def each_series(self, uid: str, state: TrialState, take: Take) -> None:
        """Hand on the first objective's series of all trials that ended in this state: of the accepted attempt, each
        step once, ascending; in pieces of bounded size. What ``take`` raises, this raises."""

    def marks(self, uid: str, state: TrialState) -> list[Mark]:
        """All trials that ended in this state, in order of number."""

    def last_metrics(self, uid: str, numbers: Sequence[int]) -> dict[int, Mapping[str, float]]:
        """The last value of each metric that these trials reported, by number."""

    def count_lost_attempts(self, uid: str) -> int:
        """Attempts lost to infrastructure so far (`TrialRow.losses` of all trials)."""

    def create_trials(self, uid: str, space: Mapping[str, Parameter], trials: Sequence[NewTrial]) -> None:
        """Commit trials as RUNNING, in kubetune's table and Optuna's. Raises if a number is given already; then
        nothing is written; so it does for one of a `Given` that a trial was made of already. Raises NotCurrent if the
        study is deleted, KeyError if there is none."""

    def sources(self, uid: str) -> frozenset[str]:
        """Of which `Given`s, by their sources, there are trials."""

    def record_jobs(self, uid: str, jobs: Sequence[JobRecord]) -> list[bool]:
        """Record the Jobs of current attempts, a hundred in a transaction. False for each whose attempt is not current,
        or a worker's, or for which another Job is recorded: it is not written."""

    def record_job(self, uid: str, number: int, attempt: int, job_uid: str) -> bool:
        """One alone, as `record_jobs`."""
        return self.record_jobs(uid, [JobRecord(number, attempt, job_uid)])[0]

    def record_start(self, uid: str, starts: Mapping[int, float]) -> None:
        """The first pod's start of trials, by number; an earlier one stands."""

    def new_attempt(self, uid: str, number: int, lost: int, reason: Reason, message: str) -> bool:
        """Attempt ``lost`` is over without outcome: the next one is current, without Job, finish and stop request
        kept only if the user asked for it (STOPPED). False if ``lost`` is not current or the trial not RUNNING."""

    def request_stop(self, uid: str, stops: Mapping[int, Reason]) -> None:
        """As `decide`, with nothing more to say."""
        self.decide(uid, {number: Stop(reason) for number, reason in stops.items()}, {})

    def last_order(self, uid: str) -> int:
        """The last place in the order of what happened; 0: nothing did."""

    def decide(
        self, uid: str, stops: Mapping[int, Stop], rungs: Mapping[int, int], judged: Sequence[Judged] = ()
    ) -> None:
        """Of RUNNING trials, by number: these are to stop, and the gateway's answers say so (an earlier request
        stands); those were judged by the pruner (`TrialRow.rung`). ``judged``: how, for the record."""

    def finish_trials(self, uid: str, endings: Sequence[ToEnd]) -> list[TrialRow | Exception]:
        """End trials, a hundred in a transaction: lock their rows, hand all reports that count (`rules.chain`) and the
        current attempt's finish to ``settle``, write the ending in kubetune's table and Optuna's (values, state,
        intermediate values, user attributes); or, if it says `NextLeg`, the ended leg, with the next attempt current
        and without a Job. One answer for each: the trial as it is then, as it is if this attempt had ended it, or a leg
        of it, already; NotCurrent for another attempt, or what ``settle`` raised: then this one is not written, the
        others are."""

    def finish_trial(self, uid: str, number: int, attempt: int, settle: Settle, log_tail: str | None) -> TrialRow:
        """One alone, as `finish_trials`; raises what that answers."""
        return raised(self.finish_trials(uid, [ToEnd(number, attempt, settle, log_tail)])[0])

    def promote(
        self, uid: str, attempts: Mapping[int, int], offered: bool = False, judged: Sequence[Judged] = ()
    ) -> dict[int, TrialRow]:
        """Paused trials (number → attempt) are to go on, ``offered``: in workers. Returns those that are not paused,
        now or before, with this attempt current. ``judged``: for the record, of those that are promoted by this."""

    def ended_legs(self, uid: str) -> list[tuple[int, tuple[Leg, ...]]]:
        """The ended legs of trials that have ended, by number; those without any are left out."""

    def news(self, uid: str, seen: Mapping[int, int]) -> News:
        """What came for RUNNING trials, but for the paused ones, after the sequence numbers ``seen`` (number → last
        seq, 0 if never)."""

    def offer(self, uid: str, attempts: Mapping[int, int]) -> set[int]:
        """Current attempts (number → attempt) of RUNNING trials without a Job are for workers from now on. Returns the
        numbers of those that are offered, now or before."""

    def withdraw(self, uid: str, attempts: Mapping[int, int]) -> set[int]:
        """Offered attempts that nobody leased are no worker's any more. Returns the numbers that are not offered."""

    def leased_log(self, uid: str, number: int) -> str | None:
        """The end of the log that a worker sent at the end of the current attempt."""

    def workers(self, uid: str) -> list[WorkerRow]:
        """The latest incarnation of each worker, by number."""

    def open_worker(self, uid: str, number: int) -> WorkerRow:
        """The current incarnation of a worker; the next one is begun if there is none, or the last one has ended."""

    def record_worker(self, uid: str, number: int, incarnation: int, job_uid: str) -> bool:
        """Record the Job of a worker. False, and no write, if it has ended, or another Job is recorded for it."""

    def drain_workers(self, uid: str, numbers: Collection[int]) -> None:
        """The current incarnations get no more leases."""

    def end_worker(self, uid: str, number: int, incarnation: int, reason: Reason, message: str) -> None:
        """A worker is over: nothing is leased to it any more. What it holds is for `new_attempt` and `finish_trial`."""

    def resumes(self, uid: str) -> list[Resumed]:
        """Which attempts went on from which checkpoints, by trial and attempt."""

    def release_checkpoints(self, uid: str, keep: Collection[int]) -> int:
        """Release those of ended trials, but for the latest of each of ``keep``, and of each that a RUNNING trial may
        go on from, or will: the latest COMPLETE one of each member of a population, while the study has not ended; and
        but for those that another experiment has taken. How many."""

    def leftovers(self) -> list[Leftover]:
        """Experiments that are over, of which released checkpoints are not removed; of deleted ones all are for
        nobody, so they are released by this, but for those that another experiment has taken."""

    def released_objects(self, limit: int) -> list[tuple[str, str]]:
        """Released checkpoints in the object storage that are not removed, the first released ones: (uid, location)."""

    def removed_objects(self, objects: Sequence[tuple[str, str]]) -> None:
        """They are gone."""

    def unswept(self, limit: int) -> list[str]:
        """Studies whose objects are to be looked through: every `SWEEP_EVERY`, until `SETTLED` after the last upload;
        those that have waited longest first."""

    def swept(self, uid: str, begun: float) -> None:
        """Its objects were looked through to the end."""

    def unrecorded(self, uid: str, locations: Sequence[str]) -> list[str]:
        """Those at which no checkpoint of the study was committed, or it was removed."""

    def cleared(self, left: Leftover) -> None:
        """All but what was to stay is removed. Nothing more is if the experiment was deleted since."""

    def end_study(self, uid: str, reason: Reason, message: str) -> StudyRow:
        """Write the experiment's end; an earlier one stands."""

    def studies(self) -> list[StudyRow]:
        """All experiments that are not marked deleted, and all their phases."""

    def phases(self, uid: str) -> list[StudyRow]:
        """The studies of what came after an experiment's search, as they were begun."""

    def versions(self, uid: str) -> list[Version]:
        """The models that an experiment's refits told of, by number."""

    def delete_study(self, uid: str) -> None:
        """The custom resource is gone: end RUNNING trials (FAIL, EXPERIMENT_DELETED) and the study, mark it deleted;
        and so its phases."""

    def remove_reports(self, retention: float) -> bool:
        """Remove reports of trials that ended more than ``retention`` seconds ago, a bounded number of them; whether
        there may be more. The trials stay as they are, their series too, and so does all that Optuna has of them."""

    def purge(self, retention: float) -> int:
        """Remove studies marked deleted more than ``retention`` seconds ago, but for those of which another experiment
        has taken a checkpoint that is not purged itself, and those whose objects are to be looked through
        (`SWEEP_PATIENCE`); how many."""

    def healthy(self) -> bool:
        """Whether the database answers."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Whom a token speaks for, as labels and owner of its pod say; the accepting transaction has the last word."""

    experiment_uid: str
    namespace: str
    experiment: str
    number: int
    attempt: int
    job_uid: str
    pod_uid: str


@dataclasses.dataclass(frozen=True)
class Worker:
    """Whom a worker's token speaks for, as labels and owner of its pod say; the leasing transaction has the last
    word."""

    experiment_uid: str
    namespace: str
    experiment: str
    number: int
    job_uid: str
    pod_uid: str

    def of_trial(self, number: int, attempt: int) -> Identity:
        """The same pod, speaking for a trial that it says it has on lease."""
        return Identity(
            self.experiment_uid, self.namespace, self.experiment, number, attempt, self.job_uid, self.pod_uid
        )


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a trial's latest attempt runs, or ran. ``worker``: (number, incarnation); None: in no worker, so in a pod
    of its own if anywhere. ``started``: the trial's first start, epoch seconds."""

    attempt: int
    running: bool
    started: float | None
    worker: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Ended:
    """A worker's process for a trial has ended. ``log``: the end of what it wrote, None: not worth sending."""

    number: int
    attempt: int
    exit: Exit
    log: str | None = None


@dataclasses.dataclass(frozen=True)
class Granted:
    """What a slot gets: a trial's attempt to run, or nothing now; ``drain``: nor ever again."""

    number: int | None = None
    attempt: int = 0
    params: Mapping[str, ParamValue] = dataclasses.field(default_factory=dict)
    drain: bool = False
    parent: int | None = None  # as `TrialRow` has it
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of its leg


@dataclasses.dataclass(frozen=True)
class Incoming:
    """A report as it came. ``step`` None: one more than the trial's last step (0 at first)."""

    who: Identity
    key: str  # idempotency key, at most 128 characters
    step: int | None
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a trial is told: the report stands (seq), and whether to stop."""

    seq: int
    stop: bool
    reason: str  # "" or a Reason


@dataclasses.dataclass(frozen=True)
class LogPosition:
    """Where a follower stands in one attempt's log. ``since``: RFC 3339 of the last line taken, "" at the start."""

    since: str
    done: bool


class GatewayStorage(Protocol):
    """The gateway's side: stateless replicas, each call acknowledged after its commit."""

    def accept(self, reports: Sequence[Incoming]) -> list[Answer | Exception]:
        """Insert reports in one transaction, in order; a key seen before is answered as the first time (also after the
        trial's end). One answer for each: an Answer, NotCurrent, NotRecorded, ValueError (a step beyond 64 bits) or
        StorageUnavailable (someone holds this trial's row: send this one again)."""

    def finish(self, who: Identity, status: str, message: str) -> Answer:
        """The trial says that it ended (complete | failed | pruned). Raises NotCurrent or NotRecorded."""

    def model(self, who: Identity, address: str, digest: str) -> tuple[Answer, int]:
        """A refit tells of its model; its number is returned. Told again, what is told last stands. Raises NotCurrent,
        NotRecorded, ValueError (it is no refit)."""

    def look(self, who: Identity) -> Answer:
        """Whether to stop. Raises NotCurrent or NotRecorded."""

    def parameters(self, who: Identity) -> Mapping[str, ParamValue]:
        """The trial's parameters. Raises NotCurrent if there is no such trial."""

    def uploading(self, who: Identity) -> Answer:
        """The trial is given an address to send an object to. Raises NotCurrent or NotRecorded."""

    def commit_checkpoint(self, who: Identity, new: Checkpoint) -> tuple[Answer, list[str]]:
        """The trial's checkpoint is written and counts from now on; one that is known is answered as the first time.
        Older ones of the trial that are not needed any more are released. Returns also which of the experiment's
        released ones the trial is to remove. Raises NotCurrent, NotRecorded, or ValueError: its location is taken."""

    def resumable(self, who: Identity) -> list[Checkpoint]:
        """What the trial may go on from, the first one first: its own latest, those before it, then those of the trial
        that it goes on from (`rules.resumes_from`). Raises NotCurrent or NotRecorded."""

    def start(self, who: Identity) -> Start | None:
        """The object that every trial of the pod's experiment starts from; None: none, or it is no object. Raises
        NotCurrent or NotRecorded."""

    def resume(self, who: Identity, location: str | None, damaged: Collection[str]) -> Answer:
        """The attempt goes on from this checkpoint (None: from none), and found these damaged, which are offered no
        more. Raises NotCurrent, NotRecorded, or ValueError: there is none of that location."""

    def removed(self, who: Identity, locations: Sequence[str]) -> Answer:
        """Released checkpoints that are not there any more. Raises NotCurrent or NotRecorded."""

    def lease(self, who: Worker, slot: int | None, seconds: float, ended: Ended | None = None) -> Granted:
        """Take the end of the slot's last trial, if it comes with it, and give the slot (None: none) the first offered
        attempt, for so many seconds from now. A slot has one lease at a time: what it holds without end is given
        again (the answer was lost). An end that is known, or of an attempt that is over, changes nothing. Raises
        NotRecorded, or NotCurrent for a worker that is over."""

    def renew(self, who: Worker, held: Sequence[tuple[int, int]], seconds: float) -> tuple[list[Answer | None], bool]:
        """The worker lives and runs these (number, attempt): their leases are good for so many seconds from now.
        Returns for each whether to stop, None: it is not this worker's any more; and whether the worker is to drain.
        Raises as `lease`, but for NotCurrent: then every answer is None."""

    def listen_for_offers(self, callback: Callable[[str], None], stop: threading.Event) -> None:
        """Call ``callback`` with an experiment's UID whenever its workers may find something new in `lease`, and with
        "" when anything may have come unheard; from another thread, until ``stop`` is set."""

    def claim_log(self, who: Identity, holder: str, seconds: float) -> LogPosition | None:
        """Lease the following of one attempt's log for so long (again by the same holder: extended). None if
        another replica holds it, the attempt is not the current one, or its Job is not recorded yet."""

    def save_log(self, who: Identity, holder: str, since: str, done: bool) -> None:
        """Where the holder stands; ``done``: read to the end after the container ended. Nothing is written if
        another replica holds it by now or the attempt is over."""

    def trials(
        self, namespace: str, name: str, state: str | None, offset: int, limit: int, phase: str = ""
    ) -> tuple[StudyRow, Counts, list[TrialRow]]:
        """The newest study of that name and a page of its trials by number: those of the search, or of a
        phase after it. Raises KeyError if there is none."""

    def history(self, namespace: str, name: str, phase: str = "") -> StudyHistory:
        """The newest study of that name, or a phase after it: how it is searched, and what people did. Raises
        KeyError."""

    def record(self, namespace: str, name: str, offset: int, limit: int, phase: str = "") -> list[TrialRecord]:
        """A page of its trials by number, with all that was decided about them. Raises KeyError."""

    def models(self, namespace: str, name: str | None = None) -> list[Model]:
        """Of the namespace's experiments, or of the one of that name, by name and version; of each at most the latest
        1,000."""

    def trial_reports(self, namespace: str, name: str, number: int, phase: str = "") -> list[Report]:
        """All accepted reports of a trial, every attempt, by seq. Raises KeyError."""

    def log_tail(self, namespace: str, name: str, number: int, phase: str = "") -> str | None:
        """The kept end of a trial's log; None: none kept. Raises KeyError."""

    def place(self, namespace: str, name: str, number: int, phase: str = "") -> Place:
        """Where to look for a trial's log. Raises KeyError."""

    def healthy(self) -> bool:
        """Whether the database answers."""
