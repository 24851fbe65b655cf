"""What every storage promises of trials that consist of legs; each test runs on memory and on PostgreSQL."""

import math

import pytest

from kubetune.api.checkpoints import Checkpoint
from kubetune.api.trial import Leg, NextLeg, Reason, TrialRow, TrialState
from kubetune.storage import base
from tests.conftest import Storage
from tests.integration.experiments import SPACE, Experiment, Settled, completed, job_uid, pruned, series_of


@pytest.fixture
def experiment(storage: Storage) -> Experiment:
    return Experiment(storage)


def end_leg(
    experiment: Experiment, attempt: int, paused: bool = True, resumes: bool = True, *values: float
) -> TrialRow:
    over = NextLeg(values or (0.5,), paused, {"epochs": "3"}, resumes, 0.25)
    return experiment.storage.finish_trial(experiment.uid, 0, attempt, lambda *_: over, None)


class TestEndOfALeg:
    def test_the_next_attempt_is_current_and_has_no_job(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, 4, loss=0.5, size=7.0)
        experiment.storage.finish(experiment.who(0), "complete", "")
        row = end_leg(experiment, 1)
        assert (row.state, row.attempt, row.leg, row.paused) == (TrialState.RUNNING, 2, 1, True)
        assert (row.job_uid, row.finish, row.offered, row.losses) == (None, None, False, 0)
        assert (row.last_step, row.last_metrics["size"]) == (4, 7.0)
        assert row.legs == (Leg(1, 4, (0.5,), True, 0.25),)
        assert row.environment == {"epochs": "3"}
        assert row == experiment.row(0)

    def test_said_again_it_is_as_it_is(self, experiment: Experiment) -> None:
        experiment.create(0)
        first = end_leg(experiment, 1)
        assert end_leg(experiment, 1) == first == experiment.row(0)
        assert experiment.storage.promote(experiment.uid, {0: 2}).keys() == {0}
        assert end_leg(experiment, 1).leg == 1

    def test_a_step_that_is_not_said_goes_on_or_begins_anew(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, 4)
        assert end_leg(experiment, 1, False).last_step == 4
        experiment.lose(0, 2)
        assert experiment.row(0).last_step == 4
        assert end_leg(experiment, 3, False, False).last_step is None
        experiment.lose(0, 4)
        assert experiment.row(0).last_step is None

    @pytest.mark.parametrize("values", [(math.nan,), (1.0, 2.0)])
    def test_values_that_are_none_are_refused(self, experiment: Experiment, values: tuple[float, ...]) -> None:
        experiment.create(0)
        with pytest.raises(ValueError, match="objectives need as many"):
            end_leg(experiment, 1, True, True, *values)
        assert experiment.row(0).leg == 0

    def test_infinities_are_values(self, experiment: Experiment) -> None:
        experiment.create(0)
        end_leg(experiment, 1, True, True, -math.inf)
        assert experiment.row(0).legs[0].values == (-math.inf,)

    def test_what_the_ended_attempt_still_sends_is_not_taken(self, experiment: Experiment) -> None:
        experiment.create(0)
        end_leg(experiment, 1, False)
        assert isinstance(experiment.report(0), base.NotCurrent)
        assert isinstance(experiment.report(0, attempt=2), base.NotRecorded)


