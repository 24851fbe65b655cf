"""A narrower space for what is asked next: what it may be, what samplers make of it, and the record of it."""

import dataclasses
import itertools
from typing import Any

import pytest

from kubetune.api import narrow
from kubetune.api.spec import Algorithm, Categorical, Double, Int, InvalidSpec, Parameter
from kubetune.api.trial import TrialState
from kubetune.engine import samplers, steering
from kubetune.engine.check import check
from kubetune.engine.engine import Engine
from kubetune.engine.history import History, Past
from kubetune.engine.searching import SEARCH
from kubetune.storage.base import Steer
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import LOSS, Trials, spec
from tests.unit.test_given import enqueued

SPACE: dict[str, Parameter] = {
    "lr": Double(1e-5, 1e-1, log=True),
    "momentum": Double(0.0, 0.9, step=0.1),
    "layers": Int(1, 9, step=2),
    "optimizer": Categorical(("adam", "sgd", "lion")),
    "batch": Categorical((16, 32.5)),
    "nesterov": Categorical((False, True)),
}


class TestReading:
    @pytest.mark.parametrize(
        ("name", "form", "expected"),
        [
            ("lr", {"min": 1e-3}, Double(1e-3, 1e-1, log=True)),
            ("lr", {"min": 1e-3, "max": 1e-3}, Double(1e-3, 1e-3, log=True)),
            ("momentum", {"min": 0.25, "max": 0.7}, Double(0.3, 0.7, step=0.1)),
            ("layers", {"min": 2, "max": 8}, Int(3, 7, step=2)),
            ("optimizer", {"choice": ["lion", "adam"]}, Categorical(("adam", "lion"))),
            ("batch", {"values": [32.5]}, Categorical((32.5,))),
            ("nesterov", {"bool": True}, Categorical((True,))),
        ],
    )
    def test_it_keeps_its_kind(self, name: str, form: dict[str, Any], expected: Parameter) -> None:
        assert narrow.parse({name: form}, SPACE) == {name: expected}

    @pytest.mark.parametrize(
        ("name", "form", "field", "message"),
        [
            ("rate", {"min": 1}, "narrow.rate", "there is no such parameter"),
            ("lr", {"max": 1.0}, "narrow.lr.max", "1.0 is outside of what is declared, 1e-05 to 0.1"),
            ("lr", {"min": 0.01, "max": 0.001}, "narrow.lr.min", "0.01 is above max"),
            ("lr", {"choice": ["a"]}, "narrow.lr", "it is 1e-05 to 0.1: give min, max or both"),
            ("layers", {"min": 3.5, "max": 4.5}, "narrow.layers", "no value of it"),
            ("optimizer", {"min": 1}, "narrow.optimizer", "it is one of adam, sgd, lion: write for example"),
            ("optimizer", {"choice": ["sgd", "x"]}, "narrow.optimizer.choice", "'x' is not declared"),
            ("nesterov", {"choice": ["true"]}, "narrow.nesterov", "it is one of False, True"),
        ],
    )
    def test_what_reaches_beyond_is_named(self, name: str, form: dict[str, Any], field: str, message: str) -> None:
        with pytest.raises(InvalidSpec) as error:
            narrow.parse({name: form}, SPACE)
        assert error.value.field == field
        assert error.value.message.startswith(message)

    @pytest.mark.parametrize(
        ("sampler", "why"),
        [
            (Algorithm("grid"), "it tries every point"),
            (Algorithm("bruteForce"), "it tries every point"),
            (Algorithm("cmaes"), "its distribution is one of the whole box; begin another experiment with warmStart"),
            (Algorithm("external", {"service": "mine"}), "its searcher was told the whole space"),
        ],
    )
    def test_a_sampler_that_goes_through_the_space_or_has_its_own_idea_of_it_cannot(
        self, sampler: Algorithm, why: str
    ) -> None:
        made = spec(parameters={"x": Int(1, 9)}, sampler=sampler, narrow={"x": Int(1, 3)})
        with pytest.raises(InvalidSpec, match=f"narrow: {sampler.name} cannot be narrowed while it runs: {why}"):
            check(made)


