"""Is this gateway alive, and may requests be sent to it? Plain HTTP for kubelet and Prometheus.

The database being away makes the gateway neither dead nor unready: it answers 503 with Retry-After, which tells a trial
more than a refused connection would. It becomes ready once it has seen the database and has its certificate.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from kubetune.gateway.batch import Batcher
from kubetune.gateway.certificate import Certificate
from kubetune.metrics.catalog import Metrics
from kubetune.storage import base

LOOK = 5.0  # seconds between two questions to the database
COMMIT_STUCK = 180.0  # a commit that takes so long will never come; the database's own limits are far below

logger = logging.getLogger(__name__)


class Watching(Protocol):
    """Something that can say why it is of no use any more."""

    def faults(self) -> Sequence[str]: ...


class Health:
    """Facts, judged when asked."""

    def __init__(
        self,
        storage: base.GatewayStorage,
        metrics: Metrics,
        batcher: Batcher,
        follower: Watching,
        certificate: Certificate | None,
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        self._batcher = batcher
        self._follower = follower
        self._certificate = certificate
        self._database_seen = False
        self.draining = False

    def faults(self) -> list[str]:
        """Why a restart would help; empty: alive."""
        told = list(self._follower.faults())
        if self._batcher.slowest > COMMIT_STUCK:
            told.append(f"a commit has taken {self._batcher.slowest:.0f} s")
        return told

    def wants(self) -> list[str]:
        """What is missing before requests may come; empty: ready."""
        told = []
        if self._certificate is not None and not self._certificate.loaded:
            told.append("the certificate is not there yet")
        if not self._database_seen:
            told.append("the database has not answered yet")
        if self.draining:
            told.append("it is stopping")
        return told

    async def watch_database(self, pause: float = LOOK) -> None:
        """Ask for ever."""
        last: bool | None = None
        while True:
            up = await asyncio.to_thread(self._storage.healthy)
            self._metrics.database_up.set(up)
            self._database_seen = self._database_seen or up
            if up is not last:
                logger.log(logging.INFO if up else logging.WARNING, "the database %s", "answers" if up else "is away")
            last = up
            await asyncio.sleep(pause if up else 1.0)

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._alive),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._text),
            ]
        )
        return application

    async def _alive(self, request: web.Request) -> web.Response:
        return _judged(self.faults())

    async def _ready(self, request: web.Request) -> web.Response:
        return _judged(self.wants())

    async def _text(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


def _judged(complaints: list[str]) -> web.Response:
    return web.json_response({"ok": not complaints, "reasons": complaints}, status=503 if complaints else 200)