class TestPaused:
    def test_it_gets_no_job_and_is_offered_to_nobody(self, experiment: Experiment) -> None:
        experiment.create(0)
        end_leg(experiment, 1)
        assert not experiment.record(0, 2)
        assert experiment.storage.offer(experiment.uid, {0: 2}) == set()
        assert experiment.row(0).job_uid is None

    def test_it_is_counted_apart_and_brings_no_news(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        experiment.report(0)
        end_leg(experiment, 1)
        _, counts, _ = experiment.storage.trials(experiment.namespace, experiment.name, None, 0, 10)
        assert (counts.running, counts.paused, counts.total) == (1, 1, 2)
        assert not experiment.storage.news(experiment.uid, {}).reports

    def test_promoted_it_goes_on(self, experiment: Experiment) -> None:
        experiment.create(0)
        end_leg(experiment, 1)
        assert experiment.storage.promote(experiment.uid, {0: 1, 7: 1}) == {}
        promoted = experiment.storage.promote(experiment.uid, {0: 2})[0]
        assert (promoted.paused, promoted.offered, promoted.leg) == (False, False, 1)
        assert experiment.record(0, 2)
        again = experiment.storage.promote(experiment.uid, {0: 2})[0]
        assert again.job_uid == job_uid(0, 2) == experiment.row(0).job_uid

    def test_promoted_into_a_worker_its_leg_comes_with_the_lease(self, experiment: Experiment) -> None:
        storage = experiment.storage
        experiment.create(0)
        end_leg(experiment, 1)
        storage.open_worker(experiment.uid, 0)
        storage.record_worker(experiment.uid, 0, 1, "worker-job")
        who = base.Worker(experiment.uid, experiment.namespace, experiment.name, 0, "worker-job", "worker-pod")
        assert storage.lease(who, 0, 60.0).number is None
        assert storage.promote(experiment.uid, {0: 2}, offered=True)[0].offered
        for _ in range(2):  # the answer may be lost
            granted = storage.lease(who, 0, 60.0)
            assert (granted.number, granted.attempt, granted.environment) == (0, 2, {"epochs": "3"})

    def test_it_ends_like_any_trial(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, 2, loss=0.5)
        end_leg(experiment, 1)
        settled = Settled(pruned(0.5))
        row = experiment.storage.finish_trial(experiment.uid, 0, 2, settled, None)
        assert (row.state, row.paused, row.leg) == (TrialState.PRUNED, False, 1)
        assert [report.step for report in settled.reports] == [2]
        assert series_of(experiment.storage, experiment.uid) == {0: {2: 0.5}}
        assert experiment.storage.ended_legs(experiment.uid) == [(0, row.legs)]
        assert experiment.storage.promote(experiment.uid, {0: 2}) == {}

    def test_a_deleted_experiment_leaves_none(self, experiment: Experiment) -> None:
        experiment.create(0)
        end_leg(experiment, 1)
        experiment.storage.delete_study(experiment.uid)
        assert (experiment.row(0).state, experiment.row(0).paused) == (TrialState.FAIL, False)


def test_the_first_leg_has_its_environment_from_the_beginning(experiment: Experiment) -> None:
    trial = base.NewTrial(0, {"x": 0.5}, environment={"epochs": "1"})
    experiment.storage.create_trials(experiment.uid, SPACE, [trial])
    assert experiment.row(0).environment == {"epochs": "1"}


class TestReportsThatCount:
    """`rules.chain`, by what `settle` is given, the running series, and Optuna's intermediate values."""

    def ended(self, experiment: Experiment, attempt: int) -> list[float]:
        running = {
            number: dict(zip(steps.tolist(), values.tolist(), strict=True))
            for piece in experiment.storage.load_running(experiment.uid)[1]
            for number, steps, values in piece.each()
        }
        settled = Settled(completed(0.0))
        experiment.storage.finish_trial(experiment.uid, 0, attempt, settled, None)
        series = {report.step: report.metrics["loss"] for report in settled.reports}
        assert series_of(experiment.storage, experiment.uid)[0] == dict(sorted(series.items()))
        assert running.get(0, {}) == series
        return [report.metrics["loss"] for report in settled.reports]

    def report(self, experiment: Experiment, attempt: int, steps: range) -> None:
        experiment.record(0, attempt)
        for step in steps:
            assert isinstance(experiment.report(0, step, attempt, loss=10.0 * attempt + step), base.Answer)

    def test_a_leg_goes_on_where_the_one_before_ended(self, experiment: Experiment) -> None:
        experiment.create(0)
        self.report(experiment, 1, range(2))
        end_leg(experiment, 1, False)
        self.report(experiment, 2, range(2, 4))
        assert self.ended(experiment, 2) == [10, 11, 22, 23]

    def test_one_that_begins_again_leaves_nothing_of_those_before(self, experiment: Experiment) -> None:
        experiment.create(0)
        self.report(experiment, 1, range(2))
        end_leg(experiment, 1, False)
        self.report(experiment, 2, range(3))
        assert self.ended(experiment, 2) == [20, 21, 22]

    def test_a_lost_attempt_counts_up_to_where_the_next_goes_on(self, experiment: Experiment) -> None:
        experiment.create(0)
        self.report(experiment, 1, range(6))
        experiment.lose(0, 1)
        self.report(experiment, 2, range(4, 6))
        assert self.ended(experiment, 2) == [10, 11, 12, 13, 24, 25]

    def test_one_that_takes_up_a_checkpoint_and_has_nothing_more_to_report(self, experiment: Experiment) -> None:
        experiment.create(0)
        self.report(experiment, 1, range(6))
        experiment.storage.commit_checkpoint(experiment.who(0), Checkpoint(0, 1, 4, "0/1-4", "a" * 64, 100, 2))
        experiment.lose(0, 1)
        experiment.record(0, 2)
        experiment.storage.resume(experiment.who(0, 2), "0/1-4", ())
        assert self.ended(experiment, 2) == [10, 11, 12, 13, 14]

    def test_until_then_it_does_not_count(self, experiment: Experiment) -> None:
        experiment.create(0)
        self.report(experiment, 1, range(2))
        end_leg(experiment, 1, False)
        self.report(experiment, 2, range(2, 4))
        experiment.lose(0, 2, Reason.EVICTED)
        assert self.ended(experiment, 3) == [10, 11]


@pytest.mark.parametrize(("resumes", "there"), [(True, 1), (False, 0)])
def test_a_leg_that_begins_anew_has_no_checkpoint_of_those_before(
    experiment: Experiment, resumes: bool, there: int
) -> None:
    experiment.create(0)
    experiment.storage.commit_checkpoint(experiment.who(0), Checkpoint(0, 1, 3, "0/1-3", "a" * 64, 100, 2))
    end_leg(experiment, 1, False, resumes)
    experiment.record(0, 2)
    assert len(experiment.storage.resumable(experiment.who(0, 2))) == there
    experiment.storage.commit_checkpoint(experiment.who(0, 2), Checkpoint(0, 2, 4, "0/2-4", "b" * 64, 100, 2))
    experiment.lose(0, 2)
    experiment.record(0, 3)
    assert len(experiment.storage.resumable(experiment.who(0, 3))) == there + 1
