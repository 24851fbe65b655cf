"""What to do about an experiment now: a pure function of its spec, of what was observed, and of the time.

Trial by trial a chain of facts is asked, each a function named after the fact it finds; the first that holds says what
follows. Then the slots are filled, then the end is found. Every action carries its reason.

What is observed may be late (the Jobs come from a cache). Nothing is done twice or lost for it:
- A Job created a moment ago may be missing, though the cache takes in our own writes at once; one that has succeeded
  may look as if it ran on a node that is gone. `NewAttempt` for JOB_DELETED and NODE_LOST is carried out by `act`
  only after a live read has not said otherwise.
- A Job that we do not see and have not recorded is created again under the same name: the API server answers 409, and
  what is there is adopted.
- A Job deleted a moment ago may still be shown: deleting is by UID, and 404 means done.

A plan that ends trials starts none: whoever carries it out looks again at once, so that a target just reached, or a
third start failure in a row, is known before anything new begins.
"""

import dataclasses
from collections.abc import Callable, Mapping

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import NO_LOSS, Reason, TrialRow
from kubetune.controller import outcome
from kubetune.controller.closing import Closing, deadline, final_state, find_closing
from kubetune.controller.outcome import Kind, Outcome
from kubetune.controller.parallelism import Allowed
from kubetune.controller.plan import (
    Action,
    Ask,
    CreateJob,
    DeleteJob,
    End,
    Finish,
    JobPhase,
    JobView,
    NewAttempt,
    Observed,
    Plan,
    Promote,
    RecordJob,
    RequestStop,
)
from kubetune.settings import Settings

GONE_LOG_GRACE = 30.0  # seconds; a log goes with its pod: what a follower has in hand by then comes in within this


@dataclasses.dataclass(frozen=True)
class Limits:
    """The settings that decisions rest on; seconds and counts, as in `Settings`."""

    stop_grace: float = 60.0
    image_grace: float = 60.0
    config_grace: float = 10.0
    log_grace: float = 600.0
    deletion_grace: float = 300.0
    max_attempts: int = 20
    relist: float = 300.0

    @property
    def patience(self) -> float:
        """Seconds in which the cache has surely heard of what has happened."""
        return self.relist + 30.0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Case:
    """One RUNNING trial with all that its fate depends on."""

    row: TrialRow
    job: JobView | None  # the current attempt's
    outcome: Outcome | None  # of that Job; None: it is being deleted, and its pod has not ended by itself
    stop: Reason | None  # requested already, or by this very plan
    stop_time: float
    suspended: bool
    from_log: bool
    now: float
    limits: Limits
    under_way: bool  # the creation of its Job has begun, and is not known to be over
    not_before: float  # of its next Job
    withdraw: bool  # its pod finds no node, and others that find none are signal enough
    troubled_since: float | None
    over_since: float | None
    nodes_gone: frozenset[str]
    scored: bool = False  # it runs no second time


@dataclasses.dataclass(frozen=True)
class Step:
    """What follows for one trial. ``live``: it holds a slot; ``wants_job``: it needs one, not before this time."""

    actions: tuple[Action, ...] = ()
    live: bool = False
    wants_job: float | None = None
    again_at: float | None = None


def decide(spec: ExperimentSpec, seen: Observed, now: float, limits: Limits) -> Plan:
    """What to do now. See the module's text for what may be late in ``seen``."""
    if seen.ended is not None:
        return _after_the_end(spec, seen)
    closing = find_closing(spec, seen, now)
    if closing and not seen.running and not seen.paused:
        end = End(closing.reason, closing.message)
        state = final_state(closing.reason, seen.counts)
        return Plan((*_stale_jobs(seen), end), state, closing.reason, closing.message)
    if spec.suspend or (closing and closing.cut) or not spec.stop_trials.isdisjoint(seen.stirring.steady):
        seen = dataclasses.replace(seen, apart=None)  # something follows even of those that merely run
    requests, steps = _trials(spec, seen, closing, now, limits)
    cleaning = _stale_jobs(seen)
    actions: list[Action] = [*requests, *(action for step in steps.values() for action in step.actions), *cleaning]
    actions += _paused(spec, seen, closing)
    again = [step.again_at for step in steps.values() if step.again_at is not None]
    if any(isinstance(action, Finish) for action in actions):
        again.append(now)
    elif not spec.suspend and not (closing and closing.cut):
        starts, later = _starts(spec, seen, steps, closing, now, limits.deletion_grace)
        actions += starts
        again += later
    again += [time for time in deadline(spec, seen) if time > now]
    again += [seen.force.again_at] if seen.force and seen.force.again_at else []
    state, reason, message = _state(spec, seen, closing, actions)
    return Plan(tuple(actions), state, reason, message, max(0.0, min(again) - now) if again else None)


