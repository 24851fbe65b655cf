"""Finds the parallelism in force for one look at one experiment: what its Jobs say, the policy, and its fair share."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from kubetune.api import spec as api
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Reason
from kubetune.controller import closing, outcome, parallelism
from kubetune.controller.fair import Claim, Fair
from kubetune.controller.parallelism import Allowed, Kept, Sight, Tuning, Waiting
from kubetune.controller.plan import JobPhase, JobView, Observed
from kubetune.controller.shares import Caps, Demand


class Elastic:
    """See the module. The same for all experiments; thread-safe. ``fair`` None: no common limits.

    ``grace``: seconds after which a Job that is being deleted, and held, counts no more."""

    def __init__(self, fair: Fair | None = None, tuning: Tuning | None = None, grace: float = 300.0) -> None:
        self._grace = grace
        self._fair = fair or Fair(Caps(), lambda known: (), lambda uid: None)
        self._tuning = tuning or Tuning()

    def look(self, spec: ExperimentSpec, seen: Observed, refused: int, kept: Kept, now: float) -> tuple[Allowed, Kept]:
        """What is in force now, and what to remember. ``refused``: Jobs that a quota has refused so far."""
        view = sight(seen, refused, now, self._tuning)
        over = seen.ended is not None or ((end := closing.find_closing(spec, seen, now)) is not None and end.cut)
        most = 0 if spec.suspend or over else spec.parallelism
        free, learnt = parallelism.look(spec.parallelism_min, most, None, view, kept, now, self._tuning)
        going_on = len(seen.promotable or seen.overtime)
        left = seen.counts.running + going_on + max(0, seen.left(spec.max_trials))
        demand = Demand(spec.uid, spec.namespace, spec.priority, min(free.wants, left))
        gone, apart = seen.nodes_gone, seen.stirring
        live = len(apart.steady)
        live += sum(outcome.holds_slot(job, now, nodes_gone=gone, grace=self._grace) for job in apart.jobs)
        share = self._fair.grant(demand, live + _unseen(seen))
        if share is not None:
            free, learnt = parallelism.look(spec.parallelism_min, most, share, view, kept, now, self._tuning)
        reason = Reason.SUSPENDED if spec.suspend else free.reason
        if _in_workers(seen):  # what waits for a node there is workers, not trials
            free = dataclasses.replace(free, start=Allowed.start, open=free.start)
        return dataclasses.replace(free, reason=reason), learnt

    def stumbled(self, uid: str) -> None:
        """A look at the experiment has failed for a reason of its own."""
        self._fair.stumbled(uid)

    def forget(self, uid: str) -> None:
        """The experiment is gone, or over with nothing left."""
        self._fair.forget(uid)


def claims(resources: Iterable[Json], jobs: Callable[[str], Mapping[str, Sequence[JobView]]]) -> list[Claim]:
    """What experiments that were not looked at yet seem to want, and have: for `Fair`. What cannot be run wants
    nothing, and what is over has no claim. A phase has one of its own, as it has when it is looked at.

    Args:
        jobs: an experiment's, by the UID of its search and of its phases."""
    found = []
    for resource in resources:
        metadata, spec = resource["metadata"], resource.get("spec") or {}
        going = {uid: sum(job.phase in outcome.GOING for job in each) for uid, each in jobs(metadata["uid"]).items()}
        live = going.pop(metadata["uid"], 0)
        priority = int(spec.get("priority") or 0)
        phases = ((Demand(uid, metadata["namespace"], priority, there), there) for uid, there in going.items())
        found += [claim for claim in phases if claim[1]]
        over = (resource.get("status") or {}).get("state") in ("Complete", "Failed")
        if over and not live:
            continue
        try:
            parsed = api.parse(resource)
            wanted = 0 if over or parsed.suspend else min(parsed.parallelism, parsed.max_trials)
        except api.InvalidSpec:
            wanted = 0
        found.append((Demand(metadata["uid"], metadata["namespace"], priority, wanted), live))
    return found


def sight(seen: Observed, refused: int, now: float, tuning: Tuning) -> Sight:
    """The Jobs of current attempts by what keeps them, if anything, from running. Where trials run in workers, their
    Jobs stand for the slots that they have, whether a trial is in them or not."""
    apart, under_way = seen.stirring, _unseen(seen)
    found = Sight(len(apart.steady), under_way, (), refused, 0, under_way)
    in_workers = _in_workers(seen)
    for job in apart.jobs:
        row = seen.running.get(job.number)
        if row is None or row.attempt != job.attempt or (in_workers and job.leased is not None):
            continue
        found = _with(found, job, Waiting(job.number, 0.0, row.last_seq), now, tuning)
    return _with_workers(found, seen, now, tuning) if in_workers else found


def _with(found: Sight, job: JobView, trial: Waiting, now: float, tuning: Tuning) -> Sight:
    """What was found, and one more Job. ``trial``: as it is told of should it find no node."""
    if job.phase not in outcome.GOING:
        return found
    since = _waits_since(job, now, tuning)
    if job.deleting or (job.pod is not None and job.pod.phase in ("Succeeded", "Failed")):
        return dataclasses.replace(found, ending=found.ending + 1)
    if since is not None:
        return dataclasses.replace(found, waiting=(*found.waiting, dataclasses.replace(trial, since=since)))
    if job.phase is JobPhase.PENDING and (job.pod is None or not job.pod.scheduled):
        return dataclasses.replace(found, fresh=found.fresh + 1)
    return dataclasses.replace(found, placed=found.placed + 1)


def _in_workers(seen: Observed) -> bool:
    return seen.crew is not None and seen.crew.mode == "workers"


def _with_workers(found: Sight, seen: Observed, now: float, tuning: Tuning) -> Sight:
    """Each worker's Job once for each of its slots. Of one that drains, the trials that it still runs."""
    assert seen.crew is not None
    jobs = {(job.number, job.attempt): job for job in seen.crew.jobs}
    leases = collections.Counter(row.lease.job_uid for row in seen.running.values() if row.lease is not None)
    for worker in seen.crew.workers.values():
        job = jobs.get((worker.number, worker.incarnation))
        if worker.ended is not None or worker.job_uid is None:
            continue
        if worker.draining:
            found = dataclasses.replace(found, ending=found.ending + leases[worker.job_uid])
        elif job is None:  # recorded, and not in the cache yet
            fresh, under_way = found.fresh + seen.crew.slots, found.under_way + seen.crew.slots
            found = dataclasses.replace(found, fresh=fresh, under_way=under_way)
        else:
            for _ in range(seen.crew.slots):
                found = _with(found, job, Waiting(worker.number, 0.0, worker=True), now, tuning)
    return found


def _unseen(seen: Observed) -> int:
    """Jobs that are being created, and not in the cache yet."""
    there = {(job.number, job.attempt) for job in seen.stirring.jobs}
    rows = seen.stirring.rows
    return sum((number, row.attempt) not in there for number in seen.creating if (row := rows.get(number)))


def _waits_since(job: JobView, now: float, tuning: Tuning) -> float | None:
    """Since when its pod finds no node, or is not made for want of quota; None: not that one knows of."""
    if job.phase is not JobPhase.PENDING:
        return None
    if job.pod is None:
        return job.created if now - job.created >= tuning.no_pod else None
    return None if job.pod.scheduled else job.pod.unschedulable_since
