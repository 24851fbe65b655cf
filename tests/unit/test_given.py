"""Parameters that people give: what can be given, in which order it is tried, and that nothing is tried twice."""

import itertools
from typing import Any

import optuna
import pytest

from kubetune.api import given
from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Given, Int, InvalidSpec, Parameter
from kubetune.engine.check import check
from kubetune.engine.engine import Engine
from kubetune.engine.samplers.base import seed_of
from kubetune.storage import base, space
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import SPACE, Trials, spec

WHOLE = {"lr": 0.001, "momentum": 0.3, "layers": 2, "optimizer": "sgd"}
CONDITIONAL: dict[str, Parameter] = {
    "optimizer": Categorical(("adam", "sgd")),
    "momentum": Double(0.5, 0.99, when=(("optimizer", ("sgd",)),)),
    "lr": Double(1e-4, 1e-1, log=True),
}


def initial(*sets: dict[str, Any]) -> tuple[Given, ...]:
    return tuple(Given(f"initial/{place}", f"initial[{place}]", params) for place, params in enumerate(sets))


def enqueued(**sets: dict[str, Any]) -> tuple[Given, ...]:
    return tuple(
        Given(f"enqueue/{name}", f"enqueue[{place}].parameters", params)
        for place, (name, params) in enumerate(sets.items())
    )


def begin(spec: ExperimentSpec) -> tuple[MemoryStorage, Engine]:
    ticks = itertools.count(1000)
    storage = MemoryStorage(lambda: float(next(ticks)))
    storage.acquire("test")
    return storage, Engine(spec, storage, storage.clock)


class TestReading:
    def test_values_are_as_the_space_has_them(self) -> None:
        parameters = {**SPACE, "batch": Categorical((16, 32.5)), "nesterov": Categorical((False, True))}
        made = spec(parameters=parameters)
        params = {"lr": 1e-3, "momentum": 0, "layers": 2.0, "batch": 16.0, "nesterov": True}
        found = given.read(made.space, initial(params)[0]).params
        assert found == params
        types = {"lr": float, "momentum": float, "layers": int, "batch": int, "nesterov": bool}
        assert {name: type(value) for name, value in found.items()} == types

    @pytest.mark.parametrize(
        ("params", "field", "message"),
        [
            ({"rate": 1}, "initial[0].rate", "there is no such parameter; there are layers, lr, momentum, optimizer"),
            ({"lr": 1.0}, "initial[0].lr", "1.0 is no value of it, which is 1e-05 to 0.1"),
            ({"lr": "0.01"}, "initial[0].lr", "'0.01' is no value of it"),
            ({"lr": float("nan")}, "initial[0].lr", "nan is no value of it"),
            ({"lr": [0.01]}, "initial[0].lr", "[0.01] is no value of it"),
            ({"lr": None}, "initial[0].lr", "None is no value of it"),
            ({"momentum": 0.25}, "initial[0].momentum", "0.25 is no value of it, which is 0.0 to 0.9 in steps of 0.1"),
            ({"layers": True}, "initial[0].layers", "True is no value of it, which is 1 to 4"),
            ({"layers": 1.5}, "initial[0].layers", "1.5 is no value of it, which is 1 to 4"),
            (
                {"optimizer": "rmsprop"},
                "initial[0].optimizer",
                "'rmsprop' is no value of it, which is one of adam, sgd",
            ),
        ],
    )
    def test_what_cannot_be_is_named(self, params: dict[str, Any], field: str, message: str) -> None:
        with pytest.raises(InvalidSpec) as error:
            check(spec(given=initial(params)))
        assert error.value.field == field
        assert error.value.message.startswith(message)

    def test_a_parameter_needs_the_values_on_which_it_depends(self) -> None:
        check(spec(parameters=CONDITIONAL, given=initial({"optimizer": "sgd", "momentum": 0.9})))
        for params in ({"momentum": 0.9}, {"momentum": 0.9, "optimizer": "adam"}):
            with pytest.raises(InvalidSpec, match=r"initial\[0\].momentum: a trial has it only with optimizer = sgd"):
                check(spec(parameters=CONDITIONAL, given=initial(params)))

    def test_a_name_is_used_once(self) -> None:
        with pytest.raises(InvalidSpec, match=r"enqueue\[0\].parameters: the name a is there twice"):
            check(spec(given=(*enqueued(a=WHOLE), *enqueued(a=WHOLE))))

    def test_not_where_every_point_is_tried_anyway(self) -> None:
        whole = {"x": Int(1, 3)}
        with pytest.raises(InvalidSpec, match="initial: grid tries every point of the space by itself"):
            check(spec(parameters=whole, sampler=Algorithm("grid"), given=initial({"x": 2})))


