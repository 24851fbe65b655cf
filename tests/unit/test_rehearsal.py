"""Which Jobs a spec comes to, and which field the API server's words about one of them mean."""

from typing import Any

import pytest

from kubetune.api import spec as api
from kubetune.controller import rehearsal
from kubetune.controller.jobs import Wiring
from kubetune.controller.rehearsal import Rehearsed
from kubetune.simulator.scenario import experiment

HELD_OUT = {"name": "held-out", "configMap": {"name": "held-out"}}
MOUNT = {"name": "held-out", "mountPath": "/held-out"}
AFTER: dict[str, Any] = {
    "refit": {"args": ["--full-data"], "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}]},
    "test": {"volumes": [{"name": "other", "emptyDir": {}}, HELD_OUT], "volumeMounts": [MOUNT]},
}


def jobs_of(in_workers: bool = False, **spec: Any) -> dict[str, Rehearsed]:
    body = experiment("exp", **spec)
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    body["spec"]["template"]["spec"]["containers"][0]["command"] = ["train"]
    found = rehearsal.jobs_of(api.parse(body), in_workers, Wiring("https://gateway"))
    return {f"{each.part}: {each.what}": each for each in found}


def test_a_job_of_each_form_is_tried() -> None:
    assert list(jobs_of()) == ["template: the Job"]
    assert [each.partition(":")[0] for each in jobs_of(**AFTER)] == ["template", "refit", "test"]
    assert len(jobs_of(finalists={})) == 1  # as the search's, but for a seed
    assert list(jobs_of(True, finalists={})) == ["template: the Job", "template: a finalist's Job"]


@pytest.mark.parametrize(
    ("which", "part", "entry", "field"),
    [
        ("test", "volumes", HELD_OUT, "test.volumes[1]"),
        ("test", "volumes", {"name": "data", "emptyDir": {}}, "test"),
        ("test", "volumeMounts", MOUNT, "test.volumeMounts[0]"),
        ("refit", "env", AFTER["refit"]["env"][1], "refit.env[1]"),
    ],
)
def test_what_the_server_says_of_an_entry_is_said_of_its_field(
    which: str, part: str, entry: dict[str, Any], field: str
) -> None:
    job = next(each for each in jobs_of(**AFTER).values() if each.part == which)
    pod = job.body["spec"]["template"]["spec"]
    where = "" if part == "volumes" else "containers[0]."
    place = (pod if part == "volumes" else pod["containers"][0])[part].index(entry)
    assert job.field(f'Job "x" is invalid: spec.template.spec.{where}{part}[{place}].name: Not found') == field
    assert job.field(f'unknown field "spec.template.spec.{where}{part}[99].configmap"') == which
    assert job.field("exceeded what is allowed") == which
