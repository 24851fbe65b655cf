"""The Job of one worker, made from the user's pod template. Pure: JSON in, JSON out.

The pod is a trial's, but for what belongs to one trial: the command becomes the agent's, which runs the user's; the
parameters come with each lease; the deadline is the agent's to keep. An init container puts the agent in.
"""

import json
import math
from typing import Any

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import WorkerRow
from kubetune.controller import execution, jobs
from kubetune.controller.jobs import Wiring

GRACE = 30  # seconds between SIGTERM and SIGKILL, as Kubernetes has it
MARGIN = 2  # seconds of it that the agent keeps for itself
INSTALLER = "kubetune-worker"


def name(spec: ExperimentSpec, worker: WorkerRow) -> str:
    """The same for ever."""
    return names.worker_name(spec.name, spec.uid, worker.number, worker.incarnation)


def build_worker(spec: ExperimentSpec, worker: WorkerRow, wiring: Wiring) -> Json:
    """The Job that runs this incarnation of a worker; the same arguments, the same Job."""
    body = jobs.build_job(spec, worker.number, worker.incarnation, None, wiring)
    labels = {
        **{
            label: value
            for label, value in body["metadata"]["labels"].items()
            if label not in (names.LABEL_TRIAL, names.LABEL_ATTEMPT)
        },
        names.LABEL_COMPONENT: "worker",
        names.LABEL_WORKER: str(worker.number),
        names.LABEL_INCARNATION: str(worker.incarnation),
    }
    body["metadata"]["name"] = name(spec, worker)
    body["metadata"]["labels"] = labels
    template = body["spec"]["template"]
    own = template["metadata"]["labels"]
    for label in (names.LABEL_TRIAL, names.LABEL_ATTEMPT):
        del own[label]
    own.update(labels)
    pod = template["spec"]
    pod.pop("activeDeadlineSeconds", None)
    _install(pod, wiring.worker_image)
    _run_agent(spec, pod)
    return body


def _install(pod: Json, image: str) -> None:
    mount = {"name": names.WORKER_VOLUME, "mountPath": names.WORKER_DIRECTORY}
    first = pod["containers"][0]
    installer: Json = {
        "name": INSTALLER,
        "image": image,
        "command": ["python3", "-m", "kubetune_worker", "install", names.WORKER_DIRECTORY],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "64Mi"},
        },
        "volumeMounts": [mount],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod["initContainers"] = [installer, *(pod.get("initContainers") or ())]
    pod["volumes"] = [*(pod.get("volumes") or ()), {"name": names.WORKER_VOLUME, "emptyDir": {}}]
    first["volumeMounts"] = [*(first.get("volumeMounts") or ()), mount]


def _run_agent(spec: ExperimentSpec, pod: Json) -> None:
    """The user's command and arguments go to the agent as they stand: Kubernetes would expand them now."""
    container = pod["containers"][0]
    command = [*container["command"], *(container.get("args") or ())]
    container["command"] = ["python3", f"{names.WORKER_DIRECTORY}/kubetune_worker.py", "--"]
    container["args"] = [_as_text(argument) for argument in command]
    grace = pod.get("terminationGracePeriodSeconds", GRACE)
    user: Json = spec.template["spec"]["containers"][0]
    own: dict[str, Any] = {
        "SLOTS": spec.slots_per_worker,
        "DIRECTORY": names.WORKER_DIRECTORY,
        "GRACE": max(1, grace - MARGIN),
        "ENV": json.dumps(execution.declared(user), ensure_ascii=False),
    }
    if spec.space.independent:
        own["CONDITIONAL"] = json.dumps(sorted(spec.space.independent))
    deadline = _deadline(spec)
    if deadline is not None:
        own["DEADLINE"] = deadline
    if spec.seed is not None:
        own["SEED"] = spec.seed
    ours = (names.ENV_PARAMETERS, names.ENV_TRIAL, names.ENV_ATTEMPT, names.ENV_SEED)
    kept = [variable for variable in container["env"] if variable["name"] not in ours]
    container["env"] = [{"name": names.ENV_WORKER + key, "value": _as_text(str(value))} for key, value in own.items()]
    container["env"] += kept


def _deadline(spec: ExperimentSpec) -> int | None:
    """Seconds, as a trial's own pod would have them."""
    own = spec.template["spec"].get("activeDeadlineSeconds") or math.inf
    limit = min(own, math.inf if spec.trial_deadline is None else max(1, math.ceil(spec.trial_deadline)))
    return None if math.isinf(limit) else int(limit)


def _as_text(text: str) -> str:
    """So that Kubernetes leaves it as it is."""
    return text.replace("$", "$$")
