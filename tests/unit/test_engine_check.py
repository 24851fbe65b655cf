"""What the schema cannot see of a spec, and a study that was made for another one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, InvalidSpec, Metrics, Parameter
from kubetune.engine.check import check
from kubetune.engine.engine import Engine
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import ACCURACY, LOSS, SPACE, Trials, spec


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sampler": Algorithm("tpe", {"nStartupTrials": 20.0}), "pruner": Algorithm("median")},
        {"sampler": Algorithm("grid"), "parameters": {"x": Int(1, 3)}},
        {"objectives": (LOSS, ACCURACY), "sampler": Algorithm("tpe")},
        {"metrics": Metrics("log")},
        {"metrics": Metrics("log", step="los")},
        {"metrics": Metrics("push", step="loss")},
        {"metrics": Metrics("log", r"\[(?P<metric>\w+)\] (?P<value>\d+)", "round")},
        {"stop_trials": frozenset({0, 5})},
    ],
)
def test_takes_what_can_run(changes: Mapping[str, Any]) -> None:
    check(spec(**changes))


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"sampler": Algorithm("nobody")}, "sampler.name", "there is no sampler 'nobody'; there are "),
        ({"sampler": Algorithm("grid")}, "parameters.lr", "grid tries every value, and a double without step"),
        ({"pruner": Algorithm("nobody")}, "pruner.name", "there is no pruner 'nobody'; there are "),
        (
            {"pruner": Algorithm("median"), "objectives": (LOSS, ACCURACY)},
            "pruner",
            "median stops trials by one metric, but there are 2 objectives; write pruner: {name: none}",
        ),
        (
            {"metrics": Metrics("log", r"(?P<metric>\w+)=(?P<value>\d+")},
            "metrics.pattern",
            r"'(?P<metric>\\w+)=(?P<value>\\d+' is no regular expression that RE2 takes (missing ): ",
        ),
        (
            {"metrics": Metrics("log", r"(?P<metric>\w+)(?==)=(?P<value>\d+)")},
            "metrics.pattern",
            r"'(?P<metric>\\w+)(?==)=(?P<value>\\d+)' is no regular expression that RE2 takes (invalid perl operator",
        ),
        (
            {"metrics": Metrics("log", r"loss=(?P<value>\d+)")},
            "metrics.pattern",
            r"'loss=(?P<value>\\d+)' has no group metric; write for example (?P<metric>[a-z]+)=(?P<value>[0-9.eE+-]+)",
        ),
        (
            {"metrics": Metrics("log", r"(\w+)=(\d+)")},
            "metrics.pattern",
            r"'(\\w+)=(\\d+)' has no group metric and no group value; write for example ",
        ),
        (
            {"metrics": Metrics("log", step="step|(")},
            "metrics.step",
            "'step|(' is no regular expression that RE2 takes (missing )",
        ),
        (
            {"metrics": Metrics("log", step="step|loss")},
            "metrics.step",
            "'step|loss' takes loss for a line's step, so it never becomes a metric; give metrics.step another pattern",
        ),
        ({"stop_trials": frozenset({3, -1})}, "stopTrials", "there is no trial -1; trials are numbered from 0"),
    ],
)
def test_refuses_what_cannot_run(changes: Mapping[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        check(spec(**changes))
    assert error.value.field == field
    assert error.value.message.startswith(message)


def committed() -> MemoryStorage:
    """A study with one trial, made for the spec as it is."""
    storage = MemoryStorage(lambda: 0.0)
    storage.acquire("test")
    Trials(spec(), storage).run(Engine(spec(), storage, lambda: 0.0), 1.0)
    return storage


def space(**changes: Parameter | None) -> dict[str, Parameter]:
    return {name: what for name, what in {**SPACE, **changes}.items() if what is not None}


OTHER = [
    (
        spec(objectives=(dataclasses.replace(LOSS, direction="maximize"),)),
        "objectives: the study was made to minimize loss, the spec says maximize loss; objectives cannot change, "
        "create a new experiment",
    ),
    (
        spec(objectives=(LOSS, ACCURACY)),
        "objectives: the study was made to minimize loss, the spec says minimize loss and maximize accuracy; "
        "objectives cannot change, create a new experiment",
    ),
    (
        spec(parameters=space(depth=Int(1, 3))),
        "parameters.depth: trial 0 of the study is not of this space: depth is missing; it is 1 to 3. The search space "
        "cannot change, create a new experiment",
    ),
    (
        spec(parameters=space(lr=None)),
        "parameters.lr: trial 0 of the study is not of this space: there is no parameter lr; there are layers, "
        "momentum, optimizer. The search space cannot change, create a new experiment",
    ),
    (
        spec(parameters=space(lr=Double(5.0, 6.0))),
        "parameters.lr: trial 0 of the study is not of this space: ",
    ),
    (
        spec(parameters=space(optimizer=Categorical(("lion", "rmsprop")))),
        "parameters.optimizer: trial 0 of the study is not of this space: ",
    ),
]


@pytest.mark.parametrize(("other", "message"), OTHER)
def test_a_study_made_for_another_spec_is_refused_and_left_alone(other: ExperimentSpec, message: str) -> None:
    storage = committed()
    before = storage.load_trials("uid-1")
    with pytest.raises(InvalidSpec) as error:
        Engine(other, storage, lambda: 0.0)
    assert str(error.value).startswith(message)
    assert storage.load_trials("uid-1") == before
    assert Engine(spec(), storage, lambda: 0.0).counts.complete == 1


@pytest.mark.parametrize("other", [other for other, _ in OTHER] + [spec(sampler=Algorithm("nobody"))])
def test_a_running_engine_refuses_it_too_and_goes_on_with_the_old_spec(other: ExperimentSpec) -> None:
    engine = Engine(spec(), committed(), lambda: 0.0)
    with pytest.raises(InvalidSpec):
        engine.update(other)
    assert [row.number for row in engine.ask(1)] == [1]


def test_another_experiments_spec_is_a_mistake_of_the_caller() -> None:
    engine = Engine(spec(), committed(), lambda: 0.0)
    with pytest.raises(ValueError, match="the engine of experiment uid-1 was given the spec of uid-2"):
        engine.update(spec(uid="uid-2"))
