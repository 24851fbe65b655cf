"""Descent by finite differences: the slope against scipy, the moves against the paper's Adam, any parallelism."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import scipy.optimize

from kubetune.api.spec import Algorithm, Constraint, Double, ExperimentSpec, Int, InvalidSpec, Parameter, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import gradient
from tests.unit.engine_objects import ACCURACY, LOSS, spec

BOX: dict[str, Parameter] = {"lr": Double(1e-5, 1e-1, log=True), "x": Double(-2.0, 6.0), "y": Double(0.0, 1.0)}
ROUND = 7  # points of three parameters
SETTINGS = gradient.Settings(0.1, 0.01, 30)


def of(settings: Mapping[str, object] | None = None, **changes: object) -> ExperimentSpec:
    return spec(**{"sampler": Algorithm("gradient", settings or {}), "parameters": BOX, "seed": 2, **changes})


def loss(params: Mapping[str, ParamValue]) -> float:
    """Least at 1e-2, 1, 0.2; steeper by x."""
    away = (math.log10(float(params["lr"])) + 2) ** 2
    return away + 3 * (float(params["x"]) - 1) ** 2 + (float(params["y"]) - 0.2) ** 2


def run(
    made: ExperimentSpec, count: int, running: int = 0, value: Callable[[Mapping[str, ParamValue]], float] = loss
) -> History:
    """So many run at any time; what has no value failed."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        if number >= running:
            ended = history[number - running]
            got = value(ended.params)
            if math.isnan(got):
                history.replace(Past(ended.number, TrialState.FAIL, ended.params, ended=float(number)))
            else:
                history.replace(Past(ended.number, TrialState.COMPLETE, ended.params, (got,), ended=float(number)))
    return history


def unit(params: Mapping[str, ParamValue]) -> np.ndarray:
    return np.array([(math.log10(float(params["lr"])) + 5) / 4, (float(params["x"]) + 2) / 8, float(params["y"])])


def test_it_moves_as_adam_does_along_the_slope() -> None:
    """The paper's algorithm, one number after the other, with the exact slope: central differences of a parabola."""
    history, centre = run(of(), 6 * ROUND), [0.5, 0.5, 0.5]
    mean, square = [0.0] * 3, [0.0] * 3
    for turn in range(1, 6):
        asked = [history[number].params for number in range((turn - 1) * ROUND, turn * ROUND)]
        assert unit(asked[0]) == pytest.approx(centre, abs=1e-9)
        assert sorted(round(float(np.abs(unit(each) - centre).sum()), 9) for each in asked) == [0.0] + [0.01] * 6
        slope = [2 * 16 * (centre[0] - 0.75), 2 * 3 * 64 * (centre[1] - 0.375), 2 * (centre[2] - 0.2)]
        rate = 0.1 * (1 + math.cos(math.pi * (turn - 1) / 30)) / 2
        for place in range(3):
            mean[place] = 0.9 * mean[place] + 0.1 * slope[place]
            square[place] = 0.999 * square[place] + 0.001 * slope[place] ** 2
            hat, root = mean[place] / (1 - 0.9**turn), math.sqrt(square[place] / (1 - 0.999**turn))
            centre[place] -= rate * hat / (root + 1e-8)


def slopes(params: Mapping[str, ParamValue]) -> dict[str, float]:
    """Of `loss`, by hand, along the parameters' own values."""
    lr = float(params["lr"])
    away = 2 * (math.log10(lr) + 2) / (lr * math.log(10))
    return {"lr": away, "x": 6 * (float(params["x"]) - 1), "y": 2 * (float(params["y"]) - 0.2)}


