"""The operator, put together: what is started in which order, and how it stops.

Every operator stands by first: database, the first lists, watches, Lease. A standby is warm and only reads. Who holds
the Lease leads: epoch (from here on an older operator is fenced), certificate, workers. The cache is complete before
the first worker looks at it: a Job that is not in it is then gone, not merely unheard of.
"""

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kubetune import s3, tls
from kubetune.api import names
from kubetune.api.spec import ExperimentSpec
from kubetune.controller import act, lease, registry, upkeep
from kubetune.controller.cache import Cache
from kubetune.controller.clearing import Clearing
from kubetune.controller.cluster import KubeCluster
from kubetune.controller.dispatch import Dispatcher
from kubetune.controller.elastic import Elastic, claims
from kubetune.controller.events import Recorder
from kubetune.controller.fair import Fair
from kubetune.controller.fence import Recently
from kubetune.controller.handlers import COALESCE, Watches
from kubetune.controller.health import HEARTBEAT, Health, serve
from kubetune.controller.jobs import Wiring
from kubetune.controller.queue import Queue
from kubetune.controller.reconcile import Reconciler
from kubetune.controller.shares import Caps
from kubetune.controller.sweeping import Sweeping
from kubetune.controller.workers import Workers
from kubetune.engine.beside import in_a_thread
from kubetune.engine.engine import Engine
from kubetune.engine.sampling.pool import Pool
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.kube.credentials import Credentials
from kubetune.kube.limiter import Limiter
from kubetune.metrics.catalog import Metrics
from kubetune.settings import Settings
from kubetune.storage import migrate
from kubetune.storage.base import StorageUnavailable
from kubetune.storage.postgres import PostgresStorage

