"""What follows for each trial, as the specification says it. Times are seconds; the grace for a stop is 60."""

import dataclasses
from typing import Any

import pytest

from kubetune.api.spec import ExperimentSpec, Metrics
from kubetune.api.trial import Counts, Reason, TrialRow
from kubetune.controller.decide import Limits, decide, retry_delay
from kubetune.controller.parallelism import Allowed
from kubetune.controller.plan import (
    Action,
    Ask,
    CreateJob,
    DeleteJob,
    Finish,
    JobPhase,
    JobView,
    NewAttempt,
    Observed,
    Plan,
    RecordJob,
    RequestStop,
)
from tests.unit import loop_objects as o

NOW = o.NOW
LIMITS = Limits()
FULL = Counts(running=1, complete=9)  # all ten trials are asked
LOG = Metrics("log")


def plan(seen: Observed, spec: ExperimentSpec | None = None) -> Plan:
    return decide(spec or o.spec(), seen, NOW, LIMITS)


def actions(seen: Observed, **spec: Any) -> tuple[Action, ...]:
    """With all trials asked, so that only the ones at hand are in view."""
    return plan(dataclasses.replace(seen, counts=FULL), o.spec(**spec)).actions


# ---- starting


def test_free_slots_are_filled_with_new_trials() -> None:
    assert plan(o.seen()).actions == (Ask(2, Reason.SLOT_FREE),)
    assert plan(o.seen(o.row(), jobs=(o.job(),))).actions == (Ask(1, Reason.SLOT_FREE),)


def test_a_committed_trial_without_a_job_is_started_before_a_new_one() -> None:
    seen = o.seen(o.row(0, job_uid=None), o.row(1, attempt=2, job_uid=None))
    assert plan(seen).actions == (
        CreateJob(0, 1, Reason.JOB_MISSING),
        CreateJob(1, 2, Reason.JOB_MISSING),
    )


def test_never_more_trials_than_max_trials() -> None:
    seen = o.seen(counts=Counts(complete=9))
    assert plan(seen, o.spec(parallelism=5)).actions == (Ask(1, Reason.SLOT_FREE),)


def test_a_lowered_parallelism_starts_nothing_and_kills_nothing() -> None:
    rows = [o.row(number) for number in range(3)]
    seen = o.seen(*rows, o.row(3, job_uid=None), jobs=tuple(o.job(number) for number in range(3)))
    assert plan(seen, o.spec(parallelism=2)).actions == ()


def test_a_job_that_lingers_after_its_trial_holds_its_slot() -> None:
    found = plan(o.seen(jobs=(o.job(7),))).actions
    assert found == (DeleteJob("digits-7-1", "job-7-1", Reason.STALE_ATTEMPT), Ask(1, Reason.SLOT_FREE))


def test_a_trial_that_waits_for_its_backoff_keeps_its_slot() -> None:
    seen = o.seen(o.row(0, attempt=2, job_uid=None), backoff={0: NOW + 5})
    found = plan(seen)
    assert found.actions == (Ask(1, Reason.SLOT_FREE),)
    assert found.again_in == 5.0


def test_a_plan_that_ends_trials_starts_none_and_asks_for_the_next_look_at_once() -> None:
    found = plan(o.seen(o.row(), jobs=(o.succeeded(),)))
    assert [type(action) for action in found.actions] == [Finish]
    assert found.again_in == 0.0


# ---- adopting, and what is not ours any more


def test_a_job_that_is_there_and_not_recorded_is_adopted() -> None:
    seen = o.seen(o.row(job_uid=None), jobs=(o.job(),))
    assert actions(seen) == (RecordJob(0, 1, "digits-0-1", "job-0-1"),)


@pytest.mark.parametrize(
    "stale",
    [o.job(0, 1), o.job(5), o.job(0, 2, uid="another")],
    ids=["of another attempt", "of an ended or unknown trial", "under the recorded one's name"],
)
def test_a_job_of_nothing_current_is_deleted(stale: JobView) -> None:
    row = o.row(attempt=2, job_uid="job-0-2")
    assert actions(o.seen(row, jobs=(o.job(0, 2), stale))) == (DeleteJob(stale.name, stale.uid, Reason.STALE_ATTEMPT),)


