"""Conditions among parameters: what the language says, what it refuses, and that nothing of a text is executed."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from kubetune.api import expression, searcher
from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Double,
    ExperimentSpec,
    Given,
    Int,
    InvalidSpec,
    Parameter,
    Params,
    ParamValue,
)
from kubetune.api.trial import TrialState
from kubetune.engine import check, samplers
from kubetune.engine.given import Queue
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import external, grid, where
from tests.unit.engine_objects import LOSS, spec

SPACE: dict[str, Parameter] = {
    "hidden": Int(8, 64, step=8),
    "heads": Int(1, 4),
    "lr": Double(0.0, 1.0),
    "norm": Categorical((False, True)),
    "optimizer": Categorical(("adam", "sgd")),
    "momentum": Double(0.0, 1.0, when=(("optimizer", ("sgd",)),)),
}
VALUES: dict[str, Any] = {"hidden": 32, "heads": 2, "lr": 0.25, "norm": True, "optimizer": "adam"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("hidden >= heads * 16", True),
        ("hidden > heads * 16", False),
        ("hidden % heads == 0 and hidden // heads <= 16", True),
        ("1 < heads < 3", True),
        ("2 < heads < 4", False),
        ("lr * heads / 2 == 0.25", True),
        ("max(hidden, heads * 32, 1) - min(heads, 3) != abs(-62) ", False),
        ("norm", True),
        ("not norm or lr < 0.1", False),
        ("norm == True", True),
        ("optimizer == 'adam' or momentum < 0.9", True),
        ('optimizer != "adam"', False),
        ("-heads + 3 > +0.5", True),
        ("momentum < 0", True),  # the trial does not have it
        ("heads / (hidden - 32) > 0", False),  # nothing can be worked out
        ("heads % (hidden - 32) == 0", False),
    ],
)
def test_what_it_says(text: str, holds: bool) -> None:
    read = expression.read(text, "where[0]")
    expression.check(read, SPACE, "where[0]")
    assert read.holds(VALUES) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "heads if lr else hidden",
        "heads ** 9 > 1",
        "heads << 2 > 1",
        "f'{heads}' == ''",
        "heads := 1",
        "heads = 1",
        "heads; lr",
        "min(*[1, 2]) > 0",
        "min(heads, key=abs) > 0",
        "min(heads) > 0",
        "abs(heads, 1) > 0",
        "min > 0",
        "eval('1') > 0",
        "heads in (1, 2)",
        "heads is 1",
        "1e400 > heads",
        "1j > heads",
        "None == heads",
        "heads[0] > 1",
        "(heads",
        "",
        "hea\x00ds > 1",
        "not " * 60 + "norm",
        "heads > " + "1 + " * 20 + "(" * 3 + "1" + ")" * 3,
        "heads" + " " * 300 + "> 1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        expression.read(text, "where[0]")
    assert error.value.field == "where[0]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width > 1", "where[0]: there is no parameter width; there are heads, hidden, lr, momentum, norm, optimizer"),
        ("1 < 2", "where[0]: '1 < 2' names no parameter"),
        ("heads + 1", "where[0]: 'heads + 1' is no condition, since it compares nothing"),
        ("optimizer + 1 > 2", "where[0]: optimizer is no number in optimizer + 1"),
        ("optimizer == 1", "where[0]: 1 is no text in optimizer == 1"),
        ("optimizer < 'b'", "where[0]: optimizer < 'b': only numbers have an order; use == or !="),
        ("norm > 0", "where[0]: 0 is no truth in norm > 0"),
        ("heads and norm", "where[0]: heads is no truth in heads and norm"),
        ("not heads", "where[0]: heads is no truth in not heads"),
        ("-optimizer == 1", "where[0]: optimizer is no number in -optimizer"),
        ("min(heads, norm) > 1", "where[0]: norm is no number in min(heads, norm)"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        expression.check(expression.read(text, "where[0]"), SPACE, "where[0]")
    assert str(error.value).startswith(message)


@hypothesis.given(strategies.text(alphabet="heads lr0123456789.+-*/%<>=()and or not min'\"[]_,", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    try:
        read = expression.read(text, "where")
        expression.check(read, SPACE, "where")
    except InvalidSpec:
        return
    assert read.holds(VALUES) in (True, False)


# ---- in the search

FLAT: dict[str, Parameter] = {name: parameter for name, parameter in SPACE.items() if name != "momentum"}
WHERE = ("hidden >= heads * 16", "norm or lr < 0.5")


def of(name: str, parameters: Mapping[str, Parameter] = SPACE, where: tuple[str, ...] = WHERE) -> ExperimentSpec:
    return spec(sampler=Algorithm(name), parameters=parameters, where=where)


@pytest.mark.parametrize(
    "name", sorted(set(samplers.SAMPLERS) - {"grid", "bruteForce", "external", "gradient", "schedule"})
)
def test_every_trial_fulfils_them(name: str) -> None:
    made = of(name)
    check.check(made)
    sampler, history = samplers.build(made), History([LOSS], SPACE)
    for number in range(24):
        params = sampler.suggest(history, number)
        assert made.space.holds(params)
        assert made.space.problem(params) is None
        history.add(Past(number, TrialState.COMPLETE, params, (float(params["lr"]) - float(params["heads"]),)))
    assert sampler.suggest(history, 24) == samplers.build(made).suggest(history, 24)


@pytest.mark.parametrize("name", ["cmaes", "nsgaii", "regularizedEvolution"])
def test_what_is_not_allowed_is_drawn_again_by_the_sampler_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a population at the edge of what is allowed, it asks for what is near; random draws come last."""
    box: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}
    settings = {"cmaes": {"sigma0": 0.05}}.get(name, {"populationSize": 10})
    made = spec(sampler=Algorithm(name, settings), parameters=box, where=("x < y",), seed=3)
    sampler, history = samplers.build(made), History([LOSS], box)
    dice = random.Random(1)
    for number in range(40):
        x = 0.5 + 0.01 * dice.random()
        history.add(Past(number, TrialState.COMPLETE, {"x": x, "y": x + 0.001}, (dice.random(),), None, float(number)))
    tries = [sampler.suggest(history, number) for number in range(40, 80)]
    monkeypatch.setattr(where, "AGAIN", frozenset())
    once = [samplers.build(made).suggest(history, number) for number in range(40, 80)]

    def far(asked: list[dict[str, ParamValue]]) -> int:
        return sum(abs(float(each["x"]) - 0.5) > 0.25 for each in asked)

    assert all(float(each["x"]) < float(each["y"]) for each in tries)
    assert far(tries) <= far(once)
    assert tries != once