RETRY = 3.0  # seconds between attempts while starting
PATIENCE = 10.0  # seconds for the work in hand when stopping
CONFIRMED = 1.0  # seconds for which the database's word that this operator leads is taken
SETTLE = 0.1  # seconds in which writes to the cluster that are over are taken together
REGRANT = 0.5  # seconds until an experiment hears that its fair share has changed
OTHER_REQUESTS = 4  # lists, events, lease: no request ever waits for a connection behind creates
EXIT_STOPPED, EXIT_SUPERSEDED = 0, 3

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
        self._leading = threading.Event()
        self._superseded = threading.Event()
        self._fault: Exception | None = None
        self._settings = settings
        self._namespaces = tuple(name.strip() for name in settings.watch_namespaces.split(",") if name.strip())
        self._credentials = credentials
        self._metrics = Metrics("operator")
        self._health = Health(settings.relist)
        self._dispatch = Dispatcher(Limiter(settings.api_threads), settings.api_threads, self._waited)
        connections = settings.api_threads + settings.reconcile_threads + OTHER_REQUESTS
        self._client = Client(credentials, connections, on_request=self._requested)
        self._samplers = self._sampler_pool()
        self._storage = PostgresStorage(settings.database_url, size=2 * settings.reconcile_threads + 4)
        self._queue = Queue(on_wait=self._metrics.queue_wait.observe)
        self._cache = Cache(settings.node_lost_after)
        self._registry = registry.Registry(self._storage, self._load_engine, self._forget)
        self._recorder = Recorder(self._client)
        self._cluster = KubeCluster(self._client, self._cache, self._recorder, self._registry.home)
        self._keeper = tls.Keeper(self._client, settings)
        self._wiring = Wiring(settings.gateway_url, worker_image=settings.worker_image)
        fair = Fair(
            Caps(settings.max_trials, settings.max_trials_per_namespace),
            lambda known: claims(self._registry.resources(known), self._cluster.jobs_by_study),
            lambda uid: self._queue.add_after(names.base_uid(uid), REGRANT),
        )
        self._reconciler = Reconciler(
            self._registry, self._tools(), settings, Elastic(fair, grace=settings.deletion_grace)
        )
        self._workers = Workers(
            self._queue,
            self._work,
            self._registry.drop_engine,
            self._give_way,
            self._health,
            self._metrics,
            settings.reconcile_threads,
            self._about,
        )
        self._metrics.leader.set_function(lambda: float(self._leading.is_set()))
        self._metrics.queue_depth.set_function(lambda: len(self._queue) if self._leading.is_set() else 0)
        self._metrics.api_write_limit.set_function(lambda: self._dispatch.limit)
        self._metrics.age_since(self._metrics.reconcile_age, lambda: self._health.last_work)
        self._metrics.age_since(self._metrics.relist_age, lambda: self._health.last_list)

    def run(self) -> int:
        """See `run`."""
        server = serve(self._settings.http_port, self._health, self._metrics)
        try:
            self._stand_by()
        except Stopped:
            logger.info("asked to stop while starting")
        finally:
            self._dispatch.close()
            if self._samplers is not None:
                self._samplers.close()
            self._recorder.close()
            self._storage.close()
            self._client.close()
            server.shutdown()
            server.server_close()
        if self._fault is not None:
            raise self._fault
        return EXIT_SUPERSEDED if self._superseded.is_set() else EXIT_STOPPED

    def _stand_by(self) -> None:
        """All that only reads, until told to stop. When the Lease is ours, its thread starts the one that leads."""
        self._patiently("the database", lambda: migrate.check(self._settings.database_url))
        nodes = self._patiently("the API server", self._may_list_nodes)
        chores = self._upkeep(nodes)
        leader = threading.Thread(target=self._lead, args=(chores,), name="lead", daemon=True)
        lease_client = Client(self._credentials, 1, lease.TIMEOUT, self._requested)
        elector = lease.Elector(
            lease_client,
            self._settings.namespace,
            self._settings.lease_name,
            eligible=lambda: not self._health.wants(),
            on_won=leader.start,
            on_lost=self._give_way,
        )
        self._patiently("the Lease", elector.check)
        self._recorder.start()
        self._patiently("the first list", chores.list)
        chores.start()
        elector.start()
        try:
            self._watches(nodes).run(self.stop)
        finally:
            self.stop.set()
            chores.stop()
            self._dispatch.close()  # creates that wait are the next one's
            if leader.ident is not None:
                leader.join(PATIENCE)
            if self._leading.is_set():
                self._workers.stop(PATIENCE)
            elector.close()  # what was in hand is committed: now another may lead
            lease_client.close()

    def _lead(self, chores: upkeep.Upkeep) -> None:
        """From standing by to leading; the watches, the chores and the Lease's renewals go on meanwhile."""
        begun = time.monotonic()
        try:
            epoch = self._patiently("the database", lambda: self._storage.acquire(lease.host()))
            migrate.check(self._settings.database_url)  # after it: a migration that came before is seen
            self._patiently("the gateway's certificate", chores.certify)
        except Stopped:
            return
        except StorageUnavailable as error:
            logger.error("this operator cannot lead: %s", error)
            self._give_way()
            return
        except Exception as error:  # noqa: BLE001 - raised in the main thread
            self._fault = error
            self.stop.set()
            return
        self._queue.refresh()
        self._leading.set()
        self._workers.start()
        chores.list_soon()
        self._storage.listen(self._wake, self.stop, self._wake_at_once)
        logger.info("this operator leads, with epoch %d, after %.2f s", epoch, time.monotonic() - begun)

    # the parts

    def _tools(self) -> act.Tools:
        return act.Tools(
            cluster=self._cluster,
            clock=time.time,
            confirm=Recently(self._storage.confirm, CONFIRMED),
            wiring=lambda: self._wiring,
            parallel=self._dispatch,
            start=self._dispatch.start,
            withdraw=self._dispatch.withdraw,
            wake=lambda uid: self._queue.add_after(uid, SETTLE),
            meter=self._metrics,
            log_tail_bytes=self._settings.log_tail_bytes,
        )

    def _upkeep(self, nodes: bool) -> upkeep.Upkeep:
        relist = upkeep.Relist(self._client, self._cache, self._registry, self._storage, self._namespaces, nodes)
        store = s3.Store.of(self._settings)
        objects = None if store is None else s3.Objects(store)
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
            self._settings.reports_retention,
            leads=self._leading.is_set,
            clear=Clearing(self._client, self._storage, lambda: self._settings.worker_image, objects).turn,
            sweep=Sweeping(self._storage, objects, time.time).turn,
        )

    def _watches(self, nodes: bool) -> Watches:
        return Watches(
            self._client,
            self._credentials,
            self._queue,
            self._cache,
            self._registry,
            self._health,
            self._metrics,
            self._namespaces,
            nodes,
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
        if resource is None or registry.is_deleting(resource):
            self._dispatch.withdraw(key)
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

    def _sampler_pool(self) -> Pool | None:
        size = self._settings.sampler_processes
        return Pool(size, self._metrics.sampler_restarts.inc) if size > 0 else None

    def _load_engine(self, spec: ExperimentSpec) -> Engine:
        wake = functools.partial(self._queue.add, spec.owner)
        return Engine(spec, self._storage, time.time, self._samplers, wake, in_a_thread)

    def _forget(self, deleted: registry.Deleted) -> None:
        self._reconciler.forget(deleted.uid)
        self._metrics.forget_experiment(deleted.namespace, deleted.name)
        self._queue.discard(deleted.uid)

    def _wake(self, uid: str) -> None:
        """The database told of something new for an experiment, or a phase of it; "": for any."""
        for each in [names.base_uid(uid)] if uid else self._registry.uids():
            if self._registry.resource(each) is not None:
                self._queue.add_after(each, COALESCE)

    def _wake_at_once(self, uid: str) -> None:
        """A worker's slot is free: where trials are short, the next one is asked without waiting for more news."""
        if uid and self._registry.resource(uid) is not None and self._reconciler.is_eager(uid):
            self._queue.add(uid)

    def _trust(self, authority: str | None) -> None:
        """Trials created from now on trust this authority (PEM)."""
        self._wiring = Wiring(self._settings.gateway_url, authority or "", self._settings.worker_image)

    def _give_way(self) -> None:
        """Another operator took over: stop at once, say so by the exit code, and be started again by Kubernetes."""
        self._superseded.set()
        self.stop.set()