def test_a_stale_job_on_its_way_out_is_left_alone() -> None:
    assert actions(o.seen(o.row(), jobs=(o.job(), o.job(5, deleting=True)))) == ()


# ---- attempts lost


def lost(reason: Reason, message: str, job: JobView | None) -> NewAttempt:
    name, uid = (job.name, job.uid) if job else (None, None)
    return NewAttempt(0, 1, reason, message, name, uid)


def test_a_recorded_job_that_is_gone_is_a_lost_attempt() -> None:
    assert actions(o.seen(o.row())) == (lost(Reason.JOB_DELETED, "its Job was deleted", None),)


def test_an_evicted_attempt_is_lost_and_no_failure() -> None:
    job = o.failed(pod=o.pod(phase="Failed", reason="Evicted"))
    (found,) = actions(o.seen(o.row(), jobs=(job,)))
    assert isinstance(found, NewAttempt)
    assert (found.reason, found.job_uid) == (Reason.EVICTED, "job-0-1")


def held(**changes: Any) -> JobView:
    """Somebody deletes it, for ten seconds now; its pod runs."""
    return o.job(**{"deleting": True, "deleted": NOW - 10, **changes})


def test_a_job_being_deleted_by_someone_is_waited_for_up_to_a_grace() -> None:
    waits = plan(o.seen(o.row(), jobs=(held(),), counts=FULL))
    assert (waits.actions, waits.again_in) == ((), LIMITS.deletion_grace - 10)
    job = held(deleted=NOW - LIMITS.deletion_grace)
    (found,) = actions(o.seen(o.row(), jobs=(job,)))
    assert isinstance(found, NewAttempt)
    assert (found.reason, found.job_uid) == (Reason.JOB_DELETED, job.uid)
    assert found.message == "its Job has been on its way out for 300 s, and its pod the-pod has not ended"


GIVEN_UP = {
    "its node is gone": (held(pod=o.pod(node="node-b")), Reason.NODE_LOST),
    "its pod is gone": (held(pod=o.pod(deleted=True, gone=True)), Reason.JOB_DELETED),
    "its pod was ended by it": (held(pod=o.pod(phase="Succeeded", deleted=True)), Reason.JOB_DELETED),
    "it has no pod": (held(pod=None, phase=JobPhase.PENDING, deleted=NOW - 30), Reason.JOB_DELETED),
}


@pytest.mark.parametrize("case", GIVEN_UP)
def test_nothing_is_waited_for_where_nothing_runs(case: str) -> None:
    job, reason = GIVEN_UP[case]
    (found,) = actions(o.seen(o.row(), jobs=(job,), nodes_gone=frozenset({"node-b"})))
    assert isinstance(found, NewAttempt)
    assert found.reason is reason


@pytest.mark.parametrize(
    "job",
    [
        held(pod=o.pod(deleted=True)),
        held(pod=None, phase=JobPhase.PENDING),
        held(deleted=None),
        held(pod=o.pod(phase="Failed", exit_code=1)),
    ],
    ids=["its pod is terminating", "its pod may come yet", "deleted just now", "its pod failed, the Job says so soon"],
)
def test_what_may_still_run_is_waited_for(job: JobView) -> None:
    assert actions(o.seen(o.row(), jobs=(job,))) == ()


def test_an_end_that_came_before_its_deletion_took_it_counts() -> None:
    gone: dict[str, Any] = {"deleting": True, "deleted": NOW - 10}
    (well,) = actions(o.seen(o.row(), jobs=(o.succeeded(**gone),)))
    assert isinstance(well, Finish)
    assert well.failure is None
    (badly,) = actions(o.seen(o.row(), jobs=(o.failed(**gone),)))
    assert isinstance(badly, Finish)
    assert badly.failure is Reason.EXIT_CODE


