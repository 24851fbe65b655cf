"""The Job of one attempt, made from the user's pod template. Pure: JSON in, JSON out.

What the user wrote stands: ours is merged under it (security, tolerations) or beside it (environment, labels), apart
from what the attempt itself needs: its name, its labels, `restartPolicy: Never`, one try and no more.
"""

import copy
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

from kubetune.api import names
from kubetune.api.spec import Categorical, ExperimentSpec, Json, Parameter, Params, ParamValue, references

TOKEN_SECONDS = 3600
USER = 1000  # an image without a user of its own runs as this one, and owns its volumes


@dataclasses.dataclass(frozen=True)
class Wiring:
    """How a trial reaches the gateway: its address and the certificate authority to trust (PEM; "": none)."""

    gateway_url: str
    gateway_ca: str = ""
    worker_image: str = ""  # has the agent of workers


def build_job(
    spec: ExperimentSpec,
    number: int,
    attempt: int,
    params: Params | None,
    wiring: Wiring,
    parent: int | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Json:
    """The Job that runs ``attempt`` of trial ``number`` with ``params``, and with its leg's ``environment``; the same
    arguments, the same Job. None: they come later, and what names them stays. ``parent``: the trial whose checkpoint it
    goes on from."""
    labels = _labels(spec, number, attempt)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(spec.name, spec.uid, number, attempt),
            "namespace": spec.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": spec.name,
                    "uid": spec.owner,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": _pod_metadata(spec, labels),
                "spec": _pod(spec, number, attempt, params, wiring, parent, environment),
            },
        },
    }


def sample(parameters: Mapping[str, Parameter]) -> Params:
    """A value of each parameter, for a dry run of the Job with all its arguments."""
    return {
        name: parameter.choices[0] if isinstance(parameter, Categorical) else parameter.low
        for name, parameter in parameters.items()
    }


def text(value: ParamValue) -> str:
    """A parameter's value as a trial sees it: `float(text)` gives the same number, whole numbers have no point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def selector(spec: ExperimentSpec) -> str:
    """The label selector of an experiment's Jobs and pods."""
    return f"{names.LABEL_EXPERIMENT_UID}={spec.owner}"


def _labels(spec: ExperimentSpec, number: int, attempt: int) -> dict[str, str]:
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_NAME: "kubetune",
        names.LABEL_COMPONENT: "trial",
        names.LABEL_EXPERIMENT: spec.name[:63].rstrip("-."),
        names.LABEL_EXPERIMENT_UID: spec.owner,
        **({names.LABEL_PHASE: spec.phase} if spec.phase else {}),
        names.LABEL_TRIAL: str(number),
        names.LABEL_ATTEMPT: str(attempt),
        names.LABEL_METRICS: spec.metrics.source,
    }


def _pod_metadata(spec: ExperimentSpec, labels: Mapping[str, str]) -> Json:
    given = spec.template.get("metadata") or {}
    users = {name: value for name, value in (given.get("labels") or {}).items() if name != names.LABEL_PHASE}
    metadata: Json = {"labels": {**users, **labels}}
    annotations = dict(given.get("annotations") or {})
    if spec.metrics.source == "log":  # the gateway follows the log by what its pod says
        if spec.metrics.format == "json":
            annotations[names.ANNOTATION_LOG_FORMAT] = "json"
        else:
            annotations[names.ANNOTATION_LOG_PATTERN] = spec.metrics.pattern
        annotations[names.ANNOTATION_LOG_STEP] = spec.metrics.step
    if annotations:
        metadata["annotations"] = annotations
    return metadata


def _pod(
    spec: ExperimentSpec,
    number: int,
    attempt: int,
    params: Params | None,
    wiring: Wiring,
    parent: int | None,
    environment: Mapping[str, str],
) -> Json:
    pod: Json = copy.deepcopy(spec.template["spec"])
    pod["restartPolicy"] = "Never"
    pod.setdefault("automountServiceAccountToken", False)
    if spec.trial_deadline is not None:
        own = pod.get("activeDeadlineSeconds") or math.inf
        pod["activeDeadlineSeconds"] = int(min(own, max(1, math.ceil(spec.trial_deadline))))
    pod["securityContext"] = pod_security(pod.get("securityContext") or {})
    containers = [*(pod.get("initContainers") or ()), *pod["containers"]]
    trial = pod["containers"][0]
    absent = set() if params is None else set(spec.space.independent).difference(params)
    for container in containers:
        _leave_out(container, absent)
        plain = _environment(spec, number, attempt, params or {}, wiring if container is trial else None, parent)
        ours = [*environment.items(), *(pair for pair in plain if pair[0] not in environment)]
        container["env"] = _merge_environment(ours, container.get("env") or ())
        container["securityContext"] = _container_security(container.get("securityContext") or {})
    if spec.metrics.source == "push":
        _mount_token(pod, trial)
    _mount_checkpoints(spec, pod, trial)
    tolerations = _tolerations(containers, pod.get("tolerations") or ())
    if tolerations:
        pod["tolerations"] = tolerations
    return pod


# ---- environment


def _leave_out(container: Json, absent: Set[str]) -> None:
    """Drop arguments and variables that name a parameter which the trial does not have, or a variable so dropped:
    Kubernetes would leave the `$(name)` in them as it stands."""
    gone = set(absent)
    if not gone:
        return
    kept = []
    for variable in container.get("env") or ():
        if gone.isdisjoint(references(variable.get("value") or "")):
            kept.append(variable)
        else:
            gone.add(variable["name"])
    container["env"] = kept
    for part in ("command", "args"):
        if container.get(part):
            container[part] = [text for text in container[part] if gone.isdisjoint(references(text))]


