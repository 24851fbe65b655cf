"""The Job of one attempt: what the user wrote stands, what kubetune needs is there, and nothing is expanded twice."""

import json
import re
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api.checkpoints import S3, Checkpoint, InitCheckpoint, Place, Taken, placed
from kubetune.api.spec import Categorical, Double, Int, Json, Metrics, Parameter
from kubetune.controller import jobs
from kubetune.controller.jobs import Wiring
from tests.unit import loop_objects as o

WIRING = Wiring("https://gateway:8443", "-----BEGIN CERTIFICATE-----")


def build(pod: Json | None = None, params: Json | None = None, template: Json | None = None, **spec: Any) -> Json:
    body = {"containers": [{"name": "trial", "image": "digits:1"}], **(pod or {})}
    whole = o.spec(template={**(template or {}), "spec": body}, **spec)
    return jobs.build_job(whole, 17, 2, params or {"lr": 0.01}, WIRING)


def pod_of(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]
    return found


def environment(job: Json, container: int = 0) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in pod_of(job)["containers"][container]["env"]}


def expand(text: str, variables: dict[str, str]) -> str:
    """`$(name)` as Kubernetes expands it: `$$` is a `$`, an unknown name stays as it is."""

    def one(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, text)


def as_the_kubelet_sees(job: Json) -> dict[str, str]:
    """Values expanded in order, each from those before it."""
    seen: dict[str, str] = {}
    for variable in pod_of(job)["containers"][0]["env"]:
        seen[variable["name"]] = expand(variable.get("value", ""), seen)
    return seen


# ---- the Job


def test_name_and_labels_say_whose_it_is() -> None:
    job = build()
    assert job["metadata"]["name"] == names.job_name("digits", o.UID, 17, 2)
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert labels[names.LABEL_EXPERIMENT] == "digits"
        assert labels[names.LABEL_EXPERIMENT_UID] == o.UID
        assert (labels[names.LABEL_TRIAL], labels[names.LABEL_ATTEMPT]) == ("17", "2")
        assert labels[names.LABEL_METRICS] == "push"
        assert labels[names.LABEL_MANAGED_BY] == "kubetune"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Experiment", o.UID, True)
    assert owner["blockOwnerDeletion"] is False


def test_one_try_and_a_disruption_is_told_apart() -> None:
    body = build({"restartPolicy": "OnFailure"})["spec"]
    assert body["backoffLimit"] == 0
    assert body["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = body["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert "ttlSecondsAfterFinished" not in body
    assert "activeDeadlineSeconds" not in body


@pytest.mark.parametrize(("own", "limit", "expected"), [(None, 90.5, 91), (30, 90.0, 30), (300, 90.0, 90)])
def test_the_trials_deadline_counts_from_its_pods_start(own: int | None, limit: float, expected: int) -> None:
    pod = {} if own is None else {"activeDeadlineSeconds": own}
    assert pod_of(build(pod, trial_deadline=limit))["activeDeadlineSeconds"] == expected
    assert "activeDeadlineSeconds" not in pod_of(build())


def test_the_same_arguments_give_the_same_job_and_leave_the_template_alone() -> None:
    template: Json = {"spec": {"containers": [{"name": "trial", "image": "x", "env": [{"name": "A", "value": "b"}]}]}}
    before = json.dumps(template)
    whole = o.spec(template=template)
    first, second = (jobs.build_job(whole, 1, 1, {"lr": 0.1}, WIRING) for _ in range(2))
    assert first == second
    assert json.dumps(template) == before


def test_labels_and_annotations_of_the_template_are_kept_beside_ours() -> None:
    metadata = {"labels": {"team": "a", names.LABEL_TRIAL: "99"}, "annotations": {"note": "x"}}
    found = build(template={"metadata": metadata})["spec"]["template"]["metadata"]
    assert found["labels"]["team"] == "a"
    assert found["labels"][names.LABEL_TRIAL] == "17"
    assert found["annotations"] == {"note": "x"}


# ---- parameters


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e-07, "1e-07"),
        (1 / 3, "0.3333333333333333"),
        (3, "3"),
        (2.0, "2.0"),
        (True, "true"),
        (False, "false"),
        ("adam", "adam"),
    ],
)
def test_a_value_as_text(value: float | int | bool | str, text: str) -> None:
    assert jobs.text(value) == text
    if isinstance(value, float):
        assert float(jobs.text(value)) == value


