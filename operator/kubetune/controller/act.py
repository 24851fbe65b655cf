"""Carries a Plan out: commits first, then writes to the cluster. What it cannot do now, the next look finds again.

Every write is safe to repeat: commits by the storage's rules, creates by the Job's name (409: adopted), deletes by UID
(404: done). An API server that is away for one action does not keep the others from being carried out; a database that
is away ends it all, since nothing may be done that is not committed.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import NO_LOSS, AttemptEnd, JobRecord, Reason, TrialRow, TrialState
from kubetune.controller import decide, jobs
from kubetune.controller.act_workers import WorkerActs
from kubetune.controller.asking import ask
from kubetune.controller.jobs import Wiring
from kubetune.controller.observe import Memory, Written
from kubetune.controller.plan import (
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
from kubetune.controller.ports import (
    Clock,
    Cluster,
    ClusterUnavailable,
    Engine,
    Exists,
    Meter,
    Parallel,
    Rank,
    Refused,
    Start,
    Withdrawn,
)

_NO_WARNING = frozenset({Reason.COMPLETED, Reason.PRUNED, Reason.NOT_PROMOTED, Reason.STOPPED, Reason.EXPERIMENT_ENDED})

logger = logging.getLogger(__name__)
T = TypeVar("T")
_OVER = (JobPhase.SUCCEEDED, JobPhase.FAILED)


def sequential(calls: Sequence[Callable[[], object]], key: str, rank: Rank) -> list[object]:
    """A `Parallel` that carries out one after the other."""
    return [attempt(call) for call in calls]


def at_once(calls: Sequence[Callable[[], object]], key: str, rank: Rank, done: Callable[[int, object], None]) -> None:
    """A `Start` that has carried all out when it returns."""
    for index, call in enumerate(calls):
        done(index, attempt(call))


def attempt(call: Callable[[], object]) -> object:
    """What ``call`` returns, or the ClusterUnavailable that it raises."""
    try:
        return call()
    except ClusterUnavailable as error:
        return error


@dataclasses.dataclass(frozen=True)
class Tools:
    """What acting needs, the same for all experiments. ``confirm`` raises Fenced if another operator took over;
    ``withdraw`` takes back the creates of an experiment (by its UID) that were begun and not sent yet; ``wake`` has it
    looked at soon."""

    cluster: Cluster
    clock: Clock
    confirm: Callable[[], None]
    wiring: Callable[[], Wiring]
    parallel: Parallel
    start: Start
    withdraw: Callable[[str], None]
    wake: Callable[[str], None]
    meter: Meter
    log_tail_bytes: int


class Act:
    """Carries out the plans of one reconcile. ``trouble``: the first failure of the API server."""

    def __init__(self, spec: ExperimentSpec, engine: Engine, memory: Memory, tools: Tools) -> None:
        self._spec = spec
        self._engine = engine
        self._memory = memory
        self._tools = tools
        self._labels = {"namespace": spec.namespace, "experiment": spec.name}
        self._jobs: Sequence[JobView] = ()  # as the plan saw them
        self._workers = WorkerActs(spec, engine, memory, tools, self._together)
        self.trouble: ClusterUnavailable | None = None

    def reconsider(self, allowed: int) -> bool:
        """Fewer trials may be in flight than at the last look: Jobs that are not sent yet are decided about again."""
        fewer, self._memory.allowed = allowed < self._memory.allowed, allowed
        if fewer and self._memory.creating:
            self._tools.withdraw(self._spec.owner)
            self.take_in()
            return True
        return False

    def take_in(self) -> None:
        """What became of the writes that were begun and not waited for. Raises what one of them raised."""
        written = [self._memory.over_there.popleft() for _ in range(len(self._memory.over_there))]
        for each in written:
            self._memory.deleting.discard(each.job_uid)
            if each.row is not None and self._memory.creating.get(each.row.number) == each.row.attempt:
                del self._memory.creating[each.row.number]
        for each in written:
            if isinstance(each.result, ClusterUnavailable):
                self.trouble = self.trouble or each.result
            elif isinstance(each.result, Exception) and not isinstance(each.result, Refused | Withdrawn):
                raise each.result
        made = [(each.row, each.result) for each in written if each.row is not None and self._is_current(each.row)]
        for _, result in made:
            if isinstance(result, JobView):  # recorded when it is seen: the cache has it
                self._refilled()
        ends = [self._refused(row, refusal) for row, refusal in made if isinstance(refusal, Refused)]
        self._finish([end for end in ends if end is not None])

    def _is_current(self, row: TrialRow) -> bool:
        """Whether the attempt goes on; a Job of one that does not is a stale one."""
        current = self._engine.running.get(row.number)
        return current is not None and current.attempt == row.attempt

    def carry_out(self, plan: Plan, seen: Observed) -> None:
        """Raises what the engine raises; the API server's failures are kept in ``trouble``."""
        self._jobs = seen.jobs
        if not plan.actions:
            self._memory.asking = None
        self._record(plan)
        stops = {stop.number: stop.reason for stop in _of(plan, RequestStop)}
        self._engine.request_stop(stops)
        if stops.keys() & self._memory.creating.keys():
            self._tools.withdraw(self._spec.owner)
        deletes = self._workers.first(plan)
        deletes += self._new_attempts(_of(plan, NewAttempt))
        deletes += self._finishes(_of(plan, Finish))
        stale = _of(plan, DeleteJob)
        creates = [seen.running[create.number] for create in _of(plan, CreateJob)]
        if stale or creates or deletes:
            self._tools.confirm()
        self._delete([*deletes, *stale])
        if self.trouble is None:  # else a Job that should be gone may run on, and hold its slot
            creates += [row for promote in _of(plan, Promote) for row in self._promote(promote)]
            for wanted in _of(plan, Ask):
                creates += self._ask(wanted.count)
            self._create(self._workers.withdrawn(creates))
            self._workers.last(plan, seen)
        for end in _of(plan, End):
            if not self._engine.running and not self._engine.paused:
                self._engine.end(end.reason, end.message)

    # ---- attempts

    def _new_attempts(self, plans: Sequence[NewAttempt]) -> list[DeleteJob]:
        lost = dict(zip(plans, self._together([functools.partial(self._is_lost, plan) for plan in plans]), strict=True))
        deletes = []
        for plan in plans:
            if not lost[plan] or not self._engine.new_attempt(plan.number, plan.lost, plan.reason, plan.message):
                continue
            self._tell_loss(plan)
            if plan.reason not in NO_LOSS:
                delay = decide.retry_delay(self._engine.running[plan.number].losses)
                self._memory.backoff[plan.number] = self._tools.clock() + delay
            if plan.job is not None and plan.job_uid is not None:
                deletes.append(DeleteJob(plan.job, plan.job_uid, plan.reason))
        return deletes

    def _is_lost(self, plan: NewAttempt) -> bool:
        """The cache may lag behind: a Job missing there, or on a node that is gone, is lost only if a live read does
        not say otherwise."""
        if plan.reason not in (Reason.JOB_DELETED, Reason.NODE_LOST):
            return True
        name = names.job_name(self._spec.name, self._spec.uid, plan.number, plan.lost)
        try:
            found = self._tools.cluster.get_job(self._spec.namespace, name)
        except Refused:  # another's Job has taken the name: ours is gone
            return True
        if found is None or found.uid != self._engine.running[plan.number].job_uid:
            return True
        if plan.reason is Reason.JOB_DELETED:
            return plan.job is not None and found.deleting  # it was seen on its way out, and for too long
        return found.phase is not JobPhase.SUCCEEDED

    def _tell_loss(self, plan: NewAttempt) -> None:
        self._tools.meter.observe("attempts_lost", 1, {**self._labels, "reason": str(plan.reason)})
        logger.info("attempt %d is lost (%s): %s", plan.lost, plan.reason, plan.message, extra={"trial": plan.number})
        if plan.reason not in NO_LOSS:
            message = f"trial {plan.number}, attempt {plan.lost}: {plan.message}"
            self._tools.cluster.event(self._spec, "Warning", str(plan.reason), message)

    # ---- ends

    def _finishes(self, plans: Sequence[Finish]) -> list[DeleteJob]:
        """Commit the ends, of trials or of legs; the Jobs that are not needed any more."""
        told = [plan for plan in plans if self._wants_log(plan)]
        read = self._together([functools.partial(self._log_tail, plan) for plan in told])
        tails = {plan.number: tail for plan, tail in zip(told, read, strict=True) if isinstance(tail, str)}
        ends = [
            AttemptEnd(plan.number, plan.attempt, plan.failure, plan.message, tails.get(plan.number)) for plan in plans
        ]
        deletes = []
        for plan, row in zip(plans, self._finish(ends), strict=True):
            if plan.job is None or plan.job_uid is None:
                continue
            self._memory.freed.append(self._tools.clock())
            deletes.append(DeleteJob(plan.job, plan.job_uid, row.reason or Reason.COMPLETED))
        return deletes

    def _finish(self, ends: Sequence[AttemptEnd]) -> list[TrialRow]:
        """Commit the ends and tell them. Raises the first that could not be committed, when the others are."""
        answers = self._engine.finish_trials(ends) if ends else []
        rows = [answer for answer in answers if isinstance(answer, TrialRow)]
        for row in rows:
            if row.state is TrialState.RUNNING:
                logger.info("leg %d has ended%s", row.leg - 1, ", paused" * row.paused, extra={"trial": row.number})
            else:
                self._tell_end(row)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return rows

    def _log_tail(self, plan: Finish) -> str | None:
        if self._engine.running[plan.number].lease is not None:
            return self._engine.leased_log(plan.number) if self._wants_log(plan) else None
        job = next((job for job in self._jobs if job.uid == plan.job_uid), None)
        if job is None or job.pod is None:
            return None
        return self._tools.cluster.log_tail(self._spec.namespace, job.pod.name, self._tools.log_tail_bytes)

    def _wants_log(self, plan: Finish) -> bool:
        """Failed, pruned and best trials keep theirs. What a trial will be is known only when it is settled, so whoever
        may turn out to be one of them counts."""
        row = self._engine.running.get(plan.number)
        if row is None:  # paused: there is no Job
            return False
        if plan.failure is not None or row.stop_requested is not None:
            return True
        if row.finish is not None and row.finish.status != "complete":
            return True
        if row.leg + 1 < self._engine.legs(row.number):
            return False
        if self._spec.constraints:
            return True
        values = [row.last_metrics.get(objective.metric) for objective in self._spec.objectives]
        if len(values) != 1 or values[0] is None or self._spec.objectives[0].value != "last" or not self._engine.best:
            return True
        best = self._engine.best[0].values[0]
        better = values[0] > best if self._spec.objectives[0].direction == "maximize" else values[0] < best
        return better or values[0] != values[0]

    def _tell_end(self, row: TrialRow) -> None:
        self._tools.meter.observe("trials_ended", 1, {**self._labels, "reason": str(row.reason)})
        logger.info("%s (%s) %s", row.state, row.reason, row.message, extra={"trial": row.number})
        if row.state is TrialState.FAIL:
            self._memory.last_failure = row.message
        if row.reason not in _NO_WARNING:
            self._tools.cluster.event(self._spec, "Warning", str(row.reason), f"trial {row.number}: {row.message}")

    # ---- Jobs

    def _delete(self, deletes: Sequence[DeleteJob]) -> None:
        """Of Jobs that have ended it is begun; those that run on hold slots, and are waited for."""
        namespace, cluster = self._spec.namespace, self._tools.cluster
        ended: list[DeleteJob] = []
        live: list[DeleteJob] = []
        over = {job.uid for job in self._jobs if job.phase in _OVER} if deletes else set()
        for job in deletes:
            (ended if job.uid in over else live).append(job)

        def call(job: DeleteJob) -> Callable[[], object]:
            return functools.partial(cluster.delete_job, namespace, job.name, job.uid)

        self._together([call(job) for job in live], Rank.DELETE)
        self._memory.deleting.update(job.uid for job in ended)
        self._begin([call(job) for job in ended], Rank.CLEAR, [Written(None, None, job.uid) for job in ended])

    def _begin(self, calls: Sequence[Callable[[], object]], rank: Rank, each: Sequence[Written]) -> None:
        """Begin the calls; `take_in` sees what became of them."""
        uid, over, wake = self._spec.owner, self._memory.over_there, self._tools.wake

        def done(index: int, result: object) -> None:
            over.append(dataclasses.replace(each[index], result=result))
            wake(uid)

        if calls:
            self._tools.start(calls, uid, rank, done)

    def _ask(self, count: int) -> list[TrialRow]:
        """What the sampler has by now; it wakes us when it has more."""
        begun = self._memory.asking = self._tools.clock() if self._memory.asking is None else self._memory.asking
        rows = ask(self._spec, self._engine, self._memory, self._tools.cluster, self._tools.clock, count)
        if rows:
            self._tools.meter.observe("ask", self._tools.clock() - begun, self._labels)
            self._memory.asking = None
        return rows

    def _promote(self, promote: Promote) -> list[TrialRow]:
        """Those that get a Job of their own."""
        rows = self._engine.promote(promote.numbers, promote.offered, promote.known)
        for row in rows:
            logger.info("goes on with leg %d", row.leg, extra={"trial": row.number})
        return [row for row in rows if not row.offered]

    def _create(self, rows: Sequence[TrialRow]) -> None:
        """Begin to create, or adopt, the Jobs of current attempts; recorded once they are there."""
        calls = [functools.partial(self._create_one, row) for row in rows]
        self._memory.creating.update({row.number: row.attempt for row in rows})
        self._begin(calls, Rank.CREATE, [Written(None, row) for row in rows])

    def _record(self, plan: Plan) -> None:
        """The Jobs of attempts that this plan ends; of others, if no slot is freed or filled by it: a slot does not
        wait for a record, and the next look finds what is left."""
        over = {action.number for action in plan.actions if isinstance(action, Finish | NewAttempt)}
        hurry = any(isinstance(action, Finish | Promote | Ask | CreateJob) for action in plan.actions)
        records = [job for job in _of(plan, RecordJob) if not hurry or job.number in over]
        if records:
            self._engine.record_jobs([JobRecord(job.number, job.attempt, job.job_uid) for job in records])

    def _create_one(self, row: TrialRow) -> JobView | Refused | None:
        self._tools.confirm()  # it may have waited for its turn
        body = jobs.build_job(
            self._spec, row.number, row.attempt, row.params, self._tools.wiring(), row.parent, row.environment
        )
        try:
            return self._tools.cluster.create_job(body)
        except Exists:
            return self._adopt(row, body["metadata"]["name"])
        except Refused as refusal:
            return refusal

    def _adopt(self, row: TrialRow, name: str) -> JobView | Refused | None:
        """The Job that has the name: created by us before a crash, or by an answer that was lost. One on its way out is
        taken too, so that its attempt is known to be over and the next one gets another name. None: gone meanwhile."""
        try:
            found = self._tools.cluster.get_job(self._spec.namespace, name)
        except Refused as refusal:
            return refusal
        if found is None:
            return None
        if (found.number, found.attempt) != (row.number, row.attempt):
            return Refused(f"a Job named {name} is in the way: it says it is trial {found.number}")
        return found

    def _refused(self, row: TrialRow, refusal: Refused) -> AttemptEnd | None:
        """The end of a trial whose Job the server refuses; None: it may take it later."""
        if not refusal.passing:
            return AttemptEnd(row.number, row.attempt, Reason.JOB_REFUSED, str(refusal))
        self._memory.refusals += 1  # says how many Jobs there may be, not what is wrong with this one
        self._tools.cluster.event(self._spec, "Warning", "QuotaExceeded", str(refusal))
        return None

    def _refilled(self) -> None:
        if self._memory.freed:
            waited = self._tools.clock() - self._memory.freed.popleft()
            self._tools.meter.observe("slot_refill", waited, self._labels)

    def _together(self, calls: Sequence[Callable[[], object]], rank: Rank = Rank.READ) -> list[object]:
        """All of them at once; one that the API server does not answer gives None, and is remembered."""
        results = self._tools.parallel(calls, self._spec.owner, rank)
        failures = [result for result in results if isinstance(result, ClusterUnavailable)]
        self.trouble = self.trouble or next(iter(failures), None)
        return [None if isinstance(result, ClusterUnavailable) else result for result in results]


def _of(plan: Plan, kind: type[T]) -> list[T]:
    return [action for action in plan.actions if isinstance(action, kind)]
