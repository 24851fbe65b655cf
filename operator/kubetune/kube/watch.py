"""Everything of one kind, followed for ever: a list, then a watch from there, asynchronously.

For Jobs, pods and nodes, of which there are thousands. kopf, made for objects that somebody handles, takes 2 ms of CPU
for each event of theirs (docs/decisions/0054); this takes what reading its JSON takes.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import aiohttp

from kubetune.kube import errors
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.kube.resources import Resource

WATCH_SECONDS = 240  # after so long the server ends a watch
SILENCE = 75.0  # seconds without a byte after which a watch is taken for dead: there is a bookmark every minute
BREATH = 100  # objects of a list that are taken in before others get their turn
LONGEST_PAUSE = 10.0  # seconds between two tries

logger = logging.getLogger(__name__)

Json: TypeAlias = Mapping[str, Any]


class Watch:
    """One kind, in one namespace (None: all). What the callbacks raise, `run` raises.

    Args:
        selector: of labels; empty: all.
        listed: all objects there are, at the beginning and whenever the watch has lost its place.
        told: an object as it is now, or was when it was deleted (then with True).
        relist: seconds after which everything is listed again anyway.
        turned: called now and then, as long as the loop goes on.
    """

    def __init__(
        self,
        client: Client,
        credentials: Credentials,
        resource: Resource,
        namespace: str | None,
        selector: str,
        listed: Callable[[Sequence[Json]], Awaitable[None]],
        told: Callable[[Json, bool], None],
        relist: float = float("inf"),
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._resource = resource
        self._namespace = namespace
        self._selector = selector
        self._listed = listed
        self._told = told
        self._relist = relist
        self._turned = turned

    async def run(self) -> None:
        """For ever. An API server that is away, or refuses, is asked again."""
        pause = 0.0
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=SILENCE)
        connector = aiohttp.TCPConnector(ssl=self._credentials.ssl_context())
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            while True:
                self._turned()
                try:
                    items, version = await asyncio.to_thread(
                        self._client.list, self._resource, self._namespace, self._selector
                    )
                    await self._listed(items)
                    pause = 0.0
                    await self._watch_until_due(session, version)
                except errors.Gone:
                    continue
                except errors.ApiError as error:
                    pause = min(LONGEST_PAUSE, 2 * pause or 0.5)
                    logger.warning("%s cannot be watched, again in %.1f s: %s", self._resource.plural, pause, error)
                    await asyncio.sleep(pause)

    async def _watch_until_due(self, session: aiohttp.ClientSession, version: str) -> None:
        due = time.monotonic() + self._relist
        while (begun := time.monotonic()) < due:
            self._turned()
            async for event in self._events(session, version):
                self._turned()
                version = self._take(event) or version
            await asyncio.sleep(max(0.0, begun + 1.0 - time.monotonic()))  # a server that ends watches at once

    def _take(self, event: Json) -> str:
        """Take in one event; returns its resourceVersion. Raises the error that it may be."""
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            raise errors.from_response(int(found.get("code") or 500), json.dumps(found).encode(), {})
        if kind != "BOOKMARK":
            self._told(found, kind == "DELETED")
        return str(found["metadata"].get("resourceVersion") or "")

    async def _events(self, session: aiohttp.ClientSession, version: str) -> AsyncGenerator[Json, None]:
        """Until the server ends the watch, or is silent for too long."""
        params = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if self._selector:
            params["labelSelector"] = self._selector
        try:
            async with session.get(
                self._credentials.server + self._resource.path(self._namespace),
                params=params,
                headers=self._credentials.headers(),
                server_hostname=self._credentials.server_hostname,
            ) as response:
                if response.status >= 400:
                    raise errors.from_response(response.status, await response.read(), response.headers)
                async for line in lines(response.content.iter_any()):
                    yield json.loads(line)
        except TimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            fault = f"watch of {self._resource.plural}: {error}"
            raise errors.Unavailable(0, type(error).__name__, fault) from error


async def breathing(items: Sequence[Json], take: Callable[[Json], None]) -> None:
    """Take in the objects of a list, with room for others in between."""
    for place, item in enumerate(items, 1):
        take(item)
        if place % BREATH == 0:
            await asyncio.sleep(0)


async def lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Chunks of bytes as whole lines."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
