"""The pods whose log is to be read: found by a list and a watch of their label, with what is needed to follow them."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kubetune.api import names
from kubetune.api.spec import Metrics as LogSettings
from kubetune.gateway import auth
from kubetune.kube import resources, watch
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.storage.base import Identity

SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_METRICS}=log"
STUCK_SECONDS = 900.0  # without any turn of the loop

Json: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LogPod:
    """A trial's pod whose log says its metrics."""

    who: Identity
    name: str
    container: str  # the trial's: the first one
    container_id: str  # "": it has not started
    ended: bool  # the container, or the pod without it ever having started
    format: str  # of its lines: text, json
    pattern: str
    step: str

    @property
    def uid(self) -> str:
        return self.who.pod_uid

    @property
    def readable(self) -> bool:
        """There is, or was, a log."""
        return bool(self.container_id) or self.ended


def log_pod(pod: Json) -> LogPod | None:
    """The pod as the follower needs it; None: it runs no trial."""
    try:
        who = auth.identity(pod)
    except auth.Refused:
        return None
    annotations = pod["metadata"].get("annotations") or {}
    container = pod["spec"]["containers"][0]["name"]
    status = pod.get("status") or {}
    of_container: Json = next((each for each in status.get("containerStatuses") or () if each["name"] == container), {})
    state = of_container.get("state") or {}
    started = "running" in state or "terminated" in state
    return LogPod(
        who=who,
        name=pod["metadata"]["name"],
        container=container,
        container_id=str(of_container.get("containerID") or "") if started else "",
        ended="terminated" in state or (not started and status.get("phase") in ("Succeeded", "Failed")),
        format=annotations.get(names.ANNOTATION_LOG_FORMAT) or LogSettings().format,
        pattern=annotations.get(names.ANNOTATION_LOG_PATTERN) or LogSettings().pattern,
        step=annotations.get(names.ANNOTATION_LOG_STEP) or LogSettings().step,
    )


class Watch:
    """Tells of every pod with `SELECTOR` in one namespace (None: all), again whenever it changes.

    Args:
        relist: seconds between two full lists.
        on_pod: a pod as it is now.
        on_gone: the UID of one that is no more.
    """

    def __init__(
        self,
        client: Client,
        credentials: Credentials,
        namespace: str | None,
        relist: float,
        on_pod: Callable[[LogPod], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self._on_pod = on_pod
        self._on_gone = on_gone
        self._known: set[str] = set()
        self._turned = time.monotonic()
        self._watch = watch.Watch(
            client,
            credentials,
            resources.PODS,
            namespace,
            SELECTOR,
            self._listed,
            self._told,
            relist,
            self._turn,
        )

    def faults(self) -> list[str]:
        """Why a restart would help. The API server being away is no reason: the loop goes on asking."""
        idle = time.monotonic() - self._turned
        return [f"the watch of pods has stood still for {idle:.0f} s"] if idle > STUCK_SECONDS else []

    async def run(self) -> None:
        """For ever: list, watch from there, list again when it is due or the watch's place is lost."""
        await self._watch.run()

    def _turn(self) -> None:
        self._turned = time.monotonic()

    async def _listed(self, items: Sequence[Json]) -> None:
        there = {item["metadata"]["uid"] for item in items}
        for uid in self._known - there:
            self._gone(uid)
        await watch.breathing(items, self._seen)

    def _told(self, item: Json, deleted: bool) -> None:
        if deleted:
            self._gone(item["metadata"]["uid"])
        else:
            self._seen(item)

    def _seen(self, item: Json) -> None:
        self._known.add(item["metadata"]["uid"])
        pod = log_pod(item)
        if pod is not None:
            self._on_pod(pod)

    def _gone(self, uid: str) -> None:
        self._known.discard(uid)
        self._on_gone(uid)
