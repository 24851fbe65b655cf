"""The engine over storage in memory: asks, reports, pruning, attempts, ends; and the same after every restart."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterable

import pytest

from kubetune.api.spec import (
    Algorithm,
    Double,
    ExperimentSpec,
    Given,
    Int,
    NoImprovement,
    Objective,
    Params,
    ParamValue,
    RegretBound,
)
from kubetune.api.trial import Counts, Reason, TrialRow, TrialState
from kubetune.controller import ports
from kubetune.engine import samplers
from kubetune.engine.engine import Engine
from kubetune.engine.history import History, Past, View
from kubetune.storage import base
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import ACCURACY, LOSS, Trials, spec

PRUNING = spec(pruner=Algorithm("median", {"nStartupTrials": 2}))


class Experiment:
    """An engine on its own storage; `restart` replaces it by one that loads everything."""

    def __init__(self, spec: ExperimentSpec = PRUNING) -> None:
        self.spec = spec
        ticks = itertools.count(1000)
        self.clock: Callable[[], float] = lambda: float(next(ticks))
        self.storage = MemoryStorage(self.clock)
        self.storage.acquire("test")
        self.trials = Trials(spec, self.storage)
        self.engine = Engine(spec, self.storage, self.clock)

    def restart(self) -> None:
        self.engine = Engine(self.spec, self.storage, self.clock)

    def run(self, *values: float, failure: Reason | None = None) -> TrialRow:
        return self.trials.run(self.engine, *values, failure=failure)

    def row(self, number: int) -> TrialRow:
        return self.storage.load_trials(self.spec.uid)[number]

    def agrees(self, number: int) -> bool:
        """Whether the engine's row of a RUNNING trial is the committed one, but for the time of its creation."""
        return dataclasses.replace(self.engine.running[number], created=self.row(number).created) == self.row(number)


def said(engine: Engine) -> dict[str, object]:
    """All that an engine says of its study."""
    return {
        "study": engine.study,
        "running": {
            number: dataclasses.replace(row, created=0, stop_requested=None) for number, row in engine.running.items()
        },
        "stops": {number for number, row in engine.running.items() if row.stop_requested is not None},
        "counts": engine.counts,
        "started": engine.started,
        "ended": engine.ended,
        "exhausted": engine.exhausted,
        "target": engine.target_reached,
        "reasons": engine.recent_reasons,
        "best": engine.best,
        "saved": engine.saved_steps,
    }


def test_it_is_the_engine_that_the_controller_asks_for() -> None:
    _: ports.Engine = Experiment().engine


def test_asks_are_committed_before_they_return() -> None:
    experiment = Experiment()
    rows = experiment.engine.ask(3)
    assert [row.number for row in rows] == [0, 1, 2]
    committed = experiment.storage.load_trials("uid-1")
    assert [(row.number, row.state, row.params, row.attempt) for row in committed] == [
        (row.number, TrialState.RUNNING, row.params, 1) for row in rows
    ]
    assert list(experiment.engine.running) == [0, 1, 2]
    assert [row.number for row in experiment.engine.ask(1)] == [3]


@pytest.mark.parametrize(("asked", "got"), [(0, 0), (-1, 0), (3, 3), (99, 7)])
def test_never_more_than_max_trials(asked: int, got: int) -> None:
    engine = Experiment(spec(max_trials=7)).engine
    assert len(engine.ask(asked)) == got
    assert engine.counts == Counts(running=got)
    assert len(engine.ask(99)) == 7 - got
    assert not engine.exhausted


def test_a_raised_limit_gives_more_and_a_lowered_one_none() -> None:
    experiment = Experiment(spec(max_trials=2))
    experiment.engine.ask(2)
    experiment.engine.update(spec(max_trials=3))
    assert len(experiment.engine.ask(9)) == 1
    experiment.engine.update(spec(max_trials=1))
    assert experiment.engine.ask(9) == []


