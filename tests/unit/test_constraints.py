"""Constraints on metrics: what a trial comes to, which is best, and what TPE makes of it, all as Optuna has it."""

import math
import random
from collections.abc import Sequence
from typing import Any

import optuna
import pytest

from kubetune.api.spec import Algorithm, Constraint, InvalidSpec, Objective
from kubetune.api.trial import Reason, TrialState, penalty
from kubetune.controller import status
from kubetune.controller.decide import Limits, decide
from kubetune.engine import samplers, value
from kubetune.engine.engine import Engine
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import space
from kubetune.storage.memory import MemoryStorage
from tests.unit import loop_objects
from tests.unit.engine_objects import ACCURACY, LOSS, SPACE, Trials, reports, spec

LATENCY = Constraint("latency_ms", "max", 20.0)
RECALL = Constraint("recall", "min", 0.5)
ENDED = value.Outcome()


class TestSettling:
    def test_by_how_much_each_is_broken_from_the_last_reports(self) -> None:
        came = reports({"loss": 1.0, "latency_ms": 99.0, "recall": 0.25}, {"loss": 0.5}, {"latency_ms": 21.5})
        ending = value.settle(came, None, ENDED, [LOSS], [LATENCY, RECALL])
        assert (ending.state, ending.values) == (TrialState.COMPLETE, (0.5,))
        assert ending.constraints == {"latency_ms.max": 1.5, "recall.min": 0.25}
        assert penalty(ending.constraints) == 1.75

    def test_kept_ones_are_not_above_zero(self) -> None:
        ending = value.settle(reports({"loss": 1.0, "latency_ms": 20.0}), None, ENDED, [LOSS], [LATENCY])
        assert ending.constraints == {"latency_ms.max": 0.0}
        assert penalty({"a": -5.0, "b": 0.0}) == penalty(None) == 0

    @pytest.mark.parametrize(
        ("metrics", "reason", "message"),
        [
            ({"loss": 1.0}, Reason.NO_METRIC, "the trial ended without a report of latency_ms"),
            ({"loss": 1.0, "latency_ms": math.nan}, Reason.NOT_A_NUMBER, "constraint latency_ms.max is not a number"),
            ({"latency_ms": 1.0}, Reason.NO_METRIC, "the trial ended without a report of loss"),
        ],
    )
    def test_a_trial_that_does_not_say_has_failed(
        self, metrics: dict[str, float], reason: Reason, message: str
    ) -> None:
        ending = value.settle(reports(metrics), None, ENDED, [LOSS], [LATENCY])
        assert (ending.state, ending.reason, ending.values, ending.constraints) == (TrialState.FAIL, reason, None, None)
        assert ending.message.startswith(message)

    def test_a_pruned_one_may_not_have_come_to_it(self) -> None:
        pruned = value.Outcome(stop=Reason.PRUNED)
        without = value.settle(reports({"loss": 1.0}), None, pruned, [LOSS], [LATENCY])
        assert (without.state, without.values, without.constraints) == (TrialState.PRUNED, (1.0,), None)
        known = value.settle(reports({"loss": 1.0, "latency_ms": 5.0}), None, pruned, [LOSS], [LATENCY])
        assert known.constraints == {"latency_ms.max": -15.0}


def trials(objectives: int, seed: int, count: int = 60, broken: float = 0.5) -> list[Past]:
    draw = random.Random(seed)

    def one(number: int) -> Past:
        params: dict[str, float | int | str | bool] = {
            "lr": 10 ** draw.uniform(-5, -1),
            "momentum": draw.randrange(10) / 10,
            "layers": draw.randint(1, 4),
            "optimizer": draw.choice(["adam", "sgd"]),
        }
        state = TrialState.COMPLETE if draw.random() < 0.8 else TrialState.PRUNED
        values = tuple(round(draw.random(), 1) for _ in range(objectives))
        excess = {"a": draw.uniform(-1, 1) if draw.random() < broken else -0.5, "b": round(draw.uniform(-2, 1), 1)}
        known = excess if state is TrialState.COMPLETE or draw.random() < 0.5 else None
        last = (number % 7, values[0]) if objectives == 1 else None
        return Past(number, state, params, values if state is TrialState.COMPLETE else None, last, 0.0, known)

    return [one(number) for number in range(count)]


def history(past: Sequence[Past], objectives: Sequence[Objective], load: bool) -> History:
    made = History(objectives, SPACE, ["a", "b"])
    if load:
        made.load(past)
        return made
    for trial in past:
        made.add(Past(trial.number, TrialState.RUNNING, trial.params))
    for trial in sorted(past, key=lambda trial: -trial.number):
        made.replace(trial)
    return made


def in_optuna(past: Sequence[Past], objectives: Sequence[Objective]) -> optuna.Study:
    study = optuna.create_study(directions=[objective.direction for objective in objectives])
    forms = space.distributions_of(dict(sorted(SPACE.items())))
    for trial in past:
        state = optuna.trial.TrialState[trial.state.name]
        last = {} if trial.last is None else {trial.last[0]: trial.last[1]}
        made = optuna.trial.create_trial(
            state=state,
            values=trial.values,
            params=dict(trial.params),
            distributions=forms,
            intermediate_values=last,
            constraints=None if trial.constraints is None else dict(trial.constraints),
        )
        study.add_trial(made)
    return study


