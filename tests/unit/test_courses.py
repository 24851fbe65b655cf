"""Courses: rungs and promotions against ASHA's algorithm 1, and what becomes of trials leg by leg."""

import dataclasses
import random

import pytest

from kubetune.api.fidelity import Fidelity
from kubetune.api.spec import Algorithm, ExperimentSpec, InvalidSpec
from kubetune.api.trial import Ending, Leg, NextLeg, Reason, TrialRow, TrialState
from kubetune.engine import courses
from kubetune.engine.courses.fidelity import ladder
from kubetune.engine.courses.rungs import Rung
from kubetune.engine.engine import Engine
from kubetune.engine.history import STATES
from kubetune.engine.value import Outcome
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import ACCURACY, Trials, reports, spec

EPOCHS = Fidelity("epochs", 1, 9)


def promoting(factor: int = 3, fidelity: Fidelity = EPOCHS, pruner: str = "asha", **more: object) -> ExperimentSpec:
    settings = {"type": "promotion", "reductionFactor": factor, **more}
    return spec(fidelity=fidelity, pruner=Algorithm(pruner, settings), objectives=(ACCURACY,))


class Paper:
    """ASHA, Li et al. 2020, algorithm 1 (`get_job`), written plainly. Losses; the lower number of equals first."""

    def __init__(self, factor: int, rungs: int) -> None:
        self.factor, self.top = factor, rungs - 1
        self.done: list[dict[int, float]] = [{} for _ in range(rungs)]  # rung k: trial → loss
        self.promoted: list[set[int]] = [set() for _ in range(rungs)]

    def get_job(self) -> tuple[int, int] | None:
        """(trial, rung) to be run; None: a new one at the first rung."""
        for k in range(self.top - 1, -1, -1):
            ranked = sorted(self.done[k], key=lambda trial: (self.done[k][trial], trial))
            candidates = ranked[: len(ranked) // self.factor]
            promotable = [trial for trial in candidates if trial not in self.promoted[k]]
            if promotable:
                self.promoted[k].add(promotable[0])
                return promotable[0], k + 1
        return None


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_promotions_are_those_of_the_paper_one_by_one(factor: int, seed: int) -> None:
    dice, workers = random.Random(f"{factor}/{seed}"), 5
    fidelity = Fidelity("epochs", 1, factor**3)
    course, paper = courses.build(promoting(factor, fidelity)), Paper(factor, 4)
    legs: dict[int, list[Leg]] = {}
    running: list[tuple[int, int]] = []  # trial, rung
    asked = 0
    for _ in range(600):
        while len(running) < workers:
            job, ours = paper.get_job(), list(course.promotable(1))
            assert ours == ([] if job is None else [job[0]])
            if job is None:
                job, asked = (asked, 0), asked + 1
            else:
                assert job[1] == len(legs[job[0]])
                course.take(job[0], legs[job[0]], paused=False)
            running.append(job)
        trial, rung = running.pop(dice.randrange(workers))
        accuracy = float(dice.randrange(40))  # many are equal
        paper.done[rung][trial] = -accuracy
        legs.setdefault(trial, []).append(Leg(rung + 1, rung, (accuracy,)))
        course.take(trial, legs[trial], paused=rung < paper.top)
        if dice.random() < 0.05:  # what is told twice, as after a restart, is nothing new
            course.take(trial, legs[trial], paused=rung < paper.top)
    assert len(paper.done[3]) > 1


def test_what_is_loaded_in_any_order_promotes_the_same() -> None:
    dice = random.Random(1)
    known = {number: [Leg(1, 0, (dice.random(),))] for number in range(40)}
    first, second = courses.build(promoting()), courses.build(promoting())
    for number, legs in known.items():
        first.take(number, legs, paused=number % 3 > 0)
    for number, legs in sorted(known.items(), reverse=True):
        second.take(number, legs, paused=number % 3 > 0)
    assert first.promotable(100) == second.promotable(100)
    assert len(first.promotable(2)) == 2


def test_a_rung_forgets_who_is_no_longer_among_the_best() -> None:
    rung = Rung(2)
    for number, loss in enumerate((3.0, 5.0, 2.0, 1.0)):
        rung.add(number, 0.0, loss)
        rung.wait(number, True)
    assert rung.promotable(9) == [3, 2]
    rung.wait(3, False)
    assert rung.promotable(9) == [2]
    assert rung.best_waiting() == 2


def test_who_breaks_constraints_ranks_behind() -> None:
    rung = Rung(2)
    for number, (broken, loss) in enumerate(((0.5, 0.0), (0.0, 9.0))):
        rung.add(number, broken, loss)
        rung.wait(number, True)
    assert rung.promotable(1) == [1]


@pytest.mark.parametrize(
    ("fidelity", "factor", "rate", "rungs"),
    [
        (Fidelity("e", 1, 81), 3, 0, [1, 3, 9, 27, 81]),
        (Fidelity("e", 1, 81), 3, 1, [3, 9, 27, 81]),
        (Fidelity("e", 1, 100), 3, 0, [1, 3, 9, 27, 100]),
        (Fidelity("e", 0.1, 0.9), 3, 0, [0.1, pytest.approx(0.3), 0.9]),
        (Fidelity("e", 4, 4), 2, 0, [4]),
    ],
)
def test_rungs_from_min_to_max(fidelity: Fidelity, factor: int, rate: int, rungs: list[float]) -> None:
    assert ladder(fidelity, factor, rate) == rungs


def test_hyperband_begins_at_another_rung_in_each_bracket() -> None:
    course = courses.build(promoting(pruner="hyperband"))
    firsts = {course.environment(number, 0)["epochs"]: course.legs(number) for number in range(60)}
    assert firsts == {"1": 3, "3": 2, "9": 1}


def test_a_leg_ends_paused_and_the_last_one_ends_the_trial() -> None:
    course = courses.build(promoting())
    row = TrialRow(0, TrialState.RUNNING, {}, 1, 0.0)
    over = course.settle(row, reports({"accuracy": 0.5}), None, Outcome())
    assert over == NextLeg((0.5,), True, {"epochs": "3"}, True, 0.0)
    last = dataclasses.replace(row, leg=2, attempt=3, legs=(Leg(1, 0, (0.5,)), Leg(2, 0, (0.6,))))
    ending = course.settle(last, reports({"accuracy": 0.7}, attempt=3), None, Outcome())
    assert ending == Ending(TrialState.COMPLETE, Reason.COMPLETED, "", (0.7,))


def test_a_leg_that_reports_nothing_of_its_own_has_no_metric() -> None:
    row = TrialRow(0, TrialState.RUNNING, {}, 2, 0.0, leg=1, legs=(Leg(1, 0, (0.5,)),))
    ending = courses.build(promoting()).settle(row, reports({"accuracy": 0.5}), None, Outcome())
    assert isinstance(ending, Ending)
    assert ending.reason is Reason.NO_METRIC


@pytest.mark.parametrize("stop", [None, Reason.STOPPED])
def test_one_that_stays_paused_is_pruned_with_its_value(stop: Reason | None) -> None:
    row = TrialRow(0, TrialState.RUNNING, {}, 2, 0.0, leg=1, paused=True, legs=(Leg(1, 0, (0.5,)),))
    ending = courses.build(promoting()).settle(row, reports({"accuracy": 0.5}), None, Outcome(stop=stop))
    assert isinstance(ending, Ending)
    assert (ending.state, ending.values) == (TrialState.PRUNED, (0.5,))
    assert ending.reason is (stop or Reason.NOT_PROMOTED)
    assert stop or ending.message == "stayed at rung 0 (epochs = 1)"


def test_fidelity_alone_gives_all_of_it_at_once() -> None:
    course = courses.build(spec(fidelity=EPOCHS))
    assert (course.single, dict(course.environment(3, 0))) == (True, {"epochs": "9"})


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (dataclasses.replace(promoting(), fidelity=None), "fidelity"),
        (promoting(minResource=2), "pruner.settings.minResource"),
        (promoting(minEarlyStoppingRate=3), "pruner.settings.minEarlyStoppingRate"),
        (promoting(bootstrapCount=3), "pruner.settings.bootstrapCount"),
    ],
)
def test_what_cannot_be_run_is_refused_by_its_field(broken: ExperimentSpec, field: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        courses.build(broken)
    assert refusal.value.field == field


def run_leg(pods: Trials, engine: Engine, accuracy: float) -> TrialRow:
    (row,) = pods.start(engine)
    pods.report(row, [accuracy], "accuracy")
    engine.tail()
    return engine.finish(row.number, row.attempt, None, "")


def test_an_engine_that_is_loaded_again_knows_rungs_and_curves() -> None:
    what = promoting(2, Fidelity("epochs", 1, 4))
    storage = MemoryStorage(lambda: 1.0)
    storage.acquire("test")
    engine, pods = Engine(what, storage, lambda: 1.0), Trials(what, storage)
    for accuracy in (0.1, 0.9, 0.5, 0.7):
        row = run_leg(pods, engine, accuracy)
        assert (row.paused, row.environment) == (True, {"epochs": "2"})
    for _ in range(2):
        assert (len(engine.running), len(engine.paused), engine.counts.total) == (0, 4, 4)
        assert list(engine.promotable) == [1, 3][: what.parallelism]
        engine = Engine(what, storage, lambda: 1.0)
    (row,) = engine.promote([1], offered=False, known=engine.order)
    assert (row.attempt, row.leg, list(engine.running)) == (2, 1, [1])
    assert engine.record_job(1, 2, pods.who(row).job_uid)
    pods.report(row, [0.95], "accuracy", first=1)
    engine.tail()
    assert engine.running[1].last_step == 1
    ended = engine.finish(1, 2, None, "")
    assert [leg.values for leg in ended.legs] == [(0.9,), (0.95,)]
    assert list(engine.overtime) == [1]


def test_samplers_learn_from_trials_that_wait_and_from_promoted_ones() -> None:
    what = promoting(2, Fidelity("epochs", 1, 4))
    storage = MemoryStorage(lambda: 1.0)
    storage.acquire("test")
    engine, pods = Engine(what, storage, lambda: 1.0), Trials(what, storage)
    for accuracy in (0.1, 0.9, 0.5):
        run_leg(pods, engine, accuracy)
    pods.start(engine)
    engine.promote([1], offered=False, known=engine.order)
    for _ in range(2):
        view = engine._history.view(10, 10, 10)
        assert [STATES[state].name for state in view.states] == ["PRUNED", "PRUNED", "PRUNED", "RUNNING"]
        assert view.values[:3, 0].tolist() == [0.1, 0.9, 0.5]
        assert engine._history.learned == 3
        engine = Engine(what, storage, lambda: 1.0)
    engine.finish(1, 2, Reason.EXIT_CODE, "")
    assert engine._history.learned == 2
    assert [STATES[state].name for state in engine._history.view(0, 10, 0).states] == ["PRUNED", "PRUNED"]