def follow(made: ExperimentSpec, count: int, running: int = 0, sign: float = 1.0, first: int = 0) -> History:
    """Trials report value and slope, from the ``first`` on."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        if number >= running:
            params = history[number - running].params
            told = {name: sign * slope for name, slope in slopes(params).items()} if number >= first else None
            ended = Past(
                number - running, TrialState.COMPLETE, params, (sign * loss(params),), None, float(number), None, told
            )
            history.replace(ended)
    return history


def test_a_reported_gradient_moves_it_as_adam_does_one_trial_for_each_move() -> None:
    """The paper's algorithm by the exact slope in the unit cube, the chain rule done by hand."""
    made = of({"gradient": "reported"})
    history = follow(made, 31)
    centre, mean, square = np.full(3, 0.5), np.zeros(3), np.zeros(3)
    for turn in range(1, 31):
        assert unit(history[turn - 1].params) == pytest.approx(centre, abs=1e-9)
        slope = np.array([2 * 16 * (centre[0] - 0.75), 6 * 64 * (centre[1] - 0.375), 2 * (centre[2] - 0.2)])
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        rate = 0.1 * (1 + math.cos(math.pi * (turn - 1) / 30)) / 2
        centre = centre - rate * (mean / (1 - 0.9**turn)) / (np.sqrt(square / (1 - 0.999**turn)) + 1e-8)
    assert loss(history[29].params) < 0.05
    assert float(np.abs(unit(history[30].params) - unit(history[29].params)).sum()) > 0.1  # the next descent


@pytest.mark.parametrize("running", [0, 6])
def test_it_sees_by_itself_that_gradients_are_reported(running: int) -> None:
    """Till then it measures: the first trials of either are the same."""
    told, by_name = follow(of(), 60, running), follow(of({"gradient": "reported"}), 60, running)
    assert told[0].params == by_name[0].params
    if not running:
        assert [trial.params for trial in told] == [trial.params for trial in by_name]
    assert min(loss(trial.params) for trial in told) < 0.2
    assert len({str(sorted(trial.params.items())) for trial in told}) == 60
    assert follow(of({"gradient": "finiteDifference"}), 8, first=0)[7].params == run(of(), 8)[7].params


def test_reported_gradients_of_what_is_maximised_point_up() -> None:
    made = of({"gradient": "reported"}, objectives=(ACCURACY,))
    assert [trial.params for trial in follow(made, 20, sign=-1.0)] == [
        trial.params for trial in follow(of({"gradient": "reported"}), 20)
    ]


def test_a_trial_that_reports_none_or_a_part_is_no_slope_there() -> None:
    """Who never reports one is moved by nothing: each trial is where another descent begins."""
    never = run(of({"gradient": "reported"}), 20)
    starts = [unit(trial.params) for trial in never]
    assert min(float(np.abs(one - other).sum()) for one, other in itertools.combinations(starts, 2)) > 0.01
    sampler, history = samplers.build(of({"gradient": "reported"})), History([LOSS], BOX)
    for number in range(10):
        params = sampler.suggest(history, number)
        told = {"x": slopes(params)["x"]}
        history.add(Past(number, TrialState.COMPLETE, params, (loss(params),), None, float(number), None, told))
    last = unit(history[9].params)
    assert (last[0], last[2]) == pytest.approx((0.5, 0.5))
    assert abs(last[1] - 0.375) < 0.08


def test_reported_gradients_are_there_after_a_restart() -> None:
    made = of()
    history, loaded = follow(made, 25), History([LOSS], BOX)
    ended = (history[number] for number in range(25))
    loaded.load(
        Past(t.number, t.state, t.params, t.values, None, float(t.number), None, slopes(t.params)) for t in ended
    )
    assert samplers.build(made).suggest(loaded, 25) == samplers.build(made).suggest(history, 25)
    both = loaded.view(0, 0, 0, whole=True).past, loaded.view(0, 0, 0, whole=True, slopes=True).past
    assert [past.slopes.shape for past in both if past is not None] == [(25, 0), (25, 3)]


def test_the_slope_is_that_of_scipy() -> None:
    def wavy(x: np.ndarray) -> float:
        return float(np.sin(3 * x[0]) * x[1] ** 2 + np.exp(x[2] * x[0]))

    for point in np.random.default_rng(1).uniform(0.1, 0.9, (10, 3)):
        points = gradient.around(point, 1e-4)
        ours = gradient.difference(points, np.array([wavy(each) for each in points]))
        theirs = scipy.optimize._numdiff.approx_derivative(wavy, point, method="3-point", abs_step=1e-4)
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-10)


