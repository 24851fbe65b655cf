"""What an experiment's Jobs say about the room there is. Times in seconds."""

import dataclasses
from typing import Any

from kubetune.api.trial import Counts, Lease, Reason, WorkerRow
from kubetune.controller.crew import views
from kubetune.controller.elastic import Elastic, claims, sight
from kubetune.controller.fair import Fair
from kubetune.controller.parallelism import Kept, Tuning, Waiting
from kubetune.controller.plan import Crew, JobPhase, JobView, Observed
from kubetune.controller.shares import Caps, Demand
from tests.unit import loop_objects as o

NOW, TUNING = o.NOW, Tuning()
NODELESS = o.pod(phase="Pending", node=None, scheduled=False, started=None)
UNSCHEDULABLE = dataclasses.replace(NODELESS, unschedulable="no GPU", unschedulable_since=NOW - 40)


def elastic(caps: Caps | None = None) -> Elastic:
    return Elastic(Fair(caps or Caps(), lambda known: [], lambda uid: None))


def test_jobs_by_what_keeps_them_from_running() -> None:
    jobs = (
        o.job(0),
        o.pending(1),  # has a node, and starts
        o.pending(2, pod=None, created=NOW - 5),
        o.pending(3, pod=NODELESS),
        o.pending(4, pod=UNSCHEDULABLE),
        o.pending(5, pod=dataclasses.replace(NODELESS, unschedulable="SchedulingGated")),
        o.pending(6, pod=None, created=NOW - TUNING.no_pod),
        o.succeeded(7),
        o.job(8, deleting=True),
        o.job(9, pod=o.pod(phase="Failed")),  # its Job does not say so yet
        o.job(10, attempt=7),  # of an attempt that is none of ours
    )
    found = sight(o.seen(*[o.row(number, last_seq=number) for number in range(11)], jobs=jobs), 3, NOW, TUNING)
    assert (found.placed, found.fresh, found.ending, found.refused) == (2, 3, 2, 3)
    assert found.waiting == (Waiting(4, NOW - 40, 4), Waiting(6, NOW - TUNING.no_pod, 6))


def test_workers_stand_for_their_slots() -> None:
    def job_of(number: int, **changes: Any) -> JobView:
        return dataclasses.replace(o.job(number), uid=f"w{number}", worker=True, **changes)

    workers = {n: WorkerRow(n, 1, NOW - 100, job_uid=f"w{n}") for n in range(6)}
    workers[4] = dataclasses.replace(workers[4], draining=True)
    workers[6] = WorkerRow(6, 1, NOW, job_uid=None)  # its Job is not there yet
    workers[7] = WorkerRow(7, 1, NOW - 100, job_uid="w7", ended=NOW - 1)
    pending: dict[str, Any] = {"phase": JobPhase.PENDING}
    jobs = (
        job_of(0),
        job_of(1, **pending, pod=UNSCHEDULABLE),
        job_of(2, **pending, pod=None, created=NOW - 5),
        job_of(3, deleting=True),
        job_of(4),
        job_of(7),
    )  # worker 5's Job is recorded, and not in the cache yet
    held = [o.row(n, job_uid=uid, offered=True, lease=Lease(uid, "pod", n)) for n, uid in ((0, "w0"), (1, "w4"))]
    crew_ = Crew("workers", workers, jobs, slots=2)
    seen = o.seen(*held, o.row(9), jobs=(*views({row.number: row for row in held}, workers), o.job(9)), crew=crew_)
    found = sight(seen, 0, NOW, TUNING)
    assert (found.placed, found.fresh, found.ending, found.under_way) == (1 + 2, 2 + 2, 2 + 1, 2)
    assert found.waiting == (Waiting(1, NOW - 40, worker=True),) * 2
    force, _ = elastic().look(o.spec(parallelism=20), seen, 0, Kept(), NOW)
    assert (force.current, force.reason, force.open) == (3 + 1, Reason.NO_NODES, 0)
    assert force.start > 20  # a trial that is to be offered again waits for no node
    assert not force.withdraw


def many(*jobs: JobView, **changes: object) -> Observed:
    return o.seen(*[o.row(job.number) for job in jobs], jobs=jobs, **changes)


def test_nothing_is_in_force_while_suspended_or_once_it_is_over() -> None:
    seen = many(o.job(0))
    force, _ = elastic().look(o.spec(suspend=True), seen, 0, Kept(), NOW)
    assert (force.current, force.reason) == (0, Reason.SUSPENDED)
    ended = dataclasses.replace(seen, ended=Reason.MAX_TRIALS)
    assert elastic().look(o.spec(), ended, 0, Kept(), NOW)[0].current == 0
    late = o.spec(experiment_deadline=1.0)
    assert elastic().look(late, seen, 0, Kept(), NOW)[0].current == 0


def test_the_last_trials_ask_for_no_more_than_there_are_left() -> None:
    common = elastic(Caps(cluster=10))
    almost = dataclasses.replace(many(o.job(0)), counts=Counts(running=1, complete=8))
    common.look(o.spec(parallelism=10), almost, 0, Kept(), NOW)  # two are left of ten
    other = o.spec(uid="other", parallelism=10)
    assert common.look(other, o.seen(), 0, Kept(), NOW)[0].current == 8


def test_who_finds_no_node_leaves_its_share_to_others() -> None:
    common = elastic(Caps(cluster=10))
    stuck = many(o.job(0), o.pending(1, pod=UNSCHEDULABLE))
    force, _ = common.look(o.spec(parallelism=10), stuck, 0, Kept(), NOW)
    assert (force.current, force.reason) == (2, Reason.NO_NODES)
    assert common.look(o.spec(uid="other", parallelism=10), o.seen(), 0, Kept(), NOW)[0].current == 8


def test_a_claim_is_what_the_resource_says_and_the_jobs_show() -> None:
    def resource(uid: str, **more: object) -> dict[str, object]:
        spec = {
            "objective": {"metric": "m", "direction": "minimize"},
            "parameters": {"x": {"int": [1, 2]}},
            "parallelism": {"max": 7},
            "priority": 2,
            "template": {"spec": {"containers": [{"name": "t", "image": "i"}]}},
        }
        return {"metadata": {"namespace": "n", "name": uid, "uid": uid}, "spec": {**spec, **more}}

    suspended, broken = resource("b", suspend=True), resource("c", parameters={})
    over = {**resource("d"), "status": {"state": "Complete"}}
    jobs: dict[str, dict[str, tuple[JobView, ...]]] = {
        "a": {"a": (o.job(0), o.succeeded(1))},
        "b": {"b": (o.job(0),)},
        "d": {"d": (o.succeeded(0),), "d/finalists": (o.job(0), o.job(1)), "d/refit": (o.succeeded(0),)},
    }
    found = claims([resource("a"), suspended, broken, over], lambda uid: jobs.get(uid, {}))
    assert found == [
        (Demand("a", "n", 2, 7), 1),
        (Demand("b", "n", 2, 0), 1),
        (Demand("c", "n", 2, 0), 0),
        (Demand("d/finalists", "n", 2, 2), 2),
    ]
