"""The table of samplers and features in docs/algorithms.md, held to what the code does."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
import pytest

from kubetune.api.parameters import Prior
from kubetune.api.spec import (
    Algorithm,
    Constraint,
    Double,
    ExperimentSpec,
    Given,
    Int,
    InvalidSpec,
    Objective,
    Parameter,
    ParamValue,
)
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.check import check
from kubetune.engine.history import History, Past
from tests.unit.engine_objects import LOSS, spec

TABLE = pathlib.Path(__file__).parents[2] / "docs/algorithms.md"
SMALL = {"populationSize": 6}
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "external": {"service": "mine"},
    "differentialEvolution": SMALL,
    "nsgaii": SMALL,
    "nsgaiii": SMALL,
    "regularizedEvolution": {**SMALL, "tournamentSize": 3},
    "pbt": SMALL,
    "schedule": {"segments": [{"x": 1.0, "y": 2.0}] * 5},
}


FEATURES = ("objectives", "constraints", "when", "where", "prior", "narrow", "warmStart", "initial")


def told() -> dict[str, dict[str, str]]:
    """The table's cells, by sampler and feature."""
    text = TABLE.read_text().split("### What goes with what")[1].split("\n### ")[0]
    rows = [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    heads = ["several objectives", "constraints", "when", "where", "priors", "narrow", "warmStart", "initial"]
    assert all(head in cell for head, cell in zip(heads, rows[0][1:], strict=True))
    return {row[0]: dict(zip(FEATURES, row[1:], strict=True)) for row in rows[2:]}


def base(name: str) -> ExperimentSpec:
    """A space that the sampler takes."""
    finite = name in ("grid", "bruteForce")
    space: dict[str, Parameter] = {each: Int(1, 4) if finite else Double(0.0, 4.0) for each in ("x", "y")}
    return spec(sampler=Algorithm(name, SETTINGS.get(name, {})), parameters=space, seed=1)


def with_(made: ExperimentSpec, feature: str) -> ExperimentSpec:
    x = made.parameters["x"]
    assert isinstance(x, Int | Double)
    changes: dict[str, dict[str, object]] = {
        "objectives": {"objectives": (LOSS, Objective("size", "minimize"))},
        "constraints": {"constraints": (Constraint("latency", "max", 0.0),)},
        "when": {"parameters": {"k": Int(1, 2), **made.parameters, "z": Int(1, 4, when=(("k", (1,)),))}},
        "where": {"where": ("x < y",)},
        "prior": {"parameters": {**made.parameters, "x": dataclasses.replace(x, prior=Prior(1.0, 0.1))}},
        "narrow": {"narrow": {"x": Int(2, 3) if isinstance(x, Int) else Double(1.0, 2.0)}},
        "warmStart": {"warm_start": ("other",)},
        "initial": {"given": (Given("initial/0", "initial[0]", {"x": x.low, "y": x.low}),)},
    }
    if (made.sampler.name, feature) == ("schedule", "when"):
        made = dataclasses.replace(
            made, sampler=Algorithm("schedule", {"segments": [{"x": 1, "y": 2, "k": 1, "z": 3}]})
        )
    return dataclasses.replace(made, **changes[feature])  # type: ignore[arg-type]


def asked(made: ExperimentSpec, excess: float | None = None, count: int = 0) -> list[dict[str, ParamValue]]:
    """What is asked for after so many complete trials, of which every fourth breaks the constraint by so much."""
    history = History(made.objectives, made.parameters, [each.name for each in made.constraints])
    dice = np.random.default_rng(3)
    whole = isinstance(made.parameters["x"], Int)
    drawn = dice.integers(1, 5, (count, 2)) if whole else dice.random((count, 2)) * 4
    for number, (x, y) in enumerate(drawn.tolist()):
        broken = None if excess is None else {made.constraints[0].name: excess if number % 4 == 0 else -1.0}
        params = {"x": x, "y": y}
        values = (float(x + y) + (number % 4 > 0) * 9.0,)
        member = number % 6 if made.sampler.name == "pbt" else None
        history.add(Past(number, TrialState.COMPLETE, params, values, None, float(number), broken, member=member))
    sampler = samplers.build(made)
    for number in range(count, count + 4):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
    return [dict(history[number].params) for number in range(count, count + 4)]


def minds(name: str, feature: str) -> bool:
    """Whether it asks for anything else with the feature than without."""
    made = with_(base(name), feature)
    if feature == "constraints":
        measured = {"gradient": "finiteDifference"} if name == "gradient" else {}
        made = dataclasses.replace(made, sampler=Algorithm(name, {**SETTINGS.get(name, {}), **measured}))
        count = 12 if name in ("grid", "bruteForce") else 40
        if name == "gradient":  # its own trials: the centre, and a step to either side
            return len({str(_third(made, excess)) for excess in (-1.0, 5.0)}) == 2
        return asked(made, 5.0, count) != asked(made, -1.0, count)
    return asked(made) != asked(base(name))


def _third(made: ExperimentSpec, excess: float) -> object:
    """The centre of the second round after one whose further points break so much more."""
    history, sampler = History(made.objectives, made.parameters, [made.constraints[0].name]), samplers.build(made)
    for number in range(5):
        params = sampler.suggest(history, number)
        x = float(params["x"])
        broken = {made.constraints[0].name: excess * x}
        history.add(Past(number, TrialState.COMPLETE, params, (-x,), None, float(number), broken))
    return sampler.suggest(history, 5)


def test_every_sampler_has_its_row() -> None:
    assert told().keys() == samplers.SAMPLERS.keys()
    assert {cell for row in told().values() for cell in row.values()} == {"yes", "no", "beside", "refused"}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("name", sorted(samplers.SAMPLERS))
def test_each_cell_is_what_the_code_does(name: str, feature: str) -> None:
    for sampler, needs in (("gp", "sklearn"), ("cmaes", "cmaes")):
        if name == sampler:
            pytest.importorskip(needs)
    said = told()[name][feature]
    check(base(name))
    made = with_(base(name), feature)
    if said == "refused":
        with pytest.raises(InvalidSpec):
            check(made)
        return
    check(made)
    if feature == "when":
        assert (said == "beside") == (name not in samplers.KNOW_CONDITIONS)
    if feature in ("constraints", "prior") and name != "external":
        assert (said == "yes") == minds(name, feature)
    if name == "external":
        assert said == ("no" if feature in ("constraints", "prior") else "yes")