@pytest.mark.parametrize(
    "row", [o.row(stop_requested=NOW, stop_reason=Reason.PRUNED), o.row(finish=o.finish())], ids=["stop", "finish"]
)
def test_a_trial_that_is_to_end_does_not_wait_for_its_jobs_deletion(row: TrialRow) -> None:
    (found,) = actions(o.seen(row, jobs=(held(),)))
    assert isinstance(found, Finish)
    assert found.failure is None


def test_a_job_that_is_held_for_too_long_holds_no_slot() -> None:
    row = o.row(attempt=2, job_uid=None)
    fresh, old = held(), held(deleted=NOW - LIMITS.deletion_grace)
    assert actions(o.seen(row, jobs=(fresh,)), parallelism=1) == ()
    assert actions(o.seen(row, jobs=(old,)), parallelism=1) == (CreateJob(0, 2, Reason.JOB_MISSING),)


def test_an_unrecorded_job_on_its_way_out_is_recorded_so_that_its_attempt_is_over() -> None:
    assert actions(o.seen(o.row(job_uid=None), jobs=(held(),))) == (RecordJob(0, 1, "digits-0-1", "job-0-1"),)


def test_too_many_lost_attempts_fail_the_trial() -> None:
    (found,) = actions(o.seen(o.row(attempt=20, losses=19)))
    assert isinstance(found, Finish)
    assert found.failure is Reason.ATTEMPTS_EXHAUSTED
    assert found.message == "20 attempts were lost to infrastructure, the last one: its Job was deleted"


def test_attempts_that_were_suspended_are_none_lost() -> None:
    row = o.row(attempt=30, losses=3)
    (found,) = actions(o.seen(row))
    assert isinstance(found, NewAttempt)
    assert plan(o.seen(row)).again_in == retry_delay(4)


def test_a_suspend_is_never_one_loss_too_many() -> None:
    (found,) = actions(o.seen(o.row(losses=19), jobs=(o.job(),)), suspend=True)
    assert isinstance(found, NewAttempt)
    assert found.reason is Reason.SUSPENDED


def test_the_next_attempt_waits_longer_each_time() -> None:
    assert [retry_delay(attempt) for attempt in (1, 2, 3, 7, 50)] == [1, 2, 4, 60, 60]
    assert plan(o.seen(o.row(attempt=3, losses=2))).again_in == 4.0


@pytest.mark.parametrize("row", [o.row(stop_requested=NOW, stop_reason=Reason.PRUNED), o.row(finish=o.finish())])
def test_a_lost_attempt_of_a_trial_that_is_done_is_its_end(row: Any) -> None:
    (found,) = actions(o.seen(row))
    assert isinstance(found, Finish)
    assert found.failure is None


# ---- ends


def test_a_job_that_ended_well_ends_its_trial() -> None:
    assert actions(o.seen(o.row(), jobs=(o.succeeded(),))) == (Finish(0, 1, None, "", "digits-0-1", "job-0-1"),)


def test_a_failure_has_its_reason() -> None:
    found = actions(o.seen(o.row(), jobs=(o.failed(),)))
    assert found == (Finish(0, 1, Reason.EXIT_CODE, "exited with code 1: no such file", "digits-0-1", "job-0-1"),)


def test_what_the_trial_said_of_its_end_goes_before_its_exit_code() -> None:
    (found,) = actions(o.seen(o.row(finish=o.finish("failed")), jobs=(o.failed(),)))
    assert isinstance(found, Finish)
    assert found.failure is None


def test_waiting_for_a_node_is_no_outcome() -> None:
    waiting = o.pending(pod=o.pod(phase="Pending", started=None, scheduled=False, unschedulable="0/3 nodes"))
    found = plan(o.seen(o.row(), jobs=(waiting,), counts=FULL))
    assert (found.actions, found.again_in) == ((), None)


def test_an_image_that_cannot_be_pulled_is_looked_at_again_when_its_grace_is_over() -> None:
    waiting = o.pending(pod=o.pod(phase="Pending", started=None, waiting="ImagePullBackOff"))
    seen = o.seen(o.row(), jobs=(waiting,), counts=FULL, troubled_since={"job-0-1": NOW - 20})
    assert (plan(seen).actions, plan(seen).again_in) == ((), 40.0)
    (found,) = plan(dataclasses.replace(seen, troubled_since={"job-0-1": NOW - 60})).actions
    assert isinstance(found, Finish)
    assert found.failure is Reason.IMAGE


