"""Workers decided: leases shown as Jobs, workers begun, drained and ended. Tables, no I/O."""

import dataclasses
from typing import Any

import pytest

from kubetune.api.trial import Counts, Exit, Lease, Reason, TrialRow, WorkerRow
from kubetune.controller import crew, see_workers
from kubetune.controller.decide import Limits, decide
from kubetune.controller.parallelism import Allowed
from kubetune.controller.plan import (
    Action,
    CreateJob,
    Crew,
    DeleteJob,
    DrainWorkers,
    End,
    EndWorker,
    Finish,
    JobPhase,
    JobView,
    NewAttempt,
    Observed,
    Offer,
    OpenWorker,
    Plan,
    Promote,
    RecordWorker,
)
from tests.unit.loop_objects import NOW, pod, row, spec

LIMITS = Limits()


def worker(number: int = 0, **changes: Any) -> WorkerRow:
    """Its Job is recorded."""
    return dataclasses.replace(WorkerRow(number, 1, NOW - 200, job_uid=f"w{number}-1"), **changes)


def worker_job(number: int = 0, incarnation: int = 1, **changes: Any) -> JobView:
    """Its pod runs."""
    plain = JobView(
        f"digits-w{number}", f"w{number}-{incarnation}", number, incarnation, NOW - 190, JobPhase.RUNNING, pod=pod()
    )
    return dataclasses.replace(plain, worker=True, **changes)


def leased(number: int = 0, to: int = 0, **changes: Any) -> TrialRow:
    lease = Lease(f"w{to}-1", "pod", 0, **{key: changes.pop(key) for key in ("exit", "expired") if key in changes})
    return row(number, job_uid=f"w{to}-1", offered=True, lease=lease, **changes)


def offered(number: int = 0, **changes: Any) -> TrialRow:
    return row(number, job_uid=None, offered=True, **changes)


def plan(
    *rows: TrialRow,
    workers: tuple[WorkerRow, ...] = (),
    jobs: tuple[JobView, ...] = (),
    mode: str = "workers",
    asked: int | None = None,
    of: dict[str, Any] | None = None,
    crew_of: dict[str, Any] | None = None,
    **changes: Any,
) -> Plan:
    """What follows where these trials run, in an experiment ``of`` two slots and ten trials."""
    running = {each.number: each for each in rows}
    by_number = {each.number: each for each in workers}
    total = len(rows) if asked is None else asked
    seen = Observed(
        running=running,
        counts=Counts(running=len(rows), complete=total - len(rows)),
        jobs=crew.views(running, by_number),
        started=NOW - 100,
        crew=Crew(mode, by_number, jobs, **(crew_of or {})),
        **changes,
    )
    chosen = spec(**(of or {}))
    return crew.plan(decide(chosen, seen, NOW, LIMITS), chosen, seen, NOW, LIMITS)


def actions(*rows: TrialRow, **changes: Any) -> list[Action]:
    return list(plan(*rows, **changes).actions)


# ---- beginning


def test_an_experiment_begins_with_a_worker_and_a_trial_for_each_slot() -> None:
    assert actions() == [OpenWorker(0), OpenWorker(1), Offer((), 2)]


def test_slots_share_workers() -> None:
    assert actions(of={"parallelism": 5}, crew_of={"slots": 2}) == [
        OpenWorker(0),
        OpenWorker(1),
        OpenWorker(2),
        Offer((), 5),
    ]


def test_no_more_workers_than_there_are_trials() -> None:
    assert actions(of={"parallelism": 8, "max_trials": 3})[:-1] == [OpenWorker(0), OpenWorker(1), OpenWorker(2)]


def test_all_is_well() -> None:
    """Every slot has its trial, none waits."""
    assert (
        actions(leased(0, 0), leased(1, 1), workers=(worker(0), worker(1)), jobs=(worker_job(0), worker_job(1))) == []
    )


def test_a_few_are_asked_ahead_where_trials_are_short() -> None:
    crew_of = {"ahead": 1}
    rows, two = (leased(0, 0), leased(1, 1)), (worker(0), worker(1))
    jobs = (worker_job(0), worker_job(1))
    assert actions(*rows, workers=two, jobs=jobs, crew_of=crew_of) == [Offer((), 1)]
    assert actions(*rows, offered(2), workers=two, jobs=jobs, crew_of=crew_of) == []


def test_none_ahead_while_a_worker_drains_or_slots_are_too_many() -> None:
    rows = (leased(0, 0), leased(1, 1))
    jobs = (worker_job(0), worker_job(1))
    draining = (worker(0), worker(1, draining=True))
    assert actions(*rows, workers=draining, jobs=jobs, crew_of={"ahead": 1}, of={"parallelism": 2}) == []
    odd = {"ahead": 1, "slots": 2}
    assert actions(leased(0, 0), workers=(worker(0),), jobs=jobs[:1], crew_of=odd, of={"parallelism": 1}) == []


