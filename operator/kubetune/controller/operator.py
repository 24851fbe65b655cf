"""The operator, put together: what is started in which order, and how it stops.

Order: database, epoch (from here on an older operator is fenced), the first lists, certificate, workers, watches. The
cache is complete before the first worker looks at it: a Job that is not in it is then gone, not merely unheard of.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kubetune import tls
from kubetune.api.spec import ExperimentSpec
from kubetune.controller import act, registry, upkeep
from kubetune.controller.cache import Cache
from kubetune.controller.cluster import KubeCluster
from kubetune.controller.dispatch import Dispatcher
from kubetune.controller.events import Recorder
from kubetune.controller.handlers import Watches
from kubetune.controller.health import HEARTBEAT, Health, serve
from kubetune.controller.jobs import Wiring
from kubetune.controller.queue import Queue
from kubetune.controller.reconcile import Reconciler
from kubetune.controller.workers import Workers
from kubetune.engine.engine import Engine
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.kube.limiter import Limiter
from kubetune.metrics.catalog import Metrics
from kubetune.settings import Settings
from kubetune.storage.base import StorageUnavailable
from kubetune.storage.postgres import PostgresStorage

RETRY = 3.0  # seconds between attempts while starting
PATIENCE = 10.0  # seconds for the work in hand when stopping
COALESCE = 0.1  # seconds in which reports of one experiment are taken together
OTHER_REQUESTS = 4  # lists, events, lease: no request ever waits for a connection behind creates
EXIT_STOPPED, EXIT_FENCED = 0, 3

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Stopped(Exception):  # noqa: N818
    """Asked to stop while starting."""


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT (returns 0) or until another operator takes over (3). Raises what makes running
    impossible."""
    operator = Operator(settings, Credentials.load())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: operator.stop.set())  # kopf puts its own in their place once it watches
    return operator.run()


