"""What the engine keeps in memory: the history and its view, the Pareto front, the tally."""

import dataclasses
import itertools
import math
import random
import statistics
import tracemalloc

import numpy as np
import optuna
import pytest

from kubetune.api.spec import Categorical, Double, Int, Objective, Parameter, ParamValue
from kubetune.api.trial import Reason, TrialState
from kubetune.engine.front import Front
from kubetune.engine.history import History, Past
from kubetune.engine.tally import Tally
from kubetune.storage.base import EndedTrial
from tests.unit.engine_objects import ACCURACY, LOSS

INF = math.inf


def complete(number: int, *values: float) -> Past:
    return Past(number, TrialState.COMPLETE, {"x": number}, values)


def history(*trials: Past, objectives: tuple[Objective, ...] = (LOSS,)) -> History:
    made = History(objectives, {"x": Int(0, 1000)})
    for trial in trials:
        made.add(trial)
    return made


@pytest.mark.parametrize(
    ("maximize", "values", "front"),
    [
        ([False], [(2.0,), (1.0,), (1.0,), (3.0,)], [1]),  # the earliest of equals
        ([True], [(2.0,), (3.0,), (3.0,)], [1]),
        ([True], [(INF,), (-INF,)], [0]),
        ([False, True], [(1.0, 0.5), (2.0, 0.9), (3.0, 0.9), (0.5, 0.1)], [0, 1, 3]),
        ([False, False], [(1.0, 1.0), (1.0, 1.0), (0.0, 2.0)], [0, 2]),
        ([False, False], [(1.0, 1.0), (0.0, 0.0)], [1]),
    ],
)
def test_front(maximize: list[bool], values: list[tuple[float, ...]], front: list[int]) -> None:
    """In whatever order the trials complete."""
    for order in itertools.permutations(enumerate(values)):
        made = Front(maximize)
        for number, each in order:
            made.add(number, each)
        assert made.numbers == front


def test_front_is_the_one_that_optuna_finds() -> None:
    draw = random.Random(3)
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"])
    made = Front([False, True, False])
    for number in range(120):
        values = [draw.random() for _ in range(3)]
        study.add_trial(optuna.trial.create_trial(values=values))
        made.add(number, values)
    assert made.numbers == sorted(trial.number for trial in study.best_trials)
    assert 5 < len(made.numbers) < 120


def test_view_has_the_best_the_latest_and_the_latest_running_in_order_of_number() -> None:
    trials = [complete(number, float(100 - number) if number < 10 else 200.0) for number in range(20)]
    trials[18] = Past(18, TrialState.FAIL, {})
    trials[17] = Past(17, TrialState.PRUNED, {})
    running = [Past(number, TrialState.RUNNING, {}) for number in range(20, 25)]
    seen = history(*trials, *running).view(best=2, latest=3, running=2)
    assert seen.numbers.tolist() == [8, 9, 16, 17, 19, 23, 24]


def test_view_of_several_objectives_has_the_front() -> None:
    trials = [complete(0, 1.0, 0.0), complete(1, 0.0, 1.0), complete(2, 5.0, 0.0), complete(3, 6.0, 0.0)]
    made = history(*trials, objectives=(LOSS, ACCURACY))
    assert made.view(best=5, latest=1, running=5).numbers.tolist() == [1, 3]


def test_a_running_trial_ends_once_and_is_replaced() -> None:
    made = history(Past(0, TrialState.RUNNING, {"x": 0}), complete(1, 4.0))
    made.replace(Past(0, TrialState.RUNNING, {"x": 0}, last=(1, 9.0)))
    assert made[0].last == (1, 9.0)
    made.replace(complete(0, 3.0))
    assert made.best(5) == [0, 1]
    assert made.view(0, 5, 5).numbers.tolist() == [0, 1]
    with pytest.raises(KeyError):
        made.replace(complete(0, 1.0))


def test_a_gap_in_the_numbers_is_an_error() -> None:
    with pytest.raises(ValueError, match="trial 2 given, trial 1 is next: rows are missing"):
        history(complete(0, 1.0), complete(2, 1.0))


def ended(number: int, reason: Reason, steps: int, values: tuple[float, ...] | None = None) -> EndedTrial:
    states = {
        Reason.COMPLETED: TrialState.COMPLETE,
        Reason.PRUNED: TrialState.PRUNED,
        Reason.STOPPED: TrialState.PRUNED,
    }
    state = states.get(reason, TrialState.FAIL)
    return EndedTrial(number, state, reason, {}, values, ended=float(number), steps=steps, last=None)


def tally(*trials: tuple[Reason, int]) -> Tally:
    made = Tally([LOSS], lost_attempts=2)
    for number, (reason, steps) in enumerate(trials):
        made.ended(ended(number, reason, steps, (1.0,) if reason is Reason.COMPLETED else None))
    return made


def test_counts_states_and_the_last_reasons() -> None:
    made = tally((Reason.COMPLETED, 3), (Reason.OOM_KILLED, 1), (Reason.STOPPED, 0), *[(Reason.PRUNED, 1)] * 8)
    counts = made.counts(running=4)
    assert (counts.running, counts.complete, counts.pruned, counts.failed, counts.lost_attempts) == (4, 1, 9, 1, 2)
    assert (counts.total, counts.finished) == (15, 11)
    assert made.recent == (Reason.PRUNED,) * 8 + (Reason.STOPPED, Reason.OOM_KILLED)


