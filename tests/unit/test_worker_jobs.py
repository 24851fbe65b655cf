"""A worker's Job: the user's pod with the agent in it; and when `auto` would have one."""

import json
from typing import Any

import pytest

import kubetune_worker
from kubetune.api import names
from kubetune.api.spec import Categorical, Double, Json, Metrics
from kubetune.api.trial import WorkerRow
from kubetune.controller import execution, jobs, views, worker_jobs
from kubetune.controller.execution import Timing
from kubetune.controller.jobs import Wiring
from kubetune.controller.plan import JobPhase
from tests.unit import loop_objects as o

WIRING = Wiring("https://gateway:8443", "-----BEGIN CERTIFICATE-----", "kubetune/trial:test")
COMMAND = {"name": "trial", "image": "digits:1", "command": ["python", "train.py"], "args": ["--lr=$(lr)", "$$x"]}


def build(pod: Json | None = None, container: Json | None = None, **spec: Any) -> Json:
    body = {"containers": [{**COMMAND, **(container or {})}], **(pod or {})}
    return worker_jobs.build_worker(o.spec(template={"spec": body}, **spec), WorkerRow(3, 2, o.NOW), WIRING)


def pod_of(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]
    return found


def agent(job: Json) -> kubetune_worker.Settings:
    """What the agent reads, as the kubelet would give it."""
    container = pod_of(job)["containers"][0]
    variables = {
        each["name"]: kubetune_worker.expand(each["value"], {}) for each in container["env"] if "value" in each
    }
    return kubetune_worker.Settings(variables, [kubetune_worker.expand(each, {}) for each in container["args"]])


def test_name_and_labels_say_that_it_is_a_worker() -> None:
    job = build()
    assert job["metadata"]["name"] == names.worker_name("digits", o.UID, 3, 2)
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert (labels[names.LABEL_WORKER], labels[names.LABEL_INCARNATION]) == ("3", "2")
        assert labels[names.LABEL_COMPONENT] == "worker"
        assert labels[names.LABEL_EXPERIMENT_UID] == o.UID
        assert not {names.LABEL_TRIAL, names.LABEL_ATTEMPT} & set(labels)
    stamped = {**job, "metadata": {**job["metadata"], "uid": "w", "creationTimestamp": None}}
    view = views.job(stamped)
    assert (view.worker, view.number, view.attempt) == (True, 3, 2)
    assert views.experiment_uid(stamped) == o.UID


def test_its_name_is_no_trials() -> None:
    assert names.worker_name("digits", o.UID, 3, 2) != names.job_name("digits", o.UID, 3, 2)
    assert len(names.worker_name("e" * 80, o.UID, 12345, 12345)) <= 63


def test_the_agent_knows_which_parameters_not_every_trial_has() -> None:
    parameters = {
        "lr": Double(0.0, 1.0),
        "optimizer": Categorical(("adam", "sgd")),
        "momentum": Double(0.0, 1.0, when=(("optimizer", ("sgd",)),)),
    }
    job = build(container={"args": ["--lr=$(lr)", "--momentum=$(momentum)"]}, parameters=parameters)
    assert agent(job).conditional == ["momentum"]
    assert agent(job).command == ["python", "train.py", "--lr=$(lr)", "--momentum=$(momentum)"]
    assert agent(build()).conditional == []


def test_the_agent_gets_the_users_command_as_it_stands() -> None:
    job = build()
    assert pod_of(job)["containers"][0]["command"] == ["python3", "/kubetune/kubetune_worker.py", "--"]
    assert agent(job).command == ["python", "train.py", "--lr=$(lr)", "$$x"]


@pytest.mark.parametrize("parent", [None, 0, 3])
def test_a_trial_sees_in_a_worker_what_it_sees_in_a_pod_of_its_own(parent: int | None) -> None:
    """The environment, but for the token file and what is the worker's."""
    env = [{"name": "RATE", "value": "r-$(lr)-$(KUBETUNE_TRIAL)"}, {"name": "PLAIN", "value": "a$$b"}]
    spec = o.spec(template={"spec": {"containers": [{**COMMAND, "env": env}]}}, seed=7)
    own: dict[str, str] = {}
    body = jobs.build_job(spec, 5, 1, {"lr": 0.01, "name": "x$(lr)"}, WIRING, parent)
    for variable in pod_of(body)["containers"][0]["env"]:
        own[variable["name"]] = kubetune_worker.expand(variable["value"], own)
    settings = agent(worker_jobs.build_worker(spec, WorkerRow(0, 1, o.NOW), WIRING))
    grant = kubetune_worker.Grant(5, 1, {"lr": 0.01, "name": "x$(lr)"}, parent)
    assert kubetune_worker.trial_environment(settings, grant, own[names.ENV_TOKEN_FILE]) == own