class Operator:
    """All parts of one operator. ``stop`` may be set by anyone, at any time."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self.stop = threading.Event()
        self._fenced = threading.Event()
        self._settings = settings
        self._namespaces = tuple(name.strip() for name in settings.watch_namespaces.split(",") if name.strip())
        self._credentials = credentials
        self._metrics = Metrics("operator")
        self._health = Health(settings.relist)
        self._dispatch = Dispatcher(Limiter(settings.api_threads), settings.api_threads, self._waited)
        connections = settings.api_threads + settings.reconcile_threads + OTHER_REQUESTS
        self._client = Client(credentials, connections, on_request=self._requested)
        self._storage = PostgresStorage(settings.database_url, size=settings.reconcile_threads + 2)
        self._queue = Queue(on_wait=self._metrics.queue_wait.observe)
        self._cache = Cache(settings.node_lost_after)
        self._registry = registry.Registry(self._storage, self._load_engine, self._forget)
        self._recorder = Recorder(self._client)
        self._cluster = KubeCluster(self._client, self._cache, self._recorder, self._registry.home)
        self._keeper = tls.Keeper(self._client, settings)
        self._wiring = Wiring(settings.gateway_url)
        tools = act.Tools(
            cluster=self._cluster,
            clock=time.time,
            confirm=self._storage.confirm,
            wiring=lambda: self._wiring,
            parallel=self._dispatch,
            meter=self._metrics,
            log_tail_bytes=settings.log_tail_bytes,
        )
        self._reconciler = Reconciler(self._registry, tools, settings)
        self._metrics.queue_depth.set_function(lambda: len(self._queue))
        self._metrics.api_write_limit.set_function(lambda: self._dispatch.limit)
        self._metrics.age_since(self._metrics.reconcile_age, lambda: self._health.last_work)
        self._metrics.age_since(self._metrics.relist_age, lambda: self._health.last_list)

    def run(self) -> int:
        """See `run`."""
        server = serve(self._settings.http_port, self._health, self._metrics)
        try:
            self._start_and_watch()
        except Stopped:
            logger.info("asked to stop while starting")
        finally:
            self._dispatch.close()
            self._recorder.close()
            self._storage.close()
            self._client.close()
            server.shutdown()
            server.server_close()
        return EXIT_FENCED if self._fenced.is_set() else EXIT_STOPPED

    def _start_and_watch(self) -> None:
        epoch = self._patiently("the database", lambda: self._storage.acquire(_holder()))
        logger.info("this operator has epoch %d", epoch)
        nodes = self._patiently("the API server", self._may_list_nodes)
        self._recorder.start()
        chores = self._upkeep(nodes)
        self._patiently("the first list", chores.list)
        self._patiently("the gateway's certificate", chores.certify)
        workers = Workers(
            self._queue,
            self._work,
            self._registry.drop_engine,
            self._give_way,
            self._health,
            self._metrics,
            self._settings.reconcile_threads,
            self._about,
        )
        workers.start()
        chores.start()
        self._storage.listen(self._wake, self.stop)
        watches = Watches(
            self._credentials,
            self._queue,
            self._cache,
            self._registry,
            self._health,
            self._metrics,
            self._namespaces,
            nodes,
        )
        try:
            watches.run(self.stop)
        finally:
            self.stop.set()
            chores.stop()
            workers.stop(PATIENCE)

    def _upkeep(self, nodes: bool) -> upkeep.Upkeep:
        relist = upkeep.Relist(self._client, self._cache, self._registry, self._storage, self._namespaces, nodes)
        return upkeep.Upkeep(
            relist,
            self._queue,
            self._registry,
            self._storage,
            self._health,
            self._metrics,
            self._keeper,
            self._trust,
            self._give_way,
            self._settings.relist,
            self._settings.retention,
        )

    def _patiently(self, what: str, do: Callable[[], _T]) -> _T:
        """Try until it works. Raises Stopped when asked to stop before that."""
        while not self.stop.is_set():
            try:
                return do()
            except (StorageUnavailable, errors.ApiError) as error:
                logger.info("waiting for %s: %s", what, error)
                self.stop.wait(RETRY)
        raise Stopped

    def _may_list_nodes(self) -> bool:
        try:
            next(self._client.pages(resources.NODES, page=1))
        except errors.Forbidden:
            logger.warning(
                "nodes may not be listed: an attempt on a node that is lost is noticed only by its pod's end"
            )
            return False
        return True

    # what the parts tell and ask each other

    def _requested(self, verb: str, plural: str, code: int, seconds: float, wait: float | None) -> None:
        self._metrics.observe_request(verb, plural, code, seconds)
        self._dispatch.observed(verb, plural, code, seconds, wait)

    def _waited(self, rank: str, seconds: float) -> None:
        self._metrics.api_wait.labels(rank).observe(seconds)

    def _work(self, key: str) -> float | None:
        """One key of the queue."""
        if key == HEARTBEAT:
            return None
        resource = self._registry.resource(key)
        if resource is None:
            self._registry.bury(key)
            return None
        if registry.is_deleting(resource):
            return None
        return self._reconciler.reconcile(resource)

    def _about(self, key: str) -> dict[str, str]:
        resource = self._registry.resource(key)
        metadata = {} if resource is None else resource["metadata"]
        return {"namespace": metadata["namespace"], "experiment": metadata["name"]} if metadata else {}

    def _load_engine(self, spec: ExperimentSpec) -> Engine:
        return Engine(spec, self._storage, time.time)

    def _forget(self, deleted: registry.Deleted) -> None:
        self._reconciler.forget(deleted.uid)
        self._metrics.forget_experiment(deleted.namespace, deleted.name)
        self._queue.discard(deleted.uid)

    def _wake(self, uid: str) -> None:
        """The database told of something new for an experiment; "": for any."""
        for each in [uid] if uid else self._registry.uids():
            if self._registry.resource(each) is not None:
                self._queue.add_after(each, COALESCE)

    def _trust(self, authority: str | None) -> None:
        """Trials created from now on trust this authority (PEM)."""
        self._wiring = Wiring(self._settings.gateway_url, authority or "")

    def _give_way(self) -> None:
        """Another operator took over: stop at once, say so by the exit code, and be started again by Kubernetes."""
        self._fenced.set()
        self.stop.set()


def _holder() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"
