"""An experiment's workers: what is to be begun, drained and ended, and what has become of their leases. Pure.

`decide` knows nothing of workers. A lease is shown to it as a Job (`views`), so a leased trial ends, is lost, stopped
and suspended by the same facts as any other; and what it plans for Jobs is said again for workers (`plan`).
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import Lease, Reason, TrialRow, WorkerRow
from kubetune.controller import outcome
from kubetune.controller.decide import Limits
from kubetune.controller.outcome import Kind, Outcome
from kubetune.controller.plan import (
    Action,
    Ask,
    CreateJob,
    Crew,
    DeleteJob,
    DrainWorkers,
    End,
    EndWorker,
    Finish,
    JobPhase,
    JobView,
    Leased,
    NewAttempt,
    Observed,
    Offer,
    OpenWorker,
    Plan,
    Promote,
    RecordWorker,
)

NO_JOB = "lease/"  # begins the name of what is shown as a Job and is none: no object can be named so
_LOSSES = frozenset(
    {
        Reason.EVICTED,
        Reason.PREEMPTED,
        Reason.NODE_LOST,
        Reason.POD_DELETED,
        Reason.JOB_DELETED,
        Reason.WORKER_LOST,
        Reason.SUSPENDED,
    }
)


# ---- leases as Jobs


def views(running: Mapping[int, TrialRow], workers: Mapping[int, WorkerRow]) -> tuple[JobView, ...]:
    """The leases of current attempts, as Jobs of theirs."""
    by_job = {worker.job_uid: worker for worker in workers.values() if worker.job_uid}
    held = [row.lease.job_uid for row in running.values() if row.lease is not None and row.lease.exit is None]
    return tuple(
        _view(row, row.lease, by_job.get(row.lease.job_uid), alone=held.count(row.lease.job_uid) == 1)
        for row in running.values()
        if row.lease is not None
    )


def _view(row: TrialRow, lease: Lease, worker: WorkerRow | None, alone: bool) -> JobView:
    fate = _fate(lease, worker, alone)
    phase = JobPhase.RUNNING
    if fate.over:
        phase = JobPhase.SUCCEEDED if fate.reason is None else JobPhase.FAILED
    return JobView(
        name=f"{NO_JOB}{row.number}",
        uid=lease.job_uid,
        number=row.number,
        attempt=row.attempt,
        created=row.started or row.created,
        phase=phase,
        ended=lease.exit.time if lease.exit else None,
        leased=fate,
    )


def _fate(lease: Lease, worker: WorkerRow | None, alone: bool) -> Leased:
    """The process's own end first; then the worker's; then its silence."""
    if lease.exit is not None:
        reason = lease.exit.reason
        if reason is Reason.RETURNED:
            return Leased(True, True, _loss(worker), lease.exit.message)
        return Leased(True, False, reason, lease.exit.message)
    if worker is None or worker.ended is not None:
        if worker is not None and worker.reason is Reason.OOM_KILLED and alone:
            return Leased(True, False, Reason.OOM_KILLED, worker.message)
        return Leased(True, True, _loss(worker), (worker.message if worker else "") or "its worker is gone")
    if lease.expired:
        return Leased(True, True, Reason.WORKER_LOST, f"worker {worker.number} has said nothing for a whole lease")
    return Leased()


def _loss(worker: WorkerRow | None) -> Reason:
    if worker is not None and worker.ended is None:
        return Reason.RETURNED
    known = worker is not None and worker.reason in _LOSSES
    return worker.reason if known and worker is not None and worker.reason else Reason.WORKER_LOST


# ---- what follows


def plan(plan: Plan, spec: ExperimentSpec, seen: Observed, now: float, limits: Limits) -> Plan:
    """`decide`'s plan, said for workers too."""
    crew = seen.crew
    if crew is None:
        return plan
    offers = [action for action in plan.actions if isinstance(action, CreateJob) and crew.mode == "workers"]
    others = [action for action in plan.actions if action not in offers]
    actions = [each for action in others if (each := _for_leases(action, crew)) is not None]
    if seen.ended is not None or any(isinstance(action, End) for action in actions):
        return dataclasses.replace(plan, actions=(*_clear(crew), *actions))
    going = plan.reason is Reason.RUNNING and not any(isinstance(action, Finish) for action in actions)
    ask = max(0, _new(spec, seen, crew)) if going and crew.mode == "workers" and not spec.suspend else 0
    again = [] if plan.again_in is None else [now + plan.again_in]
    coming = sum(len(action.numbers) for action in actions if isinstance(action, Promote))
    ask = max(0, ask - coming)
    workers, later = _workers(spec, seen, crew, ask + len(offers), coming, now, limits)
    actions += workers
    fresh = [(offer.number, offer.attempt) for offer in offers if not seen.running[offer.number].offered]
    if fresh or ask:
        actions.append(Offer(tuple(fresh), ask))
    again += later
    return dataclasses.replace(plan, actions=tuple(actions), again_in=max(0.0, min(again) - now) if again else None)


