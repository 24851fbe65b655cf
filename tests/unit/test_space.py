"""Conditions among parameters: which a trial has, in which order they are drawn, and what is said of bad ones."""

import itertools
from typing import Any

import pytest

from kubetune.api import parameters
from kubetune.api.parameters import Categorical, Double, Int, InvalidSpec, Parameter, ParamValue
from kubetune.api.space import Space

# sgd has a momentum, and nesterov if it has some way to slow down; both have layers, the second of a width of its own.
NESTED: dict[str, Parameter] = {
    "optimizer": Categorical(("adam", "sgd", "rmsprop")),
    "momentum": Double(0.0, 0.9, step=0.3, when=(("optimizer", ("sgd", "rmsprop")),)),
    "nesterov": Categorical((False, True), when=(("optimizer", ("sgd",)),)),
    "damping": Double(0.0, 1.0, when=(("nesterov", (False,)),)),
    "layers": Int(1, 3),
    "width2": Int(8, 64, when=(("layers", (2, 3)),)),
    "both": Int(0, 9, when=(("layers", (3,)), ("optimizer", ("adam",)))),
}
ALL: dict[str, ParamValue] = {"momentum": 0.3, "nesterov": False, "damping": 0.5, "width2": 8, "both": 1}


def test_parents_come_first_and_else_it_is_by_name() -> None:
    space = Space(dict(reversed(NESTED.items())))
    assert space.order == ("layers", "optimizer", "both", "momentum", "nesterov", "width2", "damping")
    assert space.relative == ("layers", "optimizer")
    assert space.independent == ("both", "momentum", "nesterov", "width2", "damping")
    flat: dict[str, Parameter] = {"b": Int(1, 2), "a": Double(0, 1), "c": Categorical(("x",))}
    assert Space(flat).order == Space(flat).relative == ("a", "b", "c")
    assert Space(flat).independent == ()


@pytest.mark.parametrize(
    ("values", "conditional"),
    [
        ({"optimizer": "adam", "layers": 1}, set()),
        ({"optimizer": "adam", "layers": 2}, {"width2"}),
        ({"optimizer": "adam", "layers": 3}, {"width2", "both"}),
        ({"optimizer": "sgd", "layers": 3}, {"width2", "momentum", "nesterov", "damping"}),
        ({"optimizer": "sgd", "layers": 1, "nesterov": True}, {"momentum", "nesterov"}),
        ({"optimizer": "rmsprop", "layers": 1}, {"momentum"}),  # nesterov is not there, so damping is not
    ],
)
def test_a_trial_has_what_its_values_ask_for(values: dict[str, ParamValue], conditional: set[str]) -> None:
    space = Space(NESTED)
    trial = space.active(ALL | values)
    assert trial.keys() == {"optimizer", "layers"} | conditional
    assert list(trial) == [name for name in space.order if name in trial]
    assert space.problem(trial) is None
    assert space.active(trial) == trial


def test_only_exactly_its_parameters_are_a_trial_of_the_space() -> None:
    space = Space(NESTED)
    good: dict[str, ParamValue] = {"optimizer": "rmsprop", "layers": 2, "width2": 64, "momentum": 0.3 + 0.3}
    assert space.problem(good) is None
    assert space.problem(good | {"momentum": 0.5}) == (
        "momentum",
        "0.5 is no value of momentum, which is 0.0 to 0.9 in steps of 0.3",
    )
    assert space.problem(good | {"layers": 1}) == ("width2", "width2 is given, but is only for layers = 2 or 3")
    assert space.problem(good | {"lr": 1.0}) == (
        "lr",
        "there is no parameter lr; there are both, damping, layers, momentum, nesterov, optimizer, width2",
    )
    assert space.problem({"optimizer": "adam", "layers": 2}) == ("width2", "width2 is missing; it is 8 to 64")
    for wrong in ({"layers": 2.5}, {"layers": 4}, {"layers": True}, {"layers": "2"}, {"optimizer": "lion"}):
        assert space.problem(good | wrong) is not None
    assert space.condition("both") == "layers = 3, optimizer = adam"


