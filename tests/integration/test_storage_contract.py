"""What every storage promises to the operator; each test runs on memory and on PostgreSQL."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api.spec import Categorical, Double, Given, Int, Parameter, ParamValue
from kubetune.api.trial import Ending, Finish, JobRecord, Leg, NextLeg, Placing, Reason, TrialRow, TrialState
from kubetune.storage import base, batches
from kubetune.storage.record import PROMOTED, Judged
from tests.conftest import Storage
from tests.integration.experiments import SPACE, Experiment, Settled, completed, failed, job_uid, pruned, series_of


class TestFence:
    def test_each_acquire_gives_a_higher_epoch(self, storage: Storage, successor: Storage) -> None:
        first = storage.acquire("operator-a")
        assert successor.acquire("operator-b") == first + 1

    def test_every_write_of_the_one_before_is_refused(self, experiment: Experiment, successor: Storage) -> None:
        experiment.create(0)
        successor.acquire("operator-b")
        old, uid = experiment.storage, experiment.uid
        writes: list[Callable[[], object]] = [
            old.confirm,
            lambda: old.open_study("another", "ns", "name", ("loss",), ("minimize",)),
            lambda: experiment.create(1),
            lambda: experiment.record(0),
            lambda: old.record_start(uid, {0: 1.0}),
            lambda: experiment.lose(0),
            lambda: old.request_stop(uid, {0: Reason.PRUNED}),
            lambda: experiment.finish(0),
            lambda: old.promote(uid, {0: 1}),
            lambda: old.end_study(uid, Reason.MAX_TRIALS, ""),
            lambda: old.delete_study(uid),
            lambda: old.remove_reports(0.0),
            lambda: old.record_steering(uid, [base.Steer("stop", "0", {})]),
            lambda: old.save_warm_trials(uid, []),
        ]
        before = successor.load_trials(uid)
        for write in writes:
            with pytest.raises(base.Fenced):
                write()
        assert successor.load_trials(uid) == before
        assert [study.uid for study in successor.studies()].count(uid) == 1
        assert "another" not in {study.uid for study in successor.studies()}

    def test_nothing_is_written_before_the_epoch_is_acquired(self, successor: Storage) -> None:
        with pytest.raises(base.Fenced):
            Experiment(successor)

    def test_the_gateway_needs_no_epoch(self, experiment: Experiment, successor: Storage) -> None:
        experiment.create(0)
        answers = successor.accept([experiment.incoming(0)])
        assert answers == [base.Answer(1, False, "")]


class TestStudy:
    def test_opened_again_it_is_as_it_was_made(self, experiment: Experiment) -> None:
        again = experiment.storage.open_study(
            experiment.uid, experiment.namespace, experiment.name, ("accuracy", "size"), ("maximize", "minimize")
        )
        assert again == experiment.study
        assert again.metrics == ("loss",)
        assert again.directions == ("minimize",)

    def test_the_spec_in_force_is_kept_as_it_was_written(self, experiment: Experiment, successor: Storage) -> None:
        storage = experiment.storage
        assert storage.load_spec(experiment.uid) is None
        first = {"parameters": {"z": {"double": [0, 1.5]}, "a": {"bool": {}}}, "text": "Größe \x00 \ud800 \u2603"}
        storage.save_spec(experiment.uid, base.KeptSpec(1, first))
        assert storage.load_spec(experiment.uid) == base.KeptSpec(1, first)
        storage.save_spec(experiment.uid, base.KeptSpec(2**40, {}))
        successor.acquire("operator-b")
        with pytest.raises(base.Fenced):
            storage.save_spec(experiment.uid, base.KeptSpec(3, first))
        assert successor.load_spec(experiment.uid) == base.KeptSpec(2**40, {})

    def test_the_kept_spec_has_its_fields_in_order(self, experiment: Experiment) -> None:
        experiment.storage.save_spec(experiment.uid, base.KeptSpec(1, {"b": 1, "aaa": 2, "c": 3}))
        kept = experiment.storage.load_spec(experiment.uid)
        assert kept is not None
        assert list(kept.spec) == ["b", "aaa", "c"]

    def test_the_first_end_stands(self, experiment: Experiment) -> None:
        first = experiment.storage.end_study(experiment.uid, Reason.TARGET_REACHED, "0.99")
        assert (first.end_reason, first.end_message) == (Reason.TARGET_REACHED, "0.99")
        assert first.ended is not None
        assert experiment.storage.end_study(experiment.uid, Reason.MAX_TRIALS, "") == first

    def test_an_unknown_study_cannot_end_nor_get_trials(self, storage: Storage) -> None:
        with pytest.raises(KeyError):
            storage.end_study("nobody", Reason.MAX_TRIALS, "")
        with pytest.raises(KeyError):
            storage.create_trials("nobody", {}, [base.NewTrial(0, {})])
        with pytest.raises(KeyError):
            storage.save_spec("nobody", base.KeptSpec(1, {}))
        assert storage.load_spec("nobody") is None
        assert storage.load_trials("nobody") == []

    def test_deleting_ends_its_trials_and_hides_it(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2)
        experiment.report(0, loss=0.5)
        finished = experiment.finish(1)
        experiment.storage.delete_study(experiment.uid)
        rows = experiment.storage.load_trials(experiment.uid)
        assert [row.state for row in rows] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL]
        assert rows[1] == finished
        assert rows[0].reason is Reason.EXPERIMENT_DELETED
        assert rows[0].ended is not None
        assert experiment.uid not in {study.uid for study in experiment.storage.studies()}
        with pytest.raises(KeyError):
            experiment.storage.trials(experiment.namespace, experiment.name, None, 0, 10)

    def test_a_deleted_one_takes_no_trials_and_is_over(self, experiment: Experiment) -> None:
        experiment.storage.delete_study(experiment.uid)
        experiment.storage.delete_study(experiment.uid)
        with pytest.raises(base.NotCurrent):
            experiment.create(0)
        again = experiment.storage.open_study(experiment.uid, experiment.namespace, experiment.name, (), ())
        assert again.end_reason is Reason.EXPERIMENT_DELETED

    def test_deleting_an_unknown_one_does_nothing(self, storage: Storage) -> None:
        storage.delete_study("nobody")

    def test_what_comes_after_the_search_is_beside_it_and_goes_with_it(self, storage: Storage) -> None:
        search, other = Experiment(storage), Experiment(storage)
        place = (search.namespace, search.name)
        phase = names.phase_uid(search.uid, "finalists")
        study = storage.open_study(phase, *place, ["loss"], ["minimize"])
        storage.create_trials(phase, SPACE, [base.NewTrial(0, {"x": 0.5})])
        search.create(0, 1)
        assert storage.phases(search.uid) == [study]
        assert storage.phases(other.uid) == storage.phases(phase) == []
        assert [len(storage.trials(*place, None, 0, 10, each)[2]) for each in ("", "finalists")] == [2, 1]
        with pytest.raises(KeyError):
            storage.trials(*place, None, 0, 10, "test")
        storage.delete_study(search.uid)
        assert storage.phases(search.uid) == []
        assert [row.state for row in storage.load_trials(phase)] == [TrialState.FAIL]
        assert not {search.uid, phase} & {each.uid for each in storage.studies()}

    def test_models_are_numbered_within_their_experiment(self, storage: Storage) -> None:
        search = Experiment(storage)
        search.create(0)
        refits = [
            Experiment(storage, uid=names.phase_uid(search.uid, phase), name=search.name)
            for phase in ("refit", "refit.second")
        ]
        for number, refit in enumerate(refits, 1):
            refit.create(0)
            storage.save_spec(refit.uid, base.KeptSpec(1, {"image": "digits:1"}))
            assert storage.model(refit.who(0), f"s3://{number}", "")[1] == number
        assert storage.model(refits[0].who(0), "s3://again", "sha256:00")[1] == 1
        found = [(each.number, each.phase, each.address, each.digest) for each in storage.versions(search.uid)]
        assert found == [(1, "refit", "s3://again", "sha256:00"), (2, "refit.second", "s3://2", "")]
        assert [(each.image, each.params) for each in storage.versions(search.uid)] == [("digits:1", {"x": 0.5})] * 2
        with pytest.raises(ValueError, match="only a refit's run"):
            storage.model(search.who(0), "s3://no", "")
        with pytest.raises(base.NotCurrent):
            storage.model(refits[0].who(0, attempt=2), "s3://no", "")

    def test_models_are_those_of_complete_refits_with_their_scores(self, storage: Storage) -> None:
        search, other = Experiment(storage), Experiment(storage)
        for each in (search, other):
            refit = phase(each, "refit", {"image": "digits:1"})
            refit.create(0)
            storage.model(refit.who(0), "s3://m", "sha256:00")
        place = (search.namespace, search.name)
        assert storage.models(*place) == []  # it is not complete
        phase(search, "refit", {"image": "digits:1"}).finish(0)
        of_it = {"model": {"version": 1}}
        unscored, scored = phase(search, "test", of_it), phase(search, "test.b", of_it)
        phase(search, "test.c", {"sets": []}).create(0)  # of no model
        unscored.create(0)
        scored.create(0)
        ended = scored.finish(0, completed(0.25)).ended
        (version,) = storage.versions(search.uid)
        (model,) = storage.models(*place)
        assert (model.experiment, model.version) == (search.name, version)
        assert model.scores == (base.Score("test.b", 0.25, ended or 0.0),)
        phase(other, "refit", {"image": "digits:1"}).finish(0)
        assert {search.name, other.name} <= {each.experiment for each in storage.models(search.namespace)}
        assert storage.models("elsewhere") == []
        storage.delete_study(search.uid)
        assert storage.models(*place) == []

    def test_a_test_that_has_scored_gets_no_other_attempt(self, storage: Storage) -> None:
        search = Experiment(storage)
        test = Experiment(storage, uid=names.phase_uid(search.uid, "test.second"), name=search.name)
        test.create(0)
        assert test.lose(0, 1)
        test.record(0, 2)
        test.report(0, attempt=2, loss=0.5)
        assert not test.lose(0, 2)
        assert test.row(0).attempt == 2

    def test_purge_removes_what_was_deleted_long_ago_only(self, storage: Storage) -> None:
        storage.purge(-1e6)  # what other tests deleted
        kept, recent, old = Experiment(storage), Experiment(storage), Experiment(storage)
        for experiment in (kept, recent, old):
            experiment.create(0, 1)
            experiment.report(0)
            experiment.lose(1)
            experiment.finish(0)
        storage.delete_study(old.uid)
        for _ in range(1_000):
            storage.clock()
        storage.delete_study(recent.uid)
        assert storage.purge(500) == 1
        assert storage.load_trials(old.uid) == []
        assert len(storage.load_trials(recent.uid)) == 2
        assert len(storage.load_trials(kept.uid)) == 2
        assert storage.purge(500) == 0


class TestOldReports:
    def test_those_of_trials_that_ended_long_ago_are_removed_and_nothing_else(self, storage: Storage) -> None:
        remove_all(storage, -1e6)  # what other tests left
        experiment = Experiment(storage)
        experiment.create(*range(3))
        for number in range(3):
            for step in range(10):
                experiment.report(number, step, loss=float(step))
        experiment.lose(0)
        experiment.record(0, attempt=2)
        experiment.report(0, 0, attempt=2, loss=7.0)
        experiment.finish(0, completed(7.0), attempt=2)
        for _ in range(1_000):
            storage.clock()
        experiment.finish(1, completed(9.0))
        before = (storage.load_trials(experiment.uid), series_of(storage, experiment.uid))
        remove_all(storage, 500)
        assert [len(experiment.reports(number)) for number in range(3)] == [0, 10, 10]
        assert (storage.load_trials(experiment.uid), series_of(storage, experiment.uid)) == before
        assert before[1][0] == {0: 7.0}
        assert isinstance(experiment.report(2), base.Answer)

    def test_a_report_that_was_removed_is_not_taken_again(self, storage: Storage) -> None:
        experiment = Experiment(storage)
        experiment.create(0)
        experiment.report(0, key="once")
        experiment.finish(0)
        remove_all(storage, -1e6)
        assert isinstance(experiment.report(0, key="once"), base.NotCurrent)
        assert experiment.reports(0) == []


def remove_all(storage: Storage, retention: float) -> None:
    while storage.remove_reports(retention):
        pass


class TestSteering:
    def test_what_people_did_is_kept_in_order_with_its_time(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        assert storage.steering(uid) == []
        steers = [base.Steer("enqueue", "a", {"lr": 0.1}), base.Steer("stop", "3", {})]
        storage.record_steering(uid, steers)
        storage.record_steering(uid, [base.Steer("narrow", "", {"lr": {"min": 0.25, "max": 1}})])
        found = storage.steering(uid)
        assert [dataclasses.replace(each, time=0.0) for each in found[:2]] == steers
        assert found[2].detail == {"lr": {"min": 0.25, "max": 1}}
        assert 0 < found[0].time <= found[1].time <= found[2].time
        assert storage.steering("nobody") == []
        with pytest.raises(KeyError):
            storage.record_steering("nobody", steers)

    def test_it_goes_with_its_study(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        storage.record_steering(uid, [base.Steer("stop", "3", {})])
        storage.delete_study(uid)
        storage.purge(-1e6)
        assert storage.steering(uid) == []


class TestRecord:
    """What it takes to make every decision again, as the gateway reads it."""

    def test_the_order_of_what_happened(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        assert storage.last_order(uid) == storage.last_order("nobody") == 0
        storage.record_steering(uid, [base.Steer("stop", "3", {}, trial=0, order=1)])
        new = [base.NewTrial(number, {"x": 0.5}, known=1) for number in (0, 1, 2)]
        storage.create_trials(uid, SPACE, new)
        for number in (0, 1, 2):
            assert experiment.record(number)
        assert storage.last_order(uid) == 1
        experiment.report(0, 0, loss=0.5)
        experiment.report(0, 1, loss=float("nan"))
        experiment.report(0, 2, other=0.125)
        rung = Judged(2, 0, 1, "rung", 1, 1)
        stop = Judged(3, 0, 1, "stop", 2, 2, "at rung 2: it is bad")
        storage.decide(uid, {0: base.Stop(Reason.PRUNED, "pruned by asha")}, {0: 2}, [rung, stop])
        assert storage.last_order(uid) == 3
        end = base.ToEnd(0, 1, lambda *_: completed(0.5), order=4)
        storage.finish_trials(uid, [end])
        assert storage.last_order(uid) == 4
        storage.finish_trials(uid, [dataclasses.replace(end, order=5)])  # it had ended already
        found = storage.record(experiment.namespace, experiment.name, 0, 10)
        assert [(each.row.number, each.known, each.order) for each in found] == [(0, 1, 4), (1, 1, None), (2, 1, None)]
        assert [point[:3] for point in found[0].points] == [(1, 1, 0), (1, 2, 1)]
        assert found[0].points[0].value == 0.5
        assert math.isnan(found[0].points[1].value)
        assert [dataclasses.replace(each, time=0.0) for each in found[0].judged] == [rung, stop]
        assert found[0].judged[0].time > 0
        assert found[0].whole
        assert not found[1].judged
        page = storage.record(experiment.namespace, experiment.name, 1, 1)
        assert [each.row.number for each in page] == [1]
        assert storage.record(experiment.namespace, experiment.name, 3, 10) == []
        with pytest.raises(KeyError):
            storage.record(experiment.namespace, "nobody", 0, 10)

    def test_where_legs_ended_and_who_was_promoted(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        experiment.create(0, 1)
        storage.decide(uid, {}, {0: 4})
        for number, last in ((0, (2, math.inf)), (1, None)):
            leg = NextLeg((0.5,), True, placing=Placing(7 + number, 3, last))
            storage.finish_trial(uid, number, 1, lambda *_, leg=leg: leg, None)
        assert storage.last_order(uid) == 8
        assert experiment.row(0).rung == 4  # what was judged by legs that ended stays
        both = [Judged(9 + number, number, 2, PROMOTED, rung=0, known=8) for number in (0, 1)]
        assert storage.promote(uid, {0: 2, 1: 1}, judged=both).keys() == {0}
        assert storage.promote(uid, {0: 2}, judged=both).keys() == {0}  # it was before
        assert storage.last_order(uid) == 9
        found = storage.record(experiment.namespace, experiment.name, 0, 10)
        assert [each.row.legs[0].placing for each in found] == [Placing(7, 3, (2, math.inf)), Placing(8, 3, None)]
        assert [[dataclasses.replace(one, time=0.0) for one in each.judged] for each in found] == [[both[0]], []]
        assert [each.placed for each in found] == [True, True]
        assert experiment.lose(0, 2)
        assert experiment.row(0).rung == 4

    def test_what_came_after_a_search_has_a_record_of_its_own(self, storage: Storage) -> None:
        search = Experiment(storage)
        search.create(0)
        after = [
            Experiment(storage, uid=names.phase_uid(search.uid, phase), name=search.name)
            for phase in ("finalists", "refit")
        ]
        for each in after:
            each.create(0, 1)
        storage.save_spec(after[0].uid, base.KeptSpec(1, {"sets": []}))
        storage.record_steering(after[0].uid, [base.Steer("search", "random", {}, trial=0, order=1)])
        storage.model(after[1].who(0), "s3://model", "")
        place = (search.namespace, search.name)
        found = storage.history(*place)
        assert (list(found.phases), [each.address for each in found.versions]) == (
            ["finalists", "refit"],
            ["s3://model"],
        )
        found = storage.history(*place, "finalists")
        assert (found.study.uid, found.spec) == (after[0].uid, base.KeptSpec(1, {"sets": []}))
        assert ([each.subject for each in found.steering], list(found.phases), list(found.versions)) == (
            ["random"],
            [],
            [],
        )
        assert [len(storage.record(*place, 0, 10, phase)) for phase in ("", "finalists", "refit")] == [1, 2, 2]
        for read in (lambda: storage.history(*place, "test"), lambda: storage.record(*place, 0, 10, "test")):
            with pytest.raises(KeyError):
                read()

    def test_of_removed_reports_the_series_is_left(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, 4, loss=0.25)
        experiment.report(0, 2, loss=0.5)
        experiment.finish(0)
        remove_all(experiment.storage, -1e6)
        (found,) = experiment.storage.record(experiment.namespace, experiment.name, 0, 10)
        assert (found.whole, found.known) == (False, None)
        assert found.points == [(1, 1, 2, 0.5), (1, 2, 4, 0.25)]

    def test_the_history_of_a_study(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        found = storage.history(experiment.namespace, experiment.name)
        assert (found.study.uid, found.spec, list(found.steering), list(found.warm)) == (uid, None, [], [])
        steer = base.Steer("search", "tpe", {"seed": 1}, trial=0, order=1)
        storage.record_steering(uid, [steer])
        storage.save_spec(uid, base.KeptSpec(3, {"seed": 1}))
        found = storage.history(experiment.namespace, experiment.name)
        assert [dataclasses.replace(each, time=0.0) for each in found.steering] == [steer]
        assert found.spec == base.KeptSpec(3, {"seed": 1})
        with pytest.raises(KeyError):
            storage.history(experiment.namespace, "nobody")

    def test_judgements_go_with_their_study(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        experiment.create(0)
        storage.decide(uid, {}, {}, [Judged(1, 0, 1, "lost")])
        storage.delete_study(uid)
        storage.purge(-1e6)
        assert storage.last_order(uid) == 0


class TestWarmStart:
    def test_what_it_began_with_is_settled_once(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        assert storage.warm_trials(uid) is None
        params: dict[str, ParamValue] = {"x": 0.5, "n": 3, "o": "Größe", "b": True}
        trials = [
            base.WarmTrial("other", "u", 7, TrialState.COMPLETE, params, (1.5, math.inf), None, {"a.max": -math.inf}),
            base.WarmTrial("other", "u", 9, TrialState.PRUNED, {}, None, (2**40, -0.25)),
        ]
        storage.save_warm_trials(uid, trials)
        assert storage.warm_trials(uid) == trials
        for again in (uid, "nobody"):
            with pytest.raises(KeyError):
                storage.save_warm_trials(again, trials)
        assert storage.warm_trials(uid) == trials
        other = Experiment(storage)
        storage.save_warm_trials(other.uid, [])
        assert storage.warm_trials(other.uid) == []

    def test_it_goes_with_its_study(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        storage.save_warm_trials(uid, [base.WarmTrial("o", "u", 0, TrialState.COMPLETE, {}, (1.0,), None)])
        storage.delete_study(uid)
        storage.purge(-1e6)
        assert storage.warm_trials(uid) is None


class TestCreatingTrials:
    def test_they_are_running_with_their_parameters_as_given(self, experiment: Experiment) -> None:
        space: dict[str, Parameter] = {
            "lr": Double(1e-5, 0.1, log=True),
            "dropout": Double(0.0, 0.5, step=0.1),
            "layers": Int(1, 8),
            "width": Int(16, 1024, log=True),
            "optimizer": Categorical(("adam", "sgd", "Größe \u2603")),
            "batch": Categorical((16, 32.5)),
            "nesterov": Categorical((False, True)),
        }
        params: dict[str, ParamValue] = {
            "lr": 1.2345678901234567e-05,
            "dropout": 0.30000000000000004,
            "layers": 3,
            "width": 64,
            "optimizer": "Größe \u2603",
            "batch": 32.5,
            "nesterov": False,
        }
        experiment.create(0, space=space, params=params, recorded=False)
        row = experiment.row(0)
        assert dict(row.params) == params
        assert [type(value) for value in row.params.values()] == [type(value) for value in params.values()]
        assert list(row.params) == list(params)
        assert (row.state, row.attempt, row.job_uid, row.last_seq) == (TrialState.RUNNING, 1, None, 0)

    def test_a_number_given_already_writes_nothing(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        with pytest.raises(ValueError, match="given"):
            experiment.create(2, 1, 3)
        assert [row.number for row in experiment.storage.load_trials(experiment.uid)] == [0, 1]

    def test_by_how_much_constraints_were_broken_is_kept(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        experiment.create(0, 1, 2)
        known = {"latency.max": 1.5, "size.min": -math.inf}
        row = experiment.finish(0, dataclasses.replace(completed(1.0), constraints=known))
        experiment.finish(1, completed(1.0))
        assert row.constraints == known
        assert [row.constraints for row in storage.load_trials(uid)] == [known, None, None]
        assert [row.constraints for row in storage.load_ended(uid, -1, 9)] == [known, None]

    def test_the_gradient_that_a_trial_reported_last_is_known_of_its_end(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        params: dict[str, ParamValue] = {"x": 0.5, "layers": 2}
        space: dict[str, Parameter] = {"x": Double(0.0, 1.0), "layers": Int(1, 3)}
        experiment.create(0, 1, space=space, params=params)
        for slope in (3.0, -0.5):
            report = experiment.incoming_of(0, {"loss": 1.0, "gradient:x": slope})
            assert isinstance(storage.accept([report])[0], base.Answer)
        for wrong in ("layers", "y"):
            (refused,) = storage.accept([experiment.incoming_of(1, {"loss": 1.0, f"gradient:{wrong}": 1.0})])
            assert isinstance(refused, ValueError)
            assert str(refused) == f"gradient.{wrong}: trial 1 has no such continuous parameter; it has x"
        experiment.report(1)
        experiment.finish(0, completed(1.0))
        experiment.finish(1, completed(1.0))
        storage.remove_reports(-1.0)
        assert [row.gradient for row in storage.load_ended(uid, -1, 9)] == [{"x": -0.5}, None]

    def test_each_set_that_people_gave_becomes_one_trial(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        assert storage.sources(uid) == frozenset()
        given = [Given(f"initial/{place}", f"initial[{place}]", {"x": 0.5}) for place in range(3)]
        new = [base.NewTrial(number, {"x": 0.5}, given=given[number]) for number in range(2)]
        storage.create_trials(uid, SPACE, [*new, base.NewTrial(2, {"x": 0.5})])
        for again in (
            [base.NewTrial(3, {"x": 0.5}, given=given[1])],
            [base.NewTrial(3 + n, {}, given=given[2]) for n in (0, 1)],
        ):
            with pytest.raises(ValueError, match="given already"):
                storage.create_trials(uid, SPACE, again)
        assert storage.sources(uid) == {"initial/0", "initial/1"}
        assert [row.source for row in storage.load_trials(uid)] == ["initial/0", "initial/1", None]
        assert [row.source for row in storage.load_running(uid)[0]] == ["initial/0", "initial/1", None]
        other = Experiment(storage)
        storage.create_trials(other.uid, SPACE, new)
        assert storage.sources(other.uid) == storage.sources(uid)

    def test_a_number_given_twice_in_one_call_writes_nothing(self, experiment: Experiment) -> None:
        with pytest.raises(ValueError, match="given"):
            experiment.create(0, 0)
        assert experiment.storage.load_trials(experiment.uid) == []

    def test_they_are_loaded_in_order_of_number(self, experiment: Experiment) -> None:
        experiment.create(2, 0)
        experiment.create(1)
        assert [row.number for row in experiment.storage.load_trials(experiment.uid)] == [0, 1, 2]


class TestJobs:
    def test_the_same_job_may_be_recorded_again_another_not(self, experiment: Experiment) -> None:
        experiment.create(0, recorded=False)
        assert experiment.record(0)
        assert experiment.record(0)
        assert not experiment.storage.record_job(experiment.uid, 0, 1, "another")
        assert experiment.row(0).job_uid == job_uid(0, 1)

    def test_many_at_once_each_has_its_answer(self, experiment: Experiment) -> None:
        experiment.create(*range(5), recorded=False)
        experiment.record(1)
        experiment.lose(2)
        experiment.finish(3)
        jobs = [(0, 1, "a"), (1, 1, "b"), (2, 1, "c"), (3, 1, "d"), (9, 1, "e"), (0, 1, "f"), (4, 1, "g")]
        recorded = experiment.storage.record_jobs(experiment.uid, [JobRecord(*job) for job in jobs])
        assert recorded == [True, False, False, False, False, False, True]
        assert [experiment.row(number).job_uid for number in (0, 1, 2, 4)] == ["a", job_uid(1, 1), None, "g"]
        assert experiment.storage.record_jobs(experiment.uid, []) == []

    def test_only_of_the_current_attempt_of_a_running_trial(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        experiment.lose(0)
        experiment.finish(1)
        assert not experiment.record(0, attempt=1)
        assert not experiment.record(0, attempt=3)
        assert not experiment.record(1)
        assert not experiment.record(7)

    def test_the_first_start_stands(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        experiment.storage.record_start(experiment.uid, {0: 100.5})
        experiment.storage.record_start(experiment.uid, {0: 200.0, 1: 300.0, 9: 400.0})
        assert [experiment.row(number).started for number in (0, 1)] == [100.5, 300.0]

    def test_a_start_after_the_end_changes_nothing(self, experiment: Experiment) -> None:
        experiment.create(0)
        ended = experiment.finish(0)
        experiment.storage.record_start(experiment.uid, {0: 100.0})
        assert experiment.row(0) == ended


class TestAttempts:
    def test_the_next_one_starts_clean(self, experiment: Experiment) -> None:
        experiment.create(0)
        storage = experiment.storage
        experiment.report(0, 7, loss=0.1)
        storage.finish(experiment.who(0), "complete", "done")
        storage.claim_log(experiment.who(0), "gateway", 60)
        storage.save_log(experiment.who(0), "gateway", "2026-01-01T00:00:00Z", True)
        storage.record_start(experiment.uid, {0: 5.0})
        storage.request_stop(experiment.uid, {0: Reason.PRUNED})
        assert experiment.lose(0)
        row = experiment.row(0)
        assert (row.state, row.attempt, row.job_uid, row.finish) == (TrialState.RUNNING, 2, None, None)
        assert (row.log_read, row.last_step, row.last_metrics) == (False, None, {})
        assert (row.stop_requested, row.stop_reason) == (None, None)
        assert (row.last_seq, row.started) == (1, 5.0)

    def test_a_stop_that_the_user_asked_for_is_kept(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.storage.request_stop(experiment.uid, {0: Reason.STOPPED})
        experiment.lose(0)
        assert experiment.row(0).stop_reason is Reason.STOPPED
        assert experiment.row(0).stop_requested is not None

    def test_what_the_pruner_said_goes_with_its_attempt(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        storage, uid = experiment.storage, experiment.uid
        storage.decide(uid, {0: base.Stop(Reason.PRUNED, "at rung 9")}, {0: 9, 1: 3})
        storage.decide(uid, {0: base.Stop(Reason.STOPPED, "later")}, {1: 27})
        assert [experiment.row(number).rung for number in (0, 1)] == [9, 27]
        assert (experiment.row(0).stop_reason, experiment.row(0).stop_message) == (Reason.PRUNED, "at rung 9")
        assert experiment.row(1).stop_requested is None
        experiment.lose(0)
        assert (experiment.row(0).rung, experiment.row(0).stop_message) == (None, "")
        storage.finish_trial(uid, 1, 1, Settled(completed(0.5)), None)
        assert storage.marks(uid, TrialState.COMPLETE) == [base.Mark(1, Reason.COMPLETED, 0.5, 27)]
        assert storage.marks(uid, TrialState.PRUNED) == []

    def test_the_last_of_several_runs_is_kept_with_the_others(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        storage, uid = experiment.storage, experiment.uid
        run = NextLeg((0.25,), False, {"KUBETUNE_FOLD": "1"}, resumes=False)
        storage.finish_trial(uid, 0, 1, lambda reports, finish: run, None)
        ending = dataclasses.replace(completed(0.5), leg=(0.75,), series={0: 0.25, 1: 0.75})
        row = storage.finish_trial(uid, 0, 2, Settled(ending), None)
        legs = (Leg(1, None, (0.25,), False), Leg(2, None, (0.75,), False))
        assert row.legs == experiment.row(0).legs == legs
        assert storage.ended_legs(uid) == [(0, legs)]
        assert series_of(storage, uid)[0] == {0: 0.25, 1: 0.75}

    def test_the_last_metrics_of_some_trials(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2)
        experiment.report(0, 0, loss=0.5, train_loss=0.25)
        experiment.report(0, 1, loss=math.nan)
        found = experiment.storage.last_metrics(experiment.uid, [0, 1, 99])
        assert found.keys() == {0, 1}
        assert (math.isnan(found[0]["loss"]), found[0]["train_loss"], found[1]) == (True, 0.25, {})
        assert experiment.storage.last_metrics(experiment.uid, []) == {}

    def test_an_infeasible_trial_has_no_value_to_compare_with(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        storage, uid = experiment.storage, experiment.uid
        for number, excess in ((0, 0.5), (1, -0.5)):
            ending = dataclasses.replace(completed(0.5), constraints={"latency<=20": excess})
            storage.finish_trial(uid, number, 1, Settled(ending), None)
        assert [mark.value for mark in storage.marks(uid, TrialState.COMPLETE)] == [None, 0.5]

    def test_an_attempt_is_lost_once(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        assert experiment.lose(0)
        assert not experiment.lose(0)
        experiment.finish(1)
        assert not experiment.lose(1)
        assert not experiment.lose(9)
        assert experiment.storage.count_lost_attempts(experiment.uid) == 1

    @pytest.mark.parametrize("reason", [Reason.SUSPENDED, Reason.UNSCHEDULABLE])
    def test_one_that_was_given_up_on_purpose_is_none_lost(self, experiment: Experiment, reason: Reason) -> None:
        experiment.create(0)
        experiment.lose(0)
        assert experiment.lose(0, 2, reason)
        assert (experiment.row(0).attempt, experiment.row(0).losses) == (3, 1)
        assert experiment.lose(0, 3)
        assert (experiment.row(0).attempt, experiment.row(0).losses) == (4, 2)
        assert experiment.storage.count_lost_attempts(experiment.uid) == 2
        _, counts, _ = experiment.storage.trials(experiment.namespace, experiment.name, None, 0, 1)
        assert counts.lost_attempts == 2

    def test_reports_go_on_counting_and_steps_begin_anew(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0)
        experiment.report(0)
        experiment.lose(0)
        experiment.record(0, attempt=2)
        assert experiment.report(0, attempt=2) == base.Answer(3, False, "")
        assert [(r.seq, r.attempt, r.step) for r in experiment.reports(0)] == [(1, 1, 0), (2, 1, 1), (3, 2, 0)]


class TestFinishing:
    def test_settle_gets_the_current_attempts_reports_and_the_trials_word(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, loss=9.0)
        experiment.lose(0)
        experiment.record(0, attempt=2)
        experiment.report(0, attempt=2, loss=2.0)
        experiment.report(0, attempt=2, loss=1.0)
        experiment.storage.finish(experiment.who(0, 2), "complete", "well done")
        settle = Settled(completed(1.0))
        row = experiment.storage.finish_trial(experiment.uid, 0, 2, settle, None)
        assert [(report.seq, report.metrics["loss"]) for report in settle.reports] == [(2, 2.0), (3, 1.0)]
        assert settle.finish is not None
        assert (settle.finish.attempt, settle.finish.status, settle.finish.message) == (2, "complete", "well done")
        assert (row.state, row.reason, row.values) == (TrialState.COMPLETE, Reason.COMPLETED, (1.0,))
        assert experiment.row(0) == row

    @pytest.mark.parametrize("ending", [completed(0.25), completed(-math.inf), pruned(0.5), pruned(), failed()])
    def test_what_settle_says_is_written(self, experiment: Experiment, ending: Ending) -> None:
        experiment.create(0)
        row = experiment.finish(0, ending)
        assert (row.state, row.reason, row.message, row.values) == (
            ending.state,
            ending.reason,
            ending.message,
            ending.values,
        )
        assert row.ended is not None
        assert experiment.row(0) == row

    def test_a_final_state_never_changes(self, experiment: Experiment) -> None:
        experiment.create(0)
        first = experiment.finish(0, failed())
        assert experiment.finish(0, completed(1.0)) == first
        assert experiment.finish(0, completed(1.0), attempt=7) == first
        assert experiment.row(0) == first

    def test_many_at_once_each_has_its_answer(self, experiment: Experiment) -> None:
        """One that cannot be ended is no reason against another, before or after it."""
        experiment.create(*range(6))
        for number in range(6):
            experiment.report(number, loss=float(number))
        experiment.lose(1)
        before = experiment.finish(2, failed())

        def ending(number: int, *values: float) -> base.ToEnd:
            return base.ToEnd(number, 1, lambda reports, finish: completed(*values), f"log of {number}")

        endings = [ending(0, 0.0), ending(1, 1.0), ending(2, 2.0), ending(3), ending(9, 9.0), ending(4, 4.0)]
        rows = experiment.storage.finish_trials(experiment.uid, [*endings, ending(0, 7.0), ending(5, 5.0)])
        assert isinstance(rows[1], base.NotCurrent)
        assert isinstance(rows[3], ValueError)
        assert isinstance(rows[4], base.NotCurrent)
        assert rows[2] == before
        assert rows[6] == rows[0]
        kept = [row.values for row in experiment.storage.load_trials(experiment.uid)]
        assert kept == [(0.0,), None, None, None, (4.0,), (5.0,)]
        assert [rows[index] for index in (0, 5, 7)] == [experiment.row(number) for number in (0, 4, 5)]
        assert experiment.storage.log_tail(experiment.namespace, experiment.name, 4) == "log of 4"

    def test_more_than_a_transaction_takes_are_ended_all(self, experiment: Experiment) -> None:
        numbers = range(2 * batches.AT_ONCE + 1)
        experiment.create(*numbers, recorded=False)
        jobs = [JobRecord(number, 1, job_uid(number, 1)) for number in numbers]
        assert all(experiment.storage.record_jobs(experiment.uid, jobs))
        endings = [base.ToEnd(number, 1, lambda *_: completed(1.0)) for number in numbers]
        rows = experiment.storage.finish_trials(experiment.uid, endings)
        assert rows == experiment.storage.load_trials(experiment.uid)
        assert all(isinstance(row, TrialRow) and row.state is TrialState.COMPLETE for row in rows)

    def test_another_attempt_cannot_end_it(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.lose(0)
        for number, attempt in ((0, 1), (0, 3), (9, 1)):
            with pytest.raises(base.NotCurrent):
                experiment.finish(number, attempt=attempt)
        assert experiment.row(0).state is TrialState.RUNNING

    @pytest.mark.parametrize(
        "ending",
        [
            completed(),
            completed(math.nan),
            completed(1.0, 2.0),
            Ending(TrialState.FAIL, Reason.EXIT_CODE, "", (1.0,)),
            Ending(TrialState.RUNNING, Reason.RUNNING, "", None),
        ],
    )
    def test_an_ending_that_cannot_be_is_refused(self, experiment: Experiment, ending: Ending) -> None:
        experiment.create(0)
        with pytest.raises(ValueError, match=r"values|ending"):
            experiment.finish(0, ending)
        assert experiment.row(0).state is TrialState.RUNNING

    def test_a_settle_that_raises_changes_nothing(self, experiment: Experiment) -> None:
        experiment.create(0)
        before = experiment.row(0)

        def broken(*_: object) -> Ending:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            experiment.storage.finish_trial(experiment.uid, 0, 1, broken, None)
        assert experiment.row(0) == before
        assert experiment.report(0) == base.Answer(1, False, "")

    def test_the_trials_first_word_stands(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.storage.finish(experiment.who(0), "failed", "no data\0")
        experiment.storage.finish(experiment.who(0), "complete", "")
        finish = experiment.row(0).finish
        assert finish is not None
        assert (finish.status, finish.message) == ("failed", "no data\ufffd")

    def test_after_its_end_a_trial_says_nothing_more(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.finish(0)
        with pytest.raises(base.NotCurrent):
            experiment.storage.finish(experiment.who(0), "complete", "")
        with pytest.raises(base.NotCurrent):
            experiment.storage.look(experiment.who(0))

    def test_the_end_of_the_log_is_kept(self, experiment: Experiment) -> None:
        experiment.create(0, 1)
        experiment.finish(0, failed(), log="Traceback\0\n" + "x" * 20_000)
        experiment.finish(1)
        tail = experiment.storage.log_tail(experiment.namespace, experiment.name, 0)
        assert tail == "Traceback\ufffd\n" + "x" * 20_000
        assert experiment.storage.log_tail(experiment.namespace, experiment.name, 1) is None

    def test_several_objectives(self, storage: Storage) -> None:
        experiment = Experiment(storage, ("accuracy", "size"), ("maximize", "minimize"))
        experiment.create(0)
        experiment.report(0, accuracy=0.5)
        experiment.report(0, size=10.0)
        assert experiment.finish(0, completed(0.5, 10.0)).values == (0.5, 10.0)
        assert series_of(storage, experiment.uid) == {0: {0: 0.5}}


class TestNews:
    def test_only_what_came_after_what_was_seen(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2)
        for number in (0, 0, 0, 1):
            experiment.report(number)
        news = experiment.storage.news(experiment.uid, {0: 2, 1: 1, 2: 0})
        assert {number: [report.seq for report in came] for number, came in news.reports.items()} == {0: [3]}

    def test_a_trial_never_seen_is_told_from_its_first_report(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0, loss=0.5)
        came = experiment.storage.news(experiment.uid, {}).reports[0]
        assert [(report.seq, report.attempt, report.step, dict(report.metrics)) for report in came] == [
            (1, 1, 0, {"loss": 0.5})
        ]

    def test_reports_of_a_lost_attempt_are_told_too(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0)
        experiment.lose(0)
        experiment.record(0, attempt=2)
        experiment.report(0, attempt=2)
        came = experiment.storage.news(experiment.uid, {0: 0}).reports[0]
        assert [(report.seq, report.attempt) for report in came] == [(1, 1), (2, 2)]

    def test_finishes_and_read_logs_of_current_attempts(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2)
        storage = experiment.storage
        for number in (0, 1):
            storage.finish(experiment.who(number), "complete", "")
            storage.claim_log(experiment.who(number), "gateway", 60)
            storage.save_log(experiment.who(number), "gateway", "", done=True)
        experiment.lose(1)
        news = storage.news(experiment.uid, {})
        assert {number: type(finish) for number, finish in news.finishes.items()} == {0: Finish}
        assert news.logs_read == {0}

    def test_trials_that_ended_are_no_news(self, experiment: Experiment) -> None:
        experiment.create(0)
        experiment.report(0)
        experiment.storage.finish(experiment.who(0), "complete", "")
        experiment.finish(0)
        assert experiment.storage.news(experiment.uid, {}) == base.News({}, {}, frozenset())


class TestSeries:
    def test_of_ended_trials_the_accepted_attempt_by_step(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2)
        experiment.report(0, 7, loss=9.0)
        experiment.lose(0)
        experiment.record(0, attempt=2)
        for step, value in ((5, 0.5), (1, math.inf), (5, 0.25), (2**40, -1.0)):
            experiment.report(0, step, attempt=2, loss=value)
        experiment.report(0, 6, attempt=2, other=1.0)
        experiment.finish(0, attempt=2)
        experiment.report(1, loss=1.0)
        experiment.finish(2, failed())
        series = series_of(experiment.storage, experiment.uid)
        assert series == {0: {1: math.inf, 5: 0.25, 2**40: -1.0}, 2: {}}
        assert list(series[0]) == [1, 5, 2**40]

    def test_of_trials_cut_short_by_deletion(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2)
        experiment.report(0, 1, loss=math.nan)
        experiment.report(1, 2**40, loss=2.0)
        experiment.storage.delete_study(experiment.uid)
        series = series_of(experiment.storage, experiment.uid)
        assert (series[1], series[2]) == ({2**40: 2.0}, {})
        assert math.isnan(series[0][1])

    def test_of_running_trials_in_order_of_acceptance(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2, 3)
        experiment.report(0, 7, loss=9.0)
        experiment.lose(0)
        experiment.record(0, attempt=2)
        for step, value in ((5, 0.5), (1, -math.inf), (5, 0.25)):
            experiment.report(0, step, attempt=2, loss=value)
        experiment.report(0, 6, attempt=2, other=1.0)
        experiment.report(1, 0, loss=1.0)
        experiment.finish(1)
        experiment.report(3, 2**40, loss=5e-324)
        running, pieces = experiment.storage.load_running(experiment.uid)
        assert running == [experiment.row(number) for number in (0, 2, 3)]
        curves = {
            number: list(zip(steps.tolist(), values.tolist(), strict=True))
            for piece in pieces
            for number, steps, values in piece.each()
        }
        assert {number: curve for number, curve in curves.items() if curve} == {
            0: [(5, 0.5), (1, -math.inf), (5, 0.25)],
            3: [(2**40, 5e-324)],
        }

    def test_ended_trials_by_page(self, experiment: Experiment) -> None:
        experiment.create(*range(6))
        experiment.report(0, 4, loss=1.0)
        experiment.report(0, 2, loss=3.0)
        for number, settled in ((0, completed(3.0)), (1, failed()), (4, pruned()), (5, failed())):
            experiment.finish(number, settled)
        pages = [experiment.storage.load_ended(experiment.uid, after, 2) for after in (-1, 1, 5)]
        assert [[trial.number for trial in page] for page in pages] == [[0, 1], [4, 5], []]
        first, second = pages[0]
        row = experiment.row(0)
        assert first == base.EndedTrial(
            0, TrialState.COMPLETE, row.reason, row.params, (3.0,), row.ended or 0.0, steps=2, last=(4, 1.0)
        )
        assert (second.state, second.values, second.steps, second.last) == (TrialState.FAIL, None, 0, None)

    def test_segments_keep_their_member_and_what_they_go_on_from(self, experiment: Experiment) -> None:
        new = [base.NewTrial(0, {"x": 0.5}, member=3), base.NewTrial(1, {"x": 0.5}, parent=0, member=3)]
        experiment.storage.create_trials(experiment.uid, SPACE, [*new, base.NewTrial(2, {"x": 0.5})])
        both = [(row.parent, row.member) for row in experiment.storage.load_trials(experiment.uid)]
        assert both == [(None, 3), (0, 3), (None, None)]
        assert experiment.row(1) == experiment.storage.load_running(experiment.uid)[0][1]
        assert experiment.record(1)
        experiment.finish(1)
        assert [trial.member for trial in experiment.storage.load_ended(experiment.uid, -1, 10)] == [3]
        assert (experiment.row(1).parent, experiment.row(1).member) == (0, 3)

    def test_of_many_trials_come_in_pieces_and_whole(self, experiment: Experiment) -> None:
        experiment.create(*range(4))
        curves = {number: {step: number + step / 7 for step in range(0, 300, number + 1)} for number in range(4)}
        for number, curve in curves.items():
            for step, value in curve.items():
                experiment.report(number, step, loss=value)
            experiment.finish(number)
        assert series_of(experiment.storage, experiment.uid) == curves


def phase(search: Experiment, name: str, plan: dict[str, Any]) -> Experiment:
    """What comes after a search, with its plan."""
    made = Experiment(search.storage, uid=names.phase_uid(search.uid, name), name=search.name)
    search.storage.save_spec(made.uid, base.KeptSpec(1, plan))
    return made
