"""examples/pbt: its manifest can run, hands over its parameters, and its comparison trains what it says."""

import importlib
import pathlib
from typing import Any

import pytest

from kubetune.api import spec
from kubetune.engine import check

FOLDER = pathlib.Path(__file__).parents[2] / "examples/pbt"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("against_random")


def test_its_manifest_can_run_and_hands_every_parameter_to_its_program(example: Any) -> None:
    made = example.experiment(1)
    check.check(made)
    (container,) = made.template["spec"]["containers"]
    assert {name for text in container["args"] for name in spec.references(text)} == set(made.parameters)
    program = (FOLDER / "segment.py").read_text()
    assert all(f'"{text.split("=")[0]}"' in program for text in container["args"])
    assert f'"--epochs", type=int, default={example.EPOCHS}' in program


def test_a_members_state_goes_on_from_its_parents(example: Any) -> None:
    made = example.experiment(1, maxTrials=20, parallelism={"max": 8})
    found = example.run(made, 1)
    assert [len(each.rates) for each in found] == [1] * 8 + [2] * 8 + [3] * 4
    assert min(found[8:]).validation < min(found[:8]).validation  # trained longer, from the better ones