def test_every_combination_of_values_makes_a_trial_of_the_space() -> None:
    space = Space(NESTED)
    axes: dict[str, tuple[ParamValue, ...]] = {
        "optimizer": ("adam", "sgd", "rmsprop"),
        "layers": (1, 2, 3),
        "nesterov": (False, True),
    }
    for values in itertools.product(*axes.values()):
        assert space.problem(space.active(ALL | dict(zip(axes, values, strict=True)))) is None


FORMS: dict[str, Any] = {
    "optimizer": {"choice": ["adam", "sgd"]},
    "size": {"values": [0.5, 2]},
    "norm": {"bool": {}},
    "layers": {"int": [1, 8]},
    "lr": {"double": [0.0, 1.0]},
}


@pytest.mark.parametrize(
    ("when", "meant"),
    [
        ({"optimizer": "sgd"}, (("optimizer", ("sgd",)),)),
        ({"optimizer": ["sgd", "adam"]}, (("optimizer", ("sgd", "adam")),)),
        ({"size": 2.0}, (("size", (2,)),)),
        ({"norm": True}, (("norm", (True,)),)),
        ({"layers": [2, 3], "norm": [False]}, (("layers", (2, 3)), ("norm", (False,)))),
    ],
)
def test_conditions_as_the_resource_writes_them(when: Any, meant: parameters.When) -> None:
    made = parameters.parse(FORMS | {"x": {"double": [0, 1], "when": when}})
    assert made["x"].when == meant
    assert made["lr"].when == ()


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ({"x": {"int": [1, 2], "when": {}}}, "parameters.x.when: name a parameter and its value, for example"),
        ({"x": {"int": [1, 2], "when": "sgd"}}, "parameters.x.when: name a parameter and its value, for example"),
        ({"x": {"int": [1, 2], "when": {"optimiser": "sgd"}}}, "parameters.x.when: there is no parameter optimiser"),
        ({"x": {"int": [1, 2], "when": {"lr": 0.5}}}, "parameters.x.when: lr is a double; a condition names values"),
        ({"x": {"int": [1, 2], "when": {"optimizer": []}}}, "parameters.x.when.optimizer: give at least one value"),
        (
            {"x": {"int": [1, 2], "when": {"optimizer": "lion"}}},
            "parameters.x.when.optimizer: 'lion' is no value of optimizer, which is one of adam, sgd",
        ),
        ({"x": {"int": [1, 2], "when": {"norm": 1}}}, "parameters.x.when.norm: 1 is no value of norm"),
        ({"x": {"int": [1, 2], "when": {"norm": "true"}}}, "parameters.x.when.norm: 'true' is no value of norm"),
        ({"x": {"int": [1, 2], "when": {"size": [True]}}}, "parameters.x.when.size: True is no value of size"),
        (
            {"x": {"int": [1, 2], "when": {"layers": [9]}}},
            "parameters.x.when.layers: 9 is no value of layers, which is",
        ),
        ({"x": {"int": [1, 2], "when": {"layers": 1.5}}}, "parameters.x.when.layers: 1.5 is no value of layers"),
        ({"x": {"int": [1, 2], "when": {"layers": {"min": 2}}}}, "parameters.x.when.layers: {'min': 2} is no value"),
        ({"x": {"int": [1, 2], "when": {"x": 1}}}, "parameters.x.when: conditions go in a circle: x needs x"),
        (
            {"x": {"int": [1, 2], "when": {"y": 1}}, "y": {"int": [1, 2], "when": {"x": 1}}},
            "parameters.x.when: conditions go in a circle: x needs y needs x",
        ),
        (
            {
                "x": {"int": [1, 2], "when": {"optimizer": "adam"}},
                "y": {"int": [1, 2], "when": {"x": 1, "optimizer": ["sgd"]}},
            },
            "parameters.y.when: no trial can have y: the conditions on the way to it ask for different values of optim",
        ),
    ],
)
def test_bad_conditions_are_refused_with_what_to_do(forms: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        Space(parameters.parse(FORMS | forms)).check()
    assert str(error.value).startswith(message)
