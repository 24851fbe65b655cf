"""What people know beforehand: draws follow the prior, TPE starts from it, and choices with an order are a scale."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats

from kubetune.api import narrow
from kubetune.api import parameters as forms
from kubetune.api.parameters import Prior
from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, InvalidSpec, Parameter, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.base import seed_of
from kubetune.engine.samplers.unit import Unit
from kubetune.storage import space
from tests.unit.engine_objects import LOSS, spec

COUNT = 600


def of(parameters: Mapping[str, Parameter], name: str = "random", **changes: Any) -> ExperimentSpec:
    return spec(parameters=parameters, sampler=Algorithm(name, changes.pop("settings", {})), **changes)


def drawn(parameter: Parameter) -> list[Any]:
    """Random draws, one a trial."""
    sampler, nothing = samplers.build(of({"x": parameter})), History([LOSS], {"x": parameter})
    return [sampler.suggest(nothing, number)["x"] for number in range(COUNT)]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.1, 0.6), (-5.0, 0.6)])
def test_random_draws_follow_a_normal_prior_cut_to_the_range(low: float, high: float) -> None:
    found = drawn(Double(low, high, prior=Prior(0.5, 0.2)))
    assert low <= min(found)
    assert max(found) <= high
    expected = scipy.stats.truncnorm((low - 0.5) / 0.2, (high - 0.5) / 0.2, 0.5, 0.2)
    assert scipy.stats.kstest(found, expected.cdf).pvalue > 0.01
    assert scipy.stats.kstest(found, scipy.stats.uniform(low, high - low).cdf).pvalue < 0.001  # the test can tell


def test_random_draws_follow_a_log_normal_prior() -> None:
    found = np.log(drawn(Double(1e-5, 0.1, log=True, prior=Prior(math.log(1e-3), math.log(3)))))
    low, high = ((math.log(bound) - math.log(1e-3)) / math.log(3) for bound in (1e-5, 0.1))
    expected = scipy.stats.truncnorm(low, high, math.log(1e-3), math.log(3))
    assert scipy.stats.kstest(found, expected.cdf).pvalue > 0.01


@pytest.mark.parametrize("parameter", [Int(0, 10, step=2), Int(1, 6), Double(0.0, 1.0, step=0.25)])
def test_the_mass_of_a_step_is_gathered_at_the_step(parameter: Int | Double) -> None:
    centre, width = (parameter.low + parameter.high) / 3, (parameter.high - parameter.low) / 4
    step = float(parameter.step or 1)
    found = drawn(dataclasses.replace(parameter, prior=Prior(centre, width)))
    values = np.arange(parameter.low, parameter.high + step / 2, step)
    edges = scipy.stats.norm(centre, width).cdf(np.append(values - step / 2, values[-1] + step / 2))
    mass = np.diff(edges) / (edges[-1] - edges[0])
    counts = [found.count(pytest.approx(value)) for value in values]
    assert sum(counts) == COUNT
    assert scipy.stats.chisquare(counts, mass * COUNT).pvalue > 0.01


def test_random_draws_follow_weights() -> None:
    for choices in (("a", "b", "c"), (1, 2, 3)):
        found = drawn(Categorical(choices, weights=(1.0, 6.0, 3.0)))
        counts = [found.count(choice) for choice in choices]
        assert scipy.stats.chisquare(counts, [COUNT * 0.1, COUNT * 0.6, COUNT * 0.3]).pvalue > 0.01
    found = drawn(Categorical((False, True), weights=(1.0, 9.0)))
    assert scipy.stats.binomtest(found.count(True), COUNT, 0.9).pvalue > 0.01


def test_a_prior_on_one_parameter_leaves_the_others_uniform() -> None:
    both: dict[str, Parameter] = {"x": Double(0.0, 1.0, prior=Prior(0.5, 0.01)), "y": Double(0.0, 1.0)}
    sampler, nothing = samplers.build(of(both)), History([LOSS], both)
    trials = [sampler.suggest(nothing, number) for number in range(COUNT)]
    assert scipy.stats.kstest([float(trial["y"]) for trial in trials], scipy.stats.uniform.cdf).pvalue > 0.01


# ---- TPE

FLAT: dict[str, Parameter] = {
    "a": Double(-1.0, 3.0),
    "b": Double(1e-4, 1.0, log=True),
    "c": Int(0, 10, step=5),
    "d": Int(1, 100, log=True),
    "e": Categorical(("p", "q", "r")),
}
# What Optuna's TPE believes by itself, said as priors.
OPTUNAS: dict[str, Parameter] = {
    "a": Double(-1.0, 3.0, prior=Prior(1.0, 4.0)),
    "b": Double(1e-4, 1.0, log=True, prior=Prior(math.log(1e-4) / 2, -math.log(1e-4))),
    "c": Int(0, 10, step=5, prior=Prior(5.0, 15.0)),
    "d": Int(1, 100, log=True, prior=Prior((math.log(0.5) + math.log(100.5)) / 2, math.log(100.5) - math.log(0.5))),
    "e": Categorical(("p", "q", "r"), weights=(2.0, 2.0, 2.0)),
}


def loss(params: Mapping[str, ParamValue]) -> float:
    return sum(value if isinstance(value, float | int) else len(value) for value in params.values())


def past(parameters: Mapping[str, Parameter], count: int) -> History:
    """Trials at random."""
    sampler, history = samplers.build(of(parameters)), History([LOSS], parameters)
    for number in range(count):
        params = sampler.suggest(history, number)
        history.add(Past(number, TrialState.COMPLETE, params, (loss(params),)))
    return history


@pytest.mark.parametrize("settings", [{}, {"multivariate": False}])
@pytest.mark.parametrize("count", [12, 40])
def test_optunas_own_prior_said_as_a_prior_changes_nothing(settings: dict[str, Any], count: int) -> None:
    history = past(FLAT, count)
    plain = samplers.build(of(FLAT, "tpe", settings=settings)).suggest(history, count)
    said = samplers.build(of(OPTUNAS, "tpe", settings=settings)).suggest(history, count)
    assert said.pop("e") == plain.pop("e")
    assert said == pytest.approx(plain, rel=1e-9)


def test_tpe_starts_from_the_prior_and_leaves_it_for_what_trials_show() -> None:
    """The prior is at the wrong end; the first trials follow it, later ones the loss."""
    wrong: dict[str, Parameter] = {"x": Double(0.0, 1.0, prior=Prior(0.9, 0.05)), "y": Double(0.0, 1.0)}
    sampler, history = samplers.build(of(wrong, "tpe")), History([LOSS], wrong)
    for number in range(60):
        params = sampler.suggest(history, number)
        history.add(Past(number, TrialState.COMPLETE, params, (float(params["x"]),)))
    found = [float(trial.params["x"]) for trial in history]
    assert min(found[:10]) > 0.7
    assert max(found[-10:]) < 0.5


# ---- choices with an order

SIZES: dict[str, Parameter] = {
    "size": Categorical(("xs", "s", "m", "l", "xl"), ordered=True),
    "width": Categorical((16, 64, 256), ordered=True, when=(("size", ("m", "l")),)),
    "only": Categorical(("one",), ordered=True),
    "lr": Double(0.0, 1.0),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_tpe_takes_choices_with_an_order_as_their_places() -> None:
    """Draw for draw what Optuna asks where the objective looks the values up by a whole number."""
    history, made = past(SIZES, 30), of(SIZES, "tpe")
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed_of(made, 30), multivariate=True, group=True)
    )
    whole = {name: space.distribution(forms.searched(parameter)) for name, parameter in SIZES.items()}
    places = {name: each.choices.index for name, each in SIZES.items() if isinstance(each, Categorical)}
    for trial in history:
        params = {name: places[name](value) if name in places else value for name, value in trial.params.items()}
        known = {name: whole[name] for name in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=known, value=(trial.values or ())[0]))
    asked = study.ask()
    lr = asked.suggest_float("lr", 0.0, 1.0)
    asked.suggest_int("only", 0, 0)
    size = ("xs", "s", "m", "l", "xl")[asked.suggest_int("size", 0, 4)]
    expected: dict[str, Any] = {"lr": lr, "only": "one", "size": size}
    if size in ("m", "l"):
        expected["width"] = (16, 64, 256)[asked.suggest_int("width", 0, 2)]
    assert samplers.build(made).suggest(history, 30) == expected


@pytest.mark.parametrize(
    "name", sorted(set(samplers.SAMPLERS) - {"grid", "bruteForce", "external", "gradient", "schedule"})
)
def test_every_sampler_gives_the_values_themselves(name: str) -> None:
    made, history = of(SIZES, name), past(SIZES, 15)
    for number in range(15, 19):
        params = samplers.build(made).suggest(history, number)
        assert made.space.problem(params) is None
        assert type(params.get("width", 16)) is int
        history.add(Past(number, TrialState.RUNNING, params))


def test_for_the_tables_they_are_choices() -> None:
    """So every tool shows the values."""
    assert space.distribution(SIZES["size"]) == optuna.distributions.CategoricalDistribution(
        ("xs", "s", "m", "l", "xl")
    )


def test_in_the_unit_cube_they_are_one_axis() -> None:
    flat = {"size": SIZES["size"], "lr": SIZES["lr"]}
    unit = Unit(flat)
    rows = unit.columns.row({"size": "m", "lr": 0.25})
    assert unit.width == 2
    assert unit.encode(rows).tolist() == [[0.25, pytest.approx(0.5)]]
    assert unit.decode(np.array([[0.25, 0.55]])).tolist() == [[0.25, 2.0]]


def test_a_narrower_choice_keeps_the_weights_of_what_is_left() -> None:
    whole: dict[str, Parameter] = {"x": Categorical(("a", "b", "c"), weights=(1.0, 2.0, 3.0))}
    assert narrow.parse({"x": {"choice": ["c", "a"]}}, whole) == {"x": Categorical(("a", "c"), weights=(1.0, 3.0))}


# ---- as the resource writes them


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ({"double": [0, 1], "prior": {"normal": {"mean": 0.5, "std": 0.1}}}, Double(0.0, 1.0, prior=Prior(0.5, 0.1))),
        (
            {"int": [1, 100], "scale": "log", "prior": {"logNormal": {"median": 10, "factor": 2}}},
            Int(1, 100, log=True, prior=Prior(math.log(10), math.log(2))),
        ),
        ({"choice": ["a", "b"], "weights": [1, 3]}, Categorical(("a", "b"), weights=(1.0, 3.0))),
        ({"bool": {}, "weights": [1, 3]}, Categorical((False, True), weights=(1.0, 3.0))),
        ({"values": [1, 2], "ordered": True}, Categorical((1, 2), ordered=True)),
        ({"values": [1, 2], "ordered": False}, Categorical((1, 2))),
    ],
)
def test_forms(form: dict[str, Any], meant: Parameter) -> None:
    assert forms.parse({"x": form}) == {"x": meant}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            {"double": [0, 1], "prior": {"logNormal": {"median": 0.5, "factor": 2}}},
            "parameters.x.prior: scale: linear takes a normal prior: normal: {mean: 0.5, std: 0.1}",
        ),
        (
            {"double": [0.1, 1], "scale": "log", "prior": {"normal": {"mean": 0.5, "std": 2}}},
            "parameters.x.prior: scale: log takes a logNormal prior: logNormal: {median: 0.01, factor: 3}",
        ),
        (
            {"int": [0, 9], "prior": {"normal": {"mean": 10, "std": 2}}},
            "parameters.x.prior.normal: 10 must lie within the range, 0 to 9",
        ),
        ({"int": [0, 9], "prior": {"normal": {"mean": 3, "std": 0}}}, "parameters.x.prior.normal: std must be above 0"),
        (
            {"int": [1, 9], "scale": "log", "prior": {"logNormal": {"median": 3, "factor": 1}}},
            "parameters.x.prior.logNormal: factor must be above 1",
        ),
        ({"choice": ["a"], "prior": {"normal": {"mean": 3, "std": 0}}}, "parameters.x: choice takes no prior; drop it"),
        ({"int": [0, 9], "weights": [1, 2]}, "parameters.x: int takes no weights; drop it"),
        ({"double": [0, 9], "ordered": True}, "parameters.x: double takes no ordered; drop it"),
        (
            {"choice": ["a", "b"], "weights": [1]},
            "parameters.x: weights needs one number for each of the 2 values, in their order",
        ),
        (
            {"choice": ["a", "b"], "weights": [1, 0]},
            "parameters.x: weights must be above 0; leave out the value that is never to be tried",
        ),
        (
            {"choice": ["a", "b"], "weights": [1, 1], "ordered": True},
            "parameters.x: ordered is for choice and values, and not with weights; drop one of them",
        ),
    ],
)
def test_bad_forms(form: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        forms.parse({"x": form})
    assert str(error.value) == message
