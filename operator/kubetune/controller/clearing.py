"""What experiments that are over left on their claims is removed by a Job of its own: nobody else mounts them. Objects
of the installation's storage are removed from here.

A chore of the leader. The ledger is the database: a Job is made for what lies there for nobody, and what it has
removed is recorded when it has succeeded. It has no owner (the experiment may be gone) and no finalizer holds anything:
killed anywhere, the next look goes on.
"""

import logging
from collections.abc import Callable, Mapping

from kubetune import s3
from kubetune.api import checkpoints, names
from kubetune.api.checkpoints import Leftover, Place
from kubetune.api.spec import InvalidSpec, Json
from kubetune.controller import jobs
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.storage.base import EngineStorage

DIRECTORY = "/checkpoints"
DEADLINE = 3600  # seconds for one Job: a claim that is gone leaves its pod pending
AGAIN = 3600  # seconds that a failed one is there to be looked at; then there is another one
AT_ONCE = 20  # Jobs made in one turn
OBJECTS_AT_ONCE = 500  # removed in one turn

logger = logging.getLogger(__name__)


def build(left: Leftover, place: Place, image: str) -> Json:
    """The Job: all in the experiment's folder on the claim goes, but for what is to stay. As whoever wrote it; no other
    experiment's folder is in its reach."""
    pod = (left.spec.get("template") or {}).get("spec") or {}
    trial = (pod.get("containers") or [{}])[0].get("securityContext") or {}
    mount = {"name": "checkpoints", "mountPath": DIRECTORY, "subPath": place.folder(left.uid)}
    labels = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_NAME: "kubetune",
        names.LABEL_COMPONENT: "clear",
        names.LABEL_EXPERIMENT: left.name[:63].rstrip("-."),
    }
    container: Json = {
        "name": "clear",
        "image": image,
        "command": ["python3", "-m", "kubetune_clear", DIRECTORY],
        "args": [word for location in left.keep for word in ("--keep", location)],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [mount],
        "securityContext": {
            **({"runAsNonRoot": False} if trial.get("runAsUser") == 0 else {}),
            **{name: value for name, value in trial.items() if name in ("runAsUser", "runAsGroup", "runAsNonRoot")},
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    volume = {"name": "checkpoints", "persistentVolumeClaim": {"claimName": place.claim}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.clearing_name(left.name, left.uid),
            "namespace": left.namespace,
            "labels": labels,
        },
        "spec": {
            "backoffLimit": 3,
            "activeDeadlineSeconds": DEADLINE,
            "ttlSecondsAfterFinished": AGAIN,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **{name: pod[name] for name in ("nodeSelector", "tolerations", "imagePullSecrets") if name in pod},
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": jobs.pod_security(pod.get("securityContext") or {}),
                    "containers": [container],
                    "volumes": [volume],
                },
            },
        },
    }


class Clearing:
    """The chore. ``image`` has `kubetune_clear`; ``objects``: the object storage, if there is one."""

    def __init__(
        self, client: Client, storage: EngineStorage, image: Callable[[], str], objects: s3.Objects | None = None
    ) -> None:
        self._client = client
        self._made = 0  # Jobs, in this turn
        self._away = False  # the object storage, in this turn
        self._objects = objects
        self._storage = storage
        self._image = image

    def turn(self) -> None:
        """Look after each leftover once. Raises StorageUnavailable, Fenced, and the errors of `kube.errors`."""
        self._made, self._away = 0, False
        for left in self._storage.leftovers():
            try:
                self._look(left)
            except (errors.Forbidden, errors.Invalid) as error:  # a quota, a policy: told, and tried again
                logger.warning("%s/%s: checkpoints cannot be cleared: %s", left.namespace, left.name, error)
        if self._objects is not None and not self._away:
            self._collect(self._objects)

    def _collect(self, objects: s3.Objects) -> None:
        """Remove what running experiments released. One that the store refuses (locked, say) keeps no other one."""
        gone: list[tuple[str, str]] = []
        for uid, location in self._storage.released_objects(OBJECTS_AT_ONCE):
            try:
                objects.remove(uid, location)
            except s3.NoAnswer as error:
                logger.warning("checkpoints cannot be removed now: %s", error)
                break
            except s3.Unavailable as error:
                logger.warning("checkpoint %s of %s cannot be removed now: %s", location, uid, error)
            else:
                gone.append((uid, location))
        if gone:
            self._storage.removed_objects(gone)

    def _look(self, left: Leftover) -> None:
        try:
            place = checkpoints.parse_place(left.spec)
        except InvalidSpec:
            place = None
        if place is None:
            return
        if not place.claim:
            self._clear_objects(left)
            return
        body = build(left, place, self._image())
        name = body["metadata"]["name"]
        try:
            job = self._client.get(resources.JOBS, left.namespace, name)
        except errors.NotFound:
            if self._made < AT_ONCE:  # those that are stuck, their claims gone, keep no other from its turn
                self._create(left, body)
            return
        if _is(job, "Complete"):
            if _words(job) == _words(body):  # made for what is there now
                self._storage.cleared(left)
            self._client.delete(resources.JOBS, left.namespace, name, job["metadata"]["uid"])
        elif _is(job, "Failed"):
            logger.warning("%s/%s: job %s failed; see its log", left.namespace, left.name, name)

    def _clear_objects(self, left: Leftover) -> None:
        if self._objects is None or self._away:
            return
        try:
            self._objects.remove_but(left.uid, left.keep)
        except s3.Unavailable as error:
            self._away = isinstance(error, s3.NoAnswer)  # others, and other chores, do not wait as long each
            logger.warning("%s/%s: checkpoints cannot be cleared now: %s", left.namespace, left.name, error)
            return
        self._storage.cleared(left)

    def _create(self, left: Leftover, body: Json) -> None:
        self._made += 1
        try:
            self._client.create(resources.JOBS, left.namespace, body)
        except errors.AlreadyExists:
            pass
        except (errors.NotFound, errors.NamespaceTerminating):  # the namespace goes, and the claim with it
            self._storage.cleared(left)


def _is(job: Mapping[str, object], condition: str) -> bool:
    status = job.get("status")
    found = status.get("conditions") if isinstance(status, Mapping) else None
    return any(each["type"] == condition and each["status"] == "True" for each in found or ())


def _words(job: Json) -> list[str]:
    """What it is told to do."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    return [*container["command"], *(container.get("args") or ())]