def test_the_deadline_is_the_agents_to_keep() -> None:
    job = build(pod={"activeDeadlineSeconds": 90}, trial_deadline=60.0)
    assert "activeDeadlineSeconds" not in pod_of(job)
    assert agent(job).deadline == 60.0
    assert agent(build(pod={"activeDeadlineSeconds": 90})).deadline == 90.0
    assert agent(build()).deadline is None


def test_slots_and_grace() -> None:
    settings = agent(build(pod={"terminationGracePeriodSeconds": 120}, slots_per_worker=4))
    assert (settings.slots, settings.grace) == (4, 118.0)
    assert settings.declared == []


def test_an_init_container_puts_the_agent_in() -> None:
    pod = pod_of(build(pod={"initContainers": [{"name": "fetch", "image": "i"}], "volumes": [{"name": "data"}]}))
    installer, fetch = pod["initContainers"]
    assert (installer["image"], installer["command"][-2:]) == ("kubetune/trial:test", ["install", "/kubetune"])
    assert fetch["name"] == "fetch"
    mounts = [each["name"] for each in pod["containers"][0]["volumeMounts"]]
    assert names.WORKER_VOLUME in mounts
    assert installer["volumeMounts"][0]["name"] == names.WORKER_VOLUME
    assert {"name": names.WORKER_VOLUME, "emptyDir": {}} in pod["volumes"]
    context = installer["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_rest_is_a_trials_pod() -> None:
    job, own = build(), jobs.build_job(o.spec(template={"spec": {"containers": [COMMAND]}}), 3, 2, {}, WIRING)
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["podFailurePolicy"] == own["spec"]["podFailurePolicy"]
    assert job["metadata"]["ownerReferences"] == own["metadata"]["ownerReferences"]
    assert pod_of(job)["securityContext"] == pod_of(own)["securityContext"]
    assert json.dumps(build()) == json.dumps(build())


# ---- auto


@pytest.mark.parametrize(
    ("timings", "moves"),
    [
        ([], False),
        ([Timing(3, 1)] * 4, False),
        ([Timing(3, 1)] * 5, True),
        ([Timing(3, 15)] * 9, False),
        ([Timing(3, 14)] * 9, True),
        ([Timing(3, 100)] * 5 + [Timing(3, 1)] * 4, False),
        ([Timing(0, 0)] * 5 + [Timing(1, 0), Timing(0, 1)] * 3, True),  # half a second each, in whole seconds
        ([Timing(0, 2)] * 9 + [Timing(60, 2)], False),  # one pulled the image
    ],
)
def test_auto_moves_when_starting_pods_would_dominate(timings: list[Timing], moves: bool) -> None:
    assert (execution.dominates(timings) is not None) == moves


@pytest.mark.parametrize(("running", "ahead"), [(1.0, {1: 0, 2: 1, 16: 1, 100: 5, 1000: 50}), (60.0, {1: 0, 1000: 0})])
def test_short_trials_are_asked_ahead(running: float, ahead: dict[int, int]) -> None:
    assert {slots: execution.ahead(slots, [Timing(0, running)]) for slots in ahead} == ahead
    assert execution.ahead(1000, []) == 0


def test_what_keeps_an_experiment_on_jobs_is_said_with_what_would_help() -> None:
    assert execution.obstacle(o.spec(template={"spec": {"containers": [COMMAND]}})) is None
    without = o.spec()
    from_log = o.spec(template={"spec": {"containers": [COMMAND]}}, metrics=Metrics("log"))
    several = o.spec(template={"spec": {"containers": [COMMAND, {"name": "beside"}]}})
    said = [execution.obstacle(each) or "" for each in (without, from_log, several)]
    assert ["write command" in said[0], "metrics.from: push" in said[1], "one container" in said[2]] == [True] * 3


def test_a_pods_start_counts_from_its_node_not_from_the_wait_for_one() -> None:
    ended = o.pod(created=100.0, bound=400.0, started=401.0, began=403.0, ended=404.5, phase="Succeeded")
    assert execution.timing(o.succeeded(pod=ended)) == Timing(3.0, 1.5)
    assert execution.timing(o.job(pod=o.pod())) is None
    assert execution.timing(o.job(phase=JobPhase.SUCCEEDED, pod=None)) is None