def test_a_searchers_answer_that_is_not_allowed_is_replaced_and_it_is_told_of_what_was_tried() -> None:
    class Stubborn:
        told: list[searcher.Told] = []  # noqa: RUF012

        def tell(self, trials: Sequence[searcher.Told]) -> None:
            self.told += trials

        def ask(self, number: int, running: Mapping[int, Params]) -> Params:
            return {"x": 0.8, "y": 0.2 if number % 2 else 0.9}

    box: dict[str, Parameter] = {"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}
    made, one = spec(sampler=Algorithm("random"), parameters=box, where=("x < y",), seed=3), Stubborn()
    sampler = where.WhereSampler(made, external.ExternalSampler(made, lambda: one))
    history = History([LOSS], box)
    for number in range(6):
        params = sampler.suggest(history, number)
        assert made.space.holds(params)
        assert (params == {"x": 0.8, "y": 0.9}) == (number % 2 == 0)
        history.add(Past(number, TrialState.COMPLETE, params, (1.0,), None, float(number)))
    assert [dict(each.params) for each in one.told] == [dict(trial.params) for trial in list(history)[:5]]


def test_random_draws_are_those_without_conditions_as_far_as_they_hold() -> None:
    made, nothing = of("random"), History([LOSS], SPACE)
    plain = [samplers.build(of("random", where=())).suggest(nothing, number) for number in range(60)]
    found = [samplers.build(made).suggest(nothing, number) for number in range(60)]
    kept = [number for number in range(60) if made.space.holds(plain[number])]
    assert 10 < len(kept) < 50
    assert all(found[number] == plain[number] for number in kept)


@pytest.mark.parametrize("name", ["grid", "bruteForce"])
def test_a_grid_has_exactly_the_cells_that_fulfil_them(name: str) -> None:
    stepped = SPACE | {
        "lr": Double(0.0, 1.0, step=0.25),
        "momentum": Double(0.0, 1.0, step=0.5, when=SPACE["momentum"].when),
    }
    every = samplers.build(of(name, stepped, ()))
    made = of(name, stepped)
    check.check(made)
    sampler, history = samplers.build(made), History([LOSS], stepped)
    whole = (
        [every.suggest(History([LOSS], stepped), number) for number in range(every.capacity() or 0)]
        if name == "grid"
        else []
    )
    for number in range(sampler.capacity() or 0):
        history.add(Past(number, TrialState.RUNNING, sampler.suggest(history, number)))
    found = {tuple(sorted(trial.params.items())) for trial in history}
    assert len(found) == len(history) == sampler.capacity()
    if whole:
        assert found == {tuple(sorted(params.items())) for params in whole if made.space.holds(params)}


def test_what_nothing_fulfils_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    none = ("lr > 1",)
    with pytest.raises(InvalidSpec, match=r"^where: of 2000 random sets of parameters none fulfils lr > 1; correct it"):
        check.check(of("tpe", where=none))
    small = {"lr": Double(0.0, 1.0, step=0.5)}
    with pytest.raises(InvalidSpec, match=r"^where: no cell of the grid fulfils lr > 1; correct it"):
        check.check(of("grid", small, none))
    monkeypatch.setattr(grid, "ENUMERATED", 2)
    with pytest.raises(InvalidSpec, match=r"^where: the grid has 3 cells before the conditions, too many"):
        check.check(of("grid", small, ("lr > 0",)))


def test_a_set_that_a_person_gives_fulfils_them_and_is_filled_up_so() -> None:
    with pytest.raises(InvalidSpec, match=r"^initial\[0\]: it does not fulfil spec.where, hidden >= heads \* 16 and"):
        check.check(
            spec(**{**vars_of(of("tpe")), "given": (Given("initial/0", "initial[0]", {"heads": 4, "hidden": 8}),)})
        )
    made = spec(**{**vars_of(of("tpe")), "given": (Given("initial/0", "initial[0]", {"heads": 4}),)})
    queue = Queue(made, ())
    first = queue.first
    assert first is not None
    filled = queue.filled(first, {"hidden": 8, "lr": 0.1, "norm": True, "optimizer": "adam"}, 0)
    assert made.space.holds(filled)
    assert (filled["heads"], filled["hidden"]) == (4, 64)


def vars_of(made: ExperimentSpec) -> dict[str, Any]:
    return {"sampler": made.sampler, "parameters": made.parameters, "where": made.where}


def test_an_expression_is_equal_by_its_text() -> None:
    assert expression.read("heads > 1", "a") == expression.read("heads > 1", "b")