def test_a_lost_attempt_is_offered_again_after_its_delay() -> None:
    again = row(0, attempt=2, job_uid=None)
    one: dict[str, Any] = {"workers": (worker(0),), "jobs": (worker_job(0),), "of": {"parallelism": 1}}
    assert actions(again, **one) == [Offer(((0, 2),))]
    waiting = plan(again, **one, backoff={0: NOW + 3})
    assert (waiting.actions, waiting.again_in) == ((), 3.0)


def test_the_parallelism_in_force_counts_not_the_specs() -> None:
    few = Allowed(1, start=1)
    assert actions(of={"parallelism": 5}, force=few) == [OpenWorker(0), Offer((), 1)]
    two, jobs = (worker(0), worker(1)), (worker_job(0), worker_job(1))
    assert actions(leased(0, 0), leased(1, 1), workers=two, jobs=jobs, force=few) == [DrainWorkers((1,))]


def test_a_worker_committed_and_not_created_is_created() -> None:
    found = actions(offered(0), workers=(worker(0, job_uid=None),), of={"parallelism": 1})
    assert found == [OpenWorker(0)]


def test_a_job_not_recorded_is_adopted() -> None:
    found = actions(offered(0), workers=(worker(0, job_uid=None),), jobs=(worker_job(0),), of={"parallelism": 1})
    assert found == [RecordWorker(0, 1, "w0-1")]


def test_a_worker_that_failed_waits_for_its_turn() -> None:
    over = worker(0, ended=NOW - 1, reason=Reason.EXIT_CODE)
    found = plan(offered(0), workers=(over,), of={"parallelism": 1}, crew_of={"backoff": {0: NOW + 4}})
    assert (found.actions, found.again_in) == ((), 4.0)


# ---- trials


@pytest.mark.parametrize(
    ("exit_", "action"),
    [
        (Exit(None, ""), Finish(0, 1, None, "")),
        (Exit(Reason.EXIT_CODE, "exited with code 3"), Finish(0, 1, Reason.EXIT_CODE, "exited with code 3")),
        (Exit(Reason.OOM_KILLED, "killed"), Finish(0, 1, Reason.OOM_KILLED, "killed")),
        (Exit(Reason.RETURNED, "leaving"), NewAttempt(0, 1, Reason.RETURNED, "leaving")),
    ],
)
def test_what_the_agent_says_of_an_end(exit_: Exit, action: Action) -> None:
    """Its worker's Job is not touched."""
    found = actions(leased(0, exit=exit_), workers=(worker(0),), jobs=(worker_job(0),), of={"parallelism": 1})
    assert found == [action]


def test_a_silent_worker_is_over() -> None:
    found = actions(leased(0, expired=True), workers=(worker(0),), jobs=(worker_job(0),), of={"parallelism": 1})
    assert found[:2] == [
        NewAttempt(0, 1, Reason.WORKER_LOST, "worker 0 has said nothing for a whole lease"),
        EndWorker(0, 1, Reason.WORKER_LOST, "it has said nothing for a whole lease", "digits-w0", "w0-1"),
    ]


@pytest.mark.parametrize(
    ("reason", "others", "action"),
    [
        (Reason.NODE_LOST, (), NewAttempt(0, 1, Reason.NODE_LOST, "so it was")),
        (Reason.EXIT_CODE, (), NewAttempt(0, 1, Reason.WORKER_LOST, "so it was")),
        (Reason.OOM_KILLED, (), Finish(0, 1, Reason.OOM_KILLED, "so it was")),
        (Reason.OOM_KILLED, (leased(1, 0),), NewAttempt(0, 1, Reason.WORKER_LOST, "so it was")),
    ],
)
def test_what_a_lost_worker_had(reason: Reason, others: tuple[TrialRow, ...], action: Action) -> None:
    gone = worker(0, ended=NOW - 1, reason=reason, message="so it was")
    assert actions(leased(0), *others, workers=(gone,))[0] == action


def test_of_a_worker_that_is_replaced_nothing_runs() -> None:
    found = actions(leased(0), workers=(worker(0, incarnation=2, job_uid="w0-2"),), jobs=(worker_job(0, 2),))
    assert found[0] == NewAttempt(0, 1, Reason.WORKER_LOST, "its worker is gone")