def test_a_finished_trial_whose_pod_stays_is_ended_after_the_grace() -> None:
    row = o.row(finish=o.finish(time=NOW - 59))
    assert plan(o.seen(row, jobs=(o.job(),), counts=FULL)).again_in == 1.0
    (found,) = actions(o.seen(o.row(finish=o.finish(time=NOW - 60)), jobs=(o.job(),)))
    assert isinstance(found, Finish)
    assert found.job_uid == "job-0-1"


@pytest.mark.parametrize("job", [o.succeeded(), o.failed()])
def test_the_log_is_read_to_its_end_before_the_trial_ends(job: JobView) -> None:
    def looked_at(since: float | None, read: bool = False) -> Plan:
        over = {} if since is None else {"job-0-1": since}
        seen = o.seen(o.row(log_read=read), jobs=(job,), counts=FULL, over_since=over)
        return plan(seen, o.spec(metrics=LOG))

    assert (looked_at(None).actions, looked_at(None).again_in) == ((), 600.0)
    assert (looked_at(NOW - 599).actions, looked_at(NOW - 599).again_in) == ((), 1.0)
    for found in (looked_at(NOW - 600), looked_at(None, read=True)):
        assert [type(action) for action in found.actions] == [Finish]


def test_a_log_that_was_gone_before_it_was_read_is_a_lost_attempt() -> None:
    job = o.succeeded(pod=o.pod(phase="Succeeded", deleted=True))
    seen = o.seen(o.row(), jobs=(job,), over_since={"job-0-1": NOW - 30})
    (found,) = actions(seen, metrics=LOG)
    assert isinstance(found, NewAttempt)
    assert found.reason is Reason.POD_DELETED


# ---- stops


def test_a_person_stops_a_trial() -> None:
    seen = o.seen(o.row(), jobs=(o.job(),))
    assert actions(seen, stop_trials=frozenset({0, 99})) == (RequestStop(0, Reason.STOPPED),)


def test_a_stop_not_obeyed_within_its_grace_deletes_the_job() -> None:
    def asked(ago: float) -> Observed:
        row = o.row(stop_requested=NOW - ago, stop_reason=Reason.PRUNED)
        return o.seen(row, jobs=(o.job(),), counts=FULL)

    assert (plan(asked(59)).actions, plan(asked(59)).again_in) == ((), 1.0)
    (found,) = plan(asked(60)).actions
    assert found == Finish(0, 1, None, "did not stop within 60 s", "digits-0-1", "job-0-1")


def test_a_trial_without_our_client_is_stopped_at_once() -> None:
    found = actions(o.seen(o.row(), jobs=(o.job(),)), metrics=LOG, stop_trials=frozenset({0}))
    assert found == (RequestStop(0, Reason.STOPPED), Finish(0, 1, None, "", "digits-0-1", "job-0-1"))


@pytest.mark.parametrize("jobs", [(), (o.pending(),)], ids=["no Job", "not running yet"])
def test_a_trial_that_does_not_run_is_stopped_at_once(jobs: tuple[JobView, ...]) -> None:
    row = o.row(job_uid="job-0-1" if jobs else None)
    found = actions(o.seen(row, jobs=jobs), stop_trials=frozenset({0}))
    assert [type(action) for action in found] == [RequestStop, Finish]


def test_a_trial_that_exits_with_an_error_after_its_stop_was_stopped() -> None:
    row = o.row(stop_requested=NOW - 2, stop_reason=Reason.PRUNED)
    (found,) = actions(o.seen(row, jobs=(o.failed(),)))
    assert isinstance(found, Finish)
    assert found.failure is None


# ---- suspended


def test_suspend_takes_the_jobs_away_and_keeps_the_trials() -> None:
    seen = o.seen(o.row(0), o.row(1, job_uid=None), jobs=(o.job(0),))
    found = plan(seen, o.spec(suspend=True))
    assert found.actions == (lost(Reason.SUSPENDED, "spec.suspend is set", o.job(0)),)
    assert found.state == "Suspended"