def test_at_a_bound_and_where_a_trial_failed_one_side_is_enough() -> None:
    points = gradient.around(np.array([0.0, 1.0, 0.5]), 0.01)
    values = points @ np.array([2.0, 3.0, 5.0])
    assert gradient.difference(points, values) == pytest.approx([2.0, 3.0, 5.0])
    values[3] = np.nan  # below the third
    assert gradient.difference(points, values) == pytest.approx([2.0, 3.0, 5.0])
    values[6] = np.nan  # and above it
    assert gradient.difference(points, values) == pytest.approx([2.0, 3.0, 0.0])
    assert gradient.difference(points, np.full(7, np.nan)) == pytest.approx([0.0] * 3)


@pytest.mark.parametrize("running", [0, 3, 20])
def test_no_point_is_asked_twice_and_all_lie_in_the_space(running: int) -> None:
    history = run(of(), 120, running)
    assert len({str(sorted(trial.params.items())) for trial in history}) == 120
    for trial, (name, parameter) in itertools.product(history, BOX.items()):
        assert isinstance(parameter, Double)
        assert parameter.low <= float(trial.params[name]) <= parameter.high


def test_what_comes_next_is_the_same_after_a_restart() -> None:
    made = of()
    history, loaded = run(made, 60, 5), History([LOSS], BOX)
    loaded.load(list(history))
    assert samplers.build(made).suggest(loaded, 60) == samplers.build(made).suggest(history, 60)


def test_a_round_under_way_leaves_further_trials_to_the_next_descent() -> None:
    history = run(of(), 2 * ROUND, running=100)
    assert unit(history[0].params) == pytest.approx([0.5] * 3)
    away = [float(np.abs(unit(trial.params) - unit(history[ROUND].params)).sum()) for trial in history]
    assert max(away[ROUND:]) < 0.011 < min(away[:ROUND])


def test_it_comes_close_and_begins_anew() -> None:
    history = run(of(), 31 * ROUND)
    assert min(loss(trial.params) for trial in history) < 0.01
    assert float(np.abs(unit(history[30 * ROUND].params) - unit(history[30 * ROUND - ROUND].params)).sum()) > 0.1


def test_trials_that_fail_are_not_asked_for_again() -> None:
    def value(params: Mapping[str, ParamValue]) -> float:
        return math.nan if float(params["x"]) > 2.0 else loss(params)

    history = run(of(), 100, 2, value)
    assert len({str(sorted(trial.params.items())) for trial in history}) == 100
    everything_fails = run(of(), 40, 0, lambda params: math.nan)
    assert len(everything_fails) == 40


def test_it_climbs_where_the_objective_is_maximised() -> None:
    made = of(objectives=(ACCURACY,))
    history = run(made, 15 * ROUND, value=lambda params: -loss(params))
    assert min(loss(trial.params) for trial in history) < loss(history[0].params) / 20


def test_it_beats_random_search_on_a_smooth_valley() -> None:
    box: dict[str, Parameter] = {f"x{place}": Double(-5.0, 5.0) for place in range(5)}

    def valley(params: Mapping[str, ParamValue]) -> float:
        x = [float(value) for _, value in sorted(params.items())]
        return sum((value - place / 3) ** 2 * (1 + place) for place, value in enumerate(x)) + 0.5 * x[0] * x[1]

    def reached(name: str, seed: int) -> float:
        history = run(spec(sampler=Algorithm(name), parameters=box, seed=seed), 200, 4, valley)
        return min(valley(trial.params) for trial in history)

    assert statistics.median(reached("gradient", seed) for seed in range(3)) < reached("random", 1) / 10


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (of(parameters=BOX | {"n": Int(1, 3)}), "parameters.n: gradient moves along continuous parameters"),
        (of(parameters={"n": Double(0.0, 1.0, step=0.1)}), "parameters.n: gradient moves along continuous"),
        (of(objectives=(LOSS, ACCURACY)), "objectives: gradient follows the slope of one metric"),
        (of({"learningRate": 0}), "sampler.settings.learningRate: needs a number"),
        (of({"gradient": "guessed"}), "sampler.settings.gradient: needs one of auto, reported, finiteDifference"),
        (
            of({"gradient": "reported"}, constraints=(Constraint("latency", "max", 1.0),)),
            "sampler.settings.gradient: reported gradients say nothing of constraints",
        ),
        (of({"rounds": 0}), "sampler.settings.rounds: needs a whole number of at least 1"),
    ],
)
def test_what_it_does_not_take(made: ExperimentSpec, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        samplers.build(made)
    assert str(error.value).startswith(message)
