"""Carries out what a Plan says of workers, by the rules of `act`: commits first, and every write may be repeated."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import AttemptEnd, Reason, TrialRow, WorkerRow
from kubetune.controller import decide, worker_jobs
from kubetune.controller.asking import ask
from kubetune.controller.observe import Memory
from kubetune.controller.plan import (
    Action,
    DeleteJob,
    DrainWorkers,
    EndWorker,
    JobPhase,
    JobView,
    Observed,
    Offer,
    OpenWorker,
    Plan,
    RecordWorker,
)
from kubetune.controller.ports import Engine, Exists, Rank, Refused

QUOTA_DELAY = 15.0  # seconds until a Job that a quota refused is tried again
_QUIET = (Reason.DRAINED, Reason.SUSPENDED)

logger = logging.getLogger(__name__)


class Together(Protocol):
    """All calls at once; None for one that the API server does not answer."""

    def __call__(self, calls: Sequence[Callable[[], object]], rank: Rank) -> list[object]: ...


class WorkerActs:
    """For one reconcile. ``tools``: as in `act.Tools`."""

    def __init__(self, spec: ExperimentSpec, engine: Engine, memory: Memory, tools: Any, together: Together) -> None:
        self._spec = spec
        self._engine = engine
        self._memory = memory
        self._tools = tools
        self._together = together

    def first(self, plan: Plan) -> list[DeleteJob]:
        """What is committed before trials' ends are: workers' Jobs, and workers that are over; their Jobs to delete."""
        for action in plan.actions:
            if isinstance(action, RecordWorker):
                self._engine.record_worker(action.number, action.incarnation, action.job_uid)
        ends = [action for action in plan.actions if isinstance(action, EndWorker)]
        lost = self._together([functools.partial(self._is_over, end) for end in ends], Rank.READ)
        return [delete for end, over in zip(ends, lost, strict=True) if over for delete in self._end(end)]

    def _is_over(self, end: EndWorker) -> bool:
        """The cache may lag behind: a live read may say otherwise (see `act`)."""
        worker = self._engine.workers.get(end.number)
        if worker is None or worker.incarnation != end.incarnation:
            return False
        if end.reason not in (Reason.JOB_DELETED, Reason.NODE_LOST):
            return True
        name = worker_jobs.name(self._spec, worker)
        try:
            found = self._tools.cluster.get_job(self._spec.namespace, name)
        except Refused:
            return True
        if found is None or found.uid != worker.job_uid:
            return True
        return end.reason is Reason.NODE_LOST and found.phase is not JobPhase.SUCCEEDED

    def _end(self, end: EndWorker) -> list[DeleteJob]:
        self._engine.end_worker(end.number, end.incarnation, end.reason, end.message)
        logger.info("worker %d, incarnation %d, is over (%s): %s", end.number, end.incarnation, end.reason, end.message)
        if end.reason not in _QUIET:
            delay = decide.retry_delay(end.incarnation)
            self._memory.worker_backoff[end.number] = self._tools.clock() + delay
            message = f"worker {end.number}, incarnation {end.incarnation}: {end.message}"
            self._tools.cluster.event(self._spec, "Warning", str(end.reason), message)
        return [] if end.job is None or end.job_uid is None else [DeleteJob(end.job, end.job_uid, end.reason)]

    def last(self, plan: Plan, seen: Observed) -> None:
        """What begins: drains, offers, new workers. Not while the API server is in trouble."""
        actions = plan.actions
        drained = [number for action in actions if isinstance(action, DrainWorkers) for number in action.numbers]
        if drained:
            self._engine.drain_workers(drained)
        for offer in _of_kind(actions, Offer):
            self._offer(offer)
        opened = [self._engine.open_worker(action.number) for action in actions if isinstance(action, OpenWorker)]
        if opened:
            self._tools.confirm()
            self._create(opened)

    def withdrawn(self, rows: Sequence[TrialRow]) -> list[TrialRow]:
        """Those of these trials, each to get a Job of its own, that no worker can lease any more."""
        offered = {row.number: row.attempt for row in rows if row.offered}
        free = self._engine.withdraw(offered) if offered else set()
        return [row for row in rows if not row.offered or row.number in free]

    def _offer(self, offer: Offer) -> None:
        if offer.attempts:
            self._engine.offer(dict(offer.attempts))
        if offer.ask:
            begun = self._tools.clock()
            ask(self._spec, self._engine, self._memory, self._tools.cluster, self._tools.clock, offer.ask, offered=True)
            labels = {"namespace": self._spec.namespace, "experiment": self._spec.name}
            self._tools.meter.observe("ask", self._tools.clock() - begun, labels)

    def _create(self, workers: Sequence[WorkerRow]) -> None:
        created = self._together([functools.partial(self._create_one, worker) for worker in workers], Rank.CREATE)
        for worker, result in zip(workers, created, strict=True):
            if isinstance(result, JobView):
                self._engine.record_worker(worker.number, worker.incarnation, result.uid)
            elif isinstance(result, Refused):
                self._refused(worker, result)

    def _refused(self, worker: WorkerRow, refusal: Refused) -> None:
        """A quota may free. What the server will not have fails a trial that waits for a worker, as its own Job would
        have failed it."""
        self._memory.worker_backoff[worker.number] = self._tools.clock() + QUOTA_DELAY
        self._memory.refusals += refusal.passing  # says how many workers there may be
        reason = "QuotaExceeded" if refusal.passing else str(Reason.JOB_REFUSED)
        self._tools.cluster.event(self._spec, "Warning", reason, str(refusal))
        waiting = [row for row in self._engine.running.values() if row.offered and row.lease is None]
        if waiting and not refusal.passing:
            self._memory.worker_backoff.pop(worker.number)
            end = AttemptEnd(waiting[0].number, waiting[0].attempt, Reason.JOB_REFUSED, str(refusal))
            self._engine.finish_trials([end])
            self._memory.last_failure = str(refusal)

    def _create_one(self, worker: WorkerRow) -> JobView | Refused | None:
        body = worker_jobs.build_worker(self._spec, worker, self._tools.wiring())
        try:
            made: JobView = self._tools.cluster.create_job(body)
            return made
        except Exists:
            return self._adopt(worker, body["metadata"]["name"])
        except Refused as refusal:
            return refusal

    def _adopt(self, worker: WorkerRow, name: str) -> JobView | Refused | None:
        try:
            found: JobView | None = self._tools.cluster.get_job(self._spec.namespace, name)
        except Refused as refusal:
            return refusal
        if found is None or found.deleting:
            return None
        if not found.worker or (found.number, found.attempt) != (worker.number, worker.incarnation):
            return Refused(f"a Job named {name} is in the way")
        return found


def _of_kind(actions: Sequence[Action], kind: type[Offer]) -> list[Offer]:
    return [action for action in actions if isinstance(action, kind)]
