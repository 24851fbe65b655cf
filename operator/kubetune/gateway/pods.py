"""The pods whose log is to be read: found by a list and a watch of their label, with what is needed to follow them."""

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, TypeAlias

import aiohttp

from kubetune.api import names
from kubetune.api.spec import Metrics as LogSettings
from kubetune.gateway import auth
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.storage.base import Identity

SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_METRICS}=log"
WATCH_SECONDS = 120  # after so long the server ends a watch; a dead connection is noticed a little later
STUCK_SECONDS = 900.0  # without any turn of the loop

logger = logging.getLogger(__name__)

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
        self._client = client
        self._credentials = credentials
        self._namespace = namespace
        self._relist = relist
        self._on_pod = on_pod
        self._on_gone = on_gone
        self._known: set[str] = set()
        self._turned = time.monotonic()

    def faults(self) -> list[str]:
        """Why a restart would help. The API server being away is no reason: the loop goes on asking."""
        idle = time.monotonic() - self._turned
        return [f"the watch of pods has stood still for {idle:.0f} s"] if idle > STUCK_SECONDS else []

    async def run(self) -> None:
        """For ever: list, watch from there, list again when it is due or the watch's place is lost."""
        pause = 0.0
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._credentials.ssl_context()),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=WATCH_SECONDS + 30.0),
            trust_env=False,
        ) as session:
            while True:
                self._turned = time.monotonic()
                try:
                    version = await self._list()
                    pause = 0.0
                    await self._watch_until_due(session, version)
                except errors.Gone:
                    continue
                except errors.ApiError as error:
                    pause = min(10.0, 2 * pause or 0.5)
                    logger.warning("pods cannot be watched, again in %.1f s: %s", pause, error)
                    await asyncio.sleep(pause)

    async def _list(self) -> str:
        items, version = await asyncio.to_thread(self._client.list, resources.PODS, self._namespace, SELECTOR)
        there = {item["metadata"]["uid"] for item in items}
        for uid in self._known - there:
            self._gone(uid)
        for item in items:
            self._seen(item)
        return version

    async def _watch_until_due(self, session: aiohttp.ClientSession, version: str) -> None:
        due = time.monotonic() + self._relist
        while time.monotonic() < due:
            begun = self._turned = time.monotonic()
            async for event in self._events(session, version):
                self._turned = time.monotonic()
                version = self._take(event) or version
            await asyncio.sleep(max(0.0, begun + 1.0 - time.monotonic()))  # a server that ends watches at once

    def _take(self, event: Json) -> str:
        """Take in one event; returns its resourceVersion. Raises the error that it may be."""
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            raise errors.from_response(int(found.get("code") or 500), json.dumps(found).encode(), {})
        if kind == "DELETED":
            self._gone(found["metadata"]["uid"])
        elif kind != "BOOKMARK":
            self._seen(found)
        return str(found["metadata"].get("resourceVersion") or "")

    async def _events(self, session: aiohttp.ClientSession, version: str) -> AsyncGenerator[Json, None]:
        params = {
            "watch": "true",
            "labelSelector": SELECTOR,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            async with session.get(
                self._credentials.server + resources.PODS.path(self._namespace),
                params=params,
                headers=self._credentials.headers(),
                server_hostname=self._credentials.server_hostname,
            ) as response:
                if response.status >= 400:
                    raise errors.from_response(response.status, await response.read(), response.headers)
                async for line in _lines(response.content.iter_any()):
                    yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(0, type(error).__name__, f"watch of pods: {error}") from error

    def _seen(self, item: Json) -> None:
        self._known.add(item["metadata"]["uid"])
        pod = log_pod(item)
        if pod is not None:
            self._on_pod(pod)

    def _gone(self, uid: str) -> None:
        self._known.discard(uid)
        self._on_gone(uid)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