@pytest.mark.parametrize("load", [True, False])
@pytest.mark.parametrize("seed", range(5))
class TestTheBest:
    def test_one_objective(self, seed: int, load: bool) -> None:
        past = trials(1, seed)
        ours = history(past, [LOSS], load)
        assert ours.front.numbers == [in_optuna(past, [LOSS]).best_trial.number]
        assert ours.front.numbers[0] == ours.best(1)[0]
        ranks = [penalty(past[number].constraints) for number in ours.best(99)]
        assert ranks == sorted(ranks)

    def test_several_objectives(self, seed: int, load: bool) -> None:
        past = trials(2, seed)
        ours = history(past, [LOSS, ACCURACY], load).front.numbers
        theirs = {trial.number: tuple(trial.values) for trial in in_optuna(past, [LOSS, ACCURACY]).best_trials}
        assert set(ours) <= theirs.keys()
        assert {theirs[number] for number in ours} == set(theirs.values())  # of equals the earliest

    def test_while_none_is_feasible_the_one_that_breaks_least(self, seed: int, load: bool) -> None:
        past = [trial for trial in trials(2, seed, 99) if trial.constraints and penalty(trial.constraints) > 0]
        past = [
            Past(number, TrialState.COMPLETE, t.params, (0.5, 0.5), None, 0.0, t.constraints)
            for number, t in enumerate(past)
        ]
        least = min(past, key=lambda trial: (penalty(trial.constraints), trial.number))
        assert history(past, [LOSS, ACCURACY], load).front.numbers == [least.number]


@pytest.mark.parametrize("objectives", [[LOSS], [LOSS, ACCURACY]], ids=["one", "several"])
def test_tpe_draws_as_optunas_does_with_the_same_constraints(objectives: list[Objective]) -> None:
    alike = []
    for seed in range(5):
        past = trials(len(objectives), seed, 40)
        constraints = (Constraint("a", "max", 0.0), Constraint("b", "max", 0.0))
        made = spec(sampler=Algorithm("tpe"), objectives=tuple(objectives), seed=seed, constraints=constraints)
        ours = samplers.build(made).suggest(history(past, objectives, load=True), 40)
        study = in_optuna(past, objectives)
        study.sampler = optuna.samplers.TPESampler(
            multivariate=len(objectives) == 1, constant_liar=True, seed=seed_of(made, 40)
        )
        theirs = study.ask(fixed_distributions=space.distributions_of(dict(sorted(SPACE.items()))))
        assert ours == theirs.params, seed
        ignoring = [Past(trial.number, trial.state, trial.params, trial.values, trial.last) for trial in past]
        alike.append(ours == samplers.build(made).suggest(history(ignoring, objectives, load=True), 40))
    assert not all(alike)


def engine(**changes: Any) -> tuple[Engine, Trials]:
    made = spec(constraints=(LATENCY,), **changes)
    storage = MemoryStorage(lambda: 1000.0)
    storage.acquire("test")
    return Engine(made, storage, storage.clock), Trials(made, storage)


def run(engine: Engine, trials: Trials, loss: float, latency: float) -> None:
    (row,) = trials.start(engine)
    trials.report(row, [latency], "latency_ms")
    trials.report(row, [loss], first=1)
    engine.tail()
    engine.finish(row.number, 1, None, "")


def test_the_engine_prefers_feasible_trials_and_a_target_needs_one() -> None:
    made, side = engine(objectives=(Objective("loss", "minimize", target=0.2),))
    run(made, side, 0.1, 30.0)
    assert [(best.number, dict(best.broken)) for best in made.best] == [(0, {"latency_ms.max": 10.0})]
    assert (made.target_reached, made.infeasible) == (False, 1)
    run(made, side, 0.9, 12.0)
    assert [(best.number, dict(best.broken)) for best in made.best] == [(1, {})]
    assert not made.target_reached
    again = Engine(side.spec, made._storage, lambda: 1000.0)
    assert (again.best, again.infeasible, again.target_reached) == (made.best, 1, False)
    again.update(spec(constraints=(LATENCY,), objectives=(Objective("loss", "minimize", target=0.15),)))
    assert not again.target_reached
    again.update(spec(constraints=(LATENCY,), objectives=(Objective("loss", "minimize", target=0.95),)))
    assert again.target_reached


def test_constraints_stay_as_they_are() -> None:
    made, _ = engine()
    with pytest.raises(InvalidSpec, match="constraints: constraints cannot change"):
        made.update(spec(constraints=(RECALL,)))


def test_the_status_says_whether_there_is_a_feasible_trial() -> None:
    made, side = engine()
    wanted = loop_objects.spec(constraints=(LATENCY,), objectives=(LOSS,))

    def body(before: dict[str, Any] | None = None) -> dict[str, Any]:
        seen = loop_objects.seen(counts=made.counts)
        plan = decide(wanted, seen, loop_objects.NOW, Limits())
        facts = status.Facts("study", made.best, infeasible=made.infeasible)
        return status.status(wanted, plan, seen, facts, before, loop_objects.NOW)

    def feasible(found: dict[str, Any]) -> list[tuple[str, str, str]]:
        conditions = [each for each in found["conditions"] if each["type"] == "Feasible"]
        return [(each["status"], each["reason"], each["message"]) for each in conditions]

    assert feasible(body()) == []
    run(made, side, 0.1, 30.0)
    first = body()
    message = "none of 1 complete trials keeps all constraints; trial 0 is nearest: latency_ms.max by 10"
    assert feasible(first) == [("False", "NoFeasibleTrial", message)]
    assert first["best"]["feasible"] is False
    assert first["best"]["broken"] == {"latency_ms.max": 10.0}
    assert first["counts"]["infeasible"] == 1
    run(made, side, 0.9, 12.0)
    second = body(first)
    assert feasible(second) == [("True", "FeasibleTrials", "1 of 2 complete trials keep all constraints")]
    assert second["best"]["feasible"] is True
    assert "broken" not in second["best"]