# ---- the experiment


def _after_the_end(spec: ExperimentSpec, seen: Observed) -> Plan:
    """Nothing begins again; whatever is left is cleared away."""
    reason = seen.ended or Reason.EXPERIMENT_ENDED
    left: list[Action] = [
        Finish(row.number, row.attempt, Reason.EXPERIMENT_ENDED, "its experiment has ended")
        for row in (*seen.running.values(), *seen.paused.values())
    ]
    left += [DeleteJob(job.name, job.uid, Reason.EXPERIMENT_ENDED) for job in seen.jobs if not job.deleting]
    return Plan(tuple(left), final_state(reason, seen.counts), reason, seen.end_message)


def _state(
    spec: ExperimentSpec, seen: Observed, closing: Closing | None, actions: list[Action]
) -> tuple[str, Reason, str]:
    if closing and closing.cut:
        left = len(seen.running) + len(seen.paused)
        return "Stopping", closing.reason, f"{closing.message}; {left} trials are being stopped"
    if spec.suspend:
        return "Suspended", Reason.SUSPENDED, f"spec.suspend is set; {len(seen.running)} trials wait to go on"
    if closing:
        paused = f", {len(seen.paused)} are paused" if seen.paused else ""
        return "Running", closing.reason, f"{closing.message}; the last {len(seen.running)} run to their end{paused}"
    if not seen.counts.total and not any(isinstance(action, Ask) for action in actions):
        return "Pending", Reason.RUNNING, "no trial was asked yet"
    return "Running", Reason.RUNNING, "trials are running"


# ---- its Jobs


def _is_current(job: JobView, running: Mapping[int, TrialRow]) -> bool:
    row = running.get(job.number)
    if row is None or job.attempt != row.attempt or row.job_uid not in (None, job.uid):
        return False
    return job.leased is not None or not row.offered  # an attempt that is a worker's has no Job of its own


def _stale_jobs(seen: Observed) -> list[Action]:
    """Jobs of another attempt, of an ended or unknown trial, or that took the recorded one's name."""
    return [
        DeleteJob(job.name, job.uid, Reason.STALE_ATTEMPT)
        for job in seen.stirring.jobs
        if not job.deleting and not _is_current(job, seen.running)
    ]


def _starts(
    spec: ExperimentSpec, seen: Observed, steps: Mapping[int, Step], closing: Closing | None, now: float, grace: float
) -> tuple[list[Action], list[float]]:
    """Fill the slots: committed trials without a Job first, then paused ones that are to go on, then new ones. A trial
    that waits keeps its slot, or each loss would leave one more trial half done."""
    wanting = {number: step.wants_job for number, step in steps.items() if step.wants_job is not None}
    lingering = sum(
        not _is_current(job, seen.running) and outcome.holds_slot(job, now, nodes_gone=seen.nodes_gone, grace=grace)
        for job in seen.stirring.jobs
    )
    force = seen.force or Allowed(spec.parallelism, start=spec.parallelism)
    slots = force.current - lingering - len(seen.stirring.steady) - sum(step.live for step in steps.values())
    slots = min(slots, force.start)
    ready = [number for number, not_before in wanting.items() if not_before <= now][: max(0, slots)]
    starts: list[Action] = [CreateJob(number, seen.running[number].attempt, Reason.JOB_MISSING) for number in ready]
    free = max(0, slots - len(wanting))
    overtime = seen.overtime if closing and not seen.running else ()
    promoted = tuple(seen.promotable or overtime)[:free]
    if promoted:
        starts.append(Promote(promoted, Reason.PROMOTED, known=seen.order))
    new = 0 if closing else min(free - len(promoted), seen.left(spec.max_trials))
    if new > 0:
        starts.append(Ask(new, Reason.SLOT_FREE))
    return starts, [not_before for not_before in wanting.values() if not_before > now]


def _paused(spec: ExperimentSpec, seen: Observed, closing: Closing | None) -> list[Action]:
    """Ends of paused trials: on request, or since nothing that comes any more could have them go on."""
    stop = Reason.EXPERIMENT_ENDED if closing and closing.cut else Reason.STOPPED
    over = closing is not None and not (seen.running or seen.promotable or seen.overtime)
    stopped = closing is not None and closing.cut
    chosen = seen.paused.keys() if stopped or over else seen.paused.keys() & spec.stop_trials
    rows = [seen.paused[number] for number in sorted(chosen)]
    asked = [row for row in rows if row.stop_requested is None and (stopped or row.number in spec.stop_trials)]
    why = [RequestStop(row.number, Reason.STOPPED if row.number in spec.stop_trials else stop) for row in asked]
    return [*why, *(Finish(row.number, row.attempt, None, "") for row in rows)]


