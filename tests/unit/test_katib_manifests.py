"""The cases taken from Katib's examples: each can be run, and its program reads what it is given."""

import ast
import pathlib
from typing import Any

import pytest
import re2
import yaml

from kubetune.api import spec
from kubetune.engine import check

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "katib"
CASES = sorted(path for path in FOLDER.glob("*.yaml") if yaml.safe_load(path.read_text())["kind"] == "Experiment")


def parsed(path: pathlib.Path) -> spec.ExperimentSpec:
    body = yaml.safe_load(path.read_text())
    return spec.parse({**body, "metadata": {"namespace": "default", "uid": "u", **body["metadata"]}})


def container(made: spec.ExperimentSpec) -> dict[str, Any]:
    found: dict[str, Any] = made.template["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_can_be_run(path: pathlib.Path) -> None:
    made = parsed(path)
    check.check(made)
    assert made.name == f"katib-{path.stem}"
    assert len(made.warm_start) <= 1
    for other in made.warm_start:
        assert (FOLDER / f"{other.removeprefix('katib-')}.yaml") in CASES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_its_program_is_python_and_given_every_parameter(path: pathlib.Path) -> None:
    trial = container(parsed(path))
    assert trial["command"][:2] == ["python3", "-c"]
    program = trial["command"][2]
    ast.parse(program)
    told = {name for text in trial.get("args", ()) for name in spec.references(text)}
    assert told == set(parsed(path).parameters) or "kt.parameters()" in program


def test_each_is_in_the_table() -> None:
    page = (FOLDER / "README.md").read_text()
    assert [path.name for path in CASES if f"({path.name})" not in page] == []


def test_the_pattern_of_a_filter_reads_its_programs_lines() -> None:
    made = parsed(FOLDER / "file.yaml")
    (match,) = re2.finditer(made.metrics.pattern, "{metricName: accuracy, metricValue: 0.910000}")
    assert (match.group("metric"), match.group("value")) == ("accuracy", "0.910000")
