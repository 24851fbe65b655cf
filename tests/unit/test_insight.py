"""What finished trials say about the search: the importances against Optuna's own, the advice on made-up searches."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest

from kubetune.api.insight import AdviceKind, Insight
from kubetune.api.spec import Categorical, Double, ExperimentSpec, Int, Objective, Parameter, ParamValue, Validation
from kubetune.api.trial import TrialState
from kubetune.engine import courses, insight
from kubetune.engine.courses import noise
from kubetune.engine.history import History, Past
from kubetune.engine.insight import advice
from kubetune.engine.insight.importance import EVALUATORS, importances
from kubetune.storage.space import distributions_of
from tests.unit import loop_objects as o

SPACE: dict[str, Parameter] = {
    "lr": Double(1e-4, 1e-1, log=True),
    "layers": Int(1, 64),
    "act": Categorical(("relu", "tanh")),
}
Params = Mapping[str, ParamValue]


def spec(**changes: object) -> ExperimentSpec:
    changes = {"parameters": SPACE, "objectives": (Objective("loss", "minimize"),), "max_trials": 1000, **changes}
    return dataclasses.replace(o.spec(), **changes)  # type: ignore[arg-type]


def draw(count: int, seed: int = 0) -> list[Params]:
    chance = random.Random(seed)
    return [
        {"lr": 10 ** chance.uniform(-4, -1), "layers": chance.randint(1, 64), "act": chance.choice(["relu", "tanh"])}
        for _ in range(count)
    ]


def history(experiment: ExperimentSpec, params: Sequence[Params], value: Callable[[Params], float]) -> History:
    made = History(experiment.objectives, experiment.parameters)
    for number, given in enumerate(params):
        made.add(Past(number, TrialState.COMPLETE, given, (value(given),)))
    return made


def look(experiment: ExperimentSpec, params: Sequence[Params], value: Callable[[Params], float]) -> Insight:
    return insight.Insights().of(experiment, history(experiment, params, value), len(params))


def kinds(found: Insight) -> list[AdviceKind]:
    return [each.kind for each in found.advice]


def by_lr(params: Params) -> float:
    return abs(math.log10(float(params["lr"])) + 2.5)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_importances_are_optunas_own(direction: str) -> None:
    experiment = spec(objectives=(Objective("loss", direction),))  # type: ignore[arg-type]
    params = draw(80)
    values = [by_lr(given) + 0.01 * float(given["layers"]) for given in params]
    study = optuna.create_study(direction=direction)  # type: ignore[arg-type]
    forms = distributions_of(SPACE)
    for given, value in zip(params, values, strict=True):
        study.add_trial(optuna.trial.create_trial(params=dict(given), distributions=forms, values=[value]))
    found = history(experiment, params, lambda given: values[params.index(given)])
    ours = importances(experiment, *found.complete(1000))
    assert ours == pytest.approx(optuna.importance.get_param_importances(study))


def test_a_front_is_reached_and_one_of_several_objectives_is_asked_about() -> None:
    experiment = spec(objectives=(Objective("loss", "minimize"), Objective("size", "minimize")))
    found = History(experiment.objectives, experiment.parameters)
    for number, given in enumerate(draw(100)):
        found.add(Past(number, TrialState.COMPLETE, given, (by_lr(given), float(given["layers"]))))
    params, values = found.complete(1000)
    assert next(iter(importances(experiment, params, values, objective=0))) == "lr"
    assert next(iter(importances(experiment, params, values, objective=1))) == "layers"
    front = importances(experiment, params, values)
    assert min(front["lr"], front["layers"]) > front["act"]


@pytest.mark.parametrize("evaluator", sorted(EVALUATORS))
def test_every_evaluator_finds_what_matters(evaluator: str) -> None:
    if evaluator != "ped-anova":
        pytest.importorskip("sklearn")
    experiment = spec()
    params, values = history(experiment, draw(60), by_lr).complete(1000)
    found = importances(experiment, params, values, evaluator)
    assert next(iter(found)) == "lr"
    assert sum(found.values()) == pytest.approx(1.0)


def test_of_many_trials_so_many_are_looked_at_evenly_spread() -> None:
    found = history(spec(), draw(100), by_lr)
    params, values = found.complete(10)
    every, _ = found.complete(1000)
    assert (len(params), len(values), len(every)) == (10, 10, 100)
    assert (params[0] == every[0]).all()
    assert (params[-1] == every[-1]).all()


def test_nothing_is_said_about_few_trials_and_it_is_said_again_when_there_are_more() -> None:
    experiment, made = spec(), insight.Insights()
    found = history(experiment, draw(insight.LEAST - 1), by_lr)
    assert made.of(experiment, found, insight.LEAST - 1) == Insight()
    for more in draw(30, seed=1):
        found.add(Past(len(found), TrialState.COMPLETE, more, (by_lr(more),)))
    first = made.of(experiment, found, 40)
    assert first.importances
    assert made.of(experiment, found, 43) is first
    assert made.of(experiment, found, 44) is not first


def test_trials_that_are_all_alike_say_nothing_of_a_parameter() -> None:
    assert look(spec(), draw(40), lambda _: 0.5).importances == {}


def test_what_cannot_be_looked_at_costs_the_insight_alone(caplog: pytest.LogCaptureFixture) -> None:
    found = history(spec(), draw(40), lambda _: math.inf)
    found.complete = lambda most: (np.zeros((1, 1)), np.zeros((2, 2)))  # type: ignore[method-assign]
    assert insight.Insights().of(spec(), found, 40) == Insight()
    assert "no insight" in caplog.text


@pytest.mark.parametrize(
    ("most", "space", "few"),
    [
        (14, SPACE, True),
        (15, SPACE, False),
        (4, {"x": Categorical((1, 2, 3, 4))}, False),  # all of them
        (4, {"x": Double(0, 1)}, True),
        (1, {"x": Categorical((1,))}, False),
    ],
)
def test_too_few_trials_for_the_space(most: int, space: dict[str, object], few: bool) -> None:
    said = list(advice.before(spec(parameters=space, max_trials=most)))
    assert [each.kind for each in said] == [AdviceKind.TOO_FEW_TRIALS] * few
    assert all("raise it" in each.message for each in said)


@pytest.mark.parametrize(("sign", "end"), [(1, "lower end 0.0001"), (-1, "upper end 0.1")])
def test_the_best_at_the_edge_of_a_range(sign: int, end: str) -> None:
    rising = look(spec(), draw(200), lambda given: sign * math.log(float(given["lr"])))
    assert AdviceKind.BEST_AT_EDGE in kinds(rising)
    assert end in next(each.message for each in rising.advice if each.kind is AdviceKind.BEST_AT_EDGE)
    inside = look(spec(), draw(200), by_lr)
    assert AdviceKind.BEST_AT_EDGE not in kinds(inside)


def test_most_trials_where_none_is_good() -> None:
    def needle(given: Params) -> float:
        """Good within a tenth of the range, and elsewhere as bad as can be, but for a little noise."""
        return min(1.0, 6.6 * abs(math.log10(float(given["lr"])) + 2.5)) + 0.001 * int(given["layers"])

    wide = look(spec(), draw(400), needle)
    told = [each.message for each in wide.advice if each.kind is AdviceKind.RANGE_TOO_WIDE]
    assert len(told) == 1
    assert "lr is best from 0.00" in told[0]
    chance = random.Random(2)
    there = draw(100) + [{**given, "lr": 10 ** chance.uniform(-2.65, -2.35)} for given in draw(300, seed=1)]
    assert AdviceKind.RANGE_TOO_WIDE not in kinds(look(spec(), there, needle))


def test_a_parameter_that_changes_nothing() -> None:
    idle = look(spec(), draw(1500), lambda given: round(by_lr(given), 1) + (given["act"] == "relu") * 0.5)
    told = [each.message for each in idle.advice if each.kind is AdviceKind.NO_EFFECT]
    assert told
    assert "layers" in told[0]
    assert "lr" not in told[0]


def test_of_several_objectives_nothing_is_advised_about_ranges() -> None:
    experiment = spec(objectives=(Objective("loss", "minimize"), Objective("size", "minimize")))
    found = History(experiment.objectives, experiment.parameters)
    for number, given in enumerate(draw(100)):
        found.add(Past(number, TrialState.COMPLETE, given, (float(given["lr"]), float(given["lr"]))))
    seen = insight.Insights().of(experiment, found, 100)
    assert (bool(seen.importances), seen.advice) == (True, ())


# ---- whether the best can be trusted


class Noisy(courses.Course):
    """Runs that differ by so much; the best trial had three."""

    def __init__(self, experiment: ExperimentSpec, deviation: float, freedom: int = 40) -> None:
        super().__init__(experiment)
        self._noise = noise.Noise(deviation, freedom)

    @property
    def noise(self) -> noise.Noise:
        return self._noise

    def runs(self, number: int) -> Sequence[float]:
        return [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("deviation", "said"), [(0.1, True), (0.03, False)])
def test_seeds_are_too_noisy_when_they_differ_as_much_as_the_best_trials(deviation: float, said: bool) -> None:
    """The best five lie within 0.04: √2 · deviation / √3 is more than that, or less."""
    experiment = spec()
    values = itertools.count()
    found = history(experiment, draw(60), lambda _: next(values) / 100)
    made = insight.Insights().of(experiment, found, 60, Noisy(experiment, deviation))
    assert (AdviceKind.SEEDS_TOO_NOISY in kinds(made)) == said
    if said:
        (told,) = [each.message for each in made.advice if each.kind is AdviceKind.SEEDS_TOO_NOISY]
        assert told.startswith(
            "the runs of one trial differ by 0.1 (standard deviation), so the best one's mean of 3 is "
        )
    few = insight.Insights().of(experiment, found, 60, Noisy(experiment, deviation, freedom=9))
    assert AdviceKind.SEEDS_TOO_NOISY not in kinds(few)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("gap", "said"), [(0.5, True), (0.2, False), (-0.5, False)])
def test_a_gap_to_training_counts_when_tuning_gains_less(direction: Any, gap: float, said: bool) -> None:
    """From the median trial to the best it is 0.3."""
    sign = 1.0 if direction == "maximize" else -1.0
    experiment = spec(objectives=(Objective("score", direction),), validation=Validation(train_metric="train"))
    values = [sign * number / 100 for number in range(61)]
    left = iter(values)
    found = history(experiment, draw(61), lambda _: next(left))

    def last(numbers: Sequence[int]) -> dict[int, dict[str, float]]:
        return {number: {"score": values[number], "train": values[number] + sign * gap} for number in numbers}

    made = insight.Insights().of(experiment, found, 61, None, last)
    assert (AdviceKind.VALIDATION_GAP in kinds(made)) == said
    assert AdviceKind.VALIDATION_GAP not in kinds(insight.Insights().of(experiment, found, 61))
