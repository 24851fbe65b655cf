"""What workers ask: a trial to run, and whether to go on with those that they run.

A request for which nothing is offered is held, without thread or connection, until PostgreSQL tells of something new
for the experiment. One notification wakes a few of those who wait, and whoever got something wakes more: a thousand
idle slots do not ask the database at once for one trial.
"""

import asyncio
import collections
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from kubetune import logs
from kubetune.gateway import auth, lease_wire
from kubetune.metrics.catalog import Metrics
from kubetune.storage import base

SECONDS = 600.0  # of a lease: as long as a gateway is ever away; that a worker is lost its pod tells much sooner
CALLS = 4  # threads, so connections
LOOK_AGAIN = 5.0  # seconds after which who waits asks anew, should a notification be lost
WOKEN_AT_ONCE = 4

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Leases:
    """The handlers, and those who wait. Make and use it in one event loop."""

    def __init__(self, storage: base.GatewayStorage, authenticator: auth.Authenticator, metrics: Metrics) -> None:
        self._storage = storage
        self._authenticator = authenticator
        self._metrics = metrics
        self._threads = concurrent.futures.ThreadPoolExecutor(CALLS, thread_name_prefix="lease")
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, collections.deque[asyncio.Future[None]]] = collections.defaultdict(collections.deque)
        self._told: collections.Counter[str] = collections.Counter()  # notifications so far, by the experiment's UID
        self._closing = False
        self._stop = threading.Event()
        storage.listen_for_offers(self._hear, self._stop)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/lease", self.lease), web.post("/v1/heartbeat", self.heartbeat)]

    def drain(self) -> None:
        """Hold no request any longer: whoever waits is answered, and asks another replica."""
        self._closing = True
        for uid in list(self._waiting):
            self._wake(uid, len(self._waiting[uid]))

    def close(self) -> None:
        self.drain()
        self._stop.set()
        self._threads.shutdown(wait=False)

    # ---- requests

    async def lease(self, request: web.Request) -> web.Response:
        begun = self._loop.time()
        who = await self._speaker(request)
        slot, wait, ended = lease_wire.read_lease(await request.read())
        with logs.about(namespace=who.namespace, experiment=who.experiment):
            granted = await self._lease(who, slot, wait, ended)
            if granted.number is not None:
                if ended is not None:
                    self._metrics.handover.observe(self._loop.time() - begun)
                logger.info("worker %d leases trial %d, attempt %d", who.number, granted.number, granted.attempt)
        return web.json_response(lease_wire.write_granted(granted))

    async def _lease(self, who: base.Worker, slot: int | None, wait: float, ended: base.Ended | None) -> base.Granted:
        until = self._loop.time() + wait
        while True:
            told = self._told[who.experiment_uid]
            granted = await self._call(functools.partial(self._storage.lease, who, slot, SECONDS, ended))
            left = until - self._loop.time()
            if granted.number is not None or granted.drain:
                self._wake(who.experiment_uid, 2)
                return granted
            if slot is None or left <= 0 or self._closing:
                return granted
            await self._news(who.experiment_uid, told, min(left, LOOK_AGAIN))
            ended = None

    async def heartbeat(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        held = lease_wire.read_heartbeat(await request.read())
        answers, drain = await self._call(functools.partial(self._storage.renew, who, held, SECONDS))
        return web.json_response(lease_wire.write_heartbeat(held, answers, drain))

    async def _speaker(self, request: web.Request) -> base.Worker:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return await self._authenticator.worker(token.strip() if scheme.lower() == "bearer" else None)

    async def _call(self, call: Callable[[], Result]) -> Result:
        waiting: Awaitable[Result] = self._loop.run_in_executor(self._threads, call)
        return await waiting

    # ---- waiting

    async def _news(self, uid: str, told: int, seconds: float) -> None:
        """Until there may be something new for the experiment's workers since it was ``told`` so often."""
        if self._told[uid] != told:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting[uid]
        waiting.append(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            pass
        finally:
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiting.pop(uid, None)

    def _hear(self, uid: str) -> None:
        """From another thread: something is new for an experiment, or ("") for any."""
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._ring, uid)

    def _ring(self, uid: str) -> None:
        for each in [uid] if uid else [*self._waiting]:
            self._told[each] += 1
            self._wake(each, WOKEN_AT_ONCE)

    def _wake(self, uid: str, count: int) -> None:
        waiting = self._waiting.get(uid)
        while waiting and count:
            future = waiting.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1
