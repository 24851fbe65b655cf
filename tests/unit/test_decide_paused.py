"""Paused trials: who goes on, before whom, and what becomes of the others when nothing more can come."""

import dataclasses

import pytest

from kubetune.api.trial import Counts, Leg, Reason, TrialRow
from kubetune.controller.decide import Limits, decide
from kubetune.controller.plan import Action, Ask, CreateJob, End, Finish, Observed, Promote, RequestStop
from tests.unit import loop_objects as o

ALL_ASKED = Counts(complete=6, paused=4)


def paused(number: int) -> TrialRow:
    return o.row(number, attempt=2, job_uid=None, leg=1, paused=True, legs=(Leg(1, 0, (0.5,)),))


def seen(*running: TrialRow, waiting: int = 4, **changes: object) -> Observed:
    """So many are paused."""
    found = o.seen(*running, jobs=tuple(o.job(row.number) for row in running if row.job_uid))
    rows = {number: paused(number) for number in range(100, 100 + waiting)}
    return dataclasses.replace(found, paused=rows, more_legs=True, **changes)  # type: ignore[arg-type]


def actions(what: Observed, **spec: object) -> tuple[Action, ...]:
    return decide(o.spec(**spec), what, o.NOW, Limits()).actions


def test_promotions_go_before_new_trials_and_after_committed_ones() -> None:
    found = seen(o.row(0, job_uid=None), promotable=(103, 101))
    assert actions(found, parallelism=4) == (
        CreateJob(0, 1, Reason.JOB_MISSING),
        Promote((103, 101), Reason.PROMOTED),
        Ask(1, Reason.SLOT_FREE),
    )


def test_they_take_no_more_slots_than_there_are() -> None:
    assert actions(seen(o.row(0), promotable=(103, 101))) == (Promote((103,), Reason.PROMOTED),)
    assert actions(seen(o.row(0), o.row(1), promotable=(103, 101))) == ()


def test_a_paused_trial_holds_no_slot() -> None:
    assert actions(seen()) == (Ask(2, Reason.SLOT_FREE),)


def test_nothing_is_promoted_while_suspended() -> None:
    assert actions(seen(promotable=(103,)), suspend=True) == ()


def test_when_all_are_asked_promotions_go_on() -> None:
    assert actions(seen(counts=ALL_ASKED, promotable=(103,))) == (Promote((103,), Reason.PROMOTED),)


def test_overtime_is_only_when_nothing_runs_and_nothing_is_asked() -> None:
    last = seen(counts=ALL_ASKED, overtime=(102,))
    assert actions(last) == (Promote((102,), Reason.PROMOTED),)
    assert actions(seen(o.row(0), counts=dataclasses.replace(ALL_ASKED, running=1), overtime=(102,))) == ()
    assert actions(seen(overtime=(102,))) == (Ask(2, Reason.SLOT_FREE),)


def test_those_that_are_left_end_before_the_experiment_does() -> None:
    ends = tuple(Finish(number, 2, None, "") for number in range(100, 104))
    assert actions(seen(counts=ALL_ASKED)) == ends
    plan = decide(o.spec(), seen(waiting=0, counts=Counts(complete=6, pruned=4)), o.NOW, Limits())
    assert [type(action) for action in plan.actions] == [End]


@pytest.mark.parametrize("suspend", [False, True])
def test_a_target_that_is_reached_ends_them_at_once(suspend: bool) -> None:
    found = actions(seen(counts=ALL_ASKED, target_reached=True, promotable=(100,), waiting=2), suspend=suspend)
    assert found == (
        RequestStop(100, Reason.EXPERIMENT_ENDED),
        RequestStop(101, Reason.EXPERIMENT_ENDED),
        Finish(100, 2, None, ""),
        Finish(101, 2, None, ""),
    )


def test_one_that_a_person_stops_ends_and_the_others_wait() -> None:
    assert actions(seen(o.row(0), o.row(1)), stop_trials=frozenset({102})) == (
        RequestStop(102, Reason.STOPPED),
        Finish(102, 2, None, ""),
    )


def test_after_the_end_none_is_left() -> None:
    found = actions(seen(ended=Reason.MAX_TRIALS, waiting=1))
    assert found == (Finish(100, 2, Reason.EXPERIMENT_ENDED, "its experiment has ended"),)
