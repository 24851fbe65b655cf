"""The watches: every event goes into cache or registry and wakes a key. Nothing else happens here.

Experiments come by kopf, which this module alone knows. Only an `on.event` handler is used: no index (it does not
scale), no `on.create` and the like (they PATCH every object), no timers and daemons (a task and a finalizer for each
object). FACTS.md has the measurements. So kopf never writes anything. Jobs, pods and nodes, of which there are
thousands, come by `kube.watch` (docs/decisions/0054).
"""

import asyncio
import contextlib
import functools
import logging
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import kopf

from kubetune.api import names
from kubetune.controller.cache import Cache
from kubetune.controller.health import Health
from kubetune.controller.queue import Queue
from kubetune.controller.registry import Registry
from kubetune.kube import resources, watch
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.kube.resources import Resource
from kubetune.metrics.catalog import Metrics

COALESCE = 0.1  # seconds in which what frees no slot is taken together

logger = logging.getLogger(__name__)

_IDENTITY: Any = names.MANAGED_BY  # else kopf looks up the user's name, and a pod's uid may have none

_Handle = Callable[[Any, bool], Collection[str]]  # raw object, whether it was deleted → keys to wake
_Urgent = Callable[[str], bool]  # whether a key is to be looked at now, not only with what else comes in a moment


class Watches:
    """Watches experiments, trials' Jobs and pods, and, where that is allowed, ``nodes``. ``namespaces`` empty: all."""

    def __init__(
        self,
        client: Client,
        credentials: Credentials,
        queue: Queue,
        cache: Cache,
        registry: Registry,
        health: Health,
        metrics: Metrics,
        namespaces: Collection[str] = (),
        nodes: bool = True,
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._queue = queue
        self._registry = registry
        self._health = health
        self._metrics = metrics
        self._namespaces = tuple(namespaces)
        self._kopf = kopf.OperatorRegistry()
        kopf.on.login(registry=self._kopf, id="login")(self._login)
        decorate = kopf.on.event(
            group=names.GROUP, version=names.VERSION, plural=names.PLURAL, registry=self._kopf, id=names.PLURAL
        )
        decorate(self._by_kopf)
        self._follow: list[watch.Watch] = []
        for namespace in self._namespaces or (None,):
            self._add(resources.JOBS, namespace, names.TRIAL_SELECTOR, cache.apply_job, cache.frees)
            self._add(resources.PODS, namespace, names.TRIAL_SELECTOR, cache.apply_pod, cache.frees)
        if nodes:
            self._add(resources.NODES, None, "", cache.apply_node, cache.frees)

    def run(self, stop: threading.Event) -> None:
        """Watch in this thread until ``stop`` is set; in the main thread SIGTERM and SIGINT stop it too. Raises what
        makes watching impossible (no right to list, a kind that is not installed)."""
        try:
            asyncio.run(self._run(stop))
        finally:
            self._health.watching(False)

    async def _run(self, stop: threading.Event) -> None:
        """kopf, with flags of its own loop: waiting for a thread's flag would keep a thread, and the exit, waiting."""
        loop, stopping, ready = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def pass_on() -> None:
            stop.wait()
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(stopping.set)

        async def take_over() -> None:
            await ready.wait()
            self._health.watching(True)
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):  # kopf's own handlers forget the stop flag's waiter,
                    loop.add_signal_handler(number, stop.set)  # and wait five seconds for it

        threading.Thread(target=pass_on, name="stop-watches", daemon=True).start()
        tasks = [asyncio.create_task(take_over())]
        following = [asyncio.create_task(each.run()) for each in self._follow]
        for task in following:
            task.add_done_callback(lambda _: stopping.set())  # it never ends but by a defect, which is raised below
        await kopf.operator(
            registry=self._kopf,
            settings=settings(),
            standalone=True,
            identity=_IDENTITY,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stopping,
            ready_flag=ready,
        )
        broken = [task for task in following if task.done()]
        for task in [*tasks, *following]:
            task.cancel()
        await asyncio.gather(*tasks, *following, return_exceptions=True)
        for task in broken:
            task.result()

    def _add(self, resource: Resource, namespace: str | None, selector: str, handle: _Handle, urgent: _Urgent) -> None:
        take = functools.partial(self._event, resource.plural, handle, urgent)

        async def listed(items: Sequence[Any]) -> None:
            await watch.breathing(items, functools.partial(take, deleted=False))

        self._follow.append(watch.Watch(self._client, self._credentials, resource, namespace, selector, listed, take))

    async def _by_kopf(self, event: Any, **_: Any) -> None:
        self._event(names.PLURAL, self._experiment, lambda key: True, event["object"], event["type"] == "DELETED")

    def _event(self, kind: str, handle: _Handle, urgent: _Urgent, raw: Any, deleted: bool) -> None:
        """One event. An object that cannot be understood is logged and left alone: it stops no other."""
        self._health.heard(kind)
        self._metrics.watch_events.labels(kind).inc()
        try:
            woken = handle(raw, deleted)
        except (KeyError, ValueError, TypeError, AttributeError):
            metadata = raw.get("metadata") or {}
            logger.exception("%s %s/%s is not understood", kind, metadata.get("namespace"), metadata.get("name"))
            return
        for key in woken:
            if urgent(key):
                self._queue.add(key)
            else:
                self._queue.add_after(key, COALESCE)

    def _experiment(self, raw: Any, deleted: bool) -> Collection[str]:
        news = self._registry.gone(raw) if deleted else self._registry.put(raw)
        return [raw["metadata"]["uid"]] if news else []

    def _login(self, **_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**self._credentials.connection())


class _NoDiffs(kopf.DiffBaseStorage):
    """Nothing is compared: kopf's own copies every object three times for each event, for handlers that we do not
    have, which is two thirds of what an event costs."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Nothing is in progress: an event is dealt with when its handler returns."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        pass

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        pass

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence


def settings() -> kopf.OperatorSettings:
    """kopf's settings: watch steadily, write nothing, look at nothing else."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.scanning.disabled = True
    made.peering.standalone = True
    made.persistence.finalizer = f"{names.GROUP}/finalizer"  # never set: no handler of ours needs one
    made.persistence.progress_storage = _NoProgress()
    made.persistence.diffbase_storage = _NoDiffs()
    made.watching.chunk_size = 500
    made.watching.server_timeout = 300
    made.watching.connect_timeout = 10
    made.watching.inactivity_timeout = 70  # the API server sends a bookmark every minute
    made.networking.request_timeout = 60
    made.networking.connect_timeout = 10
    made.networking.error_backoffs = (0.5, 1, 2, 3, 5, 8)
    made.queueing.idle_timeout = 1.0
    made.process.ultimate_exiting_timeout = 30
    return made