def _for_leases(action: Action, crew: Crew) -> Action | None:
    """The same without the Job that is none; asking is said otherwise."""
    if isinstance(action, Ask) and crew.mode == "workers":
        return None
    if isinstance(action, Promote):
        return dataclasses.replace(action, offered=crew.mode == "workers")
    if isinstance(action, DeleteJob) and action.name.startswith(NO_JOB):
        return None
    if isinstance(action, Finish | NewAttempt) and action.job is not None and action.job.startswith(NO_JOB):
        return dataclasses.replace(action, job=None, job_uid=None)
    return action


def _clear(crew: Crew) -> list[Action]:
    return [DeleteJob(job.name, job.uid, Reason.EXPERIMENT_ENDED) for job in crew.jobs if not job.deleting]


def _new(spec: ExperimentSpec, seen: Observed, crew: Crew) -> int:
    """How many trials to ask now: one for each free slot, and a few ahead of it."""
    draining = {worker.job_uid for worker in crew.workers.values() if worker.draining and worker.ended is None}
    lingers = any(row.lease is not None and row.lease.job_uid in draining for row in seen.running.values())
    active = sum(worker.ended is None and not worker.draining for worker in crew.workers.values())
    most = _most(spec, seen)
    odd = most % crew.slots or active * crew.slots > most  # what waits would find a slot too many
    ahead = 0 if lingers or odd else crew.ahead
    if seen.exhausted:
        return 0
    return min(most + ahead - len(seen.running), seen.left(spec.max_trials))


def _most(spec: ExperimentSpec, seen: Observed) -> int:
    """How many trials may be in flight."""
    return spec.parallelism if seen.force is None else seen.force.current


# ---- workers


def _workers(
    spec: ExperimentSpec, seen: Observed, crew: Crew, coming: int, promoted: int, now: float, limits: Limits
) -> tuple[list[Action], list[float]]:
    """``coming``: trials that this plan offers, and beside them those that it promotes."""
    held: dict[str, list[Lease]] = collections.defaultdict(list)
    for row in seen.running.values():
        if row.lease is not None:
            held[row.lease.job_uid].append(row.lease)
    alive, actions = _fates(spec, seen, crew, held, now, limits)
    known = {(worker.number, worker.incarnation) for worker in alive.values()}
    actions += [
        DeleteJob(job.name, job.uid, Reason.STALE_ATTEMPT)
        for job in crew.jobs
        if not job.deleting and (job.number, job.attempt) not in known and not _is_ended_by(job, actions)
    ]
    wanted = math.ceil(_slots(spec, seen, crew, alive, coming, promoted) / crew.slots)
    working = [worker for worker in alive.values() if not worker.draining]
    placed = {job.uid for job in crew.jobs if _has_node(job)}
    surplus = sorted(working, key=lambda worker: (worker.job_uid in placed, worker.job_uid in held, -worker.number))[
        : max(0, len(working) - wanted)
    ]
    if surplus:
        actions.append(DrainWorkers(tuple(sorted(worker.number for worker in surplus))))
    missing = [worker.number for worker in working if worker.job_uid is None and worker not in surplus]
    missing = [number for number in missing if not any(_is_record(action, number) for action in actions)]
    free = (number for number in range(wanted + len(alive)) if number not in alive)
    missing += [next(free) for _ in range(wanted - len(working))]
    room = len(missing) if seen.force is None else math.ceil(seen.force.open / crew.slots)
    later = [crew.backoff[number] for number in missing if crew.backoff.get(number, 0.0) > now]
    ready = [number for number in missing if crew.backoff.get(number, 0.0) <= now]
    return [*actions, *(OpenWorker(number) for number in ready[:room])], later


