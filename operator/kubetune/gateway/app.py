"""The gateway process: what it is made of, how it starts, and how it stops without losing what it has taken.

Two ports: trials and the command line talk TLS on one, kubelet and Prometheus plain HTTP on the other. Replicas hold no
state; any number of them serve side by side.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import signal
import sys
import time
from asyncio import sslproto
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from aiohttp import web

from kubetune import s3
from kubetune.gateway import api, auth, batch, certificate, checkpoints, health, leases, logs
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials, NoCredentials
from kubetune.metrics.catalog import Metrics
from kubetune.settings import Settings
from kubetune.storage import base, postgres

LAME_DUCK = 2.0  # seconds between "not ready" and closed ears: Services learn it in the meantime
DRAIN = 15.0  # seconds for requests in hand
SWITCH_INTERVAL = 0.0005  # seconds that a thread may run Python while another one wants to
TLS_BUFFER = 16 * 1024  # bytes of each connection: a record of TLS holds no more
MOST_CONNECTIONS = 10_000  # open at once on a port
FOLLOWING_CALLS = 4  # threads, so connections, for the leases and positions of followed logs
CONNECTIONS = batch.IN_FLIGHT + api.CALLS + leases.CALLS + checkpoints.CALLS + FOLLOWING_CALLS + 1

logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SystemExit where there is no way to the API server."""
    _tune()
    try:
        credentials = Credentials.load()
    except NoCredentials as error:
        raise SystemExit(f"kubetune gateway: {error}") from error
    storage = postgres.PostgresStorage(settings.database_url, CONNECTIONS, "kubetune-gateway")
    try:
        asyncio.run(_until_told(settings, storage, credentials))
    finally:
        storage.close()


def _tune() -> None:
    """Set what holds for the whole process: the threads that commit must not keep the loop waiting for the interpreter
    (each answer gives it up and needs it back), and a connection must not cost 256 KiB, asyncio's default."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    sslproto.SSLProtocol.max_size = TLS_BUFFER


async def _until_told(settings: Settings, storage: base.GatewayStorage, credentials: Credentials) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    serving = loop.create_task(_serve(settings, storage, credentials, told, ready := asyncio.Event()))
    stopping = loop.create_task(told.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():  # still waiting for its certificate
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(
    settings: Settings,
    storage: base.GatewayStorage,
    credentials: Credentials,
    told: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    async with gateway(settings, storage, credentials) as served:
        ready.set()
        await told.wait()
        logger.info("asked to stop: %.0f s for the word to go round", LAME_DUCK)
        served.drain()
        await asyncio.sleep(LAME_DUCK)


@dataclasses.dataclass
class Served:
    """A gateway that serves. ``ports``: (trials', HTTP's), as bound."""

    ports: tuple[int, int]
    api: api.Api
    health: health.Health
    leases: leases.Leases

    def drain(self) -> None:
        """Not ready any more, and every answer asks to connect anew; requests are still taken."""
        self.health.draining = self.api.draining = True
        self.leases.drain()


@contextlib.asynccontextmanager
async def gateway(
    settings: Settings, storage: base.GatewayStorage, credentials: Credentials, host: str = ""
) -> AsyncIterator[Served]:
    """Serve for the length of the block; on the way out, take no more, answer what was taken, commit it.

    Args:
        host: the interface to listen on; "": all.
    """
    metrics = Metrics("gateway")
    async with contextlib.AsyncExitStack() as stack:
        client = Client(credentials, pool_size=settings.api_threads, timeout=10.0, on_request=metrics.observe_request)
        stack.callback(client.close)
        batcher = batch.Batcher(storage, metrics, settings.batch_delay, settings.batch_size)
        stack.push_async_callback(batcher.close)
        authenticator = auth.Authenticator(client, settings.api_threads)
        stack.callback(authenticator.close)
        leasing = leases.Leases(storage, authenticator, metrics)
        stack.callback(leasing.close)
        keeping = checkpoints.Checkpoints(storage, authenticator, s3.Store.of(settings))
        stack.callback(keeping.close)
        handlers = api.Api(storage, authenticator, batcher, metrics, leasing, keeping)
        stack.callback(handlers.close)
        cert = certificate.Certificate(settings.tls_directory) if settings.tls_directory else None
        follower = logs.Follower(settings, storage, batcher, metrics, client, credentials, FOLLOWING_CALLS)
        state = health.Health(storage, metrics, batcher, follower, cert)
        http = await stack.enter_async_context(_site(state.application(), host, settings.http_port))
        stack.enter_context(_task(state.watch_database()))
        if cert is not None:
            await cert.appear()
            stack.enter_context(_task(cert.watch()))
        await stack.enter_async_context(follower)
        application = handlers.application(settings.body_limit)
        port = await stack.enter_async_context(_site(application, host, settings.listen_port, cert))
        logger.info("listening on port %d (%s) and %d (http)", port, "https" if cert else "http", http)
        begun = time.monotonic()
        yield Served((port, http), handlers, state, leasing)
        logger.info("stopping after %.0f s", time.monotonic() - begun)


@contextlib.asynccontextmanager
async def _site(
    application: web.Application, host: str, port: int, cert: certificate.Certificate | None = None
) -> AsyncIterator[int]:
    """Listen for the length of the block (port 0: any); yields the port. What is in hand at the end is answered."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=DRAIN, keepalive_timeout=75.0)
    await runner.setup()
    assert runner.server
    listening = await asyncio.get_running_loop().create_server(
        functools.partial(_taken_or_not, runner.server),
        host or None,
        port,
        ssl=cert.context if cert else None,
        backlog=1024,
    )
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        await runner.cleanup()


def _taken_or_not(server: web.Server) -> asyncio.Protocol:
    """What talks to a new connection. Each that is open costs memory: one too many is closed at once, and those that
    are there already go on."""
    return server() if len(server.connections) < MOST_CONNECTIONS else _Closed()


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


@contextlib.contextmanager
def _task(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
