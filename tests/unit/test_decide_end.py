"""When an experiment is over, why, and what becomes of the trials that still run."""

import dataclasses

import pytest

from kubetune.api.spec import NoImprovement, RegretBound
from kubetune.api.stop import Regret
from kubetune.api.trial import Counts, Reason
from kubetune.controller.decide import Limits, decide
from kubetune.controller.plan import DeleteJob, End, Finish, Observed, Plan, RequestStop
from tests.unit import loop_objects as o

NOW = o.NOW
IMAGES = (Reason.IMAGE,) * 3


def plan(seen: Observed, **spec: object) -> Plan:
    return decide(o.spec(**spec), seen, NOW, Limits())


ENDS: dict[str, tuple[Observed, dict[str, object], Reason, str]] = {
    "all trials made": (o.seen(counts=Counts(complete=10)), {}, Reason.MAX_TRIALS, "Complete"),
    "the grid is exhausted": (
        o.seen(counts=Counts(complete=6), exhausted=True),
        {},
        Reason.SPACE_EXHAUSTED,
        "Complete",
    ),
    "the target is reached": (
        o.seen(counts=Counts(complete=2), target_reached=True, best=0.99),
        {},
        Reason.TARGET_REACHED,
        "Complete",
    ),
    "nothing gets better": (
        o.seen(counts=Counts(complete=3, pruned=3), stagnation=5, best=0.9),
        {"no_improvement": NoImprovement(5)},
        Reason.NO_IMPROVEMENT,
        "Complete",
    ),
    "too little is left to gain": (
        o.seen(counts=Counts(complete=25), regret=Regret(0.0008, 0.001, 25), best=0.9),
        {"regret_bound": RegretBound(0.001), "max_trials": 100},
        Reason.REGRET_BOUND,
        "Complete",
    ),
    "more failed than may": (o.seen(counts=Counts(complete=1, failed=4)), {}, Reason.MAX_FAILED_TRIALS, "Failed"),
    "three could not start": (
        o.seen(counts=Counts(failed=3), recent_failures=IMAGES),
        {},
        Reason.START_FAILURES,
        "Failed",
    ),
    "time is over, something was found": (
        o.seen(counts=Counts(complete=1)),
        {"experiment_deadline": 100.0},
        Reason.EXPERIMENT_DEADLINE,
        "Complete",
    ),
    "time is over, nothing was found": (
        o.seen(counts=Counts(pruned=1)),
        {"experiment_deadline": 100.0},
        Reason.EXPERIMENT_DEADLINE,
        "Failed",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_it_is_over_when(case: str) -> None:
    seen, spec, reason, state = ENDS[case]
    found = plan(seen, **spec)
    assert [type(action) for action in found.actions] == [End]
    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize(
    "seen",
    [
        o.seen(counts=Counts(complete=9)),
        o.seen(counts=Counts(failed=3)),
        o.seen(counts=Counts(failed=2), recent_failures=(Reason.IMAGE, Reason.IMAGE)),
        o.seen(counts=Counts(failed=3), recent_failures=(Reason.IMAGE, Reason.CONFIG, Reason.IMAGE)),
        o.seen(counts=Counts(failed=3), recent_failures=(Reason.EXIT_CODE,) * 3),
        o.seen(counts=Counts(complete=1, failed=3), recent_failures=(Reason.COMPLETED, *IMAGES)),
    ],
    ids=["one to go", "as many failed as may", "two in a row", "not the same", "not at the start", "not in a row"],
)
def test_it_is_not_over_when(seen: Observed) -> None:
    assert not any(isinstance(action, End) for action in plan(seen).actions)


def test_it_says_how_long_nothing_got_better() -> None:
    seen = o.seen(counts=Counts(complete=6), stagnation=7, best=0.9)
    message = plan(seen, no_improvement=NoImprovement(5, 0.01)).message
    assert message == "5 trials ended without an improvement of more than 0.01: the best is accuracy = 0.9"
    assert plan(seen, no_improvement=NoImprovement(8)).reason is Reason.RUNNING
    assert plan(seen).reason is Reason.RUNNING


def test_it_says_what_is_left_to_gain() -> None:
    limit = {"regret_bound": RegretBound(), "max_trials": 100}
    seen = o.seen(counts=Counts(complete=30), regret=Regret(0.0008, 0.001, 25), best=0.9)
    assert plan(seen, **limit).message == (
        "at most 0.0008 is left to gain, by 25 complete trials, and less than 0.001 is enough: the best is "
        "accuracy = 0.9"
    )
    for regret in (Regret(), Regret(0.001, 0.001, 25), Regret(0.0, None, 25), Regret(None, 0.001, 25, "no reason")):
        seen = o.seen(counts=Counts(complete=30), regret=regret)
        assert plan(seen, **limit).reason is Reason.RUNNING


def test_max_trials_lets_the_last_ones_run_to_their_end() -> None:
    found = plan(o.seen(o.row(9), jobs=(o.job(9),), counts=Counts(running=1, complete=9)))
    assert (found.actions, found.state, found.reason) == ((), "Running", Reason.MAX_TRIALS)


@pytest.mark.parametrize("case", [case for case in ENDS if case not in ("all trials made", "the grid is exhausted")])
def test_every_other_end_stops_what_runs_first(case: str) -> None:
    seen, spec, reason, _ = ENDS[case]
    seen = dataclasses.replace(seen, running={9: o.row(9), 8: o.row(8, job_uid=None)}, jobs=(o.job(9),))
    found = plan(seen, **spec)
    assert found.actions == (
        RequestStop(8, Reason.EXPERIMENT_ENDED),
        RequestStop(9, Reason.EXPERIMENT_ENDED),
        Finish(8, 1, None, "stopped before it ran"),
    )
    assert (found.state, found.reason) == ("Stopping", reason)


def test_start_failures_stay_the_reason_while_the_last_trials_end_otherwise() -> None:
    row = o.row(9, stop_requested=NOW - 5, stop_reason=Reason.EXPERIMENT_ENDED)
    recent = (Reason.COMPLETED, *IMAGES)
    found = plan(o.seen(row, jobs=(o.job(9),), counts=Counts(running=1, complete=1, failed=3), recent_failures=recent))
    assert (found.state, found.reason) == ("Stopping", Reason.START_FAILURES)


def test_the_reason_does_not_change_when_the_trials_it_stops_count_as_failed() -> None:
    counts = Counts(complete=1, failed=8)
    recent = (Reason.EXPERIMENT_ENDED,) * 5
    reached = o.seen(counts=counts, recent_failures=recent, target_reached=True)
    assert plan(reached).reason is Reason.TARGET_REACHED
    late = o.seen(counts=counts, recent_failures=recent)
    assert plan(late, experiment_deadline=50.0).reason is Reason.EXPERIMENT_DEADLINE
    stale = o.seen(counts=counts, recent_failures=recent, stagnation=3)
    assert plan(stale, no_improvement=NoImprovement(3)).reason is Reason.NO_IMPROVEMENT


def test_a_start_failure_names_the_image_and_the_last_words() -> None:
    seen = o.seen(counts=Counts(failed=3), recent_failures=IMAGES, last_failure="ErrImagePull: not found")
    message = plan(seen).message
    assert "digits:1" in message
    assert "ErrImagePull: not found" in message


def test_a_deadline_to_come_is_when_to_look_again_and_one_that_has_passed_is_not() -> None:
    seen = o.seen(o.row(9), jobs=(o.job(9),), counts=Counts(running=1, complete=9))
    assert plan(seen, experiment_deadline=130.0).again_in == 30.0
    stopping = o.seen(o.row(9, stop_requested=NOW - 5, stop_reason=Reason.EXPERIMENT_ENDED), jobs=(o.job(9),))
    assert plan(stopping, experiment_deadline=50.0).again_in == 55.0


def test_an_ended_experiment_only_clears_away() -> None:
    over = o.seen(jobs=(o.job(0), o.job(1, deleting=True)), counts=Counts(complete=5), ended=Reason.MAX_TRIALS)
    found = plan(over, max_trials=50)  # raised afterwards: too late
    assert found.actions == (DeleteJob("digits-0-1", "job-0-1", Reason.EXPERIMENT_ENDED),)
    assert (found.state, found.reason) == ("Complete", Reason.MAX_TRIALS)


def test_suspended_it_still_ends() -> None:
    assert plan(o.seen(counts=Counts(complete=10)), suspend=True).state == "Complete"