def test_grid_asks_each_cell_once_and_then_is_exhausted() -> None:
    parameters = {"a": Int(1, 3), "b": Int(1, 2)}
    experiment = Experiment(spec(parameters=parameters, sampler=Algorithm("grid")))
    seen, exhausted = [], []
    for count in (2, 3, 99):
        seen += [tuple(sorted(row.params.items())) for row in experiment.engine.ask(count)]
        experiment.restart()
        exhausted.append(experiment.engine.exhausted)
    assert exhausted == [False, False, True]
    assert len(seen) == len(set(seen)) == 6
    assert experiment.engine.ask(1) == []


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_restart_before_every_ask_gives_the_same_trials_as_none(sampler: str) -> None:
    def asked(restarts: bool) -> list[Params]:
        experiment = Experiment(spec(sampler=Algorithm(sampler, {"nStartupTrials": 4} if sampler == "tpe" else {})))
        params: list[Params] = []
        held: list[TrialRow] = []
        for number in range(12):
            row = experiment.run(math.sin(number), math.cos(number), failure=Reason.EXIT_CODE if number == 7 else None)
            params.append(row.params)
            held += experiment.trials.start(experiment.engine, 2)  # these end only some asks later
            params += [row.params for row in held[-2:]]
            experiment.trials.report(held[-1], [0.5])
            if number % 3 == 2:
                experiment.engine.finish(held.pop(0).number, 1, None, "")
                experiment.engine.finish(held.pop(0).number, 1, None, "")
            if restarts:
                experiment.restart()
        return params

    assert asked(restarts=True) == asked(restarts=False)


def test_segments_are_committed_with_their_parents_over_restarts() -> None:
    members = Algorithm("pbt", {"populationSize": 2, "quantileFraction": 0.5})
    made = spec(sampler=members, objectives=(ACCURACY,), parallelism=2, seed=3)
    whole, experiment = Experiment(made), Experiment(made)
    for each, restarts in ((whole, False), (experiment, True)):
        for number in range(8):
            if restarts:
                each.restart()
            (row,) = each.trials.start(each.engine)
            assert each.agrees(row.number)
            each.trials.report(row, [0.1 * number], metric="accuracy")
            each.engine.tail()
            each.engine.finish(row.number, row.attempt, None, "")
    rows = [experiment.row(number) for number in range(8)]
    assert [(row.parent, row.member) for row in rows] == [(None, 0), (None, 1), *((n - 1, n % 2) for n in range(2, 8))]
    assert [(row.params, row.parent) for row in rows] == [(whole.row(n).params, whole.row(n).parent) for n in range(8)]


def test_checkpoints_that_members_may_go_on_from_stay_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Algorithm("pbt", {"populationSize": 2, "quantileFraction": 0.0})
    experiment = Experiment(spec(sampler=members, objectives=(ACCURACY,), parallelism=2))
    kept: list[set[int]] = []
    monkeypatch.setattr(experiment.storage, "release_checkpoints", lambda uid, keep: kept.append(set(keep)))
    for value in (0.9, 0.1, 0.2, 0.3, 0.4):
        (row,) = experiment.trials.start(experiment.engine)
        experiment.trials.report(row, [value], metric="accuracy")
        experiment.engine.finish(row.number, row.attempt, None, "")
    experiment.engine.release_checkpoints()
    experiment.engine.end(Reason.MAX_TRIALS, "")
    experiment.engine.release_checkpoints()
    assert kept == [{0, 3, 4}, {0}]


