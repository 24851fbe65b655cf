"""`auto`: which sampler it picks and that it says so; a function of the spec in force."""

import dataclasses

import pytest

from kubetune.api.spec import Algorithm, Categorical, Constraint, Double, ExperimentSpec, Int, InvalidSpec, Parameter
from kubetune.api.trial import Counts, Reason
from kubetune.controller import status
from kubetune.controller.plan import Plan
from kubetune.engine import samplers
from kubetune.engine.engine import Engine
from kubetune.engine.samplers import gp
from kubetune.storage.memory import MemoryStorage
from tests.unit import loop_objects
from tests.unit.engine_objects import ACCURACY, LOSS, SPACE, spec

TWELVE: dict[str, Parameter] = {"a": Int(1, 6), "b": Categorical(("x", "y"))}
NUMBERS: dict[str, Parameter] = {"lr": Double(1e-4, 1.0, log=True), "decay": Double(0.0, 1.0)}
BRANCH = Double(0.0, 1.0, when=(("optimizer", ("sgd",)),))


def of(**changes: object) -> ExperimentSpec:
    return spec(**{"sampler": Algorithm("auto"), "max_trials": 60, "parallelism": 4, "seed": 1, **changes})


@pytest.mark.parametrize(
    ("made", "name", "reason"),
    [
        (of(), "gp", "60 trials of one objective"),
        (of(max_trials=150, parallelism=50), "gp", "150 trials of one objective"),
        (of(parameters=TWELVE), "bruteForce", "there are 12 combinations and maxTrials is 60"),
        (of(parameters=TWELVE, objectives=(LOSS, ACCURACY)), "bruteForce", "there are 12 combinations"),
        (of(parameters=TWELVE, max_trials=11), "tpe", "no parameter is continuous"),
        (of(parallelism=60), "qmc", "all trials may run at once"),
        (of(objectives=(LOSS, ACCURACY)), "tpe", "several objectives"),
        (of(constraints=(Constraint("ms", "max", 20.0),)), "tpe", "constraints"),
        (of(parameters=SPACE | {"decay": BRANCH}), "tpe", "some parameters have conditions"),
        (of(parameters={f"x{place}": Double(0.0, 1.0) for place in range(21)}), "tpe", "more than 20 parameters"),
        (of(max_trials=151), "tpe", "more than 150 trials"),
        (of(parallelism=51), "tpe", "more than 50 trials at once"),
        (of(max_trials=300, parallelism=10, parameters=NUMBERS), "cmaes", "300 trials over numbers alone"),
        (of(max_trials=300, parameters=NUMBERS | {"units": Int(16, 1024)}), "cmaes", "300 trials over numbers alone"),
        (of(max_trials=300, parameters=NUMBERS | {"layers": Int(1, 4)}), "tpe", "more than 150 trials"),
        (of(max_trials=299, parallelism=9, parameters=NUMBERS), "tpe", "more than 150 trials"),
        (of(max_trials=300, parallelism=11, parameters=NUMBERS), "tpe", "more than 150 trials"),
        (of(max_trials=300, parallelism=10, parameters=NUMBERS | TWELVE), "tpe", "more than 150 trials"),
        (of(max_trials=300, parameters=NUMBERS, narrow={"lr": Double(0.1, 0.2)}), "tpe", "more than 150 trials"),
        (of(max_trials=300, parameters=NUMBERS, constraints=(Constraint("ms", "max", 1.0),)), "tpe", "constraints"),
        (of(max_trials=300, parameters=NUMBERS, objectives=(LOSS, ACCURACY)), "tpe", "several objectives"),
    ],
)
def test_what_it_picks(made: ExperimentSpec, name: str, reason: str) -> None:
    picked = samplers.pick(made)
    assert (picked.name, picked.spec.sampler) == (name, Algorithm(name))
    assert reason in picked.reason
    assert dataclasses.replace(picked.spec, sampler=made.sampler) == made  # nothing else is changed
    assert type(samplers.build(made)) is type(samplers.build(picked.spec))


def test_it_does_without_scikit_learn_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp, "installed", lambda: False)
    picked = samplers.pick(of())
    assert picked.name == "tpe"
    assert "no scikit-learn" in picked.reason
    assert samplers.pick(of(parallelism=60)).name == "qmc"


def test_a_sampler_that_is_named_is_taken() -> None:
    made = of(sampler=Algorithm("tpe", {"nStartupTrials": 5}))
    assert samplers.pick(made) == samplers.Pick(made)


def test_it_has_no_settings() -> None:
    with pytest.raises(InvalidSpec, match=r"sampler\.settings\.nStartupTrials: auto has no such setting"):
        samplers.build(of(sampler=Algorithm("auto", {"nStartupTrials": 5})))


def test_an_edit_picks_anew_and_a_restart_picks_the_same() -> None:
    """More trials than combinations: all are tried, and none that tpe has tried is tried again."""
    few, many = of(parameters=TWELVE, max_trials=6), of(parameters=TWELVE, max_trials=30)
    storage = MemoryStorage(lambda: 0.0)
    storage.acquire("test")
    engine = Engine(few, storage, lambda: 0.0)
    assert engine.sampler[0] == "tpe"
    assert len(engine.ask(10)) == 6
    engine.update(many)
    assert engine.sampler[0] == "bruteForce"
    assert len(engine.ask(100)) == 6
    assert engine.exhausted
    assert len({str(sorted(row.params.items())) for row in engine.running.values()}) == 12
    assert Engine(many, storage, lambda: 0.0).sampler == engine.sampler


def test_the_status_says_what_was_picked() -> None:
    plan, seen = Plan((), "Running", Reason.RUNNING, ""), loop_objects.seen(counts=Counts())
    facts = status.Facts("study", sampler=("gp", "few trials"))
    body = status.status(loop_objects.spec(), plan, seen, facts, None, 0.0)
    assert body["sampler"] == {"name": "gp", "reason": "few trials"}
    named = dataclasses.replace(facts, sampler=("gp", ""))
    assert "sampler" not in status.status(loop_objects.spec(), plan, seen, named, None, 0.0)
