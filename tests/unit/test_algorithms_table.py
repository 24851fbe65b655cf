"""docs/algorithms.md has a row for each sampler and pruner there is, and the test that a row names is about it."""

import pathlib
import re

import pytest

from kubetune.engine.pruners import PRUNERS
from kubetune.engine.samplers import SAMPLERS

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "algorithms.md").read_text()
COLUMNS = ("name", "source", "reference", "test", "cost", "when")
# Names by which tests know what they test, where it is not the sampler's or pruner's own.
CALLED = {"nsgaiii": "III", "differentialEvolution": "differential", "regularizedEvolution": "regularized"}


def rows(head: str) -> dict[str, dict[str, str]]:
    """The table whose first column is named so, by each of the names in its first column."""
    table = PAGE.split(f"\n| `{head}` | source |")[1].split("\n\n")[0].splitlines()[2:]
    found: dict[str, dict[str, str]] = {}
    test = ""
    for line in table:
        cells = dict(zip(COLUMNS, [cell.strip() for cell in line.strip("|").split("|")], strict=True))
        test = cells["test"] = cells["test"] if "](" in cells["test"] else test  # "the same"
        found |= dict.fromkeys(re.findall(r"`(\w+)`", cells["name"]), cells)
    return found


TABLES = {"sampler.name": SAMPLERS, "pruner.name": PRUNERS}


@pytest.mark.parametrize("head", TABLES)
def test_each_has_a_row_and_each_row_is_of_one_that_there_is(head: str) -> None:
    assert rows(head).keys() == TABLES[head].keys() - {"none"}


@pytest.mark.parametrize(("head", "name"), [(head, name) for head, known in TABLES.items() for name in rows(head)])
def test_a_row_is_whole_and_its_tests_are_about_it(head: str, name: str) -> None:
    row = rows(head)[name]
    assert row["cost"]
    assert row["when"]
    paths = re.findall(r"\]\(\.\./(tests/unit/\w+\.py)\)", row["test"])
    assert paths
    texts = [(ROOT / path).read_text() for path in paths]
    assert any(re.search(CALLED.get(name, name), text) for text in texts)
