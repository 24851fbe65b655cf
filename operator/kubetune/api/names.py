"""Every name that crosses a process boundary: labels, environment variables, headers, paths.

Change one here and it changes for the operator, the gateway, the trial client's contract and the tests.
"""

import hashlib
import re

GROUP = "kubetune.dev"
VERSION = "v1alpha1"
PLURAL = "experiments"
KIND = "Experiment"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_EXPERIMENT = f"{GROUP}/experiment"  # the experiment's name
LABEL_EXPERIMENT_UID = f"{GROUP}/experiment-uid"
LABEL_TRIAL = f"{GROUP}/trial"  # the trial's number, decimal
LABEL_ATTEMPT = f"{GROUP}/attempt"  # 1, 2, …
LABEL_WORKER = f"{GROUP}/worker"  # on worker Jobs and their pods: the worker's number, decimal
LABEL_INCARNATION = f"{GROUP}/incarnation"  # 1, 2, … of that worker
LABEL_PHASE = f"{GROUP}/phase"  # on Jobs and pods of what comes after the search: finalists, refit, …
LABEL_METRICS = f"{GROUP}/metrics"  # push | log: how the pod's metrics are taken
# On pods whose metrics are read from their log: put there by controller/jobs.py, read by gateway/logs.py.
ANNOTATION_LOG_PATTERN = f"{GROUP}/log-pattern"  # spec.metrics.pattern, RE2
ANNOTATION_LOG_FORMAT = f"{GROUP}/log-format"  # spec.metrics.format; there for json only
ANNOTATION_LOG_STEP = f"{GROUP}/log-step"  # spec.metrics.step, RE2 that matches whole names
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "kubetune"
TRIAL_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_EXPERIMENT_UID}"  # trials and workers

# The trial container finds these in its environment, beside one variable per parameter.
ENV_NAMESPACE = "KUBETUNE_NAMESPACE"
ENV_EXPERIMENT = "KUBETUNE_EXPERIMENT"
ENV_TRIAL = "KUBETUNE_TRIAL"  # number, decimal
ENV_ATTEMPT = "KUBETUNE_ATTEMPT"
ENV_PARENT = "KUBETUNE_PARENT"  # number of the trial that this one goes on from; absent: it begins anew
ENV_PARAMETERS = "KUBETUNE_PARAMETERS"  # JSON object
ENV_FOLD = "KUBETUNE_FOLD"  # with spec.validation.folds: from 0
ENV_FOLDS = "KUBETUNE_FOLDS"  # how many
ENV_SEED = "KUBETUNE_SEED"  # only when the experiment has a seed: seed + number; of finalists and replicates always
ENV_PHASE = "KUBETUNE_PHASE"  # finalists, refit, test; a trial of the search has none
ENV_MODEL = "KUBETUNE_MODEL"  # of a test: the address that the refit told, and its digest
ENV_MODEL_DIGEST = "KUBETUNE_MODEL_DIGEST"
ENV_REPLICATE = "KUBETUNE_REPLICATE"  # with spec.replicates, and of finalists: 0, 1, …
ENV_GATEWAY = "KUBETUNE_GATEWAY"  # https://…, no trailing slash
ENV_GATEWAY_CA = "KUBETUNE_GATEWAY_CA"  # PEM text; absent for http://
ENV_TOKEN_FILE = "KUBETUNE_TOKEN_FILE"
TOKEN_DIRECTORY = "/var/run/secrets/kubetune.dev"
# A worker's agent finds these beside them; its trials do not.
ENV_WORKER = "KUBETUNE_WORKER_"  # …SLOTS, DIRECTORY, GRACE, …: see trial-image/kubetune_worker.py
WORKER_VOLUME = "kubetune-worker"
WORKER_DIRECTORY = "/kubetune"
ENV_CHECKPOINTS = "KUBETUNE_CHECKPOINTS"  # the folder of the experiment's checkpoints, if it keeps any
IN_STORE = "s3:"  # its value where checkpoints go into the installation's object storage
CHECKPOINT_VOLUME = "kubetune-checkpoints"
CHECKPOINT_DIRECTORY = "/kubetune-checkpoints"
ENV_INIT_CHECKPOINT = "KUBETUNE_INIT_CHECKPOINT"  # the folder of what every trial starts from, or IN_STORE
ENV_INIT_DIGEST = "KUBETUNE_INIT_DIGEST"  # of its manifest, where it is another experiment's checkpoint
INIT_VOLUME = "kubetune-init-checkpoint"
INIT_DIRECTORY = "/kubetune-init-checkpoint"
TOKEN_VOLUME = "kubetune-token"
TOKEN_AUDIENCE = "kubetune-gateway"  # trials: report, finish
READ_AUDIENCE = "kubetune-read"  # the command line: read a namespace's trials
READ_TOKEN_HEADER = "X-Kubetune-Token"  # the API server's proxy drops Authorization

