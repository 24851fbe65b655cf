"""What every storage promises about checkpoints, on memory and on PostgreSQL."""

import dataclasses

import pytest

from kubetune.api import names
from kubetune.api.checkpoints import Checkpoint, Leftover, Resumed
from kubetune.api.spec import Double
from kubetune.api.trial import NextLeg, Reason
from kubetune.storage import base
from tests.integration.experiments import SPACE, Experiment


def made(number: int, step: int, attempt: int = 1, digest: str = "a") -> Checkpoint:
    return Checkpoint(number, attempt, step, f"{number}/{attempt}-{step}", digest * 64, 100 + step, 2)


def commit(experiment: Experiment, number: int, step: int, attempt: int = 1, digest: str = "a") -> list[str]:
    """Returns what is to be removed."""
    answer, remove = experiment.storage.commit_checkpoint(
        experiment.who(number, attempt), made(number, step, attempt, digest)
    )
    assert answer == base.Answer(0, False, "")
    return remove


def found(experiment: Experiment, number: int, attempt: int = 1) -> list[Checkpoint]:
    return [
        dataclasses.replace(each, time=0.0) for each in experiment.storage.resumable(experiment.who(number, attempt))
    ]


def keeps(experiment: Experiment, count: int) -> None:
    experiment.storage.save_spec(experiment.uid, base.KeptSpec(1, {"checkpoints": {"claim": "c", "keep": count}}))


def test_a_trial_without_a_checkpoint_goes_on_from_nothing(experiment: Experiment) -> None:
    experiment.create(0)
    assert found(experiment, 0) == []


def test_the_latest_comes_first_and_the_next_attempt_has_it_too(experiment: Experiment) -> None:
    experiment.create(0, 1)
    commit(experiment, 0, 3)
    commit(experiment, 1, 9)
    commit(experiment, 0, 2)  # the latest is what was committed last
    experiment.lose(0)
    experiment.record(0, attempt=2)
    assert found(experiment, 0, attempt=2) == [made(0, 2), made(0, 3)]


def test_a_segment_goes_on_from_its_parents_until_it_has_its_own(experiment: Experiment) -> None:
    experiment.create(0)
    commit(experiment, 0, 3)
    commit(experiment, 0, 4)
    experiment.finish(0)
    experiment.storage.create_trials(experiment.uid, SPACE, [base.NewTrial(1, {"x": 0.5}, parent=0, member=0)])
    experiment.record(1)
    assert found(experiment, 1) == [made(0, 4), made(0, 3)]
    experiment.storage.resume(experiment.who(1), "0/1-4", [])
    assert experiment.row(1).last_step == 4  # a report without a step is of the next one
    commit(experiment, 1, 9)
    assert found(experiment, 1)[0] == made(1, 9)


def test_a_run_goes_on_from_none_of_a_run_before_it(experiment: Experiment) -> None:
    """A fold, or a replicate; what lost attempts of the same one left counts."""
    experiment.create(0)
    commit(experiment, 0, 3)
    leg = NextLeg((0.5,), False, resumes=False)
    experiment.storage.finish_trial(experiment.uid, 0, 1, lambda reports, finish: leg, None)
    experiment.record(0, attempt=2)
    assert found(experiment, 0, attempt=2) == []
    commit(experiment, 0, 1, attempt=2)
    experiment.lose(0, 2)
    experiment.record(0, attempt=3)
    assert found(experiment, 0, attempt=3) == [made(0, 1, attempt=2)]


def test_a_leg_goes_on_from_the_one_before(experiment: Experiment) -> None:
    experiment.create(0)
    commit(experiment, 0, 3)
    leg = NextLeg((0.5,), False)
    experiment.storage.finish_trial(experiment.uid, 0, 1, lambda reports, finish: leg, None)
    experiment.record(0, attempt=2)
    assert found(experiment, 0, attempt=2) == [made(0, 3)]


def test_a_step_that_is_left_out_follows_what_the_attempt_went_on_from(experiment: Experiment) -> None:
    experiment.create(0)
    experiment.report(0, 3)
    experiment.storage.finish_trial(experiment.uid, 0, 1, lambda reports, finish: NextLeg((0.5,), False), None)
    experiment.record(0, attempt=2)
    experiment.storage.commit_checkpoint(experiment.who(0, 2), made(0, 7, attempt=2))
    experiment.lose(0, 2)
    experiment.record(0, attempt=3)
    assert experiment.row(0).last_step == 3
    experiment.storage.resume(experiment.who(0, 3), "0/2-7", [])
    assert experiment.row(0).last_step == 7
    experiment.report(0, 8, attempt=3)
    experiment.storage.resume(experiment.who(0, 3), "0/2-7", [])
    assert experiment.row(0).last_step == 8


