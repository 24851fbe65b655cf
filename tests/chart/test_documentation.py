"""The reference pages say all that there is, and nothing that is not."""

import re
from collections.abc import Iterator

import yaml

from tests.chart import rendered
from tests.chart.rendered import Json

SPEC = yaml.safe_load((rendered.ROOT / "crds" / "kubetune.dev_experiments.yaml").read_text())["spec"]["versions"][0][
    "schema"
]["openAPIV3Schema"]["properties"]["spec"]


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