# One experiment's parameter may not take the place of what the pod itself needs.
RESERVED_ENV = re.compile(
    r"^(PATH|HOME|HOSTNAME|USER|SHELL|PWD|TMPDIR|IFS|ENV|BASH_ENV|LD_.*|PYTHON(PATH|HOME|STARTUP)|KUBERNETES_.*"
    r"|KUBETUNE_.*|NVIDIA_.*|CUDA_VISIBLE_DEVICES)$"
)
PARAMETER_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")

MODEL_METRIC = "kubetune.model"  # reported for a refit's run once its model is on record

NOTIFY_CHANNEL = "kubetune"  # PostgreSQL NOTIFY; payload: an experiment's UID
ENDED_CHANNEL = "kubetune_ended"  # beside that one: a worker's slot is free, so someone waits for the operator
OFFER_CHANNEL = "kubetune_offers"  # the other way: something for the experiment's workers

STATUS_MANAGER = "kubetune"  # field manager of server-side apply


def job_name(experiment: str, uid: str, number: int, attempt: int) -> str:
    """The Job of one attempt: the same for ever, at most 63 characters, a DNS label.

    ``digits-3f2a91c0-17-1``: the experiment's name (cut to fit), 8 hex digits of a hash of its UID, number, attempt.
    """
    phase = phase_of(uid).partition(".")[0]
    tail = f"-{hashlib.sha256(uid.encode()).hexdigest()[:8]}-{phase + '-' if phase else ''}{number}-{attempt}"
    return experiment[: 63 - len(tail)].rstrip("-.").replace(".", "-") + tail


def clearing_name(experiment: str, uid: str) -> str:
    """The Job that clears an experiment's claim, as `job_name`: ``digits-3f2a91c0-clear``."""
    tail = f"-{hashlib.sha256(uid.encode()).hexdigest()[:8]}-clear"
    return experiment[: 63 - len(tail)].rstrip("-.").replace(".", "-") + tail


def worker_name(experiment: str, uid: str, number: int, incarnation: int) -> str:
    """The Job of one worker, as `job_name`: ``digits-3f2a91c0-w3-1``."""
    tail = f"-{hashlib.sha256(uid.encode()).hexdigest()[:8]}-w{number}-{incarnation}"
    return experiment[: 63 - len(tail)].rstrip("-.").replace(".", "-") + tail


def study_name(namespace: str, name: str, uid: str) -> str:
    """The Optuna study of an experiment; deleted and applied again it has a new UID, so a new study. A phase's study
    has the phase's name behind it."""
    base, slash, phase = uid.partition("/")
    return f"{namespace}/{name}-{hashlib.sha256(base.encode()).hexdigest()[:8]}{slash}{phase}"


def phase_uid(uid: str, phase: str) -> str:
    """What a phase's study, trials and Jobs are known by, beside those of the search; "": the search itself."""
    return f"{uid}/{phase}" if phase else uid


def base_uid(uid: str) -> str:
    """The experiment's own UID, also of one of its phases."""
    return uid.partition("/")[0]


def phase_of(uid: str) -> str:
    """The phase that `phase_uid` was given; "": the search."""
    return uid.partition("/")[2]