NARROW: dict[str, Parameter] = {
    "lr": Double(1e-3, 1e-2, log=True),
    "layers": Int(3, 5, step=2),
    "optimizer": Categorical(("sgd", "lion")),
    "nesterov": Categorical((True,)),
}


def history(count: int) -> History:
    made = History([LOSS], SPACE)
    everywhere = samplers.build(spec(parameters=SPACE, seed=8))
    for number in range(count):
        params = everywhere.suggest(made, number)
        loss = abs(float(params["momentum"]) - 0.3) + (params["optimizer"] != "adam")
        made.add(Past(number, TrialState.COMPLETE, params, (loss,), (0, loss)))
    return made


@pytest.mark.parametrize(
    "sampler", ["random", "tpe", "qmc", "nsgaii", "nsgaiii", "differentialEvolution", "regularizedEvolution"]
)
def test_all_that_is_asked_for_lies_within(sampler: str) -> None:
    made = spec(parameters=SPACE, sampler=Algorithm(sampler), narrow=NARROW, seed=1)
    past = history(40)
    for number in range(40, 60):
        params = samplers.build(made).suggest(past, number)
        assert dataclasses.replace(made, parameters=made.asked).space.problem(params) is None
        assert made.space.problem(params) is None


def test_tpe_still_learns_from_what_lies_outside() -> None:
    """All that was ever tried has lr below the narrower range; what is best of it shows in the momentum asked for."""
    parameters: dict[str, Parameter] = {"lr": Double(0.0, 1.0), "momentum": Double(0.0, 1.0)}
    made = spec(parameters=parameters, sampler=Algorithm("tpe"), narrow={"lr": Double(0.9, 1.0)}, seed=1)
    past = History([LOSS], parameters)
    for number in range(60):
        momentum = number / 60
        past.add(Past(number, TrialState.COMPLETE, {"lr": 0.5, "momentum": momentum}, (abs(momentum - 0.3),)))
    asked = [float(samplers.build(made).suggest(past, number)["momentum"]) for number in range(60, 90)]
    assert sum(abs(momentum - 0.3) < 0.15 for momentum in asked) > 24


@pytest.mark.parametrize("sampler", ["nsgaii", "differentialEvolution", "regularizedEvolution"])
def test_a_population_is_what_of_it_lies_inside(sampler: str) -> None:
    """Trials outside change nothing: neither what is asked, nor what is replayed when more have ended."""
    parameters: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}
    made = spec(parameters=parameters, sampler=Algorithm(sampler, {"populationSize": 5}), seed=4)
    narrowed = samplers.build(dataclasses.replace(made, narrow={"x": Double(0.5, 1.0)}))
    alone = samplers.build(dataclasses.replace(made, parameters={**parameters, "x": Double(0.5, 1.0)}))
    both, inside = History([LOSS], parameters), History([LOSS], parameters)
    numbers = itertools.count()
    for number in range(40):
        x = (number * 0.37) % 1.0
        y = (number * 0.61) % 1.0
        told = Past(number, TrialState.COMPLETE, {"x": x, "y": y}, (abs(x - 0.7) + y,), None, float(number))
        both.add(told)
        if sampler != "differentialEvolution" and x >= 0.5:  # there the number is the place
            inside.add(dataclasses.replace(told, number=next(numbers)))
        params = narrowed.suggest(both, 90 + number)
        assert 0.5 <= float(params["x"]) <= 1.0
        if len(inside) > 5:
            assert params == alone.suggest(inside, 90 + number)


def test_a_descent_begins_anew_in_the_narrower_space() -> None:
    parameters: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}
    made = spec(parameters=parameters, sampler=Algorithm("gradient"), narrow={"x": Double(0.5, 1.0)}, seed=4)
    past = History([LOSS], parameters)
    past.add(Past(0, TrialState.COMPLETE, {"x": 0.5, "y": 0.5}, (1.0,), None, 1.0))
    assert samplers.build(made).suggest(past, 1) == {"x": 0.75, "y": 0.5}


