"""The example that searches an architecture: its network learns by the right slopes, its manifest fits its program."""

import dataclasses
import pathlib
import sys
from typing import Any

import numpy as np
import pytest
import yaml

from kubetune.api import spec
from kubetune.api.trial import TrialState
from kubetune.engine import check, samplers
from kubetune.engine.history import History, Past

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "architecture"


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "cells", raising=False)
    import cells

    return cells


def parsed() -> spec.ExperimentSpec:
    body = yaml.safe_load((FOLDER / "architecture.yaml").read_text())
    return spec.parse({**body, "metadata": {"namespace": "default", "uid": "u", **body["metadata"]}})


@pytest.mark.parametrize(
    "operations", [("conv3", "pool", "conv1"), ("pool", "conv3"), ("skip",), ("pool", "pool", "pool", "pool")]
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_slopes_are_those_of_finite_differences(cells: Any, operations: tuple[str, ...], activation: str) -> None:
    network = cells.Network([cells.Cell(each, activation) for each in operations], 3, (8, 8), 4, seed=1)
    rng = np.random.default_rng(2)
    images, digits = rng.normal(size=(5, 8, 8, 1)), rng.integers(0, 4, 5)

    def loss() -> float:
        scores = network.scores(images)
        shifted = scores - scores.max(axis=1, keepdims=True)
        return float(-(shifted[np.arange(5), digits] - np.log(np.exp(shifted).sum(axis=1))).mean())

    before = [weight.copy() for weight in network.weights]
    assert network.learn(images, digits, rate=0.0) == pytest.approx(loss())
    slopes = [each for layer in network.layers for each in layer.slopes]
    for weight, same, slope in zip(network.weights, before, slopes, strict=True):
        assert (weight == same).all()
        for _ in range(5):
            place = tuple(int(rng.integers(size)) for size in weight.shape)
            kept = weight[place]
            sides = []
            for away in (-1e-5, 1e-5):
                weight[place] = kept + away
                sides.append(loss())
            weight[place] = kept
            assert slope[place] == pytest.approx((sides[1] - sides[0]) / 2e-5, abs=1e-6)


def test_it_learns(cells: Any) -> None:
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 2, 64)
    images = rng.normal(size=(64, 8, 8, 1)) * 0.1
    images[digits == 1, :4] += 1.0
    network = cells.Network([cells.Cell("conv3"), cells.Cell("pool")], 4, (8, 8), 2, seed=0)
    losses = [network.learn(images, digits, 0.01) for _ in range(40)]
    assert losses[-1] < losses[0] / 5
    assert (network.scores(images).argmax(axis=1) == digits).mean() > 0.95


def test_the_manifest_fits_the_program_and_can_be_run() -> None:
    made = parsed()
    check.check(made)
    container = made.template["spec"]["containers"][0]
    assert {name for text in container["args"] for name in spec.references(text)} == set(made.parameters)
    program = (FOLDER / "architecture.py").read_text()
    for text in container["args"]:
        option = text.split("=")[0]
        assert f'"{option}"' in program or f'"{option[:-1]}{{place}}"' in program


@pytest.mark.parametrize("name", ["regularizedEvolution", "tpe"])
def test_an_architecture_has_the_operations_of_its_cells_only(name: str) -> None:
    made = parsed()
    settings = made.sampler.settings if name == made.sampler.name else {}
    made = dataclasses.replace(made, sampler=spec.Algorithm(name, settings))
    sampler, history = samplers.build(made), History(made.objectives, made.parameters, ["weights.max"])
    for number in range(40):
        params = sampler.suggest(history, number)
        has = {f"op{place}" for place in range(1, int(params["cells"]) + 1)}
        acts = {f"act{each[2]}" for each in has if str(params[each]).startswith("conv")}
        assert params.keys() == has | acts | {"cells", "channels", "lr"}
        history.add(
            Past(number, TrialState.COMPLETE, params, (number / 40,), None, float(number), {"weights.max": -1.0})
        )