def test_what_people_give_is_a_segment_like_any_other() -> None:
    fixed = {"lr": 0.01, "momentum": 0.5, "layers": 2, "optimizer": "sgd"}
    members = Algorithm("pbt", {"populationSize": 2, "quantileFraction": 0.0})
    made = spec(sampler=members, objectives=(ACCURACY,), parallelism=2)
    experiment = Experiment(made)
    for _ in range(2):
        (row,) = experiment.trials.start(experiment.engine)
        experiment.trials.report(row, [0.5], metric="accuracy")
        experiment.engine.finish(row.number, row.attempt, None, "")
    given = (
        Given("enqueue/a", "enqueue[0].parameters", fixed),
        Given("enqueue/b", "enqueue[1].parameters", {"lr": 0.1}),
    )
    experiment.engine.update(dataclasses.replace(made, given=given))
    whole, part = experiment.engine.ask(2)
    assert (whole.params, whole.parent, whole.member, whole.source) == (fixed, 0, 0, "enqueue/a")
    assert (part.params, part.parent, part.member) == ({**experiment.row(1).params, "lr": 0.1}, 1, 1)


def test_reports_show_in_the_running_rows() -> None:
    experiment = Experiment()
    (row,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(row, [3.0, 2.0])
    experiment.trials.report(row, [7.0], metric="time", first=2)
    experiment.engine.tail()
    (live,) = experiment.engine.running.values()
    assert (live.last_seq, live.last_step, live.last_metrics) == (3, 2, {"loss": 2.0, "time": 7.0})
    assert experiment.agrees(0)


def test_prunes_at_the_first_report_worse_than_the_median_and_says_so_once() -> None:
    experiment = Experiment()
    for _ in range(2):
        experiment.run(1.0, 1.0, 1.0)
    (row,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(row, [0.9])
    assert experiment.engine.tail() == {}
    experiment.trials.report(row, [5.0], first=1)
    assert experiment.engine.tail() == {}  # the best so far is still better
    (bad,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(bad, [2.0])
    assert experiment.engine.tail() == {bad.number: Reason.PRUNED}
    assert experiment.row(bad.number).stop_reason is Reason.PRUNED
    assert experiment.storage.look(experiment.trials.who(bad)).stop
    experiment.trials.report(bad, [9.0], first=1)
    assert experiment.engine.tail() == {}
    ended = experiment.engine.finish(bad.number, 1, None, "")
    assert (ended.state, ended.reason, ended.values) == (TrialState.PRUNED, Reason.PRUNED, (9.0,))


def test_decides_at_each_of_several_reports_that_came_together() -> None:
    """The second of the three is the bad one: the best of the trial is set by then, the interval decides it."""
    experiment = Experiment(
        spec(pruner=Algorithm("median", {"nStartupTrials": 0, "nWarmupSteps": 1, "intervalSteps": 9}))
    )
    experiment.run(1.0, 1.0, 1.0)
    (row,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(row, [8.0, 8.0, 0.0])
    assert experiment.engine.tail() == {row.number: Reason.PRUNED}


def test_a_pruned_trial_says_why_also_after_a_restart() -> None:
    experiment = Experiment(spec(pruner=HALVING))
    experiment.run(9.0, 1.0, 1.0)
    bad, slow = experiment.trials.start(experiment.engine, 2)
    for row in (bad, slow):
        experiment.trials.report(row, [9.0, 2.0])
    experiment.engine.tail()
    experiment.restart()
    told = "pruned by asha at rung 1: 2 is not in the best half of 2"
    assert experiment.engine.finish(bad.number, 1, None, "").message == told
    late = experiment.engine.finish(slow.number, 1, None, "did not stop within 60 s")
    assert late.message == f"{told.replace('of 2', 'of 3')}; did not stop within 60 s"


def test_a_rung_is_judged_once_whoever_judges() -> None:
    experiment = Experiment(spec(pruner=HALVING))
    first, better = experiment.trials.start(experiment.engine, 2)
    experiment.trials.report(first, [9.0, 2.0])
    assert experiment.engine.tail() == {}
    assert experiment.row(first.number).rung == experiment.engine.running[first.number].rung == 1
    experiment.trials.report(better, [9.0, 1.0])
    assert experiment.engine.tail() == {}
    experiment.restart()
    assert experiment.engine.tail() == {}  # though the first one would not be in the better half now
    experiment.trials.report(first, [2.0], first=2)
    experiment.restart()  # while nobody was there
    assert experiment.engine.tail() == {}  # alone at rung 2
    assert experiment.row(first.number).rung == 2


def test_a_new_attempt_competes_anew() -> None:
    experiment = Experiment(spec(pruner=HALVING))
    lost, other = experiment.trials.start(experiment.engine, 2)
    experiment.trials.report(lost, [9.0, 1.0])
    experiment.engine.tail()
    assert experiment.engine.new_attempt(lost.number, 1, Reason.EVICTED, "")
    assert experiment.row(lost.number).rung is None
    experiment.trials.report(other, [9.0, 2.0])
    assert experiment.engine.tail() == {}  # what the lost attempt had reported does not count
    experiment.restart()
    assert experiment.engine.tail() == {}


def test_another_pruner_takes_over_what_there_is() -> None:
    experiment = Experiment(spec())
    experiment.run(9.0, 1.0, 1.0)
    (row,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(row, [9.0, 2.0])
    experiment.engine.tail()
    experiment.engine.update(spec(pruner=HALVING))
    experiment.trials.report(row, [2.0], first=2)
    assert experiment.engine.tail() == {row.number: Reason.PRUNED}
    told = experiment.engine.finish(row.number, 1, None, "").message
    assert told == "pruned by asha at rung 1: 2 is not in the best half of 2"


@pytest.mark.parametrize("how", ["finish", "log read", "stop requested"])
def test_does_not_prune_what_ends_anyway(how: str) -> None:
    experiment = Experiment()
    for _ in range(2):
        experiment.run(1.0)
    (row,) = experiment.trials.start(experiment.engine)
    who = experiment.trials.who(row)
    experiment.trials.report(row, [9.0])
    if how == "finish":
        experiment.storage.finish(who, "complete", "")
    elif how == "log read":
        experiment.storage.claim_log(who, "follower", 10.0)
        experiment.storage.save_log(who, "follower", "", done=True)
    else:
        experiment.engine.request_stop({row.number: Reason.STOPPED})
    assert experiment.engine.tail() == {}
    expected = Reason.STOPPED if how == "stop requested" else None
    assert experiment.row(row.number).stop_reason is expected


def test_what_came_while_the_operator_was_away_is_decided_about_on_its_return() -> None:
    experiment = Experiment()
    for _ in range(2):
        experiment.run(1.0, 1.0)
    good, bad = experiment.trials.start(experiment.engine, 2)
    experiment.trials.report(good, [5.0, 0.5])  # caught up: the latest report is what is judged
    experiment.trials.report(bad, [5.0, 4.0])
    experiment.restart()
    assert experiment.engine.tail() == {bad.number: Reason.PRUNED}
    experiment.restart()
    assert experiment.engine.tail() == {}


def test_several_objectives_are_not_pruned_and_have_a_front() -> None:
    experiment = Experiment(spec(objectives=(LOSS, ACCURACY)))

    def run(loss: float, accuracy: float) -> TrialRow:
        (row,) = experiment.trials.start(experiment.engine)
        experiment.trials.report(row, [loss])
        experiment.trials.report(row, [accuracy], metric="accuracy", first=1)
        assert experiment.engine.tail() == {}
        return experiment.engine.finish(row.number, 1, None, "")

    for loss, accuracy in [(1.0, 0.5), (2.0, 0.4), (0.5, 0.1), (1.0, 0.5), (3.0, 0.9)]:
        assert run(loss, accuracy).values == (loss, accuracy)
    expected = [(0, (1.0, 0.5)), (2, (0.5, 0.1)), (4, (3.0, 0.9))]
    assert [(best.number, best.values) for best in experiment.engine.best] == expected
    experiment.restart()
    assert [(best.number, best.values) for best in experiment.engine.best] == expected


@pytest.mark.parametrize("objective", [LOSS, dataclasses.replace(LOSS, direction="maximize")])
def test_the_best_is_the_earliest_of_equals(objective: Objective) -> None:
    experiment = Experiment(spec(objectives=(objective,)))
    assert experiment.engine.best == []
    for value in (2.0, 1.0, 3.0, 1.0, 3.0):
        experiment.run(value)
    (best,) = experiment.engine.best
    assert (best.number, best.values) == ((1, (1.0,)) if objective == LOSS else (2, (3.0,)))
    assert best.params == experiment.row(best.number).params


def test_an_attempt_given_up_for_a_suspend_is_none_lost() -> None:
    experiment = Experiment()
    (row,) = experiment.trials.start(experiment.engine)
    for lost, reason in enumerate((Reason.NODE_LOST, Reason.SUSPENDED, Reason.EVICTED), 1):
        assert experiment.engine.new_attempt(row.number, lost, reason, "")
    for _ in range(2):
        again = experiment.engine.running[row.number]
        assert (again.attempt, again.losses, experiment.engine.counts.lost_attempts) == (4, 2, 2)
        experiment.restart()


def test_a_new_attempt_starts_its_series_anew() -> None:
    experiment = Experiment()
    for _ in range(2):
        experiment.run(1.0, 1.0, 1.0)
    (row,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(row, [0.1, 0.1])  # this best must not protect the second attempt
    experiment.engine.tail()
    experiment.trials.report(row, [0.1], first=2)  # comes between the last tail and the loss
    assert experiment.engine.new_attempt(row.number, 1, Reason.NODE_LOST, "node-3 is gone")
    again = experiment.engine.running[row.number]
    assert (again.attempt, again.job_uid, again.last_step, again.last_metrics) == (2, None, None, {})
    assert experiment.engine.counts.lost_attempts == 1
    assert not experiment.engine.new_attempt(row.number, 1, Reason.NODE_LOST, "told twice")
    assert experiment.engine.counts.lost_attempts == 1
    assert experiment.engine.record_job(row.number, 2, experiment.trials.who(again).job_uid)
    experiment.trials.report(again, [3.0])
    assert experiment.engine.tail() == {row.number: Reason.PRUNED}
    ended = experiment.engine.finish(row.number, 2, None, "")
    assert (ended.state, ended.values) == (TrialState.PRUNED, (3.0,))


@pytest.mark.parametrize(("asked", "kept"), [(Reason.PRUNED, None), (Reason.STOPPED, Reason.STOPPED)])
def test_only_the_users_stop_outlives_an_attempt(asked: Reason, kept: Reason | None) -> None:
    experiment = Experiment()
    (row,) = experiment.trials.start(experiment.engine)
    experiment.engine.request_stop({row.number: asked})
    experiment.engine.new_attempt(row.number, 1, Reason.EVICTED, "")
    assert experiment.engine.running[row.number].stop_reason is kept
    assert experiment.row(row.number).stop_reason is kept


def test_an_earlier_stop_stands_and_ended_trials_are_left_out() -> None:
    experiment = Experiment()
    ended = experiment.run(1.0)
    (row,) = experiment.trials.start(experiment.engine)
    experiment.engine.request_stop({row.number: Reason.STOPPED, ended.number: Reason.STOPPED})
    experiment.engine.request_stop({row.number: Reason.EXPERIMENT_ENDED})
    assert experiment.engine.running[row.number].stop_reason is Reason.STOPPED
    assert experiment.row(row.number).stop_reason is Reason.STOPPED


def test_a_trial_is_settled_by_all_that_was_accepted_also_after_the_last_tail() -> None:
    experiment = Experiment()
    (row,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(row, [3.0])
    experiment.engine.tail()
    experiment.trials.report(row, [2.0, 1.0], first=1)
    ended = experiment.engine.finish(row.number, 1, None, "", log_tail="bye")
    assert ended.values == (1.0,)
    assert experiment.engine.saved_steps == (3, 0)
    assert experiment.storage.log_tail("team", "digits", 0) == "bye"


def test_counts_trials_without_an_improvement_over_restarts() -> None:
    experiment = Experiment(spec(no_improvement=NoImprovement(2), pruner=HALVING))
    counts = []
    for values in ([9.0, 3.0], [9.0, 3.0], [9.0, 9.0], [9.0, 2.0], [9.0, 2.0]):  # the third one is pruned
        experiment.run(*values)
        counts.append(experiment.engine.stagnation)
        experiment.restart()
        counts.append(experiment.engine.stagnation)
    (row,) = experiment.trials.start(experiment.engine)
    experiment.engine.request_stop({row.number: Reason.STOPPED})
    experiment.engine.finish(row.number, 1, None, "")  # by people: says nothing of the search
    assert counts == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2]
    experiment.engine.update(spec(no_improvement=NoImprovement(2, min_delta=1.5), pruner=HALVING))
    assert experiment.engine.stagnation == 4
    experiment.engine.update(spec(pruner=HALVING))
    assert experiment.engine.stagnation == 0


def test_a_regret_bound_is_decided_once_and_for_every_operator() -> None:
    pytest.importorskip("sklearn")
    experiment = Experiment(spec(regret_bound=RegretBound(1e9, min_trials=10)))
    found = []
    for value in (3.0, 1.0, 2.0, 5.0, 4.0, 2.5, 6.0, 7.0, 1.5, 2.2, 0.5, 0.1):
        experiment.run(value)
        experiment.engine.tail()
        found.append(experiment.engine.regret)
    assert [regret is not None and regret.reached for regret in found] == [False] * 9 + [True] * 3
    assert found[9] == found[11]
    experiment.restart()
    assert experiment.engine.regret == found[9]
    looks = [each for each in experiment.storage.steering("uid-1") if each.kind == "regret"]
    assert [each.detail["complete"] for each in looks] == [10]
    assert experiment.engine.update(spec()) == []
    assert experiment.engine.regret is None


def test_ending_a_trial_twice_gives_the_same_row_and_counts_once() -> None:
    experiment = Experiment()
    row = experiment.run(1.0)
    assert experiment.engine.finish(row.number, 1, Reason.OOM_KILLED, "told twice") == row
    assert experiment.engine.counts == Counts(complete=1)


def test_another_attempt_cannot_end_a_trial() -> None:
    experiment = Experiment()
    (row,) = experiment.trials.start(experiment.engine)
    with pytest.raises(base.NotCurrent):
        experiment.engine.finish(row.number, 2, None, "")


def test_the_first_start_and_the_first_job_stand() -> None:
    experiment = Experiment()
    (row,) = experiment.trials.start(experiment.engine)
    assert not experiment.engine.record_job(row.number, 1, "another")
    experiment.engine.record_start({row.number: 5.0, 99: 5.0})
    experiment.engine.record_start({row.number: 6.0})
    assert experiment.agrees(row.number)
    assert (experiment.row(row.number).started, experiment.row(row.number).job_uid) == (5.0, "job-0-1")


def test_the_studys_end_is_committed_once() -> None:
    experiment = Experiment()
    ends = [experiment.engine.ended]
    experiment.engine.end(Reason.MAX_TRIALS, "100 trials")
    experiment.engine.end(Reason.EXPERIMENT_DEADLINE, "too late")
    ends.append(experiment.engine.ended)
    experiment.restart()
    ends.append(experiment.engine.ended)
    assert ends == [None, (Reason.MAX_TRIALS, "100 trials"), (Reason.MAX_TRIALS, "100 trials")]


def test_what_changed_in_the_spec_takes_effect_on_the_same_history() -> None:
    experiment = Experiment(spec())
    for _ in range(2):
        experiment.run(1.0)
    experiment.engine.update(dataclasses.replace(PRUNING, objectives=(dataclasses.replace(LOSS, target=1.0),)))
    assert experiment.engine.target_reached
    (bad,) = experiment.trials.start(experiment.engine)
    experiment.trials.report(bad, [2.0])
    assert experiment.engine.tail() == {bad.number: Reason.PRUNED}
    other = spec(seed=5)
    experiment.engine.update(other)
    assert experiment.engine.ask(1)[0].params == Engine(
        other, Experiment(other).storage, experiment.clock
    )._sampler.suggest(experiment.engine._history, 3)


class Watching(samplers.Sampler):
    """A sampler that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Past] = []

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        return {"layers": 1}

    def suggest(self, history: History, number: int) -> dict[str, ParamValue]:
        self.shown = list(history)
        return {"layers": 1}


def test_a_sampler_is_shown_running_trials_with_what_they_last_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watching()
    monkeypatch.setattr(samplers, "SAMPLERS", {"watching": lambda spec: watching})
    experiment = Experiment(spec(sampler=Algorithm("watching"), parameters={"layers": Int(1, 4)}))
    ended, running, lost = experiment.trials.start(experiment.engine, 3)
    for row in (ended, running, lost):
        experiment.trials.report(row, [0.5, 0.25])
    experiment.trials.report(ended, [0.125], first=2)
    experiment.engine.tail()
    experiment.engine.finish(ended.number, 1, None, "")
    experiment.engine.new_attempt(lost.number, 1, Reason.EVICTED, "")
    expected = [
        Past(0, TrialState.COMPLETE, {"layers": 1}, (0.125,), (2, 0.125)),
        Past(1, TrialState.RUNNING, {"layers": 1}, None, (1, 0.25)),
        Past(2, TrialState.RUNNING, {"layers": 1}, None, None),
    ]
    experiment.engine.ask(1)
    assert watching.shown == expected
    experiment.restart()
    experiment.engine.ask(1)
    assert watching.shown[:3] == expected


def test_a_report_that_comes_while_the_study_is_loaded_is_decided_about() -> None:
    experiment = Experiment()
    for _ in range(2):
        experiment.run(1.0, 0.5)
    (row,) = experiment.trials.start(experiment.engine)

    def come(at: str) -> None:
        if at == "after:load_running":
            experiment.trials.report(row, [9.0])

    experiment.storage.fault = come
    experiment.restart()
    experiment.storage.fault = None
    assert experiment.engine.tail() == {row.number: Reason.PRUNED}


class Lost(Exception):  # noqa: N818
    """The database did not answer."""


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("method", ["create_trials", "finish_trials", "new_attempt", "decide", "record_jobs"])
def test_a_commit_that_broke_is_either_whole_or_not_there_for_the_next_engine(method: str, where: str) -> None:
    """The caller drops the engine, and the one loaded after it does the same again."""
    experiment = Experiment()
    experiment.run(1.0, 0.5)
    (row,) = experiment.trials.start(experiment.engine)
    act: dict[str, Callable[[], object]] = {
        "create_trials": lambda: experiment.engine.ask(2 if experiment.engine.counts.total == 2 else 0),
        "finish_trials": lambda: experiment.engine.finish(row.number, 1, Reason.EXIT_CODE, ""),
        "new_attempt": lambda: experiment.engine.new_attempt(row.number, 1, Reason.EVICTED, ""),
        "decide": lambda: experiment.engine.request_stop({row.number: Reason.STOPPED}),
        "record_jobs": lambda: experiment.engine.record_job(row.number, 1, "job-1-1"),
    }
    without = act[method]

    def fault(at: str) -> None:
        if at == f"{where}:{method}":
            raise Lost

    experiment.storage.fault = fault
    with pytest.raises(Lost):
        without()
    experiment.storage.fault = None
    experiment.restart()
    without()
    live = said(experiment.engine)
    experiment.restart()
    assert said(experiment.engine) == live
    assert experiment.engine.counts.total == (4 if method == "create_trials" else 2)


def moves(experiment: Experiment, draw: random.Random) -> Iterable[Callable[[], object]]:
    """One thing that may happen next, for a trial drawn at random."""
    engine, trials = experiment.engine, experiment.trials
    running = [row for row in engine.running.values() if row.job_uid is not None]
    yield lambda: trials.start(engine, draw.randint(1, 2))
    yield lambda: engine.tail()
    if not running:
        return
    row = draw.choice(running)
    first = 0 if row.last_step is None else row.last_step + 1
    value = draw.choice([draw.gauss(0, 1), math.nan, math.inf]) if draw.random() < 0.1 else draw.gauss(0, 1)
    yield lambda: trials.report(row, [value] * draw.randint(1, 3), first=first)
    yield lambda: trials.report(row, [value], first=first)
    yield lambda: engine.finish(row.number, row.attempt, None, "")
    yield lambda: engine.finish(row.number, row.attempt, draw.choice([Reason.OOM_KILLED, Reason.EXIT_CODE]), "")
    yield lambda: engine.record_start({row.number: experiment.clock()})
    yield lambda: engine.request_stop({row.number: draw.choice([Reason.STOPPED, Reason.EXPERIMENT_ENDED])})
    yield (
        lambda: (
            engine.new_attempt(row.number, row.attempt, Reason.EVICTED, "")
            and engine.record_job(row.number, row.attempt + 1, f"job-{row.number}-{row.attempt + 1}")
        )
    )


HALVING = Algorithm("asha", {"reductionFactor": 2})
OTHERS = [HALVING, Algorithm("hyperband", {"maxResource": 9}), Algorithm("bandit", {"slackAmount": 1.0})]


@pytest.mark.parametrize("seed", range(15))
def test_after_any_history_a_loaded_engine_says_what_the_living_one_says(seed: int) -> None:
    draw = random.Random(seed)
    objective = dataclasses.replace(LOSS, target=-2.5, value=draw.choice(["last", "best", "mean", "min", "max"]))
    pruner = OTHERS[seed % len(OTHERS)] if seed >= 9 else PRUNING.pruner
    experiment = Experiment(dataclasses.replace(PRUNING, objectives=(objective,), max_trials=60, pruner=pruner))
    for _ in range(250):
        draw.choice(list(moves(experiment, draw)))()
        if draw.random() < 0.1:
            experiment.engine.tail()
            living = said(experiment.engine)
            experiment.restart()
            assert said(experiment.engine) == living
    assert experiment.engine.counts.finished > 20


@pytest.mark.parametrize("where", [(), ("lr <= 0.5",)])
@pytest.mark.parametrize(
    ("sampler", "members"),
    [
        (Algorithm("pbt", {"populationSize": 3}), 3),
        (Algorithm("schedule", {"segments": [{"lr": 0.1}, {"lr": 0.01}]}), 1),
    ],
)
def test_no_more_segments_run_than_there_are_members(sampler: Algorithm, members: int, where: tuple[str, ...]) -> None:
    """Workers are given a trial ahead of their slots: a member's next segment begins when its last one has ended."""
    experiment = Experiment(
        spec(sampler=sampler, parameters={"lr": Double(1e-3, 1.0)}, parallelism=members, where=where)
    )
    assert len(experiment.engine.ask(members + 1)) == members
    assert (experiment.engine.askable, experiment.engine.ask(1)) == (0, [])
    experiment.restart()
    assert (experiment.engine.askable, experiment.engine.ask(1), experiment.engine.exhausted) == (0, [], False)
    (first, *_) = experiment.engine.running.values()
    experiment.engine.record_job(first.number, 1, experiment.trials.who(first).job_uid)
    experiment.trials.report(first, [0.5])
    experiment.engine.finish(first.number, 1, None, "")
    (following,) = experiment.engine.ask(2)
    assert (following.parent, following.member) == (first.number, first.member)