@pytest.mark.parametrize(
    ("trials", "saved"),
    [
        ([], (0, 0)),
        ([(Reason.PRUNED, 3)], (3, 0)),  # no COMPLETE trial to measure it by
        ([(Reason.COMPLETED, 10), (Reason.PRUNED, 3)], (13, 7)),
        ([(Reason.COMPLETED, 10), (Reason.STOPPED, 3), (Reason.OOM_KILLED, 2)], (15, 0)),  # not the pruner's
        ([(Reason.COMPLETED, 5), (Reason.PRUNED, 8)], (13, 0)),  # ran longer than the median
        ([(Reason.COMPLETED, n) for n in (2, 10, 12, 50)] + [(Reason.PRUNED, 4)], (78, 6)),  # the lower median: 10
    ],
)
def test_steps_taken_and_steps_saved(trials: list[tuple[Reason, int]], saved: tuple[int, int]) -> None:
    assert tally(*trials).saved_steps == saved


def test_saved_steps_of_many_trials() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 30) for _ in range(200)]
    cut = [draw.randint(1, 30) for _ in range(100)]
    made = tally(*((Reason.COMPLETED, length) for length in lengths), *((Reason.PRUNED, length) for length in cut))
    median = statistics.median_low(lengths)
    assert made.saved_steps == (sum(lengths) + sum(cut), sum(max(0, median - length) for length in cut))


def test_target_is_reached_by_one_complete_trial_and_looked_for_again_when_it_changes() -> None:
    goal = Objective("loss", "minimize", target=0.5)
    made = Tally([goal], lost_attempts=0)
    found = []
    made.ended(ended(0, Reason.PRUNED, 1, (0.1,)))
    made.ended(ended(1, Reason.COMPLETED, 1, (0.6,)))
    found.append(made.target_reached)
    made.look_again([Objective("loss", "minimize", target=0.7)], [(0.6,)])
    found.append(made.target_reached)
    made.look_again([goal], [(0.6,)])
    found.append(made.target_reached)
    made.ended(ended(2, Reason.COMPLETED, 1, (0.5,)))
    found.append(made.target_reached)
    assert found == [False, True, False, True]


def test_a_trial_comes_back_from_its_columns_as_it_was() -> None:
    space: dict[str, Parameter] = {
        "rate": Double(0.0, 1.0),
        "layers": Int(1, 4),
        "size": Categorical((0.5, 2)),
        "bias": Categorical((False, True)),
    }
    params: dict[str, ParamValue] = {"rate": 0.1, "layers": 3, "size": 2, "bias": True}
    trials = [
        Past(0, TrialState.COMPLETE, params, (INF, -0.0), (-3, math.inf)),
        Past(1, TrialState.PRUNED, params, None, (0, 1.5)),
        Past(2, TrialState.RUNNING, {"layers": 1}),
    ]
    made = History((LOSS, ACCURACY), space)
    for trial in trials:
        made.add(trial)
    assert list(made) == trials
    assert [type(value) for value in made[0].params.values()] == [bool, int, float, int]


@pytest.mark.parametrize("limit", [0, 1, 3, 9])
def test_a_view_goes_on_as_the_history_would(limit: int) -> None:
    """What a sampler process adds by itself is what it would be sent next."""
    made = history(*(complete(number, float(number)) for number in range(6)))
    view = made.view(2, 3, limit)
    for number in range(6, 12):
        params = made._columns.row({"x": number})
        view = view.asked(number, params, int(made._points.of(params)[0]), limit)
        made.add(Past(number, TrialState.RUNNING, {"x": number}))
        again = made.view(2, 3, limit)
        for field in dataclasses.fields(view):
            np.testing.assert_array_equal(getattr(view, field.name), getattr(again, field.name))


def test_a_trial_takes_some_two_hundred_bytes() -> None:
    space: dict[str, Parameter] = {f"x{place}": Double(0.0, 1.0) for place in range(6)}
    tracemalloc.start()
    made = History([LOSS], space)
    for number in range(3_000):
        made.add(Past(number, TrialState.COMPLETE, dict.fromkeys(space, 0.5), (1.0 / (number + 1),), (9, 0.5)))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 3_000 * 250


@pytest.mark.parametrize("objectives", [(LOSS,), (ACCURACY,), (LOSS, ACCURACY)])
@pytest.mark.parametrize("space", [{"x": Int(0, 5)}, {"x": Double(0.0, 1.0)}], ids=["small", "endless"])
def test_loading_all_at_once_is_the_same_as_one_by_one(
    objectives: tuple[Objective, ...], space: dict[str, Parameter]
) -> None:
    draw = random.Random(7)
    trials = []
    for number in range(9000):
        state = draw.choice(list(TrialState))
        values = tuple(draw.choice([0.0, -0.0, 0.5, INF, -INF, draw.random()]) for _ in objectives)
        last = draw.choice([None, (draw.randint(-3, 3), draw.random())])
        given = values if state is TrialState.COMPLETE else None
        trials.append(Past(number, state, {"x": draw.randint(0, 1)}, given, last))
    at_once, one_by_one = History(objectives, space), History(objectives, space)
    at_once.load(trials)
    for trial in trials:
        one_by_one.add(trial)
    assert list(at_once) == list(one_by_one)
    assert at_once.best(10_000) == one_by_one.best(10_000)
    assert at_once.front.numbers == one_by_one.front.numbers
    views = at_once.view(10, 20, 30), one_by_one.view(10, 20, 30)
    for field in dataclasses.fields(views[0]):
        np.testing.assert_array_equal(*(getattr(view, field.name) for view in views))


def test_loading_notices_rows_that_are_missing() -> None:
    with pytest.raises(ValueError, match="trial 2 given, trial 1 is next"):
        History((LOSS,), {"x": Int(0, 9)}).load([complete(0, 1.0), complete(2, 1.0)])
