"""Decisions made again from the record: the same, for every sampler and pruner; a record that was changed is found out.

And two runs with the same seed, one trial at a time: the same parameters.
"""

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Constraint,
    Double,
    ExperimentSpec,
    Given,
    Int,
    Objective,
    Parameter,
    RegretBound,
)
from kubetune.api.stages import Around, Stage
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.engine import again, regret, samplers, searching
from kubetune.engine.engine import Engine
from kubetune.engine.samplers import gp
from kubetune.storage import record_json
from kubetune.storage.base import Incoming
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import LOSS, MIXED, Trials, spec

NUMBERS: dict[str, Parameter] = {"x": Double(0.0, 1.0), "lr": Double(1e-4, 1.0, log=True), "n": Int(1, 9)}
SPACES: dict[str, dict[str, Parameter]] = {
    "bruteForce": {"a": Int(0, 5), "b": Int(0, 5)},
    "gradient": {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "tpe": {"nStartupTrials": 5},
    "gp": {"nStartupTrials": 5},
    "grid": {"points": 4},
    "nsgaii": {"populationSize": 6},
    "nsgaiii": {"populationSize": 6},
    "regularizedEvolution": {"populationSize": 6, "tournamentSize": 3},
    "differentialEvolution": {"populationSize": 6},
    "pbt": {"populationSize": 4},
}
BUILT_IN = sorted(samplers.SAMPLERS.keys() - {"external", "schedule"})


def made(name: str, **changes: Any) -> ExperimentSpec:
    sampler = Algorithm(name, SETTINGS.get(name, {}))
    return spec(
        **{"parameters": SPACES.get(name, NUMBERS), "sampler": sampler, "seed": 11, "max_trials": 36, **changes}
    )


def loss(params: Any) -> float:
    return math.fsum(
        (float(value) - 0.3) ** 2 if isinstance(value, float | int) else len(value) for value in params.values()
    )


class World:
    """An experiment by chance: several trials at once, that report, end, fail, are lost and are restarted over."""

    def __init__(self, made: ExperimentSpec, seed: int, at_once: int = 4) -> None:
        self.spec, self.dice, self.at_once = made, random.Random(seed), at_once
        ticks = itertools.count(1000)
        self.storage = MemoryStorage(lambda: float(next(ticks) // 7))  # several things happen at one time
        self.steps: dict[int, int] = {}
        self.begin()

    def begin(self) -> None:
        self.storage.acquire("test")
        self.engine = Engine(self.spec, self.storage, self.storage.clock)
        self.engine.update(self.spec)
        self.side = Trials(self.spec, self.storage)

    def edit(self, **changes: Any) -> None:
        self.spec = dataclasses.replace(self.spec, **changes)
        self.engine.update(self.spec)

    def run(self, rounds: int, restarts: bool = True) -> None:
        for _ in range(rounds):
            if restarts and self.dice.random() < 0.03:
                self.begin()
            self.side.start(self.engine, min(self.engine.askable, self.at_once - len(self.engine.running)))
            for row in list(self.engine.running.values()):
                if self.dice.random() < 0.6:
                    self._report(row)
            self.engine.tail()
            for row in list(self.engine.running.values()):
                self._end(row)

    def _report(self, row: TrialRow) -> None:
        step = self.steps.get(row.number, 0)
        value = loss(row.params) + self.dice.random() / (1 + step)
        metrics = {objective.metric: value + place for place, objective in enumerate(self.spec.objectives)}
        metrics["latency"] = self.dice.random()
        self.storage.accept([Incoming(self.side.who(row), f"{row.number}-{step}", step, metrics)])
        self.steps[row.number] = step + 1

    def _end(self, row: TrialRow) -> None:
        if row.stop_requested is not None or self.steps.get(row.number, 0) >= 9:
            failure = Reason.EXIT_CODE if self.dice.random() < 0.1 else None
            self.engine.finish(row.number, row.attempt, failure, "")
        elif self.dice.random() < 0.01:
            self.engine.new_attempt(row.number, row.attempt, Reason.NODE_LOST, "")
            self.steps[row.number] = 0
            again = self.engine.running[row.number]
            self.engine.record_job(row.number, again.attempt, self.side.who(again).job_uid)

    def record(self) -> again.Study:
        """As it is exported, and read again."""
        history = record_json.history(self.storage.history("team", "digits"))
        trials = [record_json.trial(each) for each in self.storage.record("team", "digits", 0, 10_000)]
        history, trials = json.loads(json.dumps([history, trials], allow_nan=False))
        return again.Study(
            self.spec,
            record_json.read_steering(history["steering"]),
            record_json.read_warm(history["warm"]),
            [record_json.read_trial(each) for each in trials],
        )


def installed(name: str) -> None:
    if name == "gp" and not gp.installed():
        pytest.skip("without scikit-learn")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_seed_one_trial_at_a_time_gives_the_same_parameters(name: str) -> None:
    installed(name)

    def once() -> list[dict[str, Any]]:
        world = World(made(name, max_trials=16), seed=1, at_once=1)
        while world.engine.counts.finished < 16:
            world.run(1, restarts=False)
        return [dict(each.row.params) for each in world.storage.record("team", "digits", 0, 100)]

    assert once() == once()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_sampler_decides_the_same_again(name: str) -> None:
    installed(name)
    world = World(made(name), seed=2)
    world.run(120)
    verdict = again.replay(world.record())
    assert (verdict.differences, verdict.notes) == ([], [])
    assert verdict.asked == world.engine.counts.total > 20


PRUNERS: dict[str, dict[str, Any]] = {
    "median": {"nStartupTrials": 3},
    "percentile": {"percentile": 30, "nStartupTrials": 3},
    "asha": {"reductionFactor": 2},
    "successiveHalving": {"reductionFactor": 2, "bootstrapCount": 1},
    "hyperband": {"maxResource": 8, "reductionFactor": 2},
    "bandit": {"slackAmount": 0.3, "delayEvaluation": 2},
    "truncation": {"truncationPercentage": 40},
    "patience": {"patience": 1, "pruner": {"name": "asha", "settings": {"reductionFactor": 2}}},
    "plateau": {"patience": 2},
    "threshold": {"upper": 2.0},
    "wilcoxon": {"nStartupSteps": 2},
}


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_every_pruner_decides_the_same_again(name: str) -> None:
    world = World(made("tpe", pruner=Algorithm(name, PRUNERS[name]), max_trials=60), seed=3)
    world.run(160)
    verdict = again.replay(world.record())
    assert (verdict.differences, verdict.notes) == ([], [])
    pruned = sum(each.kind == "stop" for trial in world.record().trials for each in trial.judged)
    assert verdict.stops == pruned > 0


@pytest.mark.parametrize("seed", range(4))
def test_all_at_once(seed: int) -> None:
    """Every kind of parameter, constraints, stages; people narrow, add sets, change the pruner; operators restart."""
    stages = (
        Stage("a", Algorithm("qmc"), 12),
        Stage("b", Algorithm("tpe", {"nStartupTrials": 3}), 14, Around(2, 0.5)),
        Stage("c", Algorithm("random"), 10, Around(1, 0.5)),
    )
    changes = {"stages": stages, "constraints": (Constraint("latency", "max", 0.7),), "parameters": MIXED}
    initial = (Given("initial/0", "initial[0]", {"a": 0.5}),)
    world = World(made("qmc", given=initial, pruner=Algorithm("asha", {"reductionFactor": 2}), **changes), seed)
    world.run(30)
    world.edit(given=(*initial, Given("enqueue/mine", "enqueue[0].parameters", {"n": 7, "flag": True})))
    world.run(30)
    world.edit(narrow={"n": Int(2, 40), "flag": Categorical((True,))})
    world.run(20)
    world.edit(pruner=Algorithm("median", {"nStartupTrials": 2}))
    world.run(120)
    verdict = again.replay(world.record())
    assert (verdict.differences, verdict.notes) == ([], [])
    assert verdict.asked == world.engine.counts.total == 36
    assert verdict.stops + verdict.rungs > 5


def test_several_objectives() -> None:
    both = (LOSS, Objective("other", "maximize"))
    world = World(made("tpe", objectives=both), seed=5)
    world.run(200)
    verdict = again.replay(world.record())
    assert (verdict.differences, verdict.asked) == ([], 36)


def changed(change: Callable[[again.Study], again.Study]) -> again.Verdict:
    world = World(made("tpe", pruner=Algorithm("asha", {"reductionFactor": 2})), seed=7)
    world.run(120)
    return again.replay(change(world.record()))


def with_trial(study: again.Study, number: int, **fields: Any) -> again.Study:
    trials = list(study.trials)
    trials[number] = dataclasses.replace(trials[number], **fields)
    return dataclasses.replace(study, trials=trials)


def test_another_value_is_found_out_and_where() -> None:
    def change(study: again.Study) -> again.Study:
        row = study.trials[20].row
        return with_trial(study, 20, row=dataclasses.replace(row, params={**row.params, "x": 0.123}))

    verdict = changed(change)
    assert verdict.differences[0].startswith("trial 20: x is 0.123 in the record, 0.")


def test_a_result_that_was_not_what_the_sampler_saw_is_found_out() -> None:
    def change(study: again.Study) -> again.Study:
        row = next(each.row for each in study.trials if each.row.state is TrialState.COMPLETE)
        return with_trial(study, row.number, row=dataclasses.replace(row, state=TrialState.FAIL, values=None))

    assert changed(change).different > 0


def test_another_seed_is_found_out() -> None:
    def change(study: again.Study) -> again.Study:
        steers = [
            dataclasses.replace(each, detail={**each.detail, "seed": 12}) if each.kind == searching.SEARCH else each
            for each in study.steering
        ]
        return dataclasses.replace(study, steering=steers)

    assert changed(change).different > 30


def test_a_stop_that_the_pruner_would_not_make_is_found_out() -> None:
    def change(study: again.Study) -> again.Study:
        number, judged = next((t.row.number, t.judged) for t in study.trials if any(j.kind == "stop" for j in t.judged))
        return with_trial(
            study, number, judged=[dataclasses.replace(j, kind="rung", why="") if j.why else j for j in judged]
        )

    verdict = changed(change)
    assert verdict.different == 1
    assert "it goes on in the record, it stops (at rung " in verdict.differences[0]


def test_what_was_asked_before_the_record_is_said_not_to_be_decided_again() -> None:
    verdict = changed(lambda study: with_trial(with_trial(study, 0, known=None), 1, known=None))
    assert verdict.notes == ["2 trials were asked before kubetune kept what their sampler knew"]
    assert verdict.different == 0


def test_versions_that_differ_are_named() -> None:
    world = World(made("random"), seed=1)
    world.run(3)
    study = world.record()
    assert again.versions(study) == []
    older = [
        dataclasses.replace(each, detail={**each.detail, "versions": {**searching.versions(), "optuna": "3.0"}})
        for each in study.steering
    ]
    assert again.versions(dataclasses.replace(study, steering=older)) == [
        f"optuna 3.0, here {searching.versions()['optuna']}"
    ]


def test_how_it_is_searched_is_recorded_once_and_when_it_changes() -> None:
    world = World(made("random"), seed=1)
    world.run(5)
    world.edit(pruner=Algorithm("median", {}))
    world.run(5)
    searches = [each for each in world.storage.steering("uid-1") if each.kind == searching.SEARCH]
    assert [each.detail["pruner"]["name"] for each in searches] == ["none", "median"]
    assert searches[0].trial == 0
    assert searches[0].detail["seed"] == 11
    assert searches[0].detail["versions"]["optuna"]


def test_images_are_recorded_once_over_restarts() -> None:
    world = World(made("random"), seed=1)
    world.run(1)
    for _ in range(2):
        world.engine.record_images({"digits@sha256:a": ("digits:1", 0)})
        world.begin()
    world.engine.record_images({"digits@sha256:a": ("digits:1", 0), "digits@sha256:b": ("digits:1", 3)})
    seen = [each.detail for each in world.storage.steering("uid-1") if each.kind == searching.IMAGE]
    assert [(each["digest"], each["trial"]) for each in seen] == [("digits@sha256:a", 0), ("digits@sha256:b", 3)]


def test_a_searcher_from_outside_cannot_be_asked_again() -> None:
    world = World(made("random"), seed=1)
    world.run(40)
    study = world.record()
    external = {"name": "external", "settings": {"service": "searcher"}}
    steers = [
        dataclasses.replace(each, detail={**each.detail, "sampler": external})
        if each.kind == searching.SEARCH
        else each
        for each in study.steering
    ]
    verdict = again.replay(dataclasses.replace(study, steering=steers))
    assert verdict.asked == verdict.different == 0
    assert verdict.notes[0].endswith("trials were asked of a searcher from outside, which is not here")


def test_regret_bounds_are_worked_out_again() -> None:
    """Of a record that was changed, the first that differs is named."""
    installed("gp")
    world = World(made("random", regret_bound=RegretBound(1e-12, min_trials=10), max_trials=70), seed=4)
    world.run(40)
    world.edit(narrow={"x": Double(0.1, 0.9)})
    world.run(100)
    study = world.record()
    looks = [each for each in study.steering if each.kind == regret.REGRET]
    verdict = again.replay(study)
    assert (verdict.differences, verdict.notes) == ([], [])
    assert verdict.bounds == len(looks) > 3
    forged = dataclasses.replace(looks[-1], detail={**looks[-1].detail, "bound": 1.0})
    steering = [forged if each is looks[-1] else each for each in study.steering]
    verdict = again.replay(dataclasses.replace(study, steering=steering))
    assert verdict.bounds == len(looks) - 1
    assert verdict.differences[0].startswith("the regret bound after ")
