"""The Gaussian process: its model against scikit-learn's, its slopes against differences, what it suggests."""

import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from sklearn.gaussian_process import GaussianProcessRegressor

from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Constraint,
    Double,
    ExperimentSpec,
    Int,
    InvalidSpec,
    Parameter,
    ParamValue,
)
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.columns import Columns
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import gp, gp_model
from kubetune.engine.samplers.unit import Unit
from kubetune.storage import space
from tests.unit.engine_objects import ACCURACY, LOSS, spec

WIDE: dict[str, Parameter] = {
    "lr": Double(1e-5, 1e-1, log=True),
    "momentum": Double(0.0, 0.9, step=0.1),
    "dropout": Double(0.0, 0.5),
    "layers": Int(1, 4),
    "width": Int(8, 512, log=True),
    "units": Int(0, 1000),
    "optimizer": Categorical(("adam", "sgd", "rmsprop")),
    "one": Categorical(("same",)),
}
DICE = np.random.default_rng(5)
POINTS = DICE.random((30, 3))
VALUES = np.sin(6 * POINTS[:, 0]) + POINTS[:, 1] ** 2
HYPER = gp_model.Hyper(1.7, np.array([0.3, 0.8, 5.0]), 1e-3)


def of(parameters: Mapping[str, Parameter] = WIDE, **changes: object) -> ExperimentSpec:
    return spec(**{"sampler": Algorithm("gp"), "parameters": parameters, "seed": 1, **changes})


def loss(params: Mapping[str, ParamValue]) -> float:
    away = (math.log10(float(params["lr"])) + 3) ** 2 + (float(params["momentum"]) - 0.5) ** 2
    return away + (0.0 if params["optimizer"] == "sgd" else 1.0)