class TestOrder:
    def test_initial_sets_first_then_the_queue_then_the_sampler(self) -> None:
        other = {**WHOLE, "layers": 4}
        storage, engine = begin(spec(given=(*initial(WHOLE), *enqueued(mine=other))))
        rows = engine.ask(3)
        assert [row.source for row in rows] == ["initial/0", "enqueue/mine", None]
        assert [dict(row.params) for row in rows[:2]] == [WHOLE, other]
        assert [row.source for row in storage.load_trials("uid-1")] == ["initial/0", "enqueue/mine", None]

    @pytest.mark.parametrize("sampler", ["random", "tpe"])
    def test_what_is_left_out_is_what_the_sampler_would_have_asked(self, sampler: str) -> None:
        def asked(**changes: Any) -> list[dict[str, Any]]:
            settings = {"nStartupTrials": 2} if sampler == "tpe" else {}
            made = spec(sampler=Algorithm(sampler, settings), seed=3, **changes)
            storage, engine = begin(made)
            return [dict(Trials(made, storage).run(engine, 0.1 * number).params) for number in range(5)]

        plain = asked()
        partial = asked(given=initial({"lr": 0.02}))
        assert partial[0] == {**plain[0], "lr": 0.02}
        assert partial[1] == plain[1] or sampler == "tpe"

    def test_nothing_is_tried_twice_over_restarts_and_each_set_once(self) -> None:
        made = spec(given=(*initial(WHOLE, {"lr": 0.02}), *enqueued(a={"layers": 1}, b={"layers": 1})), max_trials=9)
        storage, engine = begin(made)
        sources = []
        for _ in range(6):
            sources += [row.source for row in engine.ask(1)]
            engine = Engine(made, storage, storage.clock)
        assert sources == ["initial/0", "initial/1", "enqueue/a", "enqueue/b", None, None]

    def test_one_that_was_added_later_comes_next_and_one_taken_back_does_not(self) -> None:
        _, engine = begin(spec(given=enqueued(a={"layers": 1}, b={"layers": 2})))
        assert [row.source for row in engine.ask(1)] == ["enqueue/a"]
        engine.update(spec(given=enqueued(a={"layers": 3}, c={"layers": 4})))
        rows = engine.ask(2)
        assert [row.source for row in rows] == ["enqueue/c", None]
        assert rows[0].params["layers"] == 4
        engine.update(spec(given=enqueued(b={"layers": 2})))
        assert [row.source for row in engine.ask(1)] == ["enqueue/b"]

    def test_a_bad_edit_changes_nothing(self) -> None:
        _, engine = begin(spec(given=enqueued(a={"layers": 1})))
        with pytest.raises(InvalidSpec, match=r"enqueue\[0\].parameters.layers: 9 is no value of it"):
            engine.update(spec(given=enqueued(a={"layers": 9})))
        assert [row.params["layers"] for row in engine.ask(1)] == [1]

    def test_they_count_as_trials(self) -> None:
        _, engine = begin(spec(given=initial(*[WHOLE] * 5), max_trials=3))
        assert [row.source for row in engine.ask(9)] == ["initial/0", "initial/1", "initial/2"]

    def test_nothing_is_lost_where_the_commit_fails(self) -> None:
        made = spec(given=initial(WHOLE))
        storage, engine = begin(made)

        def fail(where: str) -> None:
            if where == "before:create_trials":
                raise base.StorageUnavailable(where)

        storage.fault = fail
        with pytest.raises(base.StorageUnavailable):
            engine.ask(1)
        storage.fault = None
        assert [row.source for row in Engine(made, storage, storage.clock).ask(1)] == ["initial/0"]


class TestConditional:
    def test_what_the_given_values_make_active_is_filled_up_and_what_they_do_not_is_left_out(self) -> None:
        seen = set()
        for seed in range(20):
            made = spec(parameters=CONDITIONAL, seed=seed, given=initial({"optimizer": "sgd"}, {"optimizer": "adam"}))
            _, engine = begin(made)
            first, second = engine.ask(2)
            assert made.space.problem(first.params) is None
            assert made.space.problem(second.params) is None
            assert (first.params["optimizer"], second.params["optimizer"]) == ("sgd", "adam")
            seen.add(first.params["momentum"])
        assert len(seen) == 20


def test_as_optuna_takes_what_is_enqueued() -> None:
    """Whole sets, partial ones, and the order: by Optuna's own study with TPE, draw for draw."""
    sets: list[dict[str, Any]] = [WHOLE, {"lr": 0.02}, {"layers": 3, "optimizer": "adam"}]
    made = spec(sampler=Algorithm("tpe", {"nStartupTrials": 1}), seed=1, given=initial(*sets))
    storage, engine = begin(made)
    ours = [dict(Trials(made, storage).run(engine, 0.1 * (number % 3)).params) for number in range(6)]

    study = optuna.create_study()
    for params in sets:
        study.enqueue_trial(params)
    forms = space.distributions_of(dict(sorted(SPACE.items())))
    for number, params in enumerate(ours):
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed_of(made, number)
        )
        if number == 0:
            study.sampler = optuna.samplers.RandomSampler(seed_of(made, number))
        trial = study.ask(fixed_distributions=forms)
        assert trial.params == params, number
        trial.report(0.1 * (number % 3), 0)
        study.tell(trial, 0.1 * (number % 3))