# ---- one trial


def retry_delay(losses: int) -> float:
    """Seconds between a trial's latest loss, its first, second, … and the Job of the next attempt: 1, 2, 4, … 60."""
    return float(min(60, 2 ** min(losses - 1, 6)))


def _trials(
    spec: ExperimentSpec, seen: Observed, closing: Closing | None, now: float, limits: Limits
) -> tuple[list[Action], dict[int, Step]]:
    """Of all but the steady ones, each of which holds a slot."""
    apart = seen.stirring
    current = {job.number: job for job in apart.jobs if _is_current(job, seen.running)}
    requests: list[Action] = []
    steps = {}
    for number in sorted(apart.rows):
        case = _case(spec, seen, apart.rows[number], current.get(number), closing, now, limits)
        if case.job is not None and case.row.job_uid is None:
            requests.append(RecordJob(number, case.row.attempt, case.job.name, case.job.uid))
        if case.stop is not None and case.row.stop_requested is None:
            requests.append(RequestStop(number, case.stop))
        steps[number] = next(step for fact in FACTS if (step := fact(case)))
    return requests, steps


def _case(
    spec: ExperimentSpec,
    seen: Observed,
    row: TrialRow,
    job: JobView | None,
    closing: Closing | None,
    now: float,
    limits: Limits,
) -> Case:
    stop, troubled_since = row.stop_reason, seen.troubled_since.get(job.uid) if job else None
    if row.stop_requested is None:
        stop = Reason.STOPPED if row.number in spec.stop_trials else None
        stop = stop or (Reason.EXPERIMENT_ENDED if closing and closing.cut else None)
    return Case(
        row=row,
        job=job,
        outcome=_outcome(job, seen, troubled_since, now, limits),
        stop=stop,
        stop_time=now if row.stop_requested is None else row.stop_requested,
        suspended=spec.suspend,
        from_log=spec.metrics.source == "log",
        now=now,
        limits=limits,
        under_way=seen.creating.get(row.number) == row.attempt,
        not_before=seen.backoff.get(row.number, 0.0),
        withdraw=seen.force is not None and row.number in seen.force.withdraw,
        troubled_since=troubled_since,
        over_since=seen.over_since.get(job.uid) if job else None,
        nodes_gone=seen.nodes_gone,
        scored=spec.once and all(objective.metric in row.last_metrics for objective in spec.objectives),
    )


def _outcome(
    job: JobView | None, seen: Observed, troubled_since: float | None, now: float, limits: Limits
) -> Outcome | None:
    if job is None or (job.deleting and not _ended_by_itself(job)):
        return None
    return outcome.judge(
        job,
        now,
        nodes_gone=seen.nodes_gone,
        troubled_since=troubled_since,
        image_grace=limits.image_grace,
        config_grace=limits.config_grace,
        patience=limits.patience,
    )


def _ended_by_itself(job: JobView) -> bool:
    """Before its deletion took it: that end counts."""
    return job.phase in (JobPhase.SUCCEEDED, JobPhase.FAILED) and job.pod is not None and not job.pod.deleted


def _finish(case: Case, failure: Reason | None, message: str) -> Step:
    name, uid = (case.job.name, case.job.uid) if case.job else (None, None)
    return Step((Finish(case.row.number, case.row.attempt, failure, message, name, uid),))


def _lose(case: Case, reason: Reason, message: str) -> Step:
    """The attempt is given up. A trial that is to stop, or said that it has finished, needs no other."""
    row, name, uid = case.row, case.job.name if case.job else None, case.job.uid if case.job else None
    if case.stop is not None or row.finish is not None or case.scored:
        return _finish(case, None, message)
    counts, losses = reason not in NO_LOSS, row.losses + 1
    if counts and losses >= case.limits.max_attempts:
        said = f"{losses} attempts were lost to infrastructure, the last one: {message}"
        return _finish(case, Reason.ATTEMPTS_EXHAUSTED, said)
    return Step(
        (NewAttempt(row.number, row.attempt, reason, message, name, uid),),
        live=True,  # its slot is kept for the next attempt
        again_at=case.now + (retry_delay(losses) if counts else 0.0),
    )


def job_is_being_deleted(case: Case) -> Step | None:
    """By somebody else. The attempt is lost once its pod runs no more, and at the latest after a grace: a finalizer, or
    a pod that does not end, may hold the Job for ever. A trial that is to end anyway does not wait for it."""
    job = case.job
    if job is None or not job.deleting or case.outcome is not None:
        return None
    if case.stop is not None or case.row.finish is not None:
        return _finish(case, None, "its Job was being deleted")
    grace = case.limits.deletion_grace
    lost = outcome.lost_deletion(job, case.now, nodes_gone=case.nodes_gone, grace=grace)
    return _lose(case, *lost) if lost else Step(live=True, again_at=outcome.deletion_until(job, case.now, grace))


