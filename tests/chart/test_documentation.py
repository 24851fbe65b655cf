"""The reference pages say all that there is, and nothing that is not."""

import argparse
import re
from collections.abc import Iterator

import yaml

from kubetune.api.insight import AdviceKind
from kubetune.api.trial import Reason
from kubetune.cli import main
from tests.chart import rendered
from tests.chart.rendered import Json

SCHEMA = yaml.safe_load((rendered.ROOT / "crds" / "kubetune.dev_experiments.yaml").read_text())["spec"]["versions"][0][
    "schema"
]["openAPIV3Schema"]["properties"]
SPEC, STATUS = SCHEMA["spec"], SCHEMA["status"]
# Reasons of what the operator does, which no page needs: they stand in its log.
INNER = {"SlotFree", "Promoted", "JobMissing", "Drained", "StaleAttempt", "Completed"}


def fields(schema: Json, prefix: str = "") -> Iterator[str]:
    """Paths of the spec as the page writes them; below `template` and `settings` they are not ours."""
    for name, below in schema.get("properties", {}).items():
        path = prefix + name
        if path in ("template", "objectives") or "properties" not in below | below.get("additionalProperties", {}):
            yield path
        elif "properties" in below:
            yield from fields(below, path + ".")
        else:
            yield from fields(below["additionalProperties"], path + ".NAME.")


def test_every_field_is_on_the_page_and_every_field_on_the_page_is_there() -> None:
    page = (rendered.ROOT / "docs" / "experiment.md").read_text()
    written = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)) | {"template"}
    assert written == set(fields(SPEC))


def test_the_pages_settings_are_the_charts() -> None:
    page = (rendered.ROOT / "docs" / "install.md").read_text()
    table = page.split("## Settings")[1].split("## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    written = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    schema = yaml.safe_load((rendered.CHART / "values.schema.json").read_text())
    assert written == schema["properties"]["settings"]["properties"].keys()


def page(name: str) -> str:
    return (rendered.ROOT / "docs" / name).read_text()


def test_every_field_of_the_status_is_on_its_page() -> None:
    """``| `winner.trial`, `.runs` |``: a name that begins with a dot has the first one's beginning."""
    written = set()
    for row in re.findall(r"^\| (`[a-z].*?) \|", page("status.md").split("## Conditions")[0], re.MULTILINE):
        first, *others = re.findall(r"`([\w.]+)", row)
        written |= {first, *(first.split(".")[0] + other for other in others)}
    assert written == set(fields_of_status(STATUS))


def fields_of_status(schema: Json, prefix: str = "") -> Iterator[str]:
    for name, below in schema["properties"].items():
        if prefix + name == "stage" or "properties" not in below:  # a stage's are told in its row
            yield prefix + name
        else:
            yield from fields_of_status(below, f"{prefix}{name}.")


def test_every_condition_and_every_reason_has_its_line() -> None:
    conditions = page("status.md").split("## Conditions")[1]
    assert {kind for kind in AdviceKind if f"`{kind}`" not in conditions} == set()
    told = page("status.md") + page("troubleshooting.md") + page("parallelism.md")
    assert {str(reason) for reason in Reason if f"`{reason}`" not in told} == INNER


def test_every_command_has_its_line_and_every_line_its_command() -> None:
    commands = next(one for one in main.parser()._actions if isinstance(one, argparse._SubParsersAction))
    rows = re.findall(r"^\| (`kubectl tune .*?) \|", page("kubectl-tune.md").replace("\\|", "/"), re.MULTILINE)
    written = {name for row in rows for name in re.findall(r"`(?:kubectl tune )?([a-z]+)", row)}
    assert written == set(commands.choices)
