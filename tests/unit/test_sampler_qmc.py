"""Quasi-random search: Optuna's points one by one, each a function of the trial's number alone."""

import math
import warnings

import numpy as np
import optuna
import pytest
from scipy.stats import qmc as scipy_qmc

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, InvalidSpec, Parameter
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space
from tests.unit.engine_objects import LOSS, SPACE, spec

SETTINGS = [
    {},
    {"scramble": False},
    {"qmcType": "halton"},
    {"qmcType": "halton", "scramble": False},
]


def of(settings: dict[str, object], parameters: dict[str, Parameter] = SPACE, seed: int | None = 7) -> ExperimentSpec:
    return spec(sampler=Algorithm("qmc", settings), parameters=parameters, seed=seed)


def of_optuna(made: ExperimentSpec, count: int) -> list[dict[str, object]]:
    """Its own study; the first trial only tells it the space."""
    settings = made.sampler.settings
    distributions = space.distributions_of(dict(sorted(made.parameters.items())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(
            qmc_type=str(settings.get("qmcType", "sobol")),
            scramble=bool(settings.get("scramble", True)),
            seed=seed_of(made, 0),
        )
    study = optuna.create_study(sampler=sampler)
    study.tell(study.ask(distributions), 0.0)
    return [study.ask(distributions).params for _ in range(count)]


@pytest.mark.parametrize("settings", SETTINGS)
def test_its_points_are_optunas(settings: dict[str, object]) -> None:
    made, history = of(settings), History([LOSS], {})
    sampler = samplers.build(made)
    assert [sampler.suggest(history, number) for number in range(40)] == of_optuna(made, 40)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_point_follows_from_the_number_alone(settings: dict[str, object]) -> None:
    made, history = of(settings), History([LOSS], SPACE)
    straight = [samplers.build(made).suggest(history, number) for number in range(12)]
    for number, params in enumerate(straight):
        history.add(Past(number, TrialState.COMPLETE, params, (float(number),)))
    sampler = samplers.build(made)
    assert [sampler.suggest(history, number) for number in reversed(range(12))] == straight[::-1]
    assert (samplers.build(of(settings, seed=8)).suggest(history, 3) == straight[3]) == (
        settings.get("scramble", True) is False
    )


@pytest.mark.parametrize("kind", ["sobol", "halton"])
def test_it_fills_the_space_more_evenly_than_random_points(kind: str) -> None:
    parameters: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(1e-4, 1.0, log=True)}
    sampler, history = samplers.build(of({"qmcType": kind}, parameters)), History([LOSS], {})

    def discrepancy(made: samplers.Sampler) -> float:
        drawn = [made.suggest(history, number) for number in range(64)]
        points = [[float(each["x"]), 1 + math.log10(float(each["y"])) / 4] for each in drawn]
        return float(scipy_qmc.discrepancy(np.array(points)))

    random = samplers.build(spec(parameters=parameters, seed=7))
    assert discrepancy(sampler) < discrepancy(random) / 5


def test_a_small_space_is_tried_once_over_before_anything_comes_again() -> None:
    parameters: dict[str, Parameter] = {"b": Categorical(("a", "b", "c")), "c": Double(0.0, 0.4, step=0.1)}
    sampler, history = samplers.build(of({}, parameters)), History([LOSS], parameters)
    for number in range(15):
        params = sampler.suggest(history, number)
        history.add(Past(number, TrialState.COMPLETE, params, (1.0,)))
    assert len({str(trial.params) for trial in history}) == 15


def test_it_says_what_it_takes() -> None:
    with pytest.raises(InvalidSpec, match=r"sampler\.settings\.qmcType: needs one of sobol, halton, but is 'lhs'"):
        samplers.build(of({"qmcType": "lhs"}))