# ---- workers


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (worker_job(phase=JobPhase.SUCCEEDED), Reason.DRAINED),
        (worker_job(phase=JobPhase.FAILED, pod=pod(phase="Failed", exit_code=1, terminated="Error")), Reason.EXIT_CODE),
        (worker_job(phase=JobPhase.FAILED, pod=pod(phase="Failed", terminated="OOMKilled")), Reason.OOM_KILLED),
        (worker_job(phase=JobPhase.FAILED, pod=pod(phase="Failed", deleted=True)), Reason.POD_DELETED),
        (worker_job(phase=JobPhase.FAILED, failure="PodFailurePolicy", pod=None), Reason.EVICTED),
        (worker_job(pod=pod(node="gone")), Reason.NODE_LOST),
    ],
)
def test_a_worker_is_over_as_its_pod_is(job: JobView, reason: Reason) -> None:
    gone = frozenset({"gone"})
    found = actions(leased(0), workers=(worker(0),), jobs=(job,), of={"parallelism": 1}, nodes_gone=gone)
    (end,) = [action for action in found if isinstance(action, EndWorker)]
    assert (end.number, end.incarnation, end.reason, end.job, end.job_uid) == (0, 1, reason, "digits-w0", "w0-1")
    assert not [action for action in found if isinstance(action, DeleteJob)]


def test_a_worker_whose_job_is_gone_is_over() -> None:
    found = actions(leased(0), workers=(worker(0),), of={"parallelism": 1})
    assert found[0] == EndWorker(0, 1, Reason.JOB_DELETED, "the worker's Job was deleted")


def test_one_on_its_way_out_is_waited_for() -> None:
    found = actions(leased(0), workers=(worker(0),), jobs=(worker_job(0, deleting=True),), of={"parallelism": 1})
    assert found == []


def test_a_worker_that_cannot_start_fails_one_trial() -> None:
    stuck = worker_job(phase=JobPhase.PENDING, pod=pod(phase="Pending", started=None, waiting="ErrImagePull"))
    found = actions(
        offered(0),
        offered(1),
        workers=(worker(0),),
        jobs=(stuck,),
        troubled_since={"w0-1": NOW - 600},
        of={"parallelism": 2},
    )
    assert [action for action in found if isinstance(action, Finish)] == [Finish(0, 1, Reason.IMAGE, "ErrImagePull")]
    assert [type(action) for action in found if isinstance(action, EndWorker)] == [EndWorker]


def test_a_lower_parallelism_drains_who_is_idle_first() -> None:
    three = tuple(worker(number) for number in range(3))
    jobs = tuple(worker_job(number) for number in range(3))
    found = actions(leased(0, 0), leased(1, 2), workers=three, jobs=jobs, of={"parallelism": 2})
    assert found == [DrainWorkers((1,))]
    found = actions(leased(0, 0), leased(1, 1), leased(2, 2), workers=three, jobs=jobs, of={"parallelism": 2})
    assert found == [DrainWorkers((2,))]


def test_when_nothing_comes_all_drain_and_end_with_what_they_run() -> None:
    two, jobs = (worker(0), worker(1)), (worker_job(0), worker_job(1))
    assert actions(leased(9, 0), workers=two, jobs=jobs, asked=10) == [DrainWorkers((0, 1))]


def waits(number: int) -> dict[str, Any]:
    """What is observed of one paused trial that may go on."""
    paused = row(number, attempt=2, job_uid=None, leg=1, paused=True)
    return {"paused": {number: paused}, "promotable": (number,), "more_legs": True}


def test_a_promoted_trial_is_offered_before_a_new_one_is_asked() -> None:
    two, jobs = (worker(0), worker(1)), (worker_job(0), worker_job(1))
    assert actions(leased(0, 0), workers=two, jobs=jobs, **waits(7)) == [Promote((7,), Reason.PROMOTED, offered=True)]


def test_who_runs_a_leg_does_not_drain_while_trials_have_more() -> None:
    two, jobs = (worker(0), worker(1)), (worker_job(0), worker_job(1))
    found = actions(leased(9, 0), workers=two, jobs=jobs, asked=10, more_legs=True)
    assert found == [DrainWorkers((1,))]


def test_an_attempt_lost_at_the_very_end_gets_a_new_worker() -> None:
    draining = worker(0, draining=True)
    found = actions(row(9, attempt=2, job_uid=None), workers=(draining,), jobs=(worker_job(0),), asked=10)
    assert found == [OpenWorker(1), Offer(((9, 2),))]


def test_what_drains_holds_its_slot_until_it_ends() -> None:
    draining = worker(0, draining=True)
    found = actions(leased(0, 0), workers=(draining,), jobs=(worker_job(0),), of={"parallelism": 1})
    assert found == []