def test_one_that_is_known_is_answered_as_the_first_time(experiment: Experiment) -> None:
    experiment.create(0)
    commit(experiment, 0, 3)
    commit(experiment, 0, 4)
    commit(experiment, 0, 3)
    assert found(experiment, 0) == [made(0, 4), made(0, 3)]


def test_a_location_names_one_checkpoint(experiment: Experiment) -> None:
    experiment.create(0)
    commit(experiment, 0, 3)
    with pytest.raises(ValueError, match="0/1-3"):
        commit(experiment, 0, 3, digest="b")
    assert found(experiment, 0) == [made(0, 3)]


def test_only_the_current_attempt_of_a_running_trial_says_anything(experiment: Experiment) -> None:
    experiment.create(0, 1)
    experiment.create(2, recorded=False)
    commit(experiment, 0, 3)
    experiment.lose(0)
    experiment.record(0, attempt=2)
    experiment.finish(1)
    for number, attempt, refusal in ((0, 1, base.NotCurrent), (1, 1, base.NotCurrent), (2, 1, base.NotRecorded)):
        who = experiment.who(number, attempt)
        with pytest.raises(refusal):
            experiment.storage.commit_checkpoint(who, made(number, 4, attempt))
        with pytest.raises(refusal):
            experiment.storage.resumable(who)
        with pytest.raises(refusal):
            experiment.storage.resume(who, None, [])
        with pytest.raises(refusal):
            experiment.storage.removed(who, [])
    assert found(experiment, 0, attempt=2) == [made(0, 3)]


def test_older_ones_go_and_are_told_once(experiment: Experiment) -> None:
    experiment.create(0, 1)
    keeps(experiment, 2)
    assert [commit(experiment, 0, step) for step in (1, 2, 3, 4)] == [[], [], ["0/1-1"], ["0/1-2"]]
    assert commit(experiment, 1, 1) == []  # they are told already
    assert found(experiment, 0) == [made(0, 4), made(0, 3)]
    experiment.storage.removed(experiment.who(1), ["0/1-1", "0/1-4", "no/such"])
    assert found(experiment, 0) == [made(0, 4), made(0, 3)]  # one that is needed is not removed


def test_keep_is_the_experiments_own(experiment: Experiment) -> None:
    experiment.create(0)
    keeps(experiment, 1)
    assert [commit(experiment, 0, step) for step in (1, 2)] == [[], ["0/1-1"]]
    assert found(experiment, 0) == [made(0, 2)]


def test_keep_is_the_experiments_own_for_what_comes_after_its_search_too(experiment: Experiment) -> None:
    uid = names.phase_uid(experiment.uid, "finalists")
    phase = Experiment(experiment.storage, uid=uid, name=experiment.name)
    phase.create(0)
    keeps(experiment, 1)
    experiment.storage.save_spec(uid, base.KeptSpec(1, {"sets": []}))
    assert [commit(phase, 0, step) for step in (1, 2)] == [[], ["0/1-1"]]


def test_damaged_ones_are_offered_no_more_and_go_with_the_next_commit(experiment: Experiment) -> None:
    experiment.create(0)
    commit(experiment, 0, 1)
    commit(experiment, 0, 2)
    experiment.storage.resume(experiment.who(0), "0/1-1", ["0/1-2"])
    assert found(experiment, 0) == [made(0, 1)]
    assert commit(experiment, 0, 3) == ["0/1-2"]
    assert found(experiment, 0) == [made(0, 3), made(0, 1)]


def test_what_an_attempt_went_on_from_is_recorded(experiment: Experiment) -> None:
    experiment.create(0, 1)
    commit(experiment, 0, 5)
    experiment.lose(0)
    experiment.record(0, attempt=2)
    experiment.storage.resume(experiment.who(0, 2), "0/1-5", [])
    experiment.storage.resume(experiment.who(0, 2), "0/1-5", [])
    experiment.storage.resume(experiment.who(1), None, [])
    (resumed,) = experiment.storage.resumes(experiment.uid)
    assert dataclasses.replace(resumed, time=0.0) == Resumed(0, 2, 0, 1, 5, "0/1-5")
    with pytest.raises(ValueError, match="0/9-9"):
        experiment.storage.resume(experiment.who(1), "0/9-9", [])


