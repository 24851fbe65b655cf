"""What trials say of their checkpoints: one is written, what to go on from, what is removed.

The files go past the gateway: it takes their digest, and says which of them count.
"""

import asyncio
import concurrent.futures
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

from kubetune import logs, s3
from kubetune.api import checkpoints
from kubetune.api.checkpoints import Checkpoint
from kubetune.gateway import auth, checkpoint_wire, wire
from kubetune.storage import base

CALLS = 2  # threads, so connections

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Checkpoints:
    """The handlers. Make and use it in one event loop. ``store``: the object storage, if there is one."""

    def __init__(
        self, storage: base.GatewayStorage, authenticator: auth.Authenticator, store: s3.Store | None = None
    ) -> None:
        self._store = store
        self._storage = storage
        self._authenticator = authenticator
        self._threads = concurrent.futures.ThreadPoolExecutor(CALLS, thread_name_prefix="checkpoint")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/checkpoint", self.look),
            web.post("/v1/checkpoint", self.commit),
            web.get("/v1/checkpoint/init", self.init),
            web.post("/v1/checkpoint/upload", self.upload),
            web.post("/v1/checkpoint/resume", self.resume),
            web.post("/v1/checkpoint/removed", self.removed),
        ]

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def commit(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        new = checkpoint_wire.read_commit(await request.read(), who)
        with _about(who):
            answer, remove = await self._call(functools.partial(self._storage.commit_checkpoint, who, new))
            logger.info("a checkpoint of step %d, %d bytes", new.step, new.bytes)
        return web.json_response({**wire.write_answer(answer), "remove": remove})

    async def look(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        found = await self._call(functools.partial(self._storage.resumable, who))
        return web.json_response({"checkpoints": [self._written(who, each) for each in found]})

    def _written(self, who: base.Identity, one: Checkpoint) -> wire.Json:
        """With an address to get it at, where it is an object."""
        written = checkpoint_wire.write_checkpoint(one)
        if one.store == checkpoints.S3:
            store = self._needed()
            written["url"] = store.url("GET", store.key(who.experiment_uid, one.location))
        return written

    async def init(self, request: web.Request) -> web.Response:
        """The object that every trial starts from: of its own experiment's choice, and never of another namespace."""
        who = await self._speaker(request)
        found = await self._call(functools.partial(self._storage.start, who))
        if found is None:
            raise wire.BadRequest("this experiment's trials start from no object (spec.initCheckpoint)")
        store = self._needed()
        key = store.key(found.uid, found.location) if found.uid else store.own_key(who.namespace, found.location)
        return web.json_response({"key": key, "digest": found.digest, "url": store.url("GET", key)})

    def _needed(self) -> s3.Store:
        if self._store is None:
            raise wire.BadRequest("this installation has no object storage (chart value objectStorage); use a claim")
        return self._store

    async def upload(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        location = checkpoint_wire.read_upload(await request.read(), who)
        store = self._needed()
        answer = await self._call(functools.partial(self._storage.uploading, who))
        url = store.url("PUT", store.key(who.experiment_uid, location))
        return web.json_response({**wire.write_answer(answer), "url": url})

    async def resume(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        location, damaged = checkpoint_wire.read_resume(await request.read())
        with _about(who):
            answer = await self._call(functools.partial(self._storage.resume, who, location, damaged))
            if damaged:
                logger.warning("damaged checkpoints: %s", ", ".join(damaged))
            logger.info("the trial goes on from %s", location or "no checkpoint")
        return web.json_response(wire.write_answer(answer))

    async def removed(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        locations = checkpoint_wire.read_removed(await request.read())
        answer = await self._call(functools.partial(self._storage.removed, who, locations))
        return web.json_response(wire.write_answer(answer))

    async def _speaker(self, request: web.Request) -> base.Identity:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return await self._authenticator.trial(token.strip() if scheme.lower() == "bearer" else None)

    async def _call(self, call: Callable[[], Result]) -> Result:
        """A storage's method, in a thread. Its ValueError is about what was sent."""
        waiting: Awaitable[Result] = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await waiting
        except ValueError as error:
            raise wire.BadRequest(str(error)) from error


def _about(who: base.Identity) -> Any:
    return logs.about(namespace=who.namespace, experiment=who.experiment, trial=who.number, attempt=who.attempt)