def test_jobs_that_run_already_keep_their_slots() -> None:
    own = row(0, job_uid="job-0-1")
    running = {0: own}
    job = JobView("digits-0-1", "job-0-1", 0, 1, NOW - 95, JobPhase.RUNNING, pod=pod())
    seen = Observed(
        running=running, counts=Counts(running=1), jobs=(job,), started=NOW - 100, crew=Crew("workers", {}, ())
    )
    chosen = spec(parallelism=2)
    found = crew.plan(decide(chosen, seen, NOW, LIMITS), chosen, seen, NOW, LIMITS)
    assert list(found.actions) == [OpenWorker(0), Offer((), 1)]


def test_suspended_workers_go_and_their_trials_stay() -> None:
    found = actions(leased(0), workers=(worker(0),), jobs=(worker_job(0),), of={"suspend": True})
    assert found == [
        NewAttempt(0, 1, Reason.SUSPENDED, "spec.suspend is set"),
        EndWorker(0, 1, Reason.SUSPENDED, "spec.suspend is set", "digits-w0", "w0-1"),
    ]


def test_jobs_of_earlier_incarnations_are_deleted() -> None:
    now = worker(0, incarnation=2, job_uid="w0-2")
    found = actions(leased(0, 0), workers=(now,), jobs=(worker_job(0, 1), worker_job(0, 2)), of={"parallelism": 1})
    assert DeleteJob("digits-w0", "w0-1", Reason.STALE_ATTEMPT) in found


def test_at_the_end_all_is_cleared_away() -> None:
    found = actions(workers=(worker(0),), jobs=(worker_job(0),), asked=10)
    assert found[0] == DeleteJob("digits-w0", "w0-1", Reason.EXPERIMENT_ENDED)
    assert isinstance(found[-1], End)
    after = actions(workers=(worker(0),), jobs=(worker_job(0),), asked=10, ended=Reason.MAX_TRIALS)
    assert after == [DeleteJob("digits-w0", "w0-1", Reason.EXPERIMENT_ENDED)]
    assert actions(workers=(worker(0),), jobs=(worker_job(0, deleting=True),), asked=10, ended=Reason.MAX_TRIALS) == []


def test_back_to_jobs_workers_drain_and_trials_get_jobs() -> None:
    two, jobs = (worker(0), worker(1)), (worker_job(0), worker_job(1))
    found = actions(leased(0, 0), offered(1), workers=two, jobs=jobs, mode="jobs")
    assert found == [CreateJob(1, 1, Reason.JOB_MISSING), DrainWorkers((0, 1))]


def test_without_workers_the_plan_stays_as_it_is() -> None:
    seen = Observed(running={}, counts=Counts(), jobs=(), started=NOW)
    plain = decide(spec(), seen, NOW, LIMITS)
    assert crew.plan(plain, spec(), seen, NOW, LIMITS) is plain


# ---- no node


def nodeless(number: int = 0) -> JobView:
    return worker_job(
        number, phase=JobPhase.PENDING, pod=pod(phase="Pending", node=None, scheduled=False, started=None)
    )


def test_who_has_no_node_drains_first_and_is_over_at_once() -> None:
    there = {"workers": (worker(0), worker(1)), "jobs": (nodeless(0), worker_job(1))}
    found = actions(leased(0, 1), of={"parallelism": 1}, asked=5, **there)
    assert DrainWorkers((0,)) in found
    drained = {"workers": (worker(0, draining=True), worker(1)), "jobs": (nodeless(0), worker_job(1))}
    assert EndWorker(0, 1, Reason.DRAINED, "it has found no node", "digits-w0", "w0-1") in actions(
        leased(0, 1), of={"parallelism": 1}, asked=5, **drained
    )


def test_one_that_drains_with_a_trial_has_a_node_whatever_the_cache_says() -> None:
    found = actions(leased(0, 0), workers=(worker(0, draining=True),), jobs=(nodeless(0),), of={"parallelism": 1})
    assert not [each for each in found if isinstance(each, EndWorker)]


def test_no_more_workers_are_opened_than_may_try() -> None:
    force = Allowed(6, open=3)
    found = actions(of={"parallelism": 6}, crew_of={"slots": 2}, force=force)
    assert [each for each in found if isinstance(each, OpenWorker)] == [OpenWorker(0), OpenWorker(1)]
    later = {0: NOW + 9}
    found = actions(of={"parallelism": 6}, crew_of={"slots": 2, "backoff": later}, force=force)
    assert [each for each in found if isinstance(each, OpenWorker)] == [OpenWorker(1), OpenWorker(2)]


def test_the_census_counts_who_is_not_over() -> None:
    workers = (worker(0), worker(1), worker(2, draining=True), worker(3, ended=NOW), worker(4, job_uid=None))
    there = Crew("workers", {each.number: each for each in workers}, (worker_job(0), nodeless(1), worker_job(2)))
    assert see_workers.census(there) == {"starting": 2, "running": 1, "draining": 1}
