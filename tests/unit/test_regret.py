"""What is left to gain: the bound against another implementation, the error against Optuna's, when it is asked for."""

import math
import sys
import threading
from collections.abc import Callable, Mapping

import numpy as np
import optuna
import pytest
from optuna.terminator import CrossValidationErrorEvaluator
from optuna.terminator.improvement.evaluator import _get_beta
from sklearn.gaussian_process import GaussianProcessRegressor

from kubetune.api import stop
from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Constraint,
    Double,
    ExperimentSpec,
    InvalidSpec,
    Parameter,
    RegretBound,
    Replicates,
    Validation,
)
from kubetune.api.trial import TrialState
from kubetune.engine import check, courses, regret, regret_model
from kubetune.engine.courses.noise import Noise
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import gp, gp_model
from kubetune.engine.samplers.gp import standard
from kubetune.engine.samplers.unit import Unit
from kubetune.engine.sampling.pool import Pool
from kubetune.storage.base import Steer
from tests.unit.engine_objects import ACCURACY, LOSS, spec

NONE = Algorithm("none")
PLANE: dict[str, Parameter] = {"x": Double(-1.0, 3.0), "y": Double(0.0, 1.0)}


def of(**changes: object) -> ExperimentSpec:
    given = {"parameters": PLANE, "objectives": (LOSS,), "seed": 1, "sampler": Algorithm("random"), "pruner": NONE}
    return spec(**{**given, "regret_bound": RegretBound(0.01), **changes})


def bowl(params: Mapping[str, object]) -> float:
    x, y = float(str(params["x"])), float(str(params.get("y", 0.5)))
    return (x - 1.2) ** 2 + math.sin(5 * y)


def drawn(made: ExperimentSpec, count: int, value: Callable[[Mapping[str, object]], float] = bowl) -> History:
    """A history of trials all over the space."""
    unit, dice = Unit(made.parameters), np.random.default_rng(3)
    history = History(made.objectives, made.parameters, [each.name for each in made.constraints])
    for number, row in enumerate(unit.decode(dice.random((count, unit.width)))):
        params = unit.columns.decode(row.tolist())
        history.add(Past(number, TrialState.COMPLETE, params, (value(params),)))
    return history


def found(made: ExperimentSpec, history: History) -> regret_model.Bound:
    params, values, penalties = history.ranked(regret.MOST)
    return regret_model.bound(made, params, values[:, 0], penalties)


# the bound


