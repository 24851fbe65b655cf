"""A finite space's points are not asked for twice while others are left, and never kept from being asked at all."""

import math

import pytest

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, Parameter
from kubetune.api.trial import TrialState
from kubetune.engine import columns, samplers
from kubetune.engine.columns import Columns, Points
from kubetune.engine.history import History, Past
from kubetune.storage import space
from tests.unit.engine_objects import LOSS, spec

BOTH = ["random", "tpe"]
TWELVE: dict[str, Parameter] = {
    "layers": Int(1, 3),
    "optimizer": Categorical(("adam", "sgd")),
    "rate": Double(0.1, 0.3, step=0.2),
    "one": Categorical(("same",)),
}
MANY: dict[str, Parameter] = {"a": Int(1, 200, log=True), "b": Int(0, 100), "c": Categorical((False, True))}


def run(made: ExperimentSpec, history: History, count: int, running: int) -> None:
    """Ask for more trials, of which so many run at any time; the best is where all numbers are least."""
    sampler = samplers.build(made)
    for number in range(len(history), len(history) + count):
        params = sampler.suggest(history, number)
        history.add(Past(number, TrialState.RUNNING, params))
        first = history[max(0, number - running)]
        if number >= running and first.state is TrialState.RUNNING:
            loss = math.fsum(float(value) for value in first.params.values() if not isinstance(value, str))
            history.replace(Past(first.number, TrialState.COMPLETE, first.params, (loss,)))


def key(trial: Past) -> str:
    return str(sorted(trial.params.items()))


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("parallelism", [1, 5, 12])
def test_a_small_space_is_asked_once_over_before_anything_comes_again(name: str, parallelism: int) -> None:
    made = spec(sampler=Algorithm(name, {"nStartupTrials": 3} if name == "tpe" else {}), parameters=TWELVE, seed=1)
    history = History([LOSS], TWELVE)
    run(made, history, 12, parallelism)
    assert len({key(trial) for trial in history}) == 12
    run(made, history, 30, parallelism)  # more trials than points: they repeat
    assert len({key(trial) for trial in history}) == 12


@pytest.mark.parametrize("name", BOTH)
def test_what_runs_is_not_asked_for_while_others_are_left(name: str) -> None:
    """After every point was tried once, and among more running trials than TPE is shown."""
    made, history = spec(sampler=Algorithm(name), parameters=TWELVE, seed=2), History([LOSS], TWELVE)
    run(made, history, 12, 0)
    run(made, history, 8, 8)
    assert len({key(history[number]) for number in range(12, 20)}) == 8


def test_tpe_avoids_what_runs_in_a_space_too_large_to_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SMALL", 100)
    made, history = spec(sampler=Algorithm("tpe"), parameters=MANY, seed=3), History([LOSS], MANY)
    run(made, history, 160, 40)
    for number in range(40, 160):
        window = [key(history[earlier]) for earlier in range(number - 39, number + 1)]
        assert len(set(window)) == 40, number
    assert len({key(trial) for trial in history}) < 160  # what ended may come again: a good point, tried twice


@pytest.mark.parametrize("name", BOTH)
def test_the_same_is_drawn_again_after_a_restart(name: str) -> None:
    made, history = spec(sampler=Algorithm(name), parameters=TWELVE, seed=4), History([LOSS], TWELVE)
    run(made, history, 11, 3)
    loaded = History([LOSS], TWELVE)
    for trial in history:
        loaded.add(trial)
    assert samplers.build(made).suggest(loaded, 11) == samplers.build(made).suggest(history, 11)


def test_points_count_through_a_space_in_optunas_own_numbers() -> None:
    points, known = Points(TWELVE), space.distributions_of(dict(sorted(TWELVE.items())))
    assert points.size == 12
    rows = [points.free([point for point in range(12) if point != only], draw=7) for only in range(12)]
    seen = []
    for only, row in enumerate(rows):
        assert row is not None
        assert points.of(row.reshape(1, -1)).tolist() == [only]
        params = Columns(TWELVE).decode(row.tolist())
        assert all(known[name]._contains(known[name].to_internal_repr(value)) for name, value in params.items())
        assert set(params) == set(TWELVE)
        seen.append(str(params))
    assert len(set(seen)) == 12
    assert points.free(range(12), draw=7) is None


@pytest.mark.parametrize(
    ("parameter", "size"),
    [
        (Double(0.0, 1.0), None),
        (Double(1e-5, 1.0, log=True), None),
        (Double(0.5, 0.5), 1),
        (Double(0.0, 0.9, step=0.1), 10),
        (Double(0.1, 0.3, step=0.2), 2),
        (Double(0.0, 1.0, step=0.3), 4),
        (Int(0, 10, step=4), 3),
        (Int(1, 512, log=True), 512),
        (Categorical(("a",)), 1),
    ],
)
def test_how_many_points_a_parameter_has(parameter: Parameter, size: int | None) -> None:
    assert Points({"x": parameter}).size == size
    assert Points({"x": parameter, "y": Int(1, 2)}).size == (None if size is None else 2 * size)


def test_a_space_larger_than_can_be_counted_has_no_points() -> None:
    assert Points({f"x{place}": Int(1, 10**6) for place in range(11)}).size is None
