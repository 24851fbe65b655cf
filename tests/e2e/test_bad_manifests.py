"""Each wrong manifest is refused with words that name the field and what to do; what may change later, may."""

import copy
import datetime
import functools
import json
import re
from typing import Any

import kubernetes
import pytest

from tests.e2e import cluster
from tests.e2e.bad_manifests import ADMISSION, CASES, CHANGES, GOOD, INVALID, Case

# What a person should never be shown: how a rule is written, and how it broke.
JARGON = re.compile(
    r"x-kubernetes|self\.|has\(|no such key|index out of bounds|should match|\^\(|evaluation|stack|Traceback"
)
FIELD = re.compile(r"\bspec\.|\bmetadata\.name|\b(?:template|sampler|pruner|metrics)\.|\bnamespace ")


@functools.cache
def api() -> Any:
    kubernetes.config.load_kube_config()  # type: ignore[no-untyped-call]
    return kubernetes.client.CustomObjectsApi()


def create(body: cluster.Json, namespace: str, dry_run: bool = False) -> str:
    """As kubectl does (unknown fields are errors), without a process each. Returns why it was refused, "" if not."""
    options: dict[str, str] = {"field_validation": "Strict", **({"dry_run": "All"} if dry_run else {})}
    try:
        api().create_namespaced_custom_object("kubetune.dev", "v1alpha1", namespace, "experiments", body, **options)
    except kubernetes.client.ApiException as refusal:
        return str(json.loads(refusal.body or "{}")["message"])
    return ""


def ids(kind: str) -> list[Case]:
    return [case for case in CASES if case.kind == kind]


def test_there_are_a_hundred_and_each_once() -> None:
    assert len(CASES) >= 100
    assert len({case.id for case in CASES}) == len(CASES)


def test_the_good_one_that_they_all_change_is_taken() -> None:
    assert create(GOOD, "default", dry_run=True) == ""


@pytest.mark.parametrize("case", ids(ADMISSION), ids=lambda case: case.id)
def test_refused_at_admission(case: Case) -> None:
    said = create(case.manifest(), "default", dry_run=True)
    assert case.expected in said
    assert FIELD.search(said), said
    assert not JARGON.search(said), said


def test_found_by_the_operator_and_nothing_created(namespace: str) -> None:
    """All at once: five seconds each would be a long time, and one must not hold up another."""
    cases = ids(INVALID)
    for case in cases:
        assert create(case.manifest(), namespace) == "", f"{case.id}: the API server refuses it already"
    wrong = [f"{case.id}: {complaint}" for case in cases if (complaint := complaint_about(case, namespace))]
    assert not wrong, "\n".join(wrong)
    assert not cluster.kubectl_json("get", "jobs", "-n", namespace)["items"]


def complaint_about(case: Case, namespace: str) -> str:
    experiment = cluster.Experiment(namespace, case.id)
    status = experiment.wait("Invalid", timeout=30)
    message = str(experiment.condition("Invalid")["message"])
    print(f"{case.id}: Invalid after {seconds_until_invalid(experiment)} s, in whole seconds")
    if status["state"] != "Invalid":
        return f"its state is {status['state']}"
    if case.expected not in message:
        return f"says {message!r}, expected {case.expected!r}"
    return f"shows how it broke: {message!r}" if JARGON.search(message) else ""


def seconds_until_invalid(experiment: cluster.Experiment) -> float:
    """From the resource's creation to the condition; Kubernetes has both in whole seconds. Shown, not asserted."""
    created = cluster.kubectl_json("get", "experiment", experiment.name, "-n", experiment.namespace)["metadata"]
    begin, end = created["creationTimestamp"], experiment.condition("Invalid")["lastTransitionTime"]
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(begin)).total_seconds()


def test_mending_it_starts_it(namespace: str) -> None:
    case = next(case for case in CASES if case.id == "beyond-unknown-reference")
    body = case.manifest()
    body["spec"]["suspend"] = True  # no pod is needed to see that it is taken
    assert create(body, namespace) == ""
    experiment = cluster.Experiment(namespace, case.id)
    experiment.wait("Invalid", timeout=30)
    experiment.patch({"template": GOOD["spec"]["template"]})
    experiment.wait("Suspended", timeout=30)
    assert experiment.condition("Invalid")["status"] == "False"


def test_an_edit_that_cannot_be_run_leaves_the_spec_before_in_force(namespace: str) -> None:
    """Suspended, so that no pod is needed to see it."""
    body = copy.deepcopy(GOOD)
    body["metadata"]["name"] = "edited"
    body["spec"]["suspend"] = True
    assert create(body, namespace) == ""
    experiment = cluster.Experiment(namespace, "edited")
    experiment.wait("Suspended", timeout=30)
    container = {**GOOD["spec"]["template"]["spec"]["containers"][0], "args": ["--x=$(nothing)"]}
    experiment.patch({"template": {"spec": {"containers": [container]}}})
    status = experiment.wait("Invalid", timeout=30)
    assert (status["state"], status["observedGeneration"]) == ("Suspended", 1)
    assert "goes on with the spec of generation 1" in experiment.condition("Invalid")["message"]
    experiment.patch({"template": GOOD["spec"]["template"]})
    cluster.wait_for("it is mended", lambda: experiment.condition("Invalid")["status"] == "False", timeout=30)
    assert experiment.status()["observedGeneration"] == 3


def test_what_may_change_once_it_has_started(namespace: str) -> None:
    body = copy.deepcopy(GOOD)
    body["spec"]["suspend"] = True
    body["spec"]["parameters"]["batch"] = {"values": [32, 64.5]}  # number lists have been unequal to themselves
    assert create(body, namespace) == ""
    experiment = cluster.Experiment(namespace, "good")
    cluster.wait_for("it has started", lambda: experiment.status().get("startTime"), timeout=30)
    wrong = []
    for name, patch, expected in CHANGES:
        try:
            cluster.kubectl(
                "patch", "experiment", "good", "-n", namespace, "--type=merge", "--dry-run=server",
                "-p", json.dumps({"spec": patch}),
            )  # fmt: skip
            said = ""
        except cluster.CommandError as refusal:
            said = str(refusal)
        if expected not in said or bool(said) != bool(expected):
            wrong.append(f"{name}: expected {expected or 'to be taken'!r}, said {said!r}")
    assert not wrong, "\n".join(wrong)
