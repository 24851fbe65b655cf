"""Who speaks, where a pod runs many trials: the worker by its pod, the trial by what follows the token.

A worker writes each of its trials a token file of its own, ``TOKEN~NUMBER~ATTEMPT``. What follows the token proves
nothing: the accepting lock takes it only for a trial that this worker's Job has on lease.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from kubetune.api import names
from kubetune.storage.base import Worker

Json: TypeAlias = Mapping[str, Any]

_NAMED = re.compile(r"([^~]*)~([0-9]{1,10})~([0-9]{1,10})", re.ASCII)


def split(token: str | None) -> tuple[str | None, tuple[int, int] | None]:
    """The service account token, and which trial and attempt its sender says it is."""
    match = _NAMED.fullmatch(token or "")
    if match is None:
        return token, None
    return match.group(1), (int(match.group(2)), int(match.group(3)))


def worker(pod: Json) -> Worker | None:
    """The worker that a pod is, by its labels and its owner; None: it is none."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    job = next((owner for owner in owners if owner["kind"] == "Job" and owner["apiVersion"] == "batch/v1"), None)
    number = str(labels.get(names.LABEL_WORKER, ""))
    uid, experiment = labels.get(names.LABEL_EXPERIMENT_UID), labels.get(names.LABEL_EXPERIMENT)
    if job is None or not uid or not experiment or not (number.isascii() and number.isdigit() and len(number) <= 10):
        return None
    uid = names.phase_uid(uid, labels.get(names.LABEL_PHASE, ""))
    return Worker(uid, metadata["namespace"], experiment, int(number), job["uid"], metadata["uid"])
