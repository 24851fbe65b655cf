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

from kubetune.api.fidelity import Fidelity
from kubetune.api.phases import Finalists, Once
from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Constraint,
    Double,
    ExperimentSpec,
    Given,
    Int,
    Json,
    Objective,
    Parameter,
    RegretBound,
    Validation,
)
from kubetune.api.stages import Around, Stage
from kubetune.api.trial import AttemptEnd, Reason, TrialRow, TrialState
from kubetune.api.validation import Replicates
from kubetune.engine import again, regret, samplers, searching
from kubetune.engine import phases as plans
from kubetune.engine.engine import Engine
from kubetune.engine.samplers import gp
from kubetune.engine.winner import Winner
from kubetune.storage import record_json
from kubetune.storage.base import Incoming, KeptSpec, Steer
from kubetune.storage.memory import MemoryStorage
from kubetune.storage.record import PROMOTED
from tests.unit.engine_objects import LOSS, MIXED, Trials, spec

NUMBERS: dict[str, Parameter] = {"x": Double(0.0, 1.0), "lr": Double(1e-4, 1.0, log=True), "n": Int(1, 9)}
FORMS: Json = {"x": {"double": [0, 1]}, "lr": {"double": [1e-4, 1], "scale": "log"}, "n": {"int": [1, 9]}}
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
TEMPLATE: Json = {"spec": {"containers": [{"name": "t", "image": "digits:1"}]}}
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

    def __init__(self, made: ExperimentSpec, seed: int, at_once: int = 4, storage: Any = None) -> None:
        self.spec, self.dice, self.at_once = made, random.Random(seed), at_once
        ticks = itertools.count(1000)
        self.storage: Any = storage or MemoryStorage(lambda: float(next(ticks) // 7))  # several things at one time
        if made.warm_start:
            self._other()
        self.steps: dict[int, int] = {}
        self.begin()

    def _other(self) -> None:
        """What it begins with: an experiment that has ended."""
        self.storage.acquire("test")
        other = dataclasses.replace(self.spec, name="other", uid="uid-of-other", warm_start=())
        engine, side = Engine(other, self.storage, self.storage.clock), Trials(other, self.storage)
        self.storage.save_spec(other.uid, KeptSpec(1, {"parameters": FORMS}))
        for _ in range(6):
            (row,) = side.start(engine)
            side.report(row, [loss(row.params)])
            engine.finish(row.number, row.attempt, None, "")

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
            self._look()

    def _look(self) -> None:
        """As the operator does it: decided is by what is known at its begin, then ends come before promotions."""
        known, wanted = self.engine.order, list(self.engine.promotable)
        if not wanted and self.engine.askable == 0:
            wanted = list(self.engine.overtime)
        ends = [end for row in list(self.engine.running.values()) if (end := self._end(row)) is not None]
        for row in self.engine.finish_trials(ends):
            assert isinstance(row, TrialRow)
            if row.state is TrialState.RUNNING and not row.paused:
                self._go_on(row)
        for row in self.engine.promote(wanted[: max(0, self.at_once - len(self.engine.running))], False, known):
            self._go_on(row)

    def _go_on(self, row: TrialRow) -> None:
        """With its next leg, or with its leg again."""
        assert self.engine.record_job(row.number, row.attempt, self.side.who(row).job_uid)
        last = row.legs[-1] if row.legs else None
        self.steps[row.number] = (last.last_step or 0) + 1 if last and last.resumes else 0

    def _length(self, row: TrialRow) -> int:
        """The step at which its leg ends."""
        return 2 if self.spec.validation.runs else int(row.environment.get("epochs", 9))

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        engine = self.engine
        return not (engine.askable or engine.running or engine.promotable or engine.overtime)

    def leave(self) -> None:
        """Who is paused, ends."""
        rows = self.engine.paused.values()
        self.engine.finish_trials([AttemptEnd(row.number, row.attempt, None, "") for row in rows])

    def _report(self, row: TrialRow) -> None:
        step = self.steps.get(row.number, 0)
        value = loss(row.params) + self.dice.random() / (1 + step)
        metrics = {objective.metric: value + place for place, objective in enumerate(self.spec.objectives)}
        metrics["latency"] = self.dice.random()
        self.storage.accept([Incoming(self.side.who(row), f"{row.number}-{row.attempt}-{step}", step, metrics)])
        self.steps[row.number] = step + 1

    def _end(self, row: TrialRow) -> AttemptEnd | None:
        if row.stop_requested is not None or self.steps.get(row.number, 0) >= self._length(row):
            failure = Reason.EXIT_CODE if self.dice.random() < 0.1 else None
            return AttemptEnd(row.number, row.attempt, failure, "")
        if self.dice.random() < 0.01:
            self.engine.new_attempt(row.number, row.attempt, Reason.NODE_LOST, "")
            self._go_on(self.engine.running[row.number])
        return None

    def record(self, phase: str = "") -> again.Study:
        """As it is exported, and read again."""
        history = record_json.history(self.storage.history("team", self.spec.name, phase))
        trials = [record_json.trial(each) for each in self.storage.record("team", self.spec.name, 0, 10_000, phase)]
        history, trials = json.loads(json.dumps([history, trials], allow_nan=False))
        return again.Study(
            self.spec,
            record_json.read_steering(history["steering"]),
            record_json.read_warm(history["warm"]),
            [record_json.read_trial(each) for each in trials],
        )


def after(world: World, name: str, plan: Json) -> Engine:
    """A phase after its search, to its end."""
    spec = plans.derive(world.spec, name, plan)
    engine, side = Engine(spec, world.storage, world.storage.clock), Trials(spec, world.storage)
    world.storage.save_spec(spec.uid, KeptSpec(1, plan))
    engine.update(spec)
    for row in side.start(engine, spec.max_trials):
        if name == "refit":
            world.storage.model(side.who(row), "s3://models/digits", "sha256:00")
        side.report(row, [loss(row.params) + world.dice.random() / 10], spec.objectives[0].metric)
        engine.finish(row.number, row.attempt, None, "")
    engine.end(Reason.MAX_TRIALS, f"all {spec.max_trials} runs have ended")
    return engine


def with_phases(storage: Any = None, **changes: Any) -> tuple[World, Winner]:
    """A search, and all that may come after it."""
    world = World(made("random", finalists=Finalists(2, 3), template=TEMPLATE, **changes), seed=4, storage=storage)
    while not world.over:
        world.run(1)
    plan = plans.plan_finalists(world.spec, world.engine.top(2))
    after(world, "finalists", plan)
    winner = plans.judge(world.spec, plan, world.storage.load_trials(f"{world.spec.uid}/finalists"))
    assert winner is not None
    after(world, "refit", plans.plan_once(world.spec, Once("refit", {}), winner.trial, winner.params, None))
    (model,) = world.storage.versions(world.spec.uid)
    after(world, "test", plans.plan_once(world.spec, Once("test", {}), winner.trial, winner.params, model))
    return world, winner


def installed(name: str) -> None:
    if name == "gp" and not gp.installed():
        pytest.skip("without scikit-learn")


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


ASHA = Algorithm("asha", {"type": "promotion", "reductionFactor": 2})
HYPERBAND = Algorithm("hyperband", {"type": "promotion", "reductionFactor": 2})
LEGS: dict[str, dict[str, Any]] = {
    "asha": {"fidelity": Fidelity("epochs", 1, 8), "pruner": ASHA},
    "asha, each rung anew": {"fidelity": Fidelity("epochs", 1, 8, resume="restart"), "pruner": ASHA},
    "hyperband": {"fidelity": Fidelity("epochs", 1, 8), "pruner": HYPERBAND},
    "folds": {"validation": Validation(4), "pruner": Algorithm("wilcoxon", {"pThreshold": 0.3})},
    "folds, halved": {"validation": Validation(4), "pruner": Algorithm("asha", {"reductionFactor": 2})},
    "replicates": {"validation": Validation(1, replicates=Replicates(5, 2))},
    "replicates of folds": {
        "validation": Validation(2, replicates=Replicates(3, 1)),
        "pruner": Algorithm("median", {}),
    },
}


def in_legs(name: str, seed: int, storage: Any = None, **changes: Any) -> World:
    """To its end."""
    world = World(made("tpe", **{"max_trials": 40, **LEGS[name], **changes}), seed, storage=storage)
    while not world.over:
        world.run(1)
    world.leave()
    return world


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(LEGS))
def test_trials_of_several_legs_decide_the_same_again(name: str, seed: int) -> None:
    world = in_legs(name, seed)
    study = world.record()
    verdict = again.replay(study)
    assert (verdict.differences, verdict.notes) == ([], [])
    assert verdict.asked == world.engine.counts.finished == 40
    assert verdict.legs >= sum(len(each.row.legs) for each in study.trials) > 40
    promoted = [each for trial in study.trials for each in trial.judged if each.kind == PROMOTED]
    assert verdict.promotions == len(promoted)
    assert bool(promoted) == ("fidelity" in LEGS[name])


STAGES = (
    Stage("wide", Algorithm("qmc"), 8),
    Stage("near", Algorithm("tpe", {"nStartupTrials": 3}), 8, Around(2, 0.5)),
)
FEATURES: dict[str, dict[str, Any]] = {
    **{f"sampler {name}": {"name": name} for name in BUILT_IN},
    **{f"pruner {name}": {"name": "tpe", "pruner": Algorithm(name, each)} for name, each in PRUNERS.items()},
    **{f"legs, {name}": {"name": "tpe", **each} for name, each in LEGS.items()},
    "stages": {"name": "qmc", "stages": STAGES},
    "warm start": {"name": "tpe", "warm_start": ("other",)},
    "initial": {"name": "tpe", "given": (Given("initial/0", "initial[0]", {"x": 0.5}),)},
    "narrow": {"name": "tpe", "narrow": {"n": Int(2, 4)}},
    "constraints": {"name": "nsgaii", "constraints": (Constraint("latency", "max", 0.7),)},
}


@pytest.mark.parametrize("feature", sorted(FEATURES))
def test_a_rerun_with_the_same_seed_one_trial_at_a_time_has_the_same_trials(feature: str) -> None:
    """Applied again, an experiment has another UID; parameters, ends of legs and what runs are given are as before."""
    what = {"max_trials": 16, **FEATURES[feature]}
    installed(what["name"])

    def once(uid: str) -> list[Any]:
        world = World(made(**what, uid=uid), seed=1, at_once=1)
        while not world.over:
            world.run(1, restarts=False)
        verdict = again.replay(world.record())
        assert (verdict.differences, verdict.notes) == ([], [])
        rows = world.storage.load_trials(uid)
        return [(row.params, row.values, [leg.values for leg in row.legs], row.environment) for row in rows]

    first = once("uid-1")
    assert len(first) == 16
    assert first == once("uid-2")


def test_what_brackets_are_drawn_by_stays_as_the_study_began() -> None:
    """By the seed; by the study's name without one, or where an older kubetune began it."""
    spec = made("random")
    assert searching.begun(spec, []).brackets == "11"
    assert searching.begun(dataclasses.replace(spec, seed=None), []).brackets.startswith("team/digits-")
    older = [Steer(searching.SEARCH, "random", {"seed": 11})]
    assert searching.begun(spec, older).brackets == searching.begun(dataclasses.replace(spec, seed=None), []).brackets
    world = World(made("random", pruner=Algorithm("hyperband", PRUNERS["hyperband"])), seed=1)
    world.run(3)
    world.edit(seed=12)
    world.run(3)
    world.begin()
    assert world.engine._spec.brackets == "11"
    assert [each.detail["brackets"] for each in world.storage.steering("uid-1")] == ["11", "11"]


def with_leg(study: again.Study, number: int, place: int, **fields: Any) -> again.Study:
    row = study.trials[number].row
    legs = tuple(dataclasses.replace(leg, **fields) if at == place else leg for at, leg in enumerate(row.legs))
    return with_trial(study, number, row=dataclasses.replace(row, legs=legs))


def test_a_leg_that_came_to_something_else_is_found_out() -> None:
    study = in_legs("asha", 1).record()
    stayed = next(each.row for each in study.trials if each.row.reason is Reason.NOT_PROMOTED)
    verdict = again.replay(with_leg(study, stayed.number, len(stayed.legs) - 1, values=(-9.0,)))
    what = f"trial {stayed.number} after leg {len(stayed.legs) - 1}: it stays in the record, it goes on now"
    assert any(each == what or f"trial {stayed.number} now" in each for each in verdict.differences)


def test_a_promotion_of_another_trial_is_found_out() -> None:
    study = in_legs("asha", 1).record()
    trial = next(each for each in study.trials if each.judged)
    judged = [dataclasses.replace(each, known=1) if each.kind == PROMOTED else each for each in trial.judged]
    verdict = again.replay(with_trial(study, trial.row.number, judged=judged))
    number = trial.row.number
    assert f"trial {number} goes on after leg 0 in the record, nobody now" in verdict.differences


def test_a_race_that_ended_otherwise_is_found_out() -> None:
    study = in_legs("replicates", 1).record()
    short = next(each.row for each in study.trials if each.row.state is TrialState.COMPLETE and len(each.row.legs) < 5)
    best = with_leg(study, short.number, len(short.legs) - 1, values=(-99.0,))
    verdict = again.replay(best)
    assert any(
        each.startswith(f"trial {short.number} after leg {len(short.legs) - 1}: it comes to")
        for each in verdict.differences
    )


def older(study: again.Study, trials: int) -> again.Study:
    """The first so many trials were run by a kubetune that did not keep when legs had ended."""
    for number in range(trials):
        for place in range(len(study.trials[number].row.legs)):
            study = with_leg(study, number, place, placing=None)
    return study


@pytest.mark.parametrize("name", ["asha", "folds"])
def test_legs_from_before_they_were_kept_are_said_not_to_be_decided_again(name: str) -> None:
    study = in_legs(name, 2).record()
    verdict = again.replay(older(study, 10))
    vague = sum(bool(each.row.legs) for each in study.trials[:10])
    assert verdict.different == 0
    assert (verdict.legs, verdict.promotions) == (0, 0)
    assert 0 < verdict.asked < 40
    assert f"of {vague} trials it was not kept when theirs had ended (by an older kubetune)" in " ".join(verdict.notes)
    assert verdict.notes[0].startswith(f"{40 - verdict.asked} trials were asked while trials ran")


def test_an_export_of_an_older_kubetune_says_what_it_lacks() -> None:
    world = in_legs("asha", 2)
    forms = [record_json.trial(each) for each in world.storage.record("team", "digits", 0, 10_000)]
    for form in forms:
        del form["legs"]
        form["judged"] = [each[:7] for each in form["judged"] if each[2] != PROMOTED]
    trials = [record_json.read_trial(form) for form in json.loads(json.dumps(forms, allow_nan=False))]
    verdict = again.replay(dataclasses.replace(world.record(), trials=trials))
    assert (verdict.different, verdict.legs, verdict.promotions) == (0, 0, 0)
    assert len(verdict.notes) == 2


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


def phases_of(world: World, winner: Winner) -> list[again.Phase]:
    """As they are exported: what people were told of the winner is with the finalists."""
    found = []
    for name in ("finalists", "refit", "test"):
        plan = world.storage.load_spec(f"{world.spec.uid}/{name}")
        assert plan is not None
        told = again.told(winner) if name == "finalists" else None
        found.append(again.Phase(name, json.loads(json.dumps(plan.spec)), world.record(name), told))
    return found


def test_what_came_after_the_search_is_decided_again() -> None:
    world, winner = with_phases()
    search, versions, found = world.record(), world.storage.versions("uid-1"), phases_of(world, winner)
    assert len(found[0].study.trials) == 6
    for place, each in enumerate(found):
        verdict = again.replay_phase(search, found[:place], each, versions)
        assert (verdict.differences, verdict.notes) == ([], []), each.name
        assert (verdict.asked, verdict.plans) == (len(each.study.trials), 1 if each.name == "refit" else 2)


def test_another_finalist_seed_winner_or_model_is_found_out() -> None:
    world, winner = with_phases()
    search, versions, found = world.record(), world.storage.versions("uid-1"), phases_of(world, winner)
    finalists, refit, test = found

    def differs(before: list[again.Phase], phase: again.Phase, what: str, **plan: Any) -> None:
        changed = dataclasses.replace(phase, plan={**phase.plan, **plan})
        verdict = again.replay_phase(search, before, changed, versions)
        assert any(each.startswith(what) for each in verdict.differences), verdict.differences

    differs([], finalists, "plan: ", seeds=[1, 2, 3])
    differs([], finalists, "plan: ", sets=[finalists.plan["sets"][0], {**finalists.plan["sets"][1], "trial": 35}])
    differs([finalists], refit, "plan: ", sets=[{**refit.plan["sets"][0], "trial": 35}])
    differs([finalists, refit], test, "model: ", model={**test.plan["model"], "address": "s3://another"})
    told = dataclasses.replace(finalists, told={**again.told(winner), "trial": 35})
    differs([], told, "winner: ")
    row = finalists.study.trials[0].row
    params = dataclasses.replace(row, params={**row.params, "x": 0.5})
    other = dataclasses.replace(finalists, study=with_trial(finalists.study, 0, row=params))
    differs([], other, "trial 0: x is 0.5 in the record, ")
