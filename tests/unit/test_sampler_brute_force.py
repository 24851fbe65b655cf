"""Brute force: each combination exactly once, what others gave included, against Optuna's own."""

import optuna
import pytest

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, InvalidSpec, Parameter, ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import brute_force
from kubetune.storage import space
from tests.unit.engine_objects import LOSS, spec

SPACE: dict[str, Parameter] = {
    "a": Int(0, 10, step=4),
    "b": Double(0.1, 0.5, step=0.2),
    "c": Categorical(("x", "y")),
    "one": Categorical(("same",)),
}


def of(parameters: dict[str, Parameter] = SPACE, seed: int | None = 3) -> ExperimentSpec:
    return spec(parameters=parameters, sampler=Algorithm("bruteForce"), seed=seed)


def key(params: object) -> str:
    return str(sorted(dict(params).items()))  # type: ignore[call-overload]


def asked(made: ExperimentSpec, history: History) -> list[str]:
    """All that are still to come, each ended before the next."""
    sampler = samplers.build(made)
    for number in range(len(history), sampler.capacity() or 0):
        history.add(Past(number, TrialState.COMPLETE, sampler.suggest(history, number), (0.0,)))
    return [key(trial.params) for trial in history]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_it_asks_for_what_optunas_asks_for_and_then_there_is_no_more() -> None:
    study = optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=1))
    distributions = space.distributions_of(SPACE)
    study.optimize(lambda trial: len([trial._suggest(name, of) for name, of in distributions.items()]), n_trials=100)
    ours = asked(of(), History([LOSS], SPACE))
    assert samplers.build(of()).capacity() == len(study.trials) == 18
    assert sorted(ours) == sorted(key(trial.params) for trial in study.trials)
    with pytest.raises(IndexError):
        samplers.build(of()).suggest(History([LOSS], SPACE), 18)


def test_what_was_given_counts_as_tried() -> None:
    """Two trials that somebody gave: the others come, each once."""
    history = History([LOSS], SPACE)
    given: list[dict[str, ParamValue]] = [{"a": 4, "b": 0.3, "c": "y"}, {"a": 0, "b": 0.1, "c": "x"}]
    for number, params in enumerate(given):
        history.add(Past(number, TrialState.COMPLETE, {**params, "one": "same"}, (0.0,)))
    assert len(set(asked(of(), history))) == 18


def test_the_order_is_drawn_from_the_seed() -> None:
    first = asked(of(), History([LOSS], SPACE))
    assert asked(of(), History([LOSS], SPACE)) == first
    assert asked(of(seed=4), History([LOSS], SPACE)) != first != sorted(first)


def test_a_large_space_comes_each_once_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brute_force, "SMALL", 5)
    assert len(set(asked(of(), History([LOSS], SPACE)))) == 18


def test_without_an_end_it_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"parameters\.x: bruteForce tries every value"):
        samplers.build(of({"x": Double(0.0, 1.0)}))
