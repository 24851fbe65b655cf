"""The examples and the manifests in docs/: what a beginner copies must be right, and links must lead somewhere."""

import pathlib
import re
from typing import Any

import pytest
import re2
import yaml

from kubetune.api import spec

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*/experiment*.yaml"))
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
]
FENCE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ANCHOR = re.compile(r"\]\(([^)#\s]+)#([^)\s]+)\)")


def experiments_in(page: pathlib.Path) -> list[dict[str, Any]]:
    """The whole Experiments among a page's YAML blocks."""
    documents = [one for block in FENCE.findall(page.read_text()) for one in yaml.safe_load_all(block)]
    return [one for one in documents if isinstance(one, dict) and one.get("kind") == "Experiment"]


def parse(body: dict[str, Any]) -> spec.ExperimentSpec:
    metadata = {"namespace": "default", "uid": "u", **body["metadata"]}
    return spec.parse({**body, "metadata": metadata})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_hands_every_parameter_to_its_program(path: pathlib.Path) -> None:
    body = yaml.safe_load(path.read_text())
    parsed = parse(body)
    container = parsed.template["spec"]["containers"][0]
    known = {*parsed.parameters, *([parsed.fidelity.name] if parsed.fidelity else [])}
    named = {name for text in container["args"] for name in spec.references(text)}
    assert {name for name in named if not name.startswith("KUBETUNE_")} == known
    options = (ROOT / "examples" / "digits" / "digits.py").read_text()  # the deep dives use its image
    for text in container["args"]:
        assert f'"{text.split("=")[0]}"' in options


def test_the_digits_examples_differ_in_what_they_are_about_only() -> None:
    bodies = {path.name: yaml.safe_load(path.read_text())["spec"] for path in EXAMPLES if path.parent.name == "digits"}
    plain, log, gpu = (bodies[f"experiment{kind}.yaml"] for kind in ("", "-nocode", "-gpu"))
    assert log.pop("metrics") == {"from": "log"}
    assert log["template"]["spec"]["containers"][0].pop("command") == ["python", "train_plain.py"]
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"].pop("nvidia.com/gpu") == 1
    assert plain == log == gpu


def test_the_deep_dives_search_the_same_space_and_differ_in_the_pruner_only() -> None:
    asha, hyperband = (
        yaml.safe_load((ROOT / "examples" / name / "experiment.yaml").read_text())["spec"]
        for name in ("asha", "hyperband")
    )
    assert (asha.pop("pruner")["name"], hyperband.pop("pruner")["name"]) == ("asha", "hyperband")
    assert asha == hyperband


def test_ashas_two_forms_search_the_same_space() -> None:
    stopping, promotion = (
        parse(yaml.safe_load((ROOT / "examples" / "asha" / f"experiment{form}.yaml").read_text()))
        for form in ("", "-promotion")
    )
    assert stopping.parameters == promotion.parameters
    assert promotion.fidelity == spec.Fidelity("epochs", 1.0, 27.0)
    assert "--epochs=27" in stopping.template["spec"]["containers"][0]["args"]


def test_the_default_pattern_reads_what_the_plain_program_prints() -> None:
    line = re.search(r'print\(f"(epoch=.*?)"', (ROOT / "examples/digits/train_plain.py").read_text())
    assert line
    printed = re.sub(r"\{[^}]*\}", "0.5", line.group(1))
    found = {match.group("metric") for match in re2.finditer(spec.DEFAULT_PATTERN, printed)}
    assert found == {"epoch", "loss", "accuracy"}


@pytest.mark.parametrize("page", [page for page in PAGES if experiments_in(page)], ids=lambda page: page.name)
def test_experiments_shown_to_people_can_be_run(page: pathlib.Path) -> None:
    for body in experiments_in(page):
        assert parse(body).parameters


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_that_exist(page: pathlib.Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings_that_exist(page: pathlib.Path) -> None:
    links = [(link, heading) for link, heading in ANCHOR.findall(page.read_text()) if "://" not in link]
    assert [f"{link}#{heading}" for link, heading in links if heading not in anchors(page.parent / link)] == []


def anchors(page: pathlib.Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("index", ["docs", "docs/decisions", "examples"])
def test_an_index_names_all_that_is_there(index: str) -> None:
    folder = ROOT / index
    pages = {page.name for page in folder.glob("*.md")} | {
        str(page.relative_to(folder)) for page in folder.glob("*/README.md")
    }
    assert pages - set(LINK.findall((folder / "README.md").read_text())) == {"README.md"}


class Strict(yaml.SafeLoader):
    """A key that stands twice in a mapping is an error: YAML's, of which PyYAML takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: a key stands twice among {keys}"
        return super().construct_mapping(node, deep)


@pytest.mark.parametrize(
    "path",
    [ROOT / "charts" / "kubetune" / "values.yaml", *ROOT.glob("crds/*.yaml"), *ROOT.glob("examples/**/*.yaml")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_key_stands_twice(path: pathlib.Path) -> None:
    assert list(yaml.load_all(path.read_text(), Strict))