def test_it_is_what_scikit_learn_and_a_fine_grid_make_it() -> None:
    """The posterior by scikit-learn; the lowest lower bound by looking everywhere."""
    made = of()
    history = drawn(made, 20)
    params, values, _ = history.ranked(20)
    points, axis = Unit(PLANE).encode(params), np.linspace(0, 1, 201)
    grid = np.array(np.meshgrid(axis, axis)).reshape(2, -1).T
    width = math.sqrt(_get_beta(2, 20, delta=0.05))

    def expected_by(losses: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        hyper = gp_model.fit(points, standard(losses))
        reference = GaussianProcessRegressor(gp_model.kernel(hyper), alpha=0.0, optimizer=None)
        reference.fit(points, standard(losses))

        def lowest(there: np.ndarray[tuple[int, ...], np.dtype[np.float64]], sign: float) -> float:
            mean, spread = reference.predict(there, return_std=True)
            deviation = np.sqrt(np.maximum(spread**2 - hyper.noise, 0.0))  # theirs is with the noise
            return float((mean + sign * width * deviation).min())

        return (lowest(points, 1.0) - lowest(np.vstack([grid, points]), -1.0)) * float(losses.std())

    whole = values[:, 0]
    expected = min(expected_by(whole), expected_by(np.minimum(whole, np.median(whole))))
    bound = found(made, history).value
    assert bound is not None
    assert bound == pytest.approx(expected, rel=1e-3)
    assert bound >= expected - 1e-6  # a climb goes below the grid's lowest place, never above it


def test_beta_is_optunas() -> None:
    """Of each of two models, which together are as probable."""
    cases = [(1, 20), (7, 150), (30, 21)]
    assert [regret_model.beta(*case) for case in cases] == pytest.approx(
        [_get_beta(*case, delta=0.05) for case in cases]
    )


def test_more_trials_leave_less_to_gain_and_the_bound_holds() -> None:
    made = of()
    lowest = math.sin(5 * 3 * math.pi / 10)  # at x = 1.2, y = 3π/10
    bounds = []
    for count in (12, 25, 50):
        history = drawn(made, count)
        bound = found(made, history).value
        assert bound is not None
        best = history[history.best(1)[0]].values
        assert best is not None
        assert bound >= best[0] - lowest
        bounds.append(bound)
    assert bounds[2] < bounds[1] < bounds[0]


def test_the_direction_and_the_unit_of_the_metric_do_not_matter() -> None:
    down = found(of(), drawn(of(), 20)).value
    up = of(objectives=(ACCURACY,))
    other = found(up, drawn(up, 20, lambda params: 5 - 10 * bowl(params))).value
    assert down is not None
    assert other == pytest.approx(10 * down, rel=1e-6)


def test_a_trial_that_diverged_does_not_make_all_others_the_same() -> None:
    plain = found(of(), drawn(of(), 25)).value
    hit = found(of(), drawn(of(), 25, lambda params: 1e30 if float(str(params["y"])) > 0.97 else bowl(params))).value
    infinite = found(of(), drawn(of(), 25, lambda params: math.inf if params["y"] == 0 else bowl(params))).value
    assert plain is not None
    assert hit is not None
    assert hit < 1e4
    assert infinite == pytest.approx(plain)


def test_where_bad_is_a_hundred_times_as_bad_what_lies_between_good_ones_is_seen() -> None:
    def cliff(params: Mapping[str, object]) -> float:
        return 100.0 if float(str(params["x"])) > 1.8 else 0.01 * bowl(params)

    bound = found(of(), drawn(of(), 60, cliff)).value
    assert bound is not None
    assert bound < 0.1


def test_the_best_trial_is_one_that_keeps_the_constraints() -> None:
    made = of(constraints=(Constraint("size", "max", 1.0),))
    history, best, lowest = History(made.objectives, made.parameters, ["size.max"]), math.inf, math.inf
    for past in drawn(of(), 30):
        assert past.values is not None
        broken = past.values[0] < 1.5
        lowest, best = min(lowest, past.values[0]), best if broken else min(best, past.values[0])
        limits = {"size.max": 1.0 if broken else -1.0}
        history.add(Past(past.number, TrialState.COMPLETE, past.params, past.values, constraints=limits))
    bound = found(made, history).value
    assert bound is not None
    assert bound > best - lowest > 1.0  # what breaks them may turn out to be allowed a little further on


def test_only_the_space_that_is_asked_for_counts() -> None:
    made = of()
    whole = found(made, drawn(made, 60)).value
    near = of(narrow={"x": Double(1.0, 1.4)})
    beyond = of(where=("x > 2",))
    narrow, far = found(near, drawn(near, 60)).value, found(beyond, drawn(made, 60)).value
    assert whole is not None
    assert narrow is None or narrow < whole
    assert far is not None
    assert far <= whole  # nothing beyond 2 is better than what is known, and what is known counts all the same


def test_where_there_is_no_bound_it_says_why() -> None:
    limited = of(constraints=(Constraint("size", "max", 1.0),))
    history = History(limited.objectives, limited.parameters, ["size.max"])
    for past in drawn(of(), 15):
        history.add(Past(past.number, TrialState.COMPLETE, past.params, past.values, constraints={"size.max": 2.0}))
    one: dict[str, Parameter] = {"x": Double(1.0, 1.0)}
    cases = [
        (of(), drawn(of(), 9), "too few complete trials"),
        (of(), drawn(of(), 15, lambda _: 0.5), "came to the same"),
        (of(parameters=one), drawn(of(parameters=one), 0), "too few complete trials"),
        (limited, history, "no trial keeps the constraints"),
    ]
    for made, trials, why in cases:
        bound = found(made, trials)
        assert bound.value is None
        assert why in bound.why


def test_of_many_trials_the_best_half_is_looked_at_and_some_of_the_rest() -> None:
    history = drawn(of(), 400)
    _, values, _ = history.ranked(20)
    ranks = sorted(float(past.values[0]) for past in history if past.values)
    assert values[:10, 0].tolist() == ranks[:10]
    assert (values[10, 0], values[-1, 0]) == (ranks[10], ranks[-1])
    assert len(values) == 20


# the error


def test_the_error_of_folds_is_optunas_but_for_their_variance() -> None:
    """Optuna divides the squares by k, where the variance of Nadeau and Bengio is the unbiased one, by k - 1."""
    runs = [0.8, 0.85, 0.9, 0.83, 0.86]
    trial = optuna.trial.create_trial(value=0.848, system_attrs={"terminator:cv_scores": runs})
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        theirs = CrossValidationErrorEvaluator()
    other = theirs.evaluate([trial], optuna.study.StudyDirection.MAXIMIZE)
    assert regret.error(5, runs, None) == pytest.approx(other * math.sqrt(5 / 4))
    twice = regret.error(5, runs * 2, None)  # repeated: the second round tells less than new data would
    assert twice is not None
    assert other > twice > other / math.sqrt(2)


def test_the_error_of_replicates_is_by_the_noise_of_all_trials() -> None:
    assert regret.error(1, [0.9, 0.9, 0.9, 0.9], Noise(0.02, 30)) == pytest.approx(0.01)
    assert regret.error(1, [0.9, 0.8], None) is None
    assert regret.error(1, [0.9], Noise(0.02, 30)) is None
    assert regret.error(5, [0.9, math.inf, 0.8, 0.7, 0.6], None) is None


# when


def test_it_is_asked_after_every_five_trials_and_later_less_often() -> None:
    asked = [regret.due(0, 20)]
    while asked[-1] < 1000:
        asked.append(regret.due(asked[-1], 20))
    assert asked[:5] == [20, 25, 30, 35, 40]
    assert asked[-1] - asked[-2] > 40
    assert len(asked) < 80
    assert regret.due(0, 2) == 2
    assert regret.due(40, 100) == 100


def look(watch: regret.Watch, made: ExperimentSpec, history: History) -> Steer | None:
    return watch.look(made, history, courses.build(made), len(history), order=7)


def test_what_is_recorded_is_what_a_restart_decides_by() -> None:
    made = of(regret_bound=RegretBound(1e9))
    watch = regret.Watch(None, lambda: None, [])
    assert look(watch, made, drawn(made, 19)) is None
    state = watch.state(made)
    assert state is not None
    assert not state.reached
    assert state.sentence == "nothing is known yet of what is left to gain"
    steer = look(watch, made, drawn(made, 20))
    assert steer is not None
    assert {name: steer.detail[name] for name in ("complete", "trials", "known", "error", "why")} == {
        "complete": 20,
        "trials": 20,
        "known": 7,
        "error": None,
        "why": "",
    }
    for one in (watch, regret.Watch(None, lambda: None, [steer])):
        state = one.state(made)
        assert state is not None
        assert state.reached
        assert state.sentence.endswith("by 20 complete trials, and less than 1e+09 is enough")
        assert look(one, made, drawn(made, 60)) is None  # it is decided
    stricter = of(regret_bound=RegretBound(1e-9))
    state = watch.state(stricter)
    assert state is not None
    assert not state.reached
    assert look(watch, stricter, drawn(made, 24)) is None
    assert look(watch, stricter, drawn(made, 25)) is not None
    later = watch.state(of(regret_bound=RegretBound(1e9, min_trials=30)))
    assert later is not None
    assert not later.reached


def test_with_folds_the_best_trials_error_is_the_limit() -> None:
    made = of(regret_bound=RegretBound(), validation=Validation(folds=3))
    recorded = {"complete": 20, "bound": 0.02, "error": 0.03, "why": ""}
    state = regret.state(made, recorded)
    assert state is not None
    assert (state.bound, state.below, state.reached) == (0.02, 0.03, True)
    none = regret.state(made, {**recorded, "error": 0.0})
    assert none is not None
    assert not none.reached
    assert "came all to the same" in none.sentence
    unknown = regret.state(
        of(regret_bound=RegretBound(), validation=Validation(replicates=Replicates(3))), {**recorded, "error": None}
    )
    assert unknown is not None
    assert "is not known yet" in unknown.sentence


def test_a_sampler_process_works_it_out_and_nobody_waits() -> None:
    made, woken = of(), threading.Event()
    history = drawn(made, 20)
    pool = Pool(1)
    try:
        watch = regret.Watch(pool, woken.set, [])
        assert look(watch, made, history) is None
        assert woken.wait(120)
        steer = look(watch, made, history)
    finally:
        pool.close()
    assert steer is not None
    assert steer.detail["bound"] == pytest.approx(found(made, history).value)


def test_a_process_that_fails_is_no_end_of_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    made, woken = of(), threading.Event()
    pool = Pool(1, command=(sys.executable, "-c", "pass"))
    try:
        watch = regret.Watch(pool, woken.set, [])
        assert look(watch, made, drawn(made, 20)) is None
        assert woken.wait(120)
        assert look(watch, made, drawn(made, 20)) is None
        assert look(watch, made, drawn(made, 24)) is None  # it is not asked again at once
    finally:
        pool.close()
    state = watch.state(made)
    assert state is not None
    assert "ended 2 times without an answer" in state.sentence


# before anything is created


def test_what_cannot_be_judged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSpec, match="goes on from another's checkpoint"):
        regret.check(of(sampler=Algorithm("pbt")))
    monkeypatch.setattr(gp, "installed", lambda: False)
    with pytest.raises(InvalidSpec, match=r"stop\.regretBound: it needs scikit-learn"):
        check.check(of())
    check.check(of(regret_bound=None))


