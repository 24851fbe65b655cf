"""What the schema and the code both say, they say alike."""

import re

import yaml

from kubetune.api import names, spec
from kubetune.engine.pruners import PRUNERS
from kubetune.engine.samplers import SAMPLERS
from tests.chart import rendered

VERSION = yaml.safe_load((rendered.ROOT / "crds" / "kubetune.dev_experiments.yaml").read_text())["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]
FIELDS = SCHEMA["spec"]["properties"]
LEAST = {
    "objective": {"metric": "m", "direction": "minimize"},
    "parameters": {"x": {"int": [1, 2]}},
    "template": {"spec": {"containers": [{"name": "t", "image": "i"}]}},
}


def test_every_algorithm_can_be_named_and_no_other() -> None:
    assert set(FIELDS["sampler"]["properties"]["name"]["enum"]) == SAMPLERS.keys() | {"auto"}
    assert set(FIELDS["pruner"]["properties"]["name"]["enum"]) == PRUNERS.keys()


def test_the_same_names_are_reserved() -> None:
    rules = "\n".join(rule["rule"] for rule in FIELDS["parameters"]["x-kubernetes-validations"])
    patterns = set(re.findall(r"matches\('([^']*)'\)", rules))
    assert patterns == {names.RESERVED_ENV.pattern, names.PARAMETER_NAME.pattern}


def test_the_same_defaults() -> None:
    parsed = spec.parse({"metadata": {"namespace": "n", "name": "e", "uid": "u"}, "spec": LEAST})
    assert FIELDS["maxTrials"]["default"] == parsed.max_trials
    assert FIELDS["maxFailedTrials"]["default"] == parsed.max_failed_trials
    assert FIELDS["parallelism"]["properties"]["max"]["default"] == parsed.parallelism
    assert FIELDS["parallelism"]["properties"]["min"]["default"] == parsed.parallelism_min
    assert FIELDS["priority"]["default"] == parsed.priority
    assert FIELDS["suspend"]["default"] == parsed.suspend
    assert FIELDS["execution"]["default"] == parsed.execution
    assert FIELDS["slotsPerWorker"]["default"] == parsed.slots_per_worker
    assert FIELDS["sampler"]["properties"]["name"]["default"] == parsed.sampler.name
    assert FIELDS["metrics"]["properties"]["from"]["default"] == parsed.metrics.source
    assert FIELDS["objective"]["properties"]["value"]["default"] == parsed.objectives[0].value


def test_the_status_has_a_place_for_all_that_its_page_describes() -> None:
    page = (rendered.ROOT / "docs" / "status.md").read_text().partition("\n| condition |")[0]  # the fields' table
    described = {
        path for row in re.findall(r"^\| (`[^|]*`) \|", page, re.MULTILINE) for path in re.findall(r"`([\w.]+)", row)
    }
    top = {path.split(".")[0] for path in described if not path.startswith(".")}
    assert top == SCHEMA["status"]["properties"].keys()


def test_columns_and_scale_point_at_fields() -> None:
    scale = VERSION["subresources"]["scale"]
    columns = [column["jsonPath"] for column in VERSION["additionalPrinterColumns"]]
    for path in [scale["specReplicasPath"], scale["statusReplicasPath"], scale["labelSelectorPath"], *columns]:
        first, *rest = path.lstrip(".").split(".")
        if first == "metadata":
            continue
        found = SCHEMA[first]
        for part in rest:
            found = found["properties"][part]
        assert found["type"] in ("string", "integer"), path
