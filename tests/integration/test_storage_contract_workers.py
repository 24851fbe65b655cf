"""What every storage promises about workers, on memory and on PostgreSQL: offering, leasing, ends, draining."""

import dataclasses
import threading

import pytest

from kubetune.api.trial import Exit, Reason, TrialState
from kubetune.storage import base
from tests.conftest import Storage
from tests.integration.experiments import SPACE, Experiment, failed
from tests.integration.workers import offer, worker

LONG = 60_000.0  # seconds; the ticking clock of the tests is far from the database's
WELL = Exit(None, "")


def ended(number: int, exit_: Exit = WELL, attempt: int = 1, log: str | None = None) -> base.Ended:
    return base.Ended(number, attempt, exit_, log)


class TestOffering:
    def test_a_trial_may_be_offered_as_it_is_made(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        experiment.create(1, recorded=False)
        assert [experiment.row(number).offered for number in (0, 1)] == [True, False]

    def test_only_a_current_attempt_without_a_job(self, experiment: Experiment) -> None:
        experiment.create(0, 1, 2, recorded=False)
        experiment.record(1)
        experiment.lose(2)
        assert experiment.storage.offer(experiment.uid, {0: 1, 1: 1, 2: 1, 9: 1}) == {0}
        assert experiment.storage.offer(experiment.uid, {0: 1}) == {0}
        assert [experiment.row(number).offered for number in (0, 1, 2)] == [True, False, False]

    def test_what_is_offered_has_no_job_of_its_own(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        assert not experiment.record(0)
        experiment.storage.withdraw(experiment.uid, {0: 1})
        assert experiment.record(0)

    def test_what_nobody_leased_may_be_withdrawn(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        who = worker(experiment)
        assert experiment.storage.lease(who, 0, LONG).number == 0
        assert experiment.storage.withdraw(experiment.uid, {0: 1, 1: 1}) == {1}
        assert experiment.storage.lease(who, 1, LONG) == base.Granted()
        assert [experiment.row(number).offered for number in (0, 1)] == [True, False]

    def test_a_lease_says_what_the_trial_goes_on_from(self, experiment: Experiment) -> None:
        new = [base.NewTrial(0, {"x": 0.5}, offered=True), base.NewTrial(1, {"x": 0.5}, offered=True, parent=0)]
        experiment.storage.create_trials(experiment.uid, SPACE, new)
        who = worker(experiment)
        for _ in range(2):  # granted, and told again
            granted = [experiment.storage.lease(who, slot, LONG) for slot in (0, 1)]
            assert [(each.number, each.parent) for each in granted] == [(0, None), (1, 0)]

    def test_another_writer_offers_nothing(self, experiment: Experiment, successor: Storage) -> None:
        experiment.create(0, recorded=False)
        successor.acquire("next")
        for write in (
            lambda: experiment.storage.offer(experiment.uid, {0: 1}),
            lambda: experiment.storage.withdraw(experiment.uid, {0: 1}),
            lambda: experiment.storage.open_worker(experiment.uid, 0),
            lambda: experiment.storage.drain_workers(experiment.uid, [0]),
        ):
            with pytest.raises(base.Fenced):
                write()


class TestLeasing:
    def test_one_slot_after_the_other_by_number(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1, 2)
        first, second = worker(experiment, 0), worker(experiment, 1)
        granted = [experiment.storage.lease(who, slot, LONG) for who, slot in ((first, 0), (second, 0), (first, 1))]
        assert [(each.number, each.attempt, each.params) for each in granted] == [(n, 1, {"x": 0.5}) for n in range(3)]
        assert experiment.storage.lease(second, 1, LONG) == base.Granted()

    def test_a_lease_is_recorded_as_a_job_is(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        who = worker(experiment)
        experiment.storage.lease(who, 3, LONG)
        row = experiment.row(0)
        assert row.job_uid == who.job_uid
        assert row.started is not None
        assert row.lease is not None
        assert (row.lease.job_uid, row.lease.pod_uid, row.lease.slot) == (who.job_uid, who.pod_uid, 3)
        assert not row.lease.expired
        assert experiment.storage.news(experiment.uid, {}).leases == {0: row.lease}
        report = base.Incoming(who.of_trial(0, 1), "a", None, {"loss": 1.0})
        assert experiment.storage.accept([report]) == [base.Answer(1, False, "")]

    def test_where_it_runs_and_ran(self, experiment: Experiment) -> None:
        place = (experiment.namespace, experiment.name)
        offer(experiment, 0)
        experiment.create(1)
        storage, who = experiment.storage, worker(experiment, 3)
        assert storage.place(*place, 0) == base.Place(1, True, None, None)
        storage.lease(who, 0, LONG)
        here = storage.place(*place, 0)
        assert (here.running, here.worker) == (True, (3, 1))
        assert here.started is not None
        assert storage.place(*place, 1).worker is None
        experiment.finish(0)
        there = storage.place(*place, 0)
        assert (there.running, there.worker) == (False, (3, 1))

    def test_another_workers_reports_are_refused(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        holder, other = worker(experiment, 0), worker(experiment, 1)
        early = experiment.storage.accept([base.Incoming(other.of_trial(0, 1), "a", None, {"loss": 1.0})])
        assert isinstance(early[0], base.NotRecorded)
        experiment.storage.lease(holder, 0, LONG)
        late = experiment.storage.accept([base.Incoming(other.of_trial(0, 1), "a", None, {"loss": 1.0})])
        assert isinstance(late[0], base.NotCurrent)

    def test_a_worker_of_another_namespace_gets_and_ends_nothing_though_it_knows_every_uid(
        self, experiment: Experiment
    ) -> None:
        offer(experiment, 0, 1)
        who = worker(experiment)
        experiment.storage.lease(who, 0, LONG)
        forged = dataclasses.replace(who, namespace="team-b")
        for ask in (
            lambda: experiment.storage.lease(forged, 1, LONG),
            lambda: experiment.storage.lease(forged, 0, LONG, ended(0)),
            lambda: experiment.storage.renew(forged, [(0, 1)], LONG),
        ):
            with pytest.raises((base.NotCurrent, base.NotRecorded)):
                ask()
        lease = experiment.row(0).lease
        assert lease is not None
        assert lease.exit is None
        assert experiment.row(1).job_uid is None

    def test_an_answer_that_was_lost_is_given_again(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        who = worker(experiment)
        first = experiment.storage.lease(who, 0, LONG)
        assert experiment.storage.lease(who, 0, LONG) == first
        assert experiment.storage.lease(who, 1, LONG).number == 1

    def test_trials_with_jobs_and_ended_ones_are_not_leased(self, experiment: Experiment) -> None:
        experiment.create(0)
        offer(experiment, 1)
        experiment.finish(1)
        assert experiment.storage.lease(worker(experiment), 0, LONG) == base.Granted()

    def test_no_worker_of_another_experiment(self, experiment: Experiment) -> None:
        other = Experiment(experiment.storage)
        offer(other, 0)
        assert experiment.storage.lease(worker(experiment), 0, LONG) == base.Granted()

    def test_a_worker_whose_job_is_not_recorded_asks_again(self, experiment: Experiment) -> None:
        experiment.storage.open_worker(experiment.uid, 0)
        who = base.Worker(experiment.uid, experiment.namespace, experiment.name, 0, "unknown", "pod")
        for ask in (
            lambda: experiment.storage.lease(who, 0, LONG),
            lambda: experiment.storage.renew(who, [], LONG),
        ):
            with pytest.raises(base.NotRecorded):
                ask()

    def test_many_at_once_never_get_the_same(self, experiment: Experiment) -> None:
        offer(experiment, *range(24))
        workers = [worker(experiment, number) for number in range(4)]
        got: list[int | None] = []

        def take(who: base.Worker) -> None:
            got.extend(experiment.storage.lease(who, slot, LONG).number for slot in range(6))

        threads = [threading.Thread(target=take, args=(who,)) for who in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(number for number in got if number is not None) == list(range(24))


class TestEnding:
    def test_the_end_of_one_comes_with_the_next(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        exit_ = Exit(Reason.EXIT_CODE, "exited with code 3\0")
        assert storage.lease(who, 0, LONG, ended(0, exit_, log="Traceback\0")).number == 1
        lease = storage.news(experiment.uid, {}).leases[0]
        assert lease.exit is not None
        assert (lease.exit.reason, lease.exit.message) == (Reason.EXIT_CODE, "exited with code 3\ufffd")
        assert lease.exit.time > 0
        assert storage.leased_log(experiment.uid, 0) == "Traceback\ufffd"
        assert storage.leased_log(experiment.uid, 1) is None

    def test_the_first_word_stands(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        storage.lease(who, 0, LONG, ended(0, WELL))
        storage.lease(who, 0, LONG, ended(0, Exit(Reason.EXIT_CODE, "")))
        lease = storage.news(experiment.uid, {}).leases[0]
        assert lease.exit is not None
        assert lease.exit.reason is None

    def test_of_an_attempt_that_is_over_or_anothers_it_changes_nothing(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who, other = experiment.storage, worker(experiment, 0), worker(experiment, 1)
        storage.lease(who, 0, LONG)
        storage.lease(other, 0, LONG)
        storage.lease(who, 0, LONG, ended(1))
        storage.lease(who, 0, LONG, ended(2**40))
        experiment.lose(0)
        storage.lease(who, 0, LONG, ended(0))
        assert experiment.row(0).lease is None
        assert experiment.row(1).lease is not None
        assert experiment.row(1).lease == storage.news(experiment.uid, {}).leases[1]
        assert storage.news(experiment.uid, {}).leases[1].exit is None

    def test_a_lost_attempt_is_leased_again_and_the_old_one_fenced(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        assert experiment.lose(0, reason=Reason.WORKER_LOST)
        assert not experiment.row(0).offered
        assert storage.lease(who, 0, LONG) == base.Granted()
        storage.offer(experiment.uid, {0: 2})
        again = storage.lease(who, 1, LONG)
        assert (again.number, again.attempt) == (0, 2)
        old = base.Incoming(who.of_trial(0, 1), "late", None, {"loss": 1.0})
        assert isinstance(storage.accept([old])[0], base.NotCurrent)
        assert storage.renew(who, [(0, 1), (0, 2)], LONG) == ([None, base.Answer(0, False, "")], False)

    def test_a_trial_that_has_ended_is_nobodys(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        row = experiment.finish(0, failed())
        assert (row.lease, row.offered) == (None, False)
        assert experiment.row(0) == row
        assert row.job_uid == who.job_uid
        assert storage.renew(who, [(0, 1)], LONG) == ([None], False)


class TestRenewing:
    def test_it_tells_of_a_stop(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        storage.lease(who, 1, LONG)
        storage.request_stop(experiment.uid, {1: Reason.PRUNED})
        answers = [base.Answer(0, False, ""), base.Answer(0, True, "Pruned")]
        assert storage.renew(who, [(0, 1), (1, 1)], LONG) == (answers, False)

    def test_a_lease_runs_out_unless_it_is_renewed(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, 0.0)
        storage.lease(who, 1, 0.0)
        storage.renew(who, [(1, 1)], LONG)
        leases = storage.news(experiment.uid, {}).leases
        assert {number: lease.expired for number, lease in leases.items()} == {0: True, 1: False}
        row = experiment.row(0)
        assert row.lease is not None
        assert row.lease.expired
        assert row.state is TrialState.RUNNING

    def test_what_has_ended_does_not_run_out(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, 0.0)
        storage.lease(who, 0, 0.0, ended(0))
        assert not storage.news(experiment.uid, {}).leases[0].expired

    def test_nothing_of_anothers(self, experiment: Experiment) -> None:
        offer(experiment, 0)
        storage, who, other = experiment.storage, worker(experiment, 0), worker(experiment, 1)
        storage.lease(who, 0, LONG)
        assert storage.renew(other, [(0, 1), (9, 1), (2**40, 1)], LONG) == ([None] * 3, False)


class TestWorkers:
    def test_an_incarnation_after_the_other(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        first = storage.open_worker(uid, 3)
        assert (first.number, first.incarnation, first.job_uid) == (3, 1, None)
        assert storage.open_worker(uid, 3) == first
        storage.end_worker(uid, 3, 1, Reason.EVICTED, "node drained")
        second = storage.open_worker(uid, 3)
        assert second.incarnation == 2
        assert storage.workers(uid) == [second]

    def test_the_recorded_job_stands(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        storage.open_worker(uid, 0)
        assert storage.record_worker(uid, 0, 1, f"{uid}-a")
        assert storage.record_worker(uid, 0, 1, f"{uid}-a")
        assert not storage.record_worker(uid, 0, 1, f"{uid}-b")
        assert not storage.record_worker(uid, 0, 2, f"{uid}-c")
        storage.end_worker(uid, 0, 1, Reason.DRAINED, "")
        assert not storage.record_worker(uid, 0, 1, f"{uid}-a")
        (row,) = storage.workers(uid)
        assert (row.job_uid, row.reason) == (f"{uid}-a", Reason.DRAINED)

    def test_one_that_drains_gets_no_more(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who, other = experiment.storage, worker(experiment, 0), worker(experiment, 1)
        held = storage.lease(who, 0, LONG)
        storage.drain_workers(experiment.uid, [0, 7])
        assert storage.lease(who, 0, LONG) == held  # the answer may have been lost
        assert storage.lease(who, 1, LONG) == base.Granted(drain=True)
        assert storage.renew(who, [(0, 1)], LONG) == ([base.Answer(0, False, "")], True)
        assert storage.lease(who, 0, LONG, ended(0)) == base.Granted(drain=True)
        assert storage.lease(other, 0, LONG).number == 1

    def test_one_that_is_over_gets_nothing_and_is_told_so(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        storage.end_worker(experiment.uid, 0, 1, Reason.NODE_LOST, "")
        with pytest.raises(base.NotCurrent):
            storage.lease(who, 1, LONG)
        assert storage.renew(who, [(0, 1)], LONG) == ([None], True)

    def test_gateways_hear_of_what_is_new_for_workers(self, experiment: Experiment) -> None:
        storage, uid = experiment.storage, experiment.uid
        experiment.create(7, recorded=False)
        heard: list[str] = []
        any_news, stop = threading.Event(), threading.Event()

        def hear(told: str) -> None:
            if told in ("", uid):
                heard.append(told)
                any_news.set()

        storage.listen_for_offers(hear, stop)
        if any_news.wait(0 if not hasattr(storage, "url") else 30):  # PostgreSQL: connected
            any_news.clear()
        worker(experiment)
        for act in (
            lambda: offer(experiment, 0),
            lambda: storage.offer(uid, {7: 1}),
            lambda: storage.drain_workers(uid, [0]),
        ):
            act()
            assert any_news.wait(30)
            any_news.clear()
        stop.set()
        assert heard.count(uid) == 3

    def test_deleted_with_its_study(self, experiment: Experiment) -> None:
        offer(experiment, 0, 1)
        storage, who = experiment.storage, worker(experiment)
        storage.lease(who, 0, LONG)
        storage.delete_study(experiment.uid)
        assert storage.renew(who, [(0, 1)], LONG)[0] == [None]
        assert experiment.row(0).reason is Reason.EXPERIMENT_DELETED
        assert storage.purge(0.0) >= 1
        assert storage.workers(experiment.uid) == []