def job_is_gone(case: Case) -> Step | None:
    """Recorded, and not there: deleted by hand, or with its namespace."""
    if case.job is not None or case.row.job_uid is None:
        return None
    return _lose(case, Reason.JOB_DELETED, "its Job was deleted")


def job_is_under_way(case: Case) -> Step | None:
    """Whatever becomes of the trial, its Job may come: nothing is settled before that is known."""
    return Step(live=True) if case.job is None and case.under_way else None


def job_is_missing(case: Case) -> Step | None:
    """Committed and not started yet: waits for a slot, or for a restarted operator to go on here."""
    if case.job is not None:
        return None
    if case.stop is not None:
        return _finish(case, None, "stopped before it ran")
    return Step(wants_job=case.not_before)


def log_is_being_read(case: Case) -> Step | None:
    """The attempt is over, the end of its log has not come in yet: its last metrics are there."""
    job, found = case.job, case.outcome
    if not case.from_log or job is None or job.leased is not None or found is None or case.row.log_read:
        return None
    if found.kind not in (Kind.WELL, Kind.FAILED) or job.phase not in (JobPhase.SUCCEEDED, JobPhase.FAILED):
        return None
    gone = job.pod is None or job.pod.deleted
    grace = min(GONE_LOG_GRACE, case.limits.log_grace) if gone else case.limits.log_grace
    until = (case.now if case.over_since is None else case.over_since) + grace
    if case.now < until:
        return Step(live=True, again_at=until)
    if found.kind is Kind.WELL and gone:
        return _lose(case, Reason.POD_DELETED, "its pod was gone before its log was read")
    return None


def attempt_is_over(case: Case) -> Step | None:
    """The Job and its pod say how. What the trial itself said of its end, or a stop, goes before an exit code."""
    found = case.outcome
    if found is None or not found.ended:
        return None
    if found.kind is Kind.LOST and found.reason is not None:
        return _lose(case, found.reason, found.message)
    if found.kind is Kind.WELL or case.stop is not None or case.row.finish is not None:
        return _finish(case, None, found.message)
    return _finish(case, found.reason, found.message)


def finished_and_lingers(case: Case) -> Step | None:
    """It said that it has finished, and its pod is still there: another container, or a process that hangs."""
    if case.row.finish is None:
        return None
    until = case.row.finish.time + case.limits.stop_grace
    if case.now >= until:
        return _finish(case, None, "finished; its pod did not end by itself")
    return Step(live=True, again_at=until)


def stop_is_due(case: Case) -> Step | None:
    """To stop. One that reports by itself has a grace to obey; one without our client, or not running, has none."""
    if case.stop is None or case.outcome is None:
        return None
    until = case.stop_time + case.limits.stop_grace
    if case.outcome.kind is not Kind.RUNNING or case.from_log:
        return _finish(case, None, "")
    if case.now >= until:
        return _finish(case, None, f"did not stop within {case.limits.stop_grace:g} s")
    return Step(live=True, again_at=until)


def experiment_is_suspended(case: Case) -> Step | None:
    """Its Job goes and the trial stays: the next attempt starts on resume."""
    return _lose(case, Reason.SUSPENDED, "spec.suspend is set") if case.suspended else None


def finds_no_node(case: Case) -> Step | None:
    """Nothing is lost when its Job is taken back: the trial goes on when there is room."""
    job = case.job
    if not case.withdraw or job is None or case.outcome is None or (job.pod is not None and job.pod.scheduled):
        return None
    return dataclasses.replace(_lose(case, Reason.UNSCHEDULABLE, case.outcome.message), live=False, again_at=None)


def attempt_goes_on(case: Case) -> Step:
    """Running, starting, or waiting for a node."""
    again_at = None
    if case.outcome is not None and case.outcome.kind is Kind.TROUBLED:
        grace = case.limits.image_grace if case.outcome.reason is Reason.IMAGE else case.limits.config_grace
        again_at = (case.now if case.troubled_since is None else case.troubled_since) + grace
    elif case.job is not None and case.job.phase is JobPhase.FAILED:  # its pod's last words are under way
        again_at = (case.job.ended or case.now) + case.limits.patience
    return Step(live=True, again_at=again_at)


FACTS: tuple[Callable[[Case], Step | None], ...] = (
    job_is_being_deleted,
    job_is_gone,
    job_is_under_way,
    job_is_missing,
    log_is_being_read,
    attempt_is_over,
    finished_and_lingers,
    stop_is_due,
    experiment_is_suspended,
    finds_no_node,
    attempt_goes_on,
)
