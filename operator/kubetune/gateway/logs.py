"""No-code trials: metrics read from the pod's log, followed through the API server while it runs.

Replicas share the logs by leases in the database, one for each attempt, and take over what another one leaves. Nothing
that matters is in memory only: a line's idempotency key is a function of the line itself, the position is saved from
time to time, and whoever reads on from an earlier position sends reports that are there already, which changes nothing.
So a gateway may die at any moment: no report is lost, none counts twice.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import os
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import ParamSpec, TypeVar

from kubetune import logs as logging_fields
from kubetune.gateway import patterns, pods
from kubetune.gateway.batch import Batcher, Overloaded
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.kube.stream import LogLine, LogStreams
from kubetune.metrics.catalog import Metrics
from kubetune.settings import Settings
from kubetune.storage import base

# The operator waits settings.log_grace for a log to be read to its end: another replica takes over long before that.
LEASE = 20.0  # seconds
RENEW = 6.0
TRY_LEASE = (2.0, 4.0)  # seconds between two tries to get a lease that another one has, drawn at random
CHUNK = 200  # lines taken at once: other tasks have their turn in between
QUEUE = 1000  # lines read ahead; then the stream waits
CLOSE = 5.0  # seconds to save positions and give leases back

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LeaseLost(Exception):  # noqa: N818
    """Another replica follows this log now, or its trial wants no more reports."""


@dataclasses.dataclass(frozen=True)
class _End:
    """The end of a stream, for this reason; None: the server said that this was all."""

    error: errors.ApiError | None


@dataclasses.dataclass(frozen=True)
class Tools:
    """What following one log needs."""

    storage: base.GatewayStorage
    batcher: Batcher
    metrics: Metrics
    client: Client
    streams: LogStreams
    threads: concurrent.futures.Executor
    holder: str

    async def call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Something that blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: function(*args, **kwargs))


class Follower:
    """Finds the pods and follows their logs, as an asynchronous context manager.

    Args:
        threads: for leases, positions and reads of single pods.
    """

    def __init__(
        self,
        settings: Settings,
        storage: base.GatewayStorage,
        batcher: Batcher,
        metrics: Metrics,
        client: Client,
        credentials: Credentials,
        threads: int = 4,
        holder: str = "",
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="follow")
        self._parts = (storage, batcher, metrics, client)
        self._holder = holder or f"{os.environ.get('HOSTNAME') or socket.gethostname()}:{settings.listen_port}"
        self._following: dict[str, Following] = {}  # by the pod's UID, also those that are done
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: set[str] = set()
        given = [name.strip() for name in settings.watch_namespaces.split(",")]
        namespaces: list[str | None] = [name for name in given if name]
        self._watches = [
            pods.Watch(client, credentials, namespace, settings.relist, self.seen, self.gone)
            for namespace in namespaces or [None]
        ]

    def faults(self) -> Sequence[str]:
        """Why a restart would help; empty: all is well."""
        return [fault for watch in self._watches for fault in watch.faults()]

    async def __aenter__(self) -> "Follower":
        storage, batcher, metrics, client = self._parts
        streams = LogStreams(self._credentials)
        self._tools = Tools(storage, batcher, metrics, client, streams, self._threads, self._holder)
        self._watching = [asyncio.create_task(watch.run()) for watch in self._watches]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._watching, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await asyncio.gather(*(each.give_back() for each in self._following.values()), return_exceptions=True)
        await self._tools.streams.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ---- what the watch tells

    def seen(self, pod: pods.LogPod) -> None:
        """A pod as it is now."""
        known = self._following.get(pod.uid)
        if known is not None:
            known.pod = pod
        elif pod.readable:
            self._start(pod)

    def gone(self, uid: str) -> None:
        """The pod is no more; whoever follows its log finds out by itself."""
        known = self._following.get(uid)
        if known is None:
            return
        if known.finished:
            del self._following[uid]
        else:
            self._gone.add(uid)

    def _start(self, pod: pods.LogPod) -> None:
        following = self._following[pod.uid] = Following(pod, self._tools)
        # Whoever follows less comes first to a new log.
        head_start = min(1.0, 0.01 * len(self._tasks)) + random.uniform(0.0, 0.1)
        task = asyncio.create_task(self._run(following, head_start))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, following: "Following", head_start: float) -> None:
        who = following.pod.who
        with logging_fields.about(
            namespace=who.namespace, experiment=who.experiment, trial=who.number, attempt=who.attempt
        ):
            await asyncio.sleep(head_start)
            await following.run()
        if following.pod.uid in self._gone:
            self._gone.discard(following.pod.uid)
            del self._following[following.pod.uid]


class Following:
    """One pod's log, from now until it is read to its end or nobody wants it any more."""

    def __init__(self, pod: pods.LogPod, tools: Tools) -> None:
        self.pod = pod  # renewed by the watch
        self.finished = False
        self._tools = tools
        self._held = False
        self._since = ""  # time of the last line taken
        self._saved = ""  # the same, as the database has it
        self._renewed = 0.0  # monotonic

    async def run(self) -> None:
        """Raises nothing but CancelledError."""
        pause = 0.0
        while not self.finished:
            try:
                await self._once()
                pause = 0.0
            except base.NotCurrent as ended:
                logger.info("the log is not followed any more: %s", ended)
                self.finished = True
            except base.NotRecorded:
                await asyncio.sleep(1.0)
            except LeaseLost:
                logger.info("another gateway follows the log of pod %s now", self.pod.name)
            except (base.StorageUnavailable, Overloaded):
                pause = await _rest(pause)
            except Exception:
                logger.exception("following the log of pod %s failed; it is tried again", self.pod.name)
                pause = await _rest(pause)

    async def give_back(self) -> None:
        """Save the position and let another replica take over at once."""
        if self._held and not self.finished:
            self._held = False
            await self._save(done=False)
            await self._tools.call(self._tools.storage.claim_log, self.pod.who, self._tools.holder, 0.0)

    # ---- the lease

    async def _once(self) -> None:
        """Get the lease, then follow; or see why it cannot be had. Raises NotCurrent, NotRecorded, LeaseLost, …"""
        storage, who = self._tools.storage, self.pod.who
        position = await self._tools.call(storage.claim_log, who, self._tools.holder, LEASE)
        if position is None:
            await self._tools.call(storage.look, who)
            await asyncio.sleep(random.uniform(*TRY_LEASE))
            return
        if position.done:
            self.finished = True
            return
        self._held, self._renewed = True, time.monotonic()
        self._since = self._saved = position.since
        self._tools.metrics.logs_followed.inc()
        try:
            await self._follow()
        except LeaseLost:
            self._held = False
            raise
        finally:
            self._tools.metrics.logs_followed.dec()

    async def _renew(self) -> None:
        """Keep the lease, and the position, when that is due. Raises LeaseLost, StorageUnavailable."""
        if time.monotonic() - self._renewed < RENEW:
            return
        storage = self._tools.storage
        if await self._tools.call(storage.claim_log, self.pod.who, self._tools.holder, LEASE) is None:
            raise LeaseLost
        self._renewed = time.monotonic()
        if self._since != self._saved:
            await self._save(done=False)

    async def _save(self, done: bool) -> None:
        since = self._since
        await self._tools.call(self._tools.storage.save_log, self.pod.who, self._tools.holder, since, done)
        self._saved = since

    # ---- the log

    async def _follow(self) -> None:
        """Read until the end of the log. A stream may end for many reasons, so only one that was opened when the
        container was known to have ended tells, by its own good end, that there is nothing more."""
        try:
            form = patterns.lines(self.pod.format, self.pod.pattern, self.pod.step)
        except patterns.PatternError as error:
            logger.warning("no metric can be read from the log: spec.metrics: %s", error)
            return await self._finish()
        pause = 0.0
        while True:
            ended, before = self.pod.ended, self._since
            if ended and not self.pod.container_id:
                return await self._finish()
            fault = await self._read(form, until_now=ended)
            if ended and (fault is None or isinstance(fault, errors.Invalid)):
                return await self._finish()
            if await self._is_gone():
                return await self._finish()
            if fault is not None:
                logger.info("the log of pod %s broke off: %s", self.pod.name, fault)
            if not self.pod.ended or fault is not None:
                pause = await _rest(0.0 if self._since != before else pause)
            await self._renew()

    async def _finish(self) -> None:
        await self._save(done=True)
        self.finished = True
        logger.info("the log of pod %s is read to its end", self.pod.name)

    async def _is_gone(self) -> bool:
        """Look at the pod itself: the watch may lag."""
        who = self.pod.who
        try:
            found = await self._tools.call(self._tools.client.get, resources.PODS, who.namespace, self.pod.name)
        except errors.NotFound:
            return True
        except errors.ApiError:
            return False
        fresh = pods.log_pod(found)
        if fresh is None or fresh.uid != self.pod.uid:
            return True
        self.pod = fresh
        return False

    async def _read(self, form: patterns.Lines, until_now: bool) -> errors.ApiError | None:
        """Take in one stream from where we stand. Returns why it ended; None: the server said that this was all."""
        queue: asyncio.Queue[LogLine | _End] = asyncio.Queue(QUEUE)
        reader = _Reader(self.pod, form, self._since)
        pump = asyncio.create_task(self._pump(queue, until_now))
        try:
            while True:
                entries = await _several(queue, max(0.05, self._renewed + RENEW - time.monotonic()))
                lines = [entry for entry in entries if not isinstance(entry, _End)]
                if lines:
                    await self._send(reader.reports(lines))
                    self._since = reader.last
                await self._renew()
                if entries and isinstance(entries[-1], _End):
                    return entries[-1].error
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, queue: asyncio.Queue[LogLine | _End], until_now: bool) -> None:
        end: errors.ApiError | None = None
        try:
            stream = self._stream(until_now)
            async with contextlib.aclosing(stream):
                async for moment, text in stream:
                    await queue.put((moment, text[: patterns.LINE_LENGTH]))
        except errors.ApiError as error:
            end = error
        await queue.put(_End(end))

    def _stream(self, until_now: bool) -> AsyncGenerator[LogLine, None]:
        pod = self.pod
        return self._tools.streams.follow(
            pod.who.namespace, pod.name, pod.container, since=self._since, follow=not until_now
        )

    async def _send(self, reports: Sequence[base.Incoming]) -> None:
        """Commit reports; again, with the same keys, for as long as it takes. Raises NotCurrent, LeaseLost."""
        pause = 0.0
        while reports:
            try:
                answers = await self._tools.batcher.submit(reports)
                trouble = next((each for each in answers if isinstance(each, Exception)), None)
                if isinstance(trouble, base.NotCurrent | base.NotRecorded | base.StorageUnavailable):
                    raise trouble
                if trouble is not None:
                    logger.warning("a line of the log of pod %s is left out: %s", self.pod.name, trouble)
                return
            except (base.StorageUnavailable, base.NotRecorded, Overloaded):
                pause = await _rest(pause)
                with contextlib.suppress(base.StorageUnavailable):
                    await self._renew()