HOSTILE = [
    "$(PATH)",
    "$$(lr)",
    "$",
    "$$$$",
    "; rm -rf /",
    "\"quotes' and `ticks`",
    "naïve ☃ 数",
    "$(lr) $(",
    "a\nb",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_reaches_the_trial_as_it_is(text: str) -> None:
    params = {"lr": 0.1, "name": text}
    seen = as_the_kubelet_sees(build(params=params))
    assert seen["name"] == text
    assert json.loads(seen[names.ENV_PARAMETERS]) == params
    assert expand("--name=$(name)", seen) == f"--name={text}"


def test_parameters_come_first_so_that_the_users_variables_can_refer_to_them() -> None:
    container = {"name": "trial", "image": "x", "env": [{"name": "RATE", "value": "rate-$(lr)-$(KUBETUNE_TRIAL)"}]}
    job = build({"containers": [container]}, params={"lr": 0.25})
    assert as_the_kubelet_sees(job)["RATE"] == "rate-0.25-17"


def test_the_environment_says_which_trial_it_is() -> None:
    found = environment(build(seed=100))
    assert found[names.ENV_TRIAL] == "17"
    assert found[names.ENV_ATTEMPT] == "2"
    assert found[names.ENV_EXPERIMENT] == "digits"
    assert found[names.ENV_NAMESPACE] == "team-a"
    assert found[names.ENV_SEED] == "117"
    assert names.ENV_SEED not in environment(build())


def test_what_its_leg_gets_is_a_variable_that_arguments_may_name() -> None:
    job = jobs.build_job(o.spec(), 17, 2, {"lr": 0.01}, WIRING, environment={"epochs": "9"})
    variables = pod_of(job)["containers"][0]["env"]
    assert {"name": "epochs", "value": "9"} in variables
    assert "epochs" not in environment(job)[names.ENV_PARAMETERS]


def test_a_segment_is_told_what_it_goes_on_from() -> None:
    job = jobs.build_job(o.spec(), 17, 2, {"lr": 0.01}, WIRING, parent=0)
    assert environment(job)[names.ENV_PARENT] == "0"
    assert names.ENV_PARENT not in environment(build())


def test_a_run_gets_what_its_leg_gets_in_place_of_what_the_trial_has() -> None:
    body = {"containers": [{"name": "trial", "image": "x", "args": ["--fold=$(KUBETUNE_FOLD)"]}]}
    leg = {names.ENV_FOLD: "2", names.ENV_SEED: "4711"}
    whole = o.spec(template={"spec": body}, seed=100)
    job = jobs.build_job(whole, 17, 2, {"lr": 0.01}, WIRING, environment=leg)
    listed = [variable["name"] for variable in pod_of(job)["containers"][0]["env"]]
    assert len(listed) == len(set(listed))
    seen = as_the_kubelet_sees(job)
    assert expand("--fold=$(KUBETUNE_FOLD)", seen) == "--fold=2"
    assert seen[names.ENV_SEED] == "4711"


def test_every_container_has_the_parameters_and_only_the_trial_can_report() -> None:
    beside = {"name": "beside", "image": "y"}
    job = build({"containers": [{"name": "trial", "image": "x"}, beside], "initContainers": [{"name": "i"}]})
    assert environment(job, 1)["lr"] == "0.01"
    assert names.ENV_GATEWAY not in environment(job, 1)
    assert "volumeMounts" not in pod_of(job)["containers"][1]
    assert {each["name"] for each in pod_of(job)["initContainers"][0]["env"]} >= {"lr", names.ENV_PARAMETERS}


SOME: dict[str, Parameter] = {
    "optimizer": Categorical(("adam", "sgd")),
    "momentum": Double(0.0, 1.0, when=(("optimizer", ("sgd",)),)),
    "nesterov": Categorical((False, True), when=(("optimizer", ("sgd",)),)),
}
NAMING: Json = {
    "name": "trial",
    "image": "digits:1",
    "command": ["python", "train.py", "--nesterov=$(nesterov)"],
    "args": ["--optimizer=$(optimizer)", "--momentum=$(momentum)", "--text=$$(momentum)", "--all=$(FLAGS)", "$(PLAIN)"],
    "env": [
        {"name": "PLAIN", "value": "$(optimizer)"},
        {"name": "RATE", "value": "m=$(momentum)"},
        {"name": "FLAGS", "value": "$(PLAIN),$(RATE)"},
        {"name": "SECRET", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ],
}


def test_what_names_a_parameter_that_the_trial_does_not_have_is_dropped() -> None:
    for container in (0, 1):
        pod: Json = {"containers": [NAMING, {**NAMING, "name": "side"}]}
        job = build(pod, {"optimizer": "adam"}, parameters=SOME)
        found = pod_of(job)["containers"][container]
        assert found["command"] == ["python", "train.py"]
        assert found["args"] == ["--optimizer=$(optimizer)", "--text=$$(momentum)", "$(PLAIN)"]
        variables = environment(job, container)
        assert {"PLAIN", "SECRET", "optimizer"} <= variables.keys()
        assert not {"RATE", "FLAGS", "momentum", "nesterov"} & variables.keys()
        assert json.loads(variables[names.ENV_PARAMETERS]) == {"optimizer": "adam"}
    assert len(NAMING["env"]) == 4  # the template is left alone


def test_what_names_a_parameter_that_the_trial_has_stays() -> None:
    params = {"optimizer": "sgd", "momentum": 0.5, "nesterov": True}
    job = build({"containers": [NAMING]}, params, parameters=SOME)
    found = pod_of(job)["containers"][0]
    assert (found["command"], found["args"]) == (NAMING["command"], NAMING["args"])
    assert as_the_kubelet_sees(job)["FLAGS"] == "sgd,m=0.5"


def test_home_is_where_any_user_may_write_unless_it_is_set() -> None:
    assert environment(build())["HOME"] == "/tmp"
    own = {"name": "trial", "image": "x", "env": [{"name": "HOME", "value": "/work"}]}
    assert environment(build({"containers": [own]}))["HOME"] == "/work"


# ---- reporting


def test_a_trial_that_reports_has_a_token_of_the_gateways_audience() -> None:
    job = build({"volumes": [{"name": "data", "emptyDir": {}}]})
    (data, token) = pod_of(job)["volumes"]
    assert data["name"] == "data"
    (source,) = token["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == names.TOKEN_AUDIENCE
    (mount,) = pod_of(job)["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"]) == (names.TOKEN_DIRECTORY, True)
    found = environment(job)
    assert found[names.ENV_GATEWAY] == "https://gateway:8443"
    assert found[names.ENV_TOKEN_FILE].startswith(names.TOKEN_DIRECTORY)
    assert found[names.ENV_GATEWAY_CA].startswith("-----BEGIN")


def test_a_trial_whose_log_is_read_has_neither_token_nor_gateway() -> None:
    job = build(metrics=Metrics("log"))
    assert names.ENV_GATEWAY not in environment(job)
    assert "volumes" not in pod_of(job)
    assert job["metadata"]["labels"][names.LABEL_METRICS] == "log"


@pytest.mark.parametrize(
    ("metrics", "annotations"),
    [
        (Metrics(), {}),
        (Metrics("log", "p", "s"), {names.ANNOTATION_LOG_PATTERN: "p", names.ANNOTATION_LOG_STEP: "s"}),
        (
            Metrics("log", step="s", format="json"),
            {names.ANNOTATION_LOG_FORMAT: "json", names.ANNOTATION_LOG_STEP: "s"},
        ),
    ],
)
def test_the_pod_says_how_its_log_is_read(metrics: Metrics, annotations: dict[str, str]) -> None:
    assert build(metrics=metrics)["spec"]["template"]["metadata"].get("annotations", {}) == annotations


# ---- checkpoints


def test_checkpoints_are_the_experiments_own_folder_of_the_claim() -> None:
    own = {"volumes": [{"name": "data", "emptyDir": {}}]}
    job = build(own, checkpoints=Place("shared", "team/runs"), init_checkpoint=InitCheckpoint("weights", "resnet"))
    pod = pod_of(job)
    assert pod["volumes"][0] == own["volumes"][0]
    assert {
        "name": names.CHECKPOINT_VOLUME,
        "persistentVolumeClaim": {"claimName": "shared"},
    } in pod["volumes"]
    mounts = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
    assert mounts[names.CHECKPOINT_VOLUME]["subPath"] == f"team/runs/{o.UID}"
    assert "readOnly" not in mounts[names.CHECKPOINT_VOLUME]
    assert (mounts[names.INIT_VOLUME]["subPath"], mounts[names.INIT_VOLUME]["readOnly"]) == ("resnet", True)
    seen = environment(job)
    assert seen[names.ENV_CHECKPOINTS] == mounts[names.CHECKPOINT_VOLUME]["mountPath"]
    assert seen[names.ENV_INIT_CHECKPOINT] == mounts[names.INIT_VOLUME]["mountPath"]


def test_all_of_a_claim_has_no_path() -> None:
    pod = pod_of(build(checkpoints=Place("shared", ""), init_checkpoint=InitCheckpoint("weights")))
    mounts = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
    assert mounts[names.CHECKPOINT_VOLUME]["subPath"] == o.UID
    assert "subPath" not in mounts[names.INIT_VOLUME]


def test_in_object_storage_there_is_nothing_to_mount() -> None:
    job = build(checkpoints=Place("", ""))
    assert environment(job)[names.ENV_CHECKPOINTS] == names.IN_STORE
    assert {each["name"] for each in pod_of(job)["volumes"]} == {names.TOKEN_VOLUME}


def test_of_another_experiments_only_the_one_checkpoint_is_in_reach() -> None:
    one = Checkpoint(3, 1, 9, "3/1-9-ab", "f" * 64, 1, 1)
    taken = Taken("other", "uid-other", "shared", "team/uid-other", one)
    job = build(init_checkpoint=placed(InitCheckpoint(source="other"), taken))
    pod = pod_of(job)
    assert {"name": names.INIT_VOLUME, "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == names.INIT_VOLUME)
    assert (mount["subPath"], mount["readOnly"]) == ("team/uid-other/3/1-9-ab", True)
    assert environment(job)[names.ENV_INIT_DIGEST] == "f" * 64


@pytest.mark.parametrize(
    "given",
    [
        InitCheckpoint(key="resnet.tar", digest="f" * 64),
        placed(
            InitCheckpoint(source="other"),
            Taken("other", "u", "", "", Checkpoint(3, 1, 9, "3/1-9", "f" * 64, 1, 1, S3)),
        ),
    ],
)
def test_an_object_to_start_from_is_asked_for(given: InitCheckpoint) -> None:
    job = build(init_checkpoint=given)
    assert {each["name"] for each in pod_of(job)["volumes"]} == {names.TOKEN_VOLUME}
    assert environment(job)[names.ENV_INIT_CHECKPOINT] == names.IN_STORE
    assert names.ENV_INIT_DIGEST not in environment(job)


def test_only_the_trials_own_container_has_them() -> None:
    pod = {"containers": [{"name": "trial", "image": "a"}, {"name": "beside", "image": "b"}]}
    job = build(pod, checkpoints=Place("shared"), init_checkpoint=InitCheckpoint("weights"))
    assert "volumeMounts" not in pod_of(job)["containers"][1]
    assert not {names.ENV_CHECKPOINTS, names.ENV_INIT_CHECKPOINT} & environment(job, 1).keys()


# ---- security


def test_by_default_a_trial_is_fit_for_the_restricted_standard() -> None:
    job = build({"initContainers": [{"name": "prepare", "image": "x"}]})
    pod = pod_of(job)
    assert pod["securityContext"] == {
        "runAsUser": 1000,
        "fsGroup": 1000,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["containers"], *pod["initContainers"]):
        context = container["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_what_the_user_sets_stands() -> None:
    own: Json = {
        "securityContext": {"runAsUser": 0, "fsGroup": 5},
        "automountServiceAccountToken": True,
        "containers": [
            {"name": "trial", "securityContext": {"privileged": True, "capabilities": {"add": ["NET_RAW"]}}},
        ],
    }
    pod = pod_of(build(own))
    assert pod["securityContext"] == {"runAsUser": 0, "fsGroup": 5, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is True
    assert pod["containers"][0]["securityContext"] == {
        "privileged": True,  # then allowPrivilegeEscalation may not be false
        "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
    }


# ---- nodes


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        ("nvidia.com/gpu", "nvidia.com/gpu"),
        ("amd.com/gpu", "amd.com/gpu"),
        ("nvidia.com/mig-1g.5gb", "nvidia.com/gpu"),
        ("cpu", None),
        ("gpu-company.com/fpga", None),
    ],
)
def test_who_asks_for_gpus_tolerates_their_taint(resource: str, key: str | None) -> None:
    container = {"name": "trial", "image": "x", "resources": {"limits": {resource: 1}}}
    given = [{"key": "spot", "operator": "Exists"}]
    found = pod_of(build({"containers": [container], "tolerations": given}))["tolerations"]
    ours = [] if key is None else [{"key": key, "operator": "Exists", "effect": "NoSchedule"}]
    assert found == given + ours


def test_a_toleration_that_is_there_is_not_added_again() -> None:
    container = {"name": "trial", "image": "x", "resources": {"requests": {"nvidia.com/gpu": "1"}}}
    given = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod_of(build({"containers": [container], "tolerations": given}))["tolerations"] == given


def test_a_sample_is_a_point_of_the_space() -> None:
    space: dict[str, Parameter] = {"x": Double(0.5, 1), "k": Int(2, 5), "c": Categorical(("a", "b"))}
    assert jobs.sample(space) == {"x": 0.5, "k": 2, "c": "a"}
