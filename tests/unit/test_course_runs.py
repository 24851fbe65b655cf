"""Trials of several runs, through the engine: folds, replicates, what is committed, and what a restart finds again."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from kubetune.api.spec import Algorithm, Constraint, Fidelity, InvalidSpec, Replicates, Validation
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.engine import check, courses
from kubetune.engine.courses import runs
from kubetune.engine.engine import Engine
from kubetune.storage import memory
from tests.integration.experiments import series_of
from tests.unit.engine_objects import ACCURACY, LOSS, Trials, spec

FOLDS = Validation(folds=3)
SEEDS = Validation(replicates=Replicates(3))


class World:
    """An engine on a storage of its own, and its trials."""

    def __init__(self, **changes: Any) -> None:
        self.spec = spec(**changes)
        counter = itertools.count(1_700_000_000)
        self.clock: Callable[[], float] = lambda: float(next(counter))
        self.storage = memory.MemoryStorage(self.clock)
        self.storage.acquire("test")
        self.trials = Trials(self.spec, self.storage)
        self.engine = self.restarted()

    def restarted(self) -> Engine:
        self.engine = Engine(self.spec, self.storage, self.clock)
        return self.engine

    def leg(self, number: int, value: float | None, failure: Reason | None = None) -> TrialRow:
        """The next run of a trial, to its end."""
        row = self.engine.running[number]
        assert self.engine.record_job(number, row.attempt, self.trials.who(row).job_uid)
        if value is not None:
            self.trials.report(row, [value - 1, value], self.spec.objectives[0].metric)
        self.engine.tail()
        return self.engine.finish(number, row.attempt, failure, "it broke" if failure else "")

    def trial(self, *values: float) -> TrialRow:
        """A new trial with so many runs."""
        (row,) = self.engine.ask(1)
        for value in values:
            row = self.leg(row.number, value)
        return row


def test_each_fold_is_a_run_and_their_mean_the_value() -> None:
    world = World(validation=FOLDS)
    (first,) = world.engine.ask(1)
    assert first.environment == {"KUBETUNE_FOLD": "0", "KUBETUNE_FOLDS": "3"}
    row = world.leg(0, 0.5)
    assert (row.state, row.leg, row.attempt, row.paused) == (TrialState.RUNNING, 1, 2, False)
    assert row.environment == {"KUBETUNE_FOLD": "1", "KUBETUNE_FOLDS": "3"}
    world.leg(0, 0.25)
    assert world.engine.counts.running == 1
    row = world.leg(0, 0.75)
    assert (row.state, row.values, row.params) == (TrialState.COMPLETE, (0.5,), first.params)
    assert [leg.values for leg in row.legs] == [(0.5,), (0.25,), (0.75,)]
    (best,) = world.engine.best
    assert (best.values, best.runs) == ((0.5,), (0.5, 0.25, 0.75))
    (best,) = world.restarted().best
    assert best.runs == (0.5, 0.25, 0.75)


def test_the_study_has_one_intermediate_value_for_each_fold() -> None:
    world = World(validation=FOLDS)
    world.trial(0.5, 0.25, 0.75)
    found = series_of(world.storage, world.spec.uid)[0]
    assert found == {0: 0.5, 1: 0.25, 2: 0.75}


def test_a_restart_between_two_folds_goes_on_where_it_was() -> None:
    world = World(validation=FOLDS)
    world.engine.ask(1)
    world.leg(0, 0.5)
    engine = world.restarted()
    assert engine.running[0].environment["KUBETUNE_FOLD"] == "1"
    world.leg(0, 0.5)
    assert world.leg(0, 2.0).values == (1.0,)


def test_a_lost_attempt_repeats_its_fold_alone() -> None:
    world = World(validation=FOLDS)
    world.engine.ask(1)
    world.leg(0, 0.5)
    row = world.engine.running[0]
    assert world.engine.record_job(0, row.attempt, world.trials.who(row).job_uid)
    world.trials.report(row, [99.0])
    world.engine.tail()
    world.engine.new_attempt(0, row.attempt, Reason.NODE_LOST, "")
    assert (world.engine.running[0].leg, world.engine.running[0].attempt) == (1, 3)
    world.leg(0, 0.5)
    assert world.leg(0, 0.5).values == (0.5,)


def test_a_fold_that_fails_fails_the_trial_and_says_which() -> None:
    world = World(validation=FOLDS)
    world.engine.ask(1)
    world.leg(0, 0.5)
    row = world.leg(0, 0.5, Reason.EXIT_CODE)
    assert (row.state, row.reason, row.values, row.message) == (
        TrialState.FAIL,
        Reason.EXIT_CODE,
        None,
        "fold 1: it broke",
    )
    world.engine.ask(1)
    assert world.leg(1, None).message.startswith("fold 0: the trial ended without a report of loss")


def test_infinities_that_cancel_out_are_no_value() -> None:
    row = World(validation=Validation(folds=2)).trial(math.inf, -math.inf)
    assert (row.state, row.reason) == (TrialState.FAIL, Reason.NOT_A_NUMBER)
    assert World(validation=Validation(folds=2)).trial(math.inf, 1.0).values == (math.inf,)


def test_the_pruner_judges_after_each_fold() -> None:
    """Worse on every fold than the best: by Wilcoxon's test after the fourth, p = 1/16."""
    pruner = Algorithm("wilcoxon", {"nStartupSteps": 2})
    world = World(validation=Validation(folds=6), pruner=pruner)
    world.trial(*[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    world.engine.ask(1)
    for fold, value in enumerate([1.1, 1.3, 1.5]):
        assert world.leg(1, value).leg == fold + 1
        assert world.engine.running[1].stop_requested is None
    world.leg(1, 1.7)
    stopped = world.engine.running[1]
    assert (stopped.stop_reason, stopped.leg) == (Reason.PRUNED, 4)
    assert stopped.stop_message.startswith("pruned by wilcoxon at step 3: worse than trial 0 on 4 steps")
    row = world.engine.finish(1, stopped.attempt, None, "")
    assert (row.state, row.values) == (TrialState.PRUNED, (1.7,))  # as Optuna has it: the last one's
    assert world.restarted().counts.pruned == 1


def test_a_decision_that_a_kill_came_before_is_made_again() -> None:
    pruner = Algorithm("wilcoxon", {"nStartupSteps": 2})
    world = World(validation=Validation(folds=6), pruner=Algorithm("none"))
    world.trial(*[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    world.engine.ask(1)
    for value in [1.1, 1.3, 1.5, 1.7]:
        world.leg(1, value)
    world.spec = dataclasses.replace(world.spec, pruner=pruner)
    world.restarted().tail()
    assert world.engine.running[1].stop_reason is Reason.PRUNED


# ---- replicates


def test_runs_have_seeds_of_their_own_that_are_found_again() -> None:
    made = courses.build(spec(validation=SEEDS, seed=7))
    told = [made.environment(number, leg) for number in (0, 1) for leg in range(3)]
    seeds = [each["KUBETUNE_SEED"] for each in told]
    assert len(set(seeds)) == 6
    assert (seeds[0], seeds[3]) == ("7", "8")  # as without replicates
    assert all(0 <= int(seed) < 2**32 for seed in seeds)
    assert [each["KUBETUNE_REPLICATE"] for each in told] == ["0", "1", "2"] * 2
    again = courses.build(spec(validation=SEEDS, seed=7))
    assert [again.environment(1, leg) for leg in range(3)] == told[3:]
    others = courses.build(spec(validation=SEEDS, seed=9))
    assert others.environment(0, 1)["KUBETUNE_SEED"] != seeds[1]
    assert len({runs.seed(spec(validation=SEEDS), 0, replicate) for replicate in range(20)}) == 20


def test_a_trial_gets_another_run_only_while_it_may_be_the_best() -> None:
    world = World(validation=SEEDS)
    world.trial(1.0, 1.1, 0.9)
    world.trial(3.0, 3.1, 2.9)  # the noise is not known yet: all of them
    bad = world.trial(2.0)
    assert (bad.state, bad.values) == (TrialState.COMPLETE, (2.0,))
    assert bad.message == "1 of 3 seeds: behind the best by 1, which is no chance"
    close = world.trial(1.1)
    assert (close.state, close.leg) == (TrialState.RUNNING, 1)
    world.leg(3, 0.8)
    assert world.leg(3, 0.5).values == pytest.approx((0.8,))
    (best,) = world.engine.best
    assert (best.number, best.runs) == (3, (1.1, 0.8, 0.5))


def test_a_restart_knows_the_race() -> None:
    world = World(validation=SEEDS)
    world.trial(1.0, 1.1, 0.9)
    world.trial(3.0, 3.1, 2.9)
    world.restarted()
    assert world.trial(2.0).state is TrialState.COMPLETE
    assert world.trial(1.1).state is TrialState.RUNNING


def test_an_infeasible_trial_is_raced_against_by_nobody() -> None:
    world = World(validation=SEEDS, constraints=(Constraint("loss", "min", 0.5),))
    world.trial(0.1, 0.1, 0.1)
    world.trial(1.0, 1.1, 0.9)
    world.trial(1.0, 1.1, 0.9)
    assert world.trial(1.1).state is TrialState.RUNNING
    assert world.restarted().running[3].leg == 1


def test_all_folds_of_a_seed_come_before_the_next_seed() -> None:
    world = World(validation=Validation(folds=2, replicates=Replicates(3)), seed=7)
    made = courses.build(world.spec)
    told = [made.environment(0, leg) for leg in range(made.legs(0))]
    assert [(each["KUBETUNE_REPLICATE"], each["KUBETUNE_FOLD"]) for each in told] == [
        *[("0", "0"), ("0", "1"), ("1", "0"), ("1", "1"), ("2", "0"), ("2", "1")]
    ]
    for _ in range(3):
        world.trial(1.0, 1.2, 1.1, 1.3, 0.9, 1.1)
    world.engine.ask(1)
    assert world.leg(3, 9.0).state is TrialState.RUNNING  # half a round says nothing
    assert world.leg(3, 9.0).state is TrialState.COMPLETE


def test_with_several_objectives_each_has_its_mean() -> None:
    world = World(objectives=(LOSS, ACCURACY), validation=Validation(folds=2))
    world.engine.ask(1)
    for loss, accuracy in ((1.0, 0.5), (2.0, 1.0)):
        row = world.engine.running[0]
        assert world.engine.record_job(0, row.attempt, world.trials.who(row).job_uid)
        world.trials.report(row, [loss], "loss")
        world.trials.report(row, [accuracy], "accuracy")
        world.engine.tail()
        row = world.engine.finish(0, row.attempt, None, "")
    assert row.values == (1.5, 0.75)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"objectives": (LOSS, ACCURACY), "validation": SEEDS}, "replicates.min"),
        ({"validation": SEEDS, "pruner": Algorithm("median")}, "pruner"),
        ({"validation": FOLDS, "fidelity": Fidelity("epochs", 1, 9)}, "fidelity"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check.check(spec(**changes))
    assert refused.value.field == field


def test_several_objectives_and_all_runs_go_together() -> None:
    check.check(spec(objectives=(LOSS, ACCURACY), validation=Validation(replicates=Replicates(3, 3))))


@pytest.mark.parametrize("other", [Validation(), Validation(folds=4), SEEDS])
def test_runs_stay_as_they_are_once_there_are_trials(other: Validation) -> None:
    world = World(validation=FOLDS)
    with pytest.raises(InvalidSpec, match="cannot change once started"):
        world.engine.update(dataclasses.replace(world.spec, validation=other))
    world.engine.update(dataclasses.replace(world.spec, validation=Validation(3, "train_loss")))


def test_the_end_of_a_run_told_again_changes_nothing() -> None:
    world = World(validation=FOLDS)
    row = world.trial(0.5)
    assert world.engine.finish(0, 1, None, "") == row
    assert (world.engine.running, world.engine.counts.running) == ({0: row}, 1)
    assert world.leg(0, 1.0).leg == 2


def test_the_order_goes_on_behind_what_was_known() -> None:
    """Ends of runs have places in it, also those that were refused."""
    world = World(validation=FOLDS)
    world.trial(0.5)
    world.engine.ask(1)
    (known,) = [each.known for each in world.storage.record("team", "digits", 1, 1)]
    assert known is not None
    world.restarted()
    world.leg(1, None, Reason.OOM_KILLED)
    (ended,) = world.storage.record("team", "digits", 1, 1)
    assert ended.order is not None
    assert ended.order > known


def test_a_lost_attempt_takes_nothing_from_the_runs_before_it() -> None:
    """What they came to goes on to count for the pruner, and others are judged by it."""
    asha = Algorithm("asha", {"reductionFactor": 2, "minResource": 1})
    stopped = []
    for lost in (False, True):
        world = World(validation=FOLDS, pruner=asha, parallelism=2)
        world.trial(0.1, 0.1)
        if lost:
            assert world.engine.new_attempt(0, 3, Reason.NODE_LOST, "")
        worse = world.trial(0.9, 0.9)
        stopped.append(world.engine.running[worse.number].stop_reason)
    assert stopped == [Reason.PRUNED, Reason.PRUNED]