class _Reader:
    """Makes reports of lines. ``since``: the time up to which a stream before this one was taken."""

    def __init__(self, pod: pods.LogPod, form: patterns.Lines, since: str) -> None:
        self._who = pod.who
        self._form = form
        self._keys = patterns.Keys(pod.container_id)
        self._since = patterns.instant(since)
        self.last = since

    def reports(self, lines: Sequence[LogLine]) -> list[base.Incoming]:
        found = []
        for moment, text in lines:
            instant = patterns.instant(moment)
            if instant is None or (self._since is not None and instant < self._since):
                continue  # the kubelet's own words; or of the second that we were in, and taken
            self.last = moment
            measured = self._form.read(text)
            if measured is not None:
                key = self._keys.key(instant, text)
                found.append(base.Incoming(self._who, key, measured.step, measured.metrics))
        return found


async def _several(queue: asyncio.Queue[LogLine | _End], patience: float) -> list[LogLine | _End]:
    """What there is, at most `CHUNK`; waits for a first one, but not for ever. An `_End` is the last."""
    try:
        async with asyncio.timeout(patience):
            found = [await queue.get()]
    except TimeoutError:
        return []
    while len(found) < CHUNK and not queue.empty():
        found.append(queue.get_nowait())
    return found


async def _rest(pause: float) -> float:
    """Sleep, longer each time, with jitter; returns the pause to hand in next time."""
    pause = min(10.0, 2 * pause or 0.5)
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
    return pause