def test_suspended_nothing_starts_and_what_has_ended_ends() -> None:
    assert plan(o.seen(), o.spec(suspend=True)).actions == ()
    found = plan(o.seen(o.row(), jobs=(o.succeeded(),)), o.spec(suspend=True))
    assert [type(action) for action in found.actions] == [Finish]


# ---- the parallelism in force


def unplaced(number: int = 0) -> JobView:
    pod = o.pod(phase="Pending", node=None, scheduled=False, started=None, unschedulable="no GPU")
    return o.pending(number, pod=pod)


def test_a_trial_that_is_to_be_withdrawn_gives_up_its_job_and_its_slot_and_no_loss() -> None:
    force = Allowed(1, Reason.NO_NODES, start=0, withdraw=frozenset({1}), again_at=NOW + 30)
    seen = o.seen(o.row(0), o.row(1), jobs=(o.job(0), unplaced(1)), force=force)
    found = plan(seen)
    assert found.actions == (NewAttempt(1, 1, Reason.UNSCHEDULABLE, "no GPU", "digits-1-1", "job-1-1"),)
    assert found.again_in == 30


def test_a_pod_that_found_a_node_meanwhile_is_not_withdrawn() -> None:
    force = Allowed(1, Reason.NO_NODES, start=0, withdraw=frozenset({0}))
    for job in (o.job(), o.pending()):
        assert plan(o.seen(o.row(), jobs=(job,), counts=FULL, force=force)).actions == ()


def test_a_withdrawn_trial_that_is_to_stop_ends() -> None:
    force = Allowed(1, Reason.NO_NODES, start=0, withdraw=frozenset({0}))
    stopped = o.row(stop_requested=NOW - 1, stop_reason=Reason.PRUNED)
    (action,) = plan(o.seen(stopped, jobs=(unplaced(),), counts=FULL, force=force)).actions
    assert isinstance(action, Finish)


def test_only_as_many_jobs_start_as_may_and_those_withdrawn_come_before_new_ones() -> None:
    rows = [o.row(0, job_uid=None, attempt=2), o.row(1, job_uid=None, attempt=2)]
    force = Allowed(2, Reason.NO_NODES, start=1)
    assert plan(o.seen(*rows, force=force)).actions == (CreateJob(0, 2, Reason.JOB_MISSING),)
    assert plan(o.seen(*rows, force=Allowed(3, start=3))).actions == (
        CreateJob(0, 2, Reason.JOB_MISSING),
        CreateJob(1, 2, Reason.JOB_MISSING),
        Ask(1, Reason.SLOT_FREE),
    )
    assert plan(o.seen(force=Allowed(2, start=0))).actions == ()


def test_jobs_that_are_being_created_hold_their_slots() -> None:
    rows = [o.row(number, job_uid=None) for number in range(4)]
    seen = o.seen(*rows, creating={0: 1, 1: 1})
    assert plan(seen, o.spec(parallelism=3)).actions == (CreateJob(2, 1, Reason.JOB_MISSING),)
    assert plan(seen, o.spec(parallelism=5)).actions == (
        CreateJob(2, 1, Reason.JOB_MISSING),
        CreateJob(3, 1, Reason.JOB_MISSING),
        Ask(1, Reason.SLOT_FREE),
    )


def test_a_job_on_its_way_holds_its_slot_and_nothing_is_settled_before_it_is_known() -> None:
    stopped = o.row(job_uid=None, stop_requested=NOW - 5, stop_reason=Reason.STOPPED)
    assert actions(o.seen(stopped, creating={0: 1})) == ()
    assert [type(action) for action in actions(o.seen(stopped))] == [Finish]


def test_a_job_on_its_way_for_an_earlier_attempt_is_not_this_ones() -> None:
    assert actions(o.seen(o.row(job_uid=None, attempt=2), creating={0: 1})) == (CreateJob(0, 2, Reason.JOB_MISSING),)