def test_choices_are_looked_through() -> None:
    parameters: dict[str, Parameter] = {"x": Double(-1.0, 3.0), "kind": Categorical(("a", "b"))}
    made = of(parameters=parameters)
    bound = found(made, drawn(made, 30, lambda params: bowl(params) + (params["kind"] == "b"))).value
    assert bound is not None
    assert bound > 0


@pytest.mark.parametrize(
    ("form", "objectives", "runs", "field"),
    [
        ({"below": 0.1}, 2, False, "stop.regretBound"),
        ({}, 1, False, "stop.regretBound.below"),
        ({"below": 0}, 1, True, "stop.regretBound.below"),
        ({"below": math.inf}, 1, False, "stop.regretBound.below"),
        ({"below": 0.1, "minTrials": 1}, 1, False, "stop.regretBound.minTrials"),
    ],
)
def test_settings_that_make_no_sense(form: Mapping[str, object], objectives: int, runs: bool, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        stop.regret_bound({"stop": {"regretBound": form}}, objectives, runs)
    assert caught.value.field == field


def test_settings() -> None:
    assert stop.regret_bound({}, 1, False) is None
    assert stop.regret_bound({"stop": {"regretBound": {}}}, 1, True) == RegretBound(None, 20)
    given = {"stop": {"regretBound": {"below": 0.5, "minTrials": 7}}}
    assert stop.regret_bound(given, 1, False) == RegretBound(0.5, 7)
