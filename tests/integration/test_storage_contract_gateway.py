"""What every storage promises to the gateway, on memory and on PostgreSQL: accepting, stopping, logs, reading."""

import dataclasses
import math

import pytest

from kubetune.api.trial import Counts, Reason
from kubetune.storage import base
from tests.conftest import Storage
from tests.integration.experiments import Experiment, completed, failed, pruned


class TestAccepting:
    def test_reports_count_from_one_without_gaps_for_each_trial(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        batch = [experiment.incoming(number) for number in (0, 1, 0, 0, 1)]
        answers = experiment.storage.accept(batch)
        assert [answer.seq for answer in answers if isinstance(answer, base.Answer)] == [1, 1, 2, 3, 2]
        assert [report.seq for report in experiment.reports(0)] == [1, 2, 3]
        assert experiment.row(0).last_seq == 3

    def test_an_empty_batch_is_no_error(self, storage: Storage) -> None:
        assert storage.accept([]) == []

    def test_without_a_step_it_is_one_more_than_the_highest(self, experiment: Experiment) -> None:
        experiment.create(0)
        for step in (None, None, 10, 5, None):
            experiment.report(0, step)
        assert [report.step for report in experiment.reports(0)] == [0, 1, 10, 5, 11]
        assert experiment.row(0).last_step == 11

    def test_the_last_value_of_each_metric_is_kept(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, loss=3.0, size=7.0)
        experiment.report(0, loss=2.0)
        assert experiment.row(0).last_metrics == {"loss": 2.0, "size": 7.0}

    def test_numbers_that_json_does_not_have(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, loss=math.inf, low=-math.inf, odd=math.nan, tiny=5e-324)
        metrics = experiment.reports(0)[0].metrics
        assert (metrics["loss"], metrics["low"], metrics["tiny"]) == (math.inf, -math.inf, 5e-324)
        assert math.isnan(metrics["odd"])
        assert math.isnan(experiment.row(0).last_metrics["odd"])

    def test_a_key_seen_before_is_answered_as_the_first_time(self, experiment: Experiment) -> None:
        experiment.create(0)
        first = experiment.report(0, key="a", loss=1.0)
        experiment.report(0, key="b")
        assert experiment.report(0, key="a", loss=9.0) == first
        assert [report.metrics["loss"] for report in experiment.reports(0)] == [1.0, 1.0]

    def test_a_key_twice_in_one_batch_counts_once(self, experiment: Experiment) -> None:
        experiment.create(0)
        answers = experiment.storage.accept([experiment.incoming(0, key="a"), experiment.incoming(0, key="a")])
        assert answers == [base.Answer(1, False, "")] * 2
        assert len(experiment.reports(0)) == 1

    def test_keys_of_other_trials_and_attempts_are_others(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        experiment.report(0, key="a")
        assert experiment.report(1, key="a") == base.Answer(1, False, "")
        experiment.lose(0)
        experiment.record(0, attempt=2)
        assert experiment.report(0, key="a", attempt=2) == base.Answer(2, False, "")

    def test_a_key_seen_before_the_end_is_still_known_after_it(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, key="a")
        experiment.finish(0)
        assert experiment.report(0, key="a") == base.Answer(1, True, "Completed")
        assert isinstance(experiment.report(0, key="b"), base.NotCurrent)

    def test_before_its_job_is_recorded_a_pod_is_to_come_again(self, experiment: Experiment) -> None:
        experiment.create(0, recorded=False)
        assert isinstance(experiment.report(0), base.NotRecorded)
        with pytest.raises(base.NotRecorded):
            experiment.storage.finish(experiment.who(0), "complete", "")
        with pytest.raises(base.NotRecorded):
            experiment.storage.look(experiment.who(0))

    def test_who_is_not_current_is_refused_and_leaves_the_others_alone(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2, 3)
        experiment.lose(1)
        experiment.record(1, attempt=2)
        experiment.finish(2)
        forged = base.Incoming(
            base.Identity(experiment.uid, "team-a", experiment.name, 3, 1, "job-forged", "pod"), "k", None, {"loss": 0}
        )
        answers = experiment.storage.accept(
            [
                experiment.incoming(0),
                experiment.incoming(1, attempt=1),
                experiment.incoming(1, attempt=3),
                experiment.incoming(2),
                forged,
                experiment.incoming(99),
                experiment.incoming(2**40),
                experiment.incoming(0, attempt=2**40),
                experiment.incoming(0),
            ]
        )
        assert [type(answer) for answer in answers] == [base.Answer, *[base.NotCurrent] * 7, base.Answer]
        assert [report.seq for report in experiment.reports(0)] == [1, 2]
        assert [len(experiment.reports(number)) for number in (1, 2, 3)] == [0, 0, 0]

    def test_a_pod_of_another_namespace_is_nobody_though_it_knows_every_uid(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, key="a")
        forged = dataclasses.replace(experiment.who(0), namespace="team-b")
        answers = experiment.storage.accept(
            [
                base.Incoming(forged, "b", None, {"loss": 0.0}),
                base.Incoming(forged, "a", None, {"loss": 0.0}),  # a key that is known
                experiment.incoming(0),
            ]
        )
        assert [type(answer) for answer in answers] == [base.NotCurrent, base.NotCurrent, base.Answer]
        assert [report.seq for report in experiment.reports(0)] == [1, 2]
        for ask in (
            lambda: experiment.storage.look(forged),
            lambda: experiment.storage.finish(forged, "complete", ""),
            lambda: experiment.storage.parameters(forged),
            lambda: experiment.storage.resumable(forged),
            lambda: experiment.storage.resume(forged, None, ()),
            lambda: experiment.storage.removed(forged, []),
        ):
            with pytest.raises(base.NotCurrent):
                ask()
        assert experiment.storage.claim_log(forged, "me", 60) is None
        assert experiment.row(0).finish is None

    def test_text_that_no_database_can_hold_spoils_nothing(self, experiment: Experiment) -> None:
        experiment.create(0)
        spoiled = base.Incoming(experiment.who(0), "nul\0\ud800", None, {"metric\0\udfff": 1.0})
        answers = experiment.storage.accept([spoiled, experiment.incoming(0)])
        assert answers == [base.Answer(1, False, ""), base.Answer(2, False, "")]
        assert experiment.reports(0)[0].metrics == {"metric\ufffd\ufffd": 1.0}
        assert experiment.storage.accept([spoiled])[0] == base.Answer(1, False, "")

    def test_a_step_out_of_range_is_refused_alone(self, experiment: Experiment) -> None:
        experiment.create(0)
        answers = experiment.storage.accept(
            [experiment.incoming(0, 2**63), experiment.incoming(0, 2**63 - 1), experiment.incoming(0)]
        )
        assert [type(answer) for answer in answers] == [ValueError, base.Answer, ValueError]
        assert [report.step for report in experiment.reports(0)] == [2**63 - 1]


class TestStopping:
    def test_every_answer_says_so(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        experiment.storage.request_stop(experiment.uid, {0: Reason.PRUNED, 9: Reason.PRUNED})
        stop = base.Answer(1, True, "Pruned")
        assert experiment.report(0) == stop
        assert experiment.storage.look(experiment.who(0)) == stop
        assert experiment.storage.finish(experiment.who(0), "pruned", "") == stop
        assert experiment.storage.look(experiment.who(1)) == base.Answer(0, False, "")

    def test_the_first_request_stands(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.storage.request_stop(experiment.uid, {0: Reason.STOPPED})
        first = experiment.row(0)
        experiment.storage.request_stop(experiment.uid, {0: Reason.EXPERIMENT_ENDED})
        assert experiment.row(0) == first
        assert first.stop_reason is Reason.STOPPED
        assert first.stop_requested is not None

    def test_a_trial_that_ended_is_not_asked(self, experiment: Experiment) -> None:
        experiment.create(0)
        ended = experiment.finish(0)
        experiment.storage.request_stop(experiment.uid, {0: Reason.STOPPED})
        assert experiment.row(0) == ended


class TestLogs:
    def test_one_holder_at_a_time(self, experiment: Experiment) -> None:
        experiment.create(0)
        claim, who = experiment.storage.claim_log, experiment.who(0)
        assert claim(who, "a", 60_000) == base.LogPosition("", False)
        assert claim(who, "b", 60_000) is None
        assert claim(who, "a", 60_000) == base.LogPosition("", False)

    def test_a_lease_that_ran_out_goes_to_the_next_where_the_first_stood(self, experiment: Experiment) -> None:
        experiment.create(0)
        storage, who = experiment.storage, experiment.who(0)
        storage.claim_log(who, "a", 0)
        storage.save_log(who, "a", "2026-01-01T00:00:00.123456789Z", False)
        assert storage.claim_log(who, "b", 60_000) == base.LogPosition("2026-01-01T00:00:00.123456789Z", False)
        storage.save_log(who, "a", "late", True)
        assert storage.claim_log(who, "b", 60_000) == base.LogPosition("2026-01-01T00:00:00.123456789Z", False)
        assert not experiment.row(0).log_read

    def test_read_to_its_end(self, experiment: Experiment) -> None:
        experiment.create(0)
        storage, who = experiment.storage, experiment.who(0)
        storage.claim_log(who, "a", 60_000)
        storage.save_log(who, "a", "t", True)
        assert experiment.row(0).log_read
        assert storage.claim_log(who, "a", 60_000) == base.LogPosition("t", True)

    def test_only_the_current_attempts_is_followed(self, experiment: Experiment) -> None:
        experiment.create(0, 1, recorded=False)
        assert experiment.storage.claim_log(experiment.who(0), "a", 60) is None
        experiment.record(1)
        experiment.storage.claim_log(experiment.who(1), "a", 60)
        experiment.lose(1)
        experiment.storage.save_log(experiment.who(1), "a", "", True)
        assert experiment.storage.claim_log(experiment.who(1), "a", 60) is None
        assert not experiment.row(1).log_read


class TestReading:
    def test_parameters_of_the_trial(self, experiment: Experiment) -> None:
        experiment.create(0)
        assert experiment.storage.parameters(experiment.who(0)) == {"x": 0.5}
        with pytest.raises(base.NotCurrent):
            experiment.storage.parameters(experiment.who(1))

    def test_pages_by_number_and_counts_of_all(self, experiment: Experiment) -> None:
        experiment.create(*range(6))
        experiment.lose(5)
        for number, ending in enumerate([completed(1.0), completed(2.0), failed(), pruned()]):
            experiment.finish(number, ending)
        trials, place = experiment.storage.trials, (experiment.namespace, experiment.name)
        study, counts, page = trials(*place, None, 1, 3)
        assert study.uid == experiment.uid
        assert counts == Counts(running=2, complete=2, pruned=1, failed=1, lost_attempts=1)
        assert [row.number for row in page] == [1, 2, 3]
        assert [row.number for row in trials(*place, "COMPLETE", 1, 10)[2]] == [1]
        assert trials(*place, None, 6, 10)[2] == []

    def test_the_newest_study_of_a_name(self, storage: Storage) -> None:
        old = Experiment(storage)
        old.create(0)
        new = Experiment(storage, name=old.name)
        other = Experiment(storage, name=old.name, namespace="team-b")
        assert storage.trials("team-a", old.name, None, 0, 10)[0] == new.study
        assert storage.trials("team-b", old.name, None, 0, 10)[0] == other.study
        with pytest.raises(KeyError):
            storage.trial_reports("team-a", old.name, 0)

    def test_what_is_not_there(self, experiment: Experiment) -> None:
        storage, place = experiment.storage, (experiment.namespace, experiment.name)
        with pytest.raises(KeyError):
            storage.trials("team-a", "nobody", None, 0, 10)
        for number in (0, 2**40):
            with pytest.raises(KeyError):
                storage.trial_reports(*place, number)
            with pytest.raises(KeyError):
                storage.log_tail(*place, number)
            with pytest.raises(KeyError):
                storage.place(*place, number)

    def test_healthy(self, storage: Storage) -> None:
        assert storage.healthy()