def _fates(
    spec: ExperimentSpec, seen: Observed, crew: Crew, held: Mapping[str, Sequence[Lease]], now: float, limits: Limits
) -> tuple[dict[int, WorkerRow], list[Action]]:
    """Who goes on, by number, and what is to be done about each. ``held``: leases by the worker's Job's UID."""
    alive: dict[int, WorkerRow] = {}
    actions: list[Action] = []
    jobs: dict[tuple[int, int], list[JobView]] = collections.defaultdict(list)
    for job in crew.jobs:
        jobs[job.number, job.attempt].append(job)
    for number, worker in crew.workers.items():
        if worker.ended is None:
            mine = jobs.get((worker.number, worker.incarnation), [])
            found = next((job for job in mine if worker.job_uid in (None, job.uid)), None)
            fate = _judge(spec, seen, worker, found, held.get(found.uid, []) if found else [], now, limits)
            actions += fate
            if not any(isinstance(action, EndWorker) for action in fate):
                alive[number] = worker
    return alive, actions


def _is_ended_by(job: JobView, actions: Iterable[Action]) -> bool:
    return any(isinstance(action, EndWorker) and action.job_uid == job.uid for action in actions)


def _is_record(action: Action, number: int) -> bool:
    return isinstance(action, RecordWorker) and action.number == number


def _slots(
    spec: ExperimentSpec, seen: Observed, crew: Crew, alive: Mapping[int, WorkerRow], coming: int, promoted: int
) -> int:
    """How many slots there is work for, in workers that do not drain."""
    if crew.mode != "workers" or spec.suspend:
        return 0
    draining = {worker.job_uid for worker in alive.values() if worker.draining}
    rows = seen.running.values()
    elsewhere = sum(row.job_uid is not None and row.lease is None for row in rows)
    elsewhere += sum(row.lease is not None and row.lease.job_uid in draining for row in rows)
    leased = sum(row.lease is not None and row.lease.job_uid not in draining for row in rows)
    waiting = sum(row.job_uid is None for row in rows)
    nothing_comes = (not coming and seen.counts.total >= spec.max_trials) or seen.exhausted
    if not (waiting or coming or promoted or seen.more_legs) and nothing_comes:
        return 0  # each ends with what it runs, and frees its node
    new = 0 if nothing_comes and seen.more_legs else max(0, spec.max_trials - seen.counts.total)
    return max(0, min(_most(spec, seen) - elsewhere, leased + waiting + promoted + new))


def _judge(
    spec: ExperimentSpec,
    seen: Observed,
    worker: WorkerRow,
    job: JobView | None,
    leases: Sequence[Lease],
    now: float,
    limits: Limits,
) -> list[Action]:
    """What has become of a worker, by its Job, its pod and its leases."""

    def over(reason: Reason, message: str) -> EndWorker:
        name, uid = (None, None) if job is None else (job.name, job.uid)
        return EndWorker(worker.number, worker.incarnation, reason, message, name, uid)

    if spec.suspend:
        return [over(Reason.SUSPENDED, "spec.suspend is set")]
    if job is None:
        if worker.job_uid is not None:
            return [over(Reason.JOB_DELETED, "the worker's Job was deleted")]
        return [over(Reason.DRAINED, "")] if worker.draining else []
    found: list[Action] = []
    if worker.job_uid is None:
        found.append(RecordWorker(worker.number, worker.incarnation, job.uid))
    if job.deleting:
        return found  # by somebody else: what it holds is given back, or lost when it is gone
    if worker.draining and not leases and not _has_node(job) and job.phase is JobPhase.PENDING:
        return [over(Reason.DRAINED, "it has found no node")]
    if any(lease.expired for lease in leases):
        return [over(Reason.WORKER_LOST, "it has said nothing for a whole lease")]
    what = outcome.judge(
        job,
        now,
        nodes_gone=seen.nodes_gone,
        troubled_since=seen.troubled_since.get(job.uid),
        image_grace=limits.image_grace,
        config_grace=limits.config_grace,
        patience=limits.patience,
    )
    if not what.ended:
        return found
    return [over(_reason(what), what.message), *_failed_start(seen, what)]


def _has_node(job: JobView) -> bool:
    return job.pod is not None and job.pod.scheduled


def _reason(what: Outcome) -> Reason:
    if what.kind is Kind.WELL:
        return Reason.DRAINED
    return what.reason or Reason.WORKER_LOST


def _failed_start(seen: Observed, what: Outcome) -> list[Action]:
    """A worker that cannot start fails a trial that waits for one, as the trial's own Job would have failed."""
    if what.kind is not Kind.FAILED or what.reason not in outcome.START_FAILURES:
        return []
    waiting = [row for row in seen.running.values() if row.offered and row.lease is None and row.job_uid is None]
    return [Finish(row.number, row.attempt, what.reason, what.message) for row in waiting[:1]]