def _environment(
    spec: ExperimentSpec, number: int, attempt: int, params: Params, wiring: Wiring | None, parent: int | None
) -> list[tuple[str, str]]:
    """Parameters come first: Kubernetes lets a variable refer only to those before it."""
    variables = [(name, text(value)) for name, value in params.items()]
    variables += [
        (names.ENV_PARAMETERS, json.dumps(dict(params), ensure_ascii=False)),
        (names.ENV_NAMESPACE, spec.namespace),
        (names.ENV_EXPERIMENT, spec.name),
        (names.ENV_TRIAL, str(number)),
        (names.ENV_ATTEMPT, str(attempt)),
    ]
    if parent is not None:
        variables.append((names.ENV_PARENT, str(parent)))
    own = spec.runs[number] if number < len(spec.runs) else {}
    if spec.seed is not None and names.ENV_SEED not in own:
        variables.append((names.ENV_SEED, str(spec.seed + number)))
    if wiring is not None and spec.checkpoints is not None:
        where = names.CHECKPOINT_DIRECTORY if spec.checkpoints.claim else names.IN_STORE
        variables.append((names.ENV_CHECKPOINTS, where))
    if wiring is not None and spec.init_checkpoint is not None:
        given = spec.init_checkpoint
        variables.append((names.ENV_INIT_CHECKPOINT, names.IN_STORE if given.in_store else names.INIT_DIRECTORY))
        if given.digest and not given.in_store:
            variables.append((names.ENV_INIT_DIGEST, given.digest))
    variables += own.items()
    if wiring is not None and spec.metrics.source == "push":
        variables.append((names.ENV_GATEWAY, wiring.gateway_url))
        variables.append((names.ENV_TOKEN_FILE, f"{names.TOKEN_DIRECTORY}/token"))
        if wiring.gateway_ca:
            variables.append((names.ENV_GATEWAY_CA, wiring.gateway_ca))
    return variables


def _merge_environment(ours: Sequence[tuple[str, str]], given: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Ours, then the user's, which may refer to it. In ours a `$` is text: Kubernetes would expand values too."""
    taken = {name for name, _ in ours}
    users = [dict(variable) for variable in given if variable["name"] not in taken]
    home = [] if any(variable["name"] == "HOME" for variable in users) else [("HOME", "/tmp")]
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in [*ours, *home]] + users


def _mount_token(pod: Json, trial: Json) -> None:
    source = {"audience": names.TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    volume = {"name": names.TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": source}]}}
    mount = {"name": names.TOKEN_VOLUME, "mountPath": names.TOKEN_DIRECTORY, "readOnly": True}
    pod["volumes"] = [*(pod.get("volumes") or ()), volume]
    trial["volumeMounts"] = [*(trial.get("volumeMounts") or ()), mount]


def _mount_checkpoints(spec: ExperimentSpec, pod: Json, trial: Json) -> None:
    """The experiment's own folder of the claim: its trials read each other's, and no other experiment's."""
    place, given = spec.checkpoints, spec.init_checkpoint
    mounts: list[Json] = []
    volumes: list[Json] = []
    if place is not None and place.claim:
        mounts.append(
            {
                "name": names.CHECKPOINT_VOLUME,
                "mountPath": names.CHECKPOINT_DIRECTORY,
                "subPath": place.folder(spec.uid),
            }
        )
        volumes.append({"name": names.CHECKPOINT_VOLUME, "persistentVolumeClaim": {"claimName": place.claim}})
    if given is not None and given.claim:
        inside = {"subPath": given.path} if given.path else {}
        mounts.append(
            {"name": names.INIT_VOLUME, "mountPath": names.INIT_DIRECTORY, "readOnly": True, **inside},
        )
        volumes.append({"name": names.INIT_VOLUME, "persistentVolumeClaim": {"claimName": given.claim}})
    if mounts:
        pod["volumes"] = [*(pod.get("volumes") or ()), *volumes]
        trial["volumeMounts"] = [*(trial.get("volumeMounts") or ()), *mounts]


# ---- security: fit for the restricted Pod Security Standard, unless the user says otherwise


def pod_security(given: Json) -> Json:
    """A pod's, ours under what is given."""
    ours: Json = {"runAsUser": USER, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}}
    if given.get("runAsUser") != 0:
        ours["runAsNonRoot"] = True
    return {**ours, **given}


def _container_security(given: Json) -> Json:
    ours: Json = {}
    capabilities = given.get("capabilities") or {}
    mighty = given.get("privileged") or {"SYS_ADMIN", "CAP_SYS_ADMIN"} & set(capabilities.get("add") or ())
    if not mighty:  # the API server refuses the two together
        ours["allowPrivilegeEscalation"] = False
    if given.get("runAsUser") == 0:
        ours["runAsNonRoot"] = False
    return {**ours, **given, "capabilities": {"drop": ["ALL"], **capabilities}}


# ---- nodes


def _tolerations(containers: Iterable[Mapping[str, Any]], given: Iterable[Mapping[str, Any]]) -> list[Json]:
    """GPU nodes are commonly tainted with the name of what they offer."""
    tolerations = [dict(toleration) for toleration in given]
    for key in sorted({key for container in containers for key in _gpus(container)}):
        ours = {"key": key, "operator": "Exists", "effect": "NoSchedule"}
        if ours not in tolerations:
            tolerations.append(ours)
    return tolerations


def _gpus(container: Mapping[str, Any]) -> set[str]:
    resources = container.get("resources") or {}
    asked = {name for part in ("limits", "requests") for name in resources.get(part) or {}}
    slices = {"nvidia.com/gpu" for name in asked if name.startswith("nvidia.com/mig-")}
    return slices | {name for name in asked if "gpu" in name.partition("/")[2]}