def grown(
    made: ExperimentSpec, count: int, value: Callable[[Mapping[str, ParamValue]], float], running: int = 0
) -> History:
    """As the sampler makes it, so many running at any time."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
        if number >= running:
            ended = history[number - running]
            values = (value(ended.params),) * len(made.objectives)
            history.replace(Past(ended.number, TrialState.COMPLETE, ended.params, values))
    return history


def test_what_it_expects_is_what_scikit_learn_expects() -> None:
    reference = GaussianProcessRegressor(gp_model.kernel(HYPER), alpha=0.0, optimizer=None).fit(POINTS, VALUES)
    there = DICE.random((50, 3))
    mean, deviation = gp_model.Posterior(HYPER, POINTS, VALUES).at(there)
    expected, spread = reference.predict(there, return_std=True)
    assert mean == pytest.approx(expected, abs=1e-9)
    assert deviation**2 + HYPER.noise == pytest.approx(spread**2, abs=1e-9)  # theirs is with the noise


def test_hyperparameters_are_the_most_probable_ones() -> None:
    """By a search of scipy's that knows no slope, on scikit-learn's likelihood and the priors."""
    hyper = gp_model.fit(POINTS, VALUES)
    likelihood = GaussianProcessRegressor(gp_model.kernel(HYPER), alpha=0.0, optimizer=None).fit(POINTS, VALUES)

    def improbable(theta: np.ndarray) -> float:
        scale, lengths, noise = np.exp(theta[0]), np.exp(theta[1:-1]), np.exp(theta[-1])
        prior = np.log(scale) - scale - (0.1 * lengths**2 + 0.1 / lengths**2).sum() + 0.1 * np.log(noise) - 30 * noise
        return -float(likelihood.log_marginal_likelihood(theta, clone_kernel=False)) - float(prior)

    found = np.log([hyper.scale, *hyper.lengths, hyper.noise])
    bounds = [(-7, 7)] + [(-4.6, 4.6)] * 3 + [(np.log(gp_model.LEAST_NOISE), 0.0)]
    best = scipy.optimize.minimize(improbable, found, method="Nelder-Mead", bounds=bounds, options={"maxiter": 400})
    assert improbable(found) == pytest.approx(best.fun, abs=1e-2)
    assert hyper.lengths[2] > 3 * hyper.lengths[0]  # the third parameter means nothing


def test_the_log_of_the_improvement_is_that_of_the_integral() -> None:
    z = np.array([-30.0, -8.0, -2.0, -1.0, -0.5, 0.0, 1.0, 5.0])
    plain = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) + z * scipy.special.ndtr(z)
    assert gp_model.log_h(z[1:]) == pytest.approx(np.log(plain[1:]), rel=1e-6, abs=1e-9)
    assert gp_model.log_h(z[:1])[0] == pytest.approx(-450 - 0.5 * math.log(2 * math.pi) - 2 * math.log(30), abs=0.01)


def test_slopes_are_those_of_differences() -> None:
    improvement = gp_model.Improvement(gp_model.Posterior(HYPER, POINTS, VALUES), float(VALUES.min()))
    for point in DICE.random((10, 3)):
        height, slope = improvement.slope(point)
        assert height == pytest.approx(improvement.at(point[None])[0], abs=1e-8)
        measured = scipy.optimize.approx_fprime(point, lambda x: float(improvement.at(x[None])[0]), 1e-6)
        assert slope == pytest.approx(measured, rel=1e-3, abs=1e-3)


def test_the_cube_and_back() -> None:
    """Random trials come back as they were; any point of the cube is a trial that Optuna knows."""
    unit, columns, known = Unit(WIDE), Columns(WIDE), space.distributions_of(WIDE)
    drawn = samplers.build(spec(parameters=WIDE, seed=3))
    rows = np.vstack([columns.row(drawn.choose(History([LOSS], WIDE).view(0, 0, 0), n)) for n in range(50)])
    cube = unit.encode(rows)
    assert cube.shape == (50, 9)
    assert (cube >= 0).all()
    assert (cube <= 1).all()
    assert unit.decode(cube) == pytest.approx(rows, rel=1e-12)
    corners = np.vstack([np.zeros((1, 9)), np.ones((1, 9)), DICE.random((50, 9))])
    for row in unit.decode(corners):
        for name, value in columns.decode(row.tolist()).items():
            assert known[name]._contains(known[name].to_internal_repr(value)), (name, value)


@pytest.mark.parametrize("objectives", [(LOSS,), (LOSS, ACCURACY)])
def test_suggestions_lie_in_the_space_and_come_again(objectives: tuple[object, ...]) -> None:
    made = of(objectives=objectives)
    history, known = grown(made, 22, loss, running=4), space.distributions_of(WIDE)
    for trial in history:
        assert trial.params.keys() == WIDE.keys()
        for name, value in trial.params.items():
            assert known[name]._contains(known[name].to_internal_repr(value)), (name, value)
    loaded = History(made.objectives, WIDE)
    for trial in history:
        loaded.add(trial)
    assert samplers.build(made).suggest(loaded, 22) == samplers.build(made).suggest(history, 22)


BRANCHES: dict[str, Parameter] = {
    "lr": Double(1e-5, 1e-1, log=True),
    "optimizer": Categorical(("adam", "sgd")),
    "momentum": Double(0.0, 0.9, when=(("optimizer", ("sgd",)),)),
    "nesterov": Categorical((False, True), when=(("optimizer", ("sgd",)),)),
    "warmup": Int(0, 9, when=(("nesterov", (True,)),)),
}


def test_conditions_hold() -> None:
    """And what a branch taught is used: the better one is taken, and its own parameter found."""

    def value(params: Mapping[str, ParamValue]) -> float:
        return (float(params["momentum"]) - 0.7) ** 2 if params["optimizer"] == "sgd" else 1.0

    made = of(BRANCHES)
    history = grown(made, 30, value, running=2)
    assert [made.space.problem(trial.params) for trial in history] == [None] * 30
    late = [trial.params for trial in history][20:]
    assert sum(params["optimizer"] == "sgd" for params in late) >= 8
    assert min(value(params) for params in late) < 1e-3


def test_what_runs_is_kept_away_from() -> None:
    """Asked from the same results, they are at one place where it is not seen that they run, and else are not."""
    box: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}
    history = History([LOSS], box)
    random, sampler = samplers.build(spec(parameters=box, seed=4)), samplers.build(of(box))
    for number in range(12):
        params = random.suggest(history, number)
        value = math.sin(7 * float(params["x"])) + math.cos(5 * float(params["y"]))
        history.add(Past(number, TrialState.COMPLETE, params, (value,)))

    def nearest(asked: list[dict[str, ParamValue]]) -> float:
        at = [(float(params["x"]), float(params["y"])) for params in asked]
        return min(math.dist(a, b) for place, a in enumerate(at) for b in at[:place])

    blind = [sampler.suggest(history, number) for number in range(12, 17)]
    for number in range(12, 17):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
    assert nearest(blind) < 0.005 < 0.015 < nearest([dict(trial.params) for trial in history][12:])


def test_a_small_space_is_tried_once_over() -> None:
    parameters: dict[str, Parameter] = {"a": Int(1, 5), "b": Categorical(("x", "y")), "c": Double(0.0, 0.2, step=0.1)}
    history = grown(of(parameters), 30, lambda params: float(params["a"]), running=3)
    assert len({str(sorted(trial.params.items())) for trial in history}) == 30


def test_values_that_are_no_numbers_do_no_harm() -> None:
    def value(params: Mapping[str, ParamValue]) -> float:
        return math.inf if float(params["lr"]) > 0.01 else loss(params)

    assert len(grown(of(), 18, value)) == 18
    assert len(grown(of(), 14, lambda params: math.inf)) == 14
    assert len(grown(of(), 14, lambda params: 1.0)) == 14


def test_constraints_are_kept_once_they_are_known() -> None:
    """The least loss is at 0, where it is not allowed to be."""
    box: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}
    made = of(box, constraints=(Constraint("x", "min", 0.6),))
    sampler, history = samplers.build(made), History([LOSS], box, ["x.min"])
    for number in range(25):
        params = sampler.suggest(history, number)
        value = float(params["x"]) + (float(params["y"]) - 0.3) ** 2
        excess = {"x.min": 0.6 - float(params["x"])}
        history.add(Past(number, TrialState.COMPLETE, params, (value,), constraints=excess))
    late = [trial.params for trial in history][15:]
    assert sum(float(params["x"]) >= 0.6 for params in late) >= 5
    assert min(float(params["x"]) for params in late if float(params["x"]) >= 0.6) < 0.65


def test_it_finds_a_bowl_far_better_than_random_search() -> None:
    box: dict[str, Parameter] = {f"x{place}": Double(-5.0, 5.0) for place in range(3)}

    def bowl(params: Mapping[str, ParamValue]) -> float:
        return sum((float(value) - place) ** 2 for place, value in enumerate(params.values()))

    def regret(name: str, seed: int) -> float:
        history = grown(of(box, sampler=Algorithm(name), seed=seed), 30, bowl)
        return min(bowl(trial.params) for trial in history)

    assert statistics.median(regret("gp", seed) for seed in range(3)) < 0.05
    assert statistics.median(regret("random", seed) for seed in range(3)) > 0.5


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp, "installed", lambda: False)
    with pytest.raises(InvalidSpec, match=r"sampler\.name: gp needs scikit-learn.*image\.extras=gp"):
        samplers.build(of())


def test_the_operator_itself_loads_neither_scikit_learn_nor_scipy() -> None:
    """All samplers built, and their first trials asked for."""
    script = (
        "import sys, kubetune.controller.operator\n"
        "from kubetune.engine import samplers\n"
        "from kubetune.engine.history import History\n"
        "from kubetune.api.spec import Algorithm, Double, ExperimentSpec, Int, Objective\n"
        "for name in sorted(samplers.SAMPLERS.keys() - {'external', 'schedule'}):\n"
        "    box = Double(0.0, 1.0) if name == 'gradient' else Int(1, 9)\n"
        "    made = ExperimentSpec('n', 'n', 'u', 1, (Objective('m', 'minimize'),), {'x': box}, {},\n"
        "                          sampler=Algorithm(name))\n"
        "    sampler, history = samplers.build(made), History(made.objectives, made.parameters)\n"
        "    if sampler.immediate(history): sampler.suggest(history, 0)\n"
        "print([name for name in ('sklearn', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_lucky_value_is_not_what_is_to_be_improved_on() -> None:
    points = np.linspace(0.0, 1.0, 21)[:, None]
    values = (points[:, 0] - 0.4) ** 2
    values[15] = -1.0  # luck, far from the best
    calm, noisy = (gp_model.Hyper(1.0, np.array([0.3]), noise) for noise in (gp_model.LEAST_NOISE, 0.2))
    assert gp_model.improvement(gp_model.Posterior(calm, points, values), points).best == pytest.approx(-1.0, abs=1e-2)
    found = gp_model.improvement(gp_model.Posterior(noisy, points, values), points)
    assert found.best > -0.5
    assert found.best == found.posterior.at(points)[0].min()