def test_reports_without_a_step_go_on_after_the_checkpoints(experiment: Experiment) -> None:
    experiment.create(0)
    commit(experiment, 0, 5)
    experiment.lose(0)
    experiment.record(0, attempt=2)
    experiment.storage.resume(experiment.who(0, 2), "0/1-5", [])
    experiment.report(0, attempt=2)
    experiment.storage.resume(experiment.who(0, 2), "0/1-5", [])
    experiment.report(0, attempt=2)
    assert [report.step for report in experiment.reports(0)] == [6, 7]


def test_of_ended_trials_only_what_is_needed_stays(experiment: Experiment) -> None:
    experiment.create(0, 1, 2)
    keeps(experiment, 2)
    for number in (0, 1, 2):
        for step in (1, 2):
            commit(experiment, number, step)
    assert experiment.storage.release_checkpoints(experiment.uid, [0]) == 0  # all run
    experiment.finish(0)
    experiment.finish(1)
    assert experiment.storage.release_checkpoints(experiment.uid, [0]) == 3  # 0 is the best
    assert experiment.storage.release_checkpoints(experiment.uid, [0]) == 0
    assert commit(experiment, 2, 3) == ["0/1-1", "1/1-1", "1/1-2", "2/1-1"]
    assert found(experiment, 2) == [made(2, 3), made(2, 2)]


def test_what_a_trial_goes_on_from_stays_and_what_members_will(experiment: Experiment) -> None:
    space = {"x": Double(0.0, 1.0)}
    for number, parent, member in ((0, None, 0), (1, None, 1), (2, 0, 0)):
        new = base.NewTrial(number, {"x": 0.5}, parent=parent, member=member)
        experiment.storage.create_trials(experiment.uid, space, [new])
        experiment.record(number)
        if number != 2:
            commit(experiment, number, 1)
            experiment.finish(number)
    assert found(experiment, 2) == [made(0, 1)]
    assert experiment.storage.release_checkpoints(experiment.uid, []) == 0
    commit(experiment, 2, 2)
    assert found(experiment, 2) == [made(2, 2), made(0, 1)]
    experiment.finish(2)
    assert experiment.storage.release_checkpoints(experiment.uid, []) == 1  # 0's: its member went on
    experiment.storage.end_study(experiment.uid, Reason.MAX_TRIALS, "")
    assert experiment.storage.release_checkpoints(experiment.uid, [2]) == 1


def leftover(experiment: Experiment) -> Leftover | None:
    return next((each for each in experiment.storage.leftovers() if each.uid == experiment.uid), None)


def test_what_an_experiment_leaves_is_known_until_it_is_cleared(experiment: Experiment) -> None:
    experiment.create(0, 1)
    keeps(experiment, 2)
    commit(experiment, 0, 1)
    commit(experiment, 1, 1)
    experiment.finish(0)
    experiment.finish(1)
    experiment.storage.release_checkpoints(experiment.uid, [1])
    assert leftover(experiment) is None  # it is not over
    experiment.storage.end_study(experiment.uid, Reason.MAX_TRIALS, "")
    left = leftover(experiment)
    assert left is not None
    assert (left.namespace, left.name, left.deleted) == ("team-a", experiment.name, False)
    assert (left.spec["checkpoints"]["claim"], left.keep) == ("c", ("1/1-1",))
    experiment.storage.cleared(left)
    assert leftover(experiment) is None
    experiment.storage.delete_study(experiment.uid)
    experiment.storage.cleared(left)  # by a Job that was made before: the best's is there still
    rest = leftover(experiment)
    assert rest is not None
    assert (rest.deleted, rest.keep) == (True, ())
    experiment.storage.cleared(rest)
    assert leftover(experiment) is None


def test_a_purged_study_leaves_none(experiment: Experiment) -> None:
    experiment.create(0, 1)
    commit(experiment, 0, 1)
    experiment.storage.resume(experiment.who(1), "0/1-1", [])
    experiment.storage.delete_study(experiment.uid)
    assert experiment.storage.purge(-1.0) >= 1
    assert experiment.storage.resumes(experiment.uid) == []
