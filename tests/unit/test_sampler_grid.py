"""Grid search: the exact number of cells, each of them once, as a pure function of the trial's number."""

import itertools
import math

import pytest

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, InvalidSpec, Parameter
from kubetune.engine import samplers
from kubetune.engine.history import History
from kubetune.engine.samplers import grid
from kubetune.storage import space
from tests.unit.engine_objects import LOSS, spec

NOTHING = History([LOSS], {})


def cells(spec: ExperimentSpec, count: int | None = None) -> list[dict[str, object]]:
    sampler = samplers.build(spec)
    capacity = sampler.capacity()
    assert capacity is not None
    return [dict(sampler.suggest(NOTHING, number)) for number in range(count or capacity)]


def on(parameters: dict[str, Parameter], seed: int | None = None, **settings: object) -> ExperimentSpec:
    return spec(parameters=parameters, sampler=Algorithm("grid", settings), seed=seed)


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        (Int(1, 4), [1, 2, 3, 4]),
        (Int(-3, 3, step=3), [-3, 0, 3]),
        (Int(0, 10, step=4), [0, 4, 8]),
        (Int(1, 3, log=True), [1, 2, 3]),
        (Double(0.0, 0.5, step=0.1), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (Double(0.1, 0.7, step=0.2), [0.1, 0.3, 0.5, 0.7]),
        (Double(0.0, 1.0, step=0.3), [0.0, 0.3, 0.6, 0.9]),
        (Double(1e-05, 3e-05, step=1e-05), [1e-05, 2e-05, 3e-05]),
        (Categorical(("relu", "tanh")), ["relu", "tanh"]),
        (Categorical((0.5, 2, 8)), [0.5, 2, 8]),
        (Categorical((False, True)), [False, True]),
        (Categorical(("only",)), ["only"]),
    ],
)
def test_values_of_one_parameter(parameter: Parameter, values: list[object]) -> None:
    found = [cell["x"] for cell in cells(on({"x": parameter}, shuffle=False))]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize("parameter", [Double(0.0, 1.0, step=0.3), Double(0.1, 0.7, step=0.1), Int(0, 10, step=4)])
def test_values_are_those_that_optuna_knows(parameter: Parameter) -> None:
    known = space.distribution(parameter)
    for cell in cells(on({"x": parameter})):
        assert known._contains(known.to_internal_repr(cell["x"]))


SPACE: dict[str, Parameter] = {
    "a": Int(1, 3),
    "b": Double(0.0, 0.2, step=0.1),
    "c": Categorical(("x", "y")),
}
PRODUCT = [dict(zip("abc", cell, strict=True)) for cell in itertools.product((1, 2, 3), (0.0, 0.1, 0.2), ("x", "y"))]


def test_plain_order_runs_the_last_parameter_fastest() -> None:
    assert cells(on(SPACE, shuffle=False)) == PRODUCT


def test_shuffled_order_has_each_cell_once_and_depends_on_the_seed() -> None:
    orders = [cells(on(SPACE, seed)) for seed in (1, 1, 2, None)]
    assert orders[0] == orders[1]
    for order in orders:
        assert sorted(order, key=str) == sorted(PRODUCT, key=str)
    distinct = {str(order) for order in [*orders, PRODUCT]}
    assert len(distinct) == 4


def test_order_of_the_parameters_in_the_manifest_does_not_matter() -> None:
    assert cells(on(SPACE, 1)) == cells(on(dict(reversed(SPACE.items())), 1))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 16, 17, 100, 255, 256, 257, 1000])
def test_permutation_of_any_size(size: int) -> None:
    assert sorted(grid.permute(index, size, "key") for index in range(size)) == list(range(size))


def test_permutation_of_a_grid_larger_than_memory() -> None:
    huge: dict[str, Parameter] = {name: Int(0, 999) for name in "abcdefg"}
    sampler = samplers.build(on(huge, 1))
    assert sampler.capacity() == 1000**7
    first = cells(on(huge, 1), count=500)
    assert len({str(cell) for cell in first}) == 500
    assert sampler.suggest(NOTHING, 1000**7 - 1).keys() == huge.keys()
    quarter = [sum(cell[name] < 250 for cell in first) for name in huge]  # type: ignore[operator]
    assert all(80 < count < 170 for count in quarter)  # spread over the space: 125 of 500 expected


def test_a_cell_that_is_not_there_is_an_error() -> None:
    sampler = samplers.build(on(SPACE))
    assert sampler.capacity() == math.prod((3, 3, 2)) == len(PRODUCT)
    with pytest.raises(IndexError, match="the grid has 18 cells, there is no cell 18"):
        sampler.suggest(NOTHING, 18)


@pytest.mark.parametrize("parameter", [Double(0.0, 1.0), Double(1e-4, 1.0, log=True)])
def test_a_double_without_step_is_refused_with_what_to_do(parameter: Double) -> None:
    with pytest.raises(InvalidSpec) as error:
        samplers.build(on({"a": Int(1, 2), "lr": parameter}))
    assert str(error.value) == (
        "parameters.lr: grid tries every value, and a double without step has no end of them; give it a step, "
        f"sampler.settings.points: 5, or list values: [{parameter.low}, 1.0], or take sampler random or tpe"
    )
