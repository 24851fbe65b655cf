"""Gathers what one decision rests on: engine, cache, and what this process remembers. I/O, no judgement."""

import collections
import dataclasses

from kubetune.api.spec import ExperimentSpec, InvalidSpec, Json
from kubetune.api.trial import TrialRow
from kubetune.controller import crew, execution, outcome, see_workers
from kubetune.controller.parallelism import Kept
from kubetune.controller.plan import Apart, JobPhase, Observed
from kubetune.controller.ports import Cluster, Engine
from kubetune.controller.steady import Roster
from kubetune.storage.base import KeptSpec


@dataclasses.dataclass(frozen=True)
class RefusedSpec:
    """A spec that cannot be run: its generation, why, and until when (epoch seconds) it is not judged again."""

    generation: int
    error: InvalidSpec
    until: float


@dataclasses.dataclass(frozen=True)
class Written:
    """A write to the cluster that nobody waited for is over. ``result``: what it returned, or its Exception."""

    result: object
    row: TrialRow | None = None  # of a create
    job_uid: str = ""  # of a delete


@dataclasses.dataclass(frozen=True)
class Unanswered:
    """The sampler failed so many times in a row: why the last time, and until when (epoch seconds) it is not asked."""

    times: int
    why: str
    until: float


@dataclasses.dataclass
class Memory:
    """What this process remembers of one experiment. All of it may be lost at any time: then a retry comes sooner, a
    start failure's grace begins anew, an event is told twice; nothing else."""

    backoff: dict[int, float] = dataclasses.field(default_factory=dict)  # number → no Job before (epoch seconds)
    troubled: dict[str, float] = dataclasses.field(default_factory=dict)  # Job UID → start trouble first seen
    over: dict[str, float] = dataclasses.field(default_factory=dict)  # Job UID → first seen ended, its UID recorded
    last_failure: str = ""  # message of the trial that failed last
    elastic: Kept = dataclasses.field(default_factory=Kept)  # what the parallelism in force rests on
    refusals: int = 0  # of Jobs, by a quota
    freed: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=1000))
    asking: float | None = None  # since when the sampler has been asked and has given nothing
    unanswered: Unanswered | None = None  # the sampler fails
    kept: KeptSpec | None = None  # as committed: the spec in force
    kept_read: bool = False  # whether ``kept`` was read at all
    parsed: tuple[KeptSpec, ExperimentSpec] | None = None  # the latest spec that could be parsed, and what it came to
    refused: RefusedSpec | None = None  # the latest spec, if it is not in force
    creating: dict[int, int] = dataclasses.field(default_factory=dict)  # number → attempt whose Job is being created
    allowed: int = 0  # the parallelism in force at the last look
    deleting: set[str] = dataclasses.field(default_factory=set)  # UIDs of Jobs whose deletion is under way
    over_there: collections.deque[Written] = dataclasses.field(default_factory=collections.deque)  # from any thread
    status: Json | None = None  # as last written
    written: float = 0.0  # when
    turn: float | None = None  # when one in which only figures changed may be written
    worker_backoff: dict[int, float] = dataclasses.field(default_factory=dict)  # worker → no Job before
    timings: dict[str, execution.Timing] = dataclasses.field(default_factory=dict)  # of the latest trials
    moved: str = ""  # why `auto` has moved to workers
    released: tuple[int, bool] = (0, False)  # when checkpoints were: how many trials had ended; so had the experiment
    released_at: float = 0.0
    roster: Roster = dataclasses.field(default_factory=Roster)
    phases: dict[str, "Memory"] = dataclasses.field(default_factory=dict)  # of what comes after the search, by name
    began: float | None = None  # of a phase: when its experiment did

    def of_phase(self, name: str, began: float) -> "Memory":
        return self.phases.setdefault(name, Memory(began=began))


def observe(spec: ExperimentSpec, engine: Engine, cluster: Cluster, memory: Memory, now: float) -> Observed:
    """What there is now, as far as it can be seen."""
    jobs = cluster.jobs(spec.uid)
    if memory.deleting:
        jobs = tuple(dataclasses.replace(job, deleting=True) if job.uid in memory.deleting else job for job in jobs)
    running, gone = engine.running, cluster.nodes_gone()
    apart = memory.roster.divide(running, jobs, gone)
    _remember(memory, apart, now)
    found = see_workers.crew(spec, engine, memory, apart, now)
    leases = crew.views(apart.rows, engine.workers)
    if any(job.worker for job in apart.jobs):
        jobs = tuple(job for job in jobs if not job.worker)
        apart = dataclasses.replace(apart, jobs=tuple(job for job in apart.jobs if not job.worker))
    if leases:
        jobs, apart = (*jobs, *leases), dataclasses.replace(apart, jobs=(*apart.jobs, *leases))
    memory.backoff = {number: until for number, until in memory.backoff.items() if number in running and until > now}
    ended, end_message = engine.ended or (None, "")
    best = engine.best
    return Observed(
        running=running,
        counts=engine.counts,
        jobs=jobs,
        exhausted=engine.exhausted,
        askable=engine.askable,
        target_reached=engine.target_reached,
        stagnation=engine.stagnation,
        regret=engine.regret,
        best=best[0].values[0] if best and len(spec.objectives) == 1 else None,
        started=engine.started if memory.began is None else memory.began,
        ended=ended,
        end_message=end_message,
        recent_failures=engine.recent_reasons,
        creating=memory.creating,
        backoff=memory.backoff,
        nodes_gone=gone,
        troubled_since=memory.troubled,
        over_since=memory.over,
        last_failure=memory.last_failure,
        crew=found,
        paused=engine.paused,
        promotable=engine.promotable,
        overtime=engine.overtime,
        more_legs=engine.more_legs,
        order=engine.order,
        apart=apart,
    )


def starts(seen: Observed) -> dict[int, float]:
    """First starts of trials that the study does not know yet, by number."""
    running = seen.stirring.rows
    return {
        job.number: job.pod.started
        for job in seen.stirring.jobs
        if job.pod is not None
        and job.pod.started is not None
        and (row := running.get(job.number)) is not None
        and row.started is None
        and row.attempt == job.attempt
    }


def images(spec: ExperimentSpec, seen: Observed) -> dict[str, tuple[str, int]]:
    """The images that trials run on: by digest, the name in the spec and a trial of it (of a worker's: the next)."""
    found: dict[str, tuple[str, int]] = {}
    workers = seen.crew.jobs if seen.crew else ()
    for job in (*seen.stirring.jobs, *workers):
        if job.pod is not None and job.pod.image and job.pod.began is not None:
            trial = seen.counts.total if job.worker else job.number
            found.setdefault(job.pod.image, (spec.template["spec"]["containers"][0]["image"], trial))
    return found


def _remember(memory: Memory, apart: Apart, now: float) -> None:
    """Since when a Job has been in trouble, or over. What its log says is accepted from the recording of its UID on."""
    jobs = apart.jobs
    troubled = [job.uid for job in jobs if outcome.trouble(job) is not None]
    recorded = {row.job_uid for row in apart.rows.values()}
    over = [job.uid for job in jobs if job.phase in (JobPhase.SUCCEEDED, JobPhase.FAILED) and job.uid in recorded]
    memory.troubled = {uid: memory.troubled.get(uid, now) for uid in troubled}
    memory.over = {uid: memory.over.get(uid, now) for uid in over}