def test_points_of_a_small_space_are_not_asked_for_twice() -> None:
    parameters: dict[str, Parameter] = {"a": Int(1, 4), "b": Categorical(("x", "y", "z"))}
    narrowed: dict[str, Parameter] = {"a": Int(2, 4), "b": Categorical(("y", "z"))}
    made = spec(parameters=parameters, narrow=narrowed)
    storage = MemoryStorage(lambda: 1000.0)
    storage.acquire("test")
    engine = Engine(dataclasses.replace(made, narrow={}), storage, storage.clock)
    before = {tuple(sorted(row.params.items())) for row in engine.ask(3)}
    engine.update(made)
    left = {(("a", a), ("b", b)) for a, b in itertools.product((2, 3, 4), "yz")} - before
    asked = [tuple(sorted(row.params.items())) for row in engine.ask(len(left))]
    assert set(asked) == left
    assert len(asked) == len(left)


class TestRecord:
    def begin(self) -> tuple[MemoryStorage, Engine]:
        ticks = itertools.count(1000)
        storage = MemoryStorage(lambda: float(next(ticks)))
        storage.acquire("test")
        return storage, Engine(spec(), storage, storage.clock)

    def test_each_thing_is_recorded_once_in_order_over_restarts(self) -> None:
        storage, engine = self.begin()
        assert not engine.update(spec())
        given = enqueued(a={"layers": 1}, b={"layers": 2})
        first = spec(given=given, stop_trials=frozenset({3}))
        told = [(each.kind, each.subject) for each in engine.update(first)]
        assert told == [("enqueue", "a"), ("enqueue", "b"), ("stop", "3")]
        assert not engine.update(first)
        engine.ask(1)
        engine = Engine(first, storage, storage.clock)
        assert not engine.update(first)
        second = spec(narrow={"layers": Int(2, 3)}, stop_trials=frozenset({3, 4}))
        changed = [(each.kind, each.subject, each.detail) for each in engine.update(second)]
        bounds = {"layers": {"min": 2, "max": 3}}
        assert changed == [("takeBack", "b", {}), ("stop", "4", {}), ("narrow", "", bounds)]  # a was tried already
        assert [each.detail for each in Engine(spec(), storage, storage.clock).update(spec())] == [{}]
        recorded = [each for each in storage.steering("uid-1") if each.kind != SEARCH]
        assert [each.kind for each in recorded] == [
            "enqueue",
            "enqueue",
            "stop",
            "takeBack",
            "stop",
            "narrow",
            "narrow",
        ]
        times = [each.time for each in recorded]
        assert times == sorted(times)
        assert times[0] > 0

    def test_an_edit_that_cannot_run_is_not_recorded(self) -> None:
        storage, engine = self.begin()
        with pytest.raises(InvalidSpec):
            engine.update(spec(given=enqueued(a={"layers": 99})))
        assert storage.steering("uid-1") == []

    def test_what_is_asked_changes_at_once_and_what_ran_stays(self) -> None:
        storage, engine = self.begin()
        side = Trials(spec(), storage)
        side.run(engine, 1.0)
        engine.update(spec(narrow={"layers": Int(4, 4)}))
        assert {row.params["layers"] for row in engine.ask(5)} == {4}
        assert engine.counts.total == 6
        again = Engine(spec(), storage, storage.clock)
        assert again.counts.total == 6

    @pytest.mark.parametrize(
        ("steer", "reason", "said"),
        [
            (Steer("enqueue", "a", {"lr": 0.1}), "Enqueued", "a is to be tried: lr = 0.1"),
            (Steer("takeBack", "a", {}), "TakenBack", "a is not to be tried any more"),
            (Steer("stop", "3", {}), "StopRequested", "trial 3 is to stop"),
            (Steer("phase", "refit.retry-1", {}), "PhaseAsked", "refit.retry-1 is to be run after the search"),
            (Steer("narrow", "", {}), "Narrowed", "the whole space is asked for again"),
            (
                Steer("narrow", "", {"lr": {"min": 0.001, "max": 0.1}, "o": {"choices": ["a"]}}),
                "Narrowed",
                "from now on is asked for: lr = 0.001 to 0.1, o = ['a']",
            ),
        ],
    )
    def test_words(self, steer: Steer, reason: str, said: str) -> None:
        assert steering.words(steer) == (reason, said)
