"""What has to be done from time to time, whatever happens: heartbeat, lists that heal, certificate, clearing up.

A standby lists too, and reads; what writes is done by the leader alone.
"""

import dataclasses
import datetime
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from kubetune import tls
from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.controller.cache import Cache
from kubetune.controller.health import HEARTBEAT, HEARTBEAT_EVERY, Health
from kubetune.controller.queue import Queue
from kubetune.controller.registry import Registry
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.kube.resources import Resource
from kubetune.metrics.catalog import Metrics
from kubetune.storage.base import EngineStorage, Fenced, StorageUnavailable

MINUTE, HOUR = 60.0, 3600.0
FRESH = 5.0  # seconds that a list is good enough to begin leading with
REMOVALS = 20  # transactions a minute: other chores wait for them
STOPPING = 5.0  # seconds that a chore may take to its end

logger = logging.getLogger(__name__)


class Relist:
    """Lists everything of ours and heals cache and registry with it.

    ``namespaces`` empty: all. ``nodes``: whether nodes may be listed (a right that not every installation gives).
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        registry: Registry,
        storage: EngineStorage,
        namespaces: Collection[str] = (),
        nodes: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cache = cache
        self._registry = registry
        self._storage = storage
        self._namespaces = tuple(namespaces)
        self._watches_nodes = nodes
        self._monotonic = monotonic

    def run(self) -> tuple[set[str], dict[str, int]]:
        """Returns the UIDs of experiments to wake, and how many of them by the kind that was found changed. Raises
        StorageUnavailable and the errors of `kube.errors`."""
        found = {"experiments": self._experiments()}
        for resource, heal in (
            (resources.JOBS, self._cache.heal_jobs),
            (resources.PODS, self._cache.heal_pods),
        ):
            begun = self._monotonic()
            found[resource.plural] = set(heal(self._each(resource, names.TRIAL_SELECTOR), begun))
        if self._watches_nodes:
            begun = self._monotonic()
            found["nodes"] = set(self._cache.heal_nodes(self._client.list(resources.NODES, page=100)[0], begun))
        return set().union(*found.values()), {kind: len(uids) for kind, uids in found.items()}

    def _experiments(self) -> set[str]:
        studies = self._storage.studies()  # first: an experiment is there before its study
        begun = self._monotonic()
        listed = self._each(resources.EXPERIMENTS)
        try:
            return self._registry.reconcile_with(listed, studies, begun, self._namespaces)
        except errors.NotFound as error:
            message = "the cluster knows no Experiments: install the CRD (kubectl apply -f crds/)"
            raise errors.NotFound(error.status, error.reason, message) from error

    def _each(self, resource: Resource, labels: str = "") -> Iterator[Json]:
        """One page of raw objects in memory at a time. A list that expires on the way raises before anything is
        concluded from what it lacks."""
        for namespace in self._namespaces or (None,):
            for page in self._client.pages(resource, namespace, labels):
                yield from page.get("items") or ()


@dataclasses.dataclass
class _Chore:
    name: str
    every: float
    do: Callable[[], None]
    due: float = 0.0
    writes: bool = False  # so it is the leader's


class Upkeep:
    """Runs the chores, one after the other, in two threads: what may take minutes, above all where an object storage
    does not answer, holds up neither the heartbeat nor the lists. One that fails is done again at its next turn, at the
    latest after a minute. ``leads``: whether this operator does; ``clear``: checkpoints that nobody needs; ``sweep``:
    objects that nobody knows."""

    def __init__(
        self,
        relist: Relist,
        queue: Queue,
        registry: Registry,
        storage: EngineStorage,
        health: Health,
        metrics: Metrics,
        keeper: tls.Keeper,
        trust: Callable[[str | None], None],
        on_fenced: Callable[[], None],
        relist_every: float,
        retention: float,
        reports_retention: float,
        monotonic: Callable[[], float] = time.monotonic,
        leads: Callable[[], bool] = lambda: True,
        clear: Callable[[], None] = lambda: None,
        sweep: Callable[[], None] = lambda: None,
    ) -> None:
        self._relist = relist
        self._queue = queue
        self._registry = registry
        self._storage = storage
        self._health = health
        self._metrics = metrics
        self._keeper = keeper
        self._trust = trust
        self._on_fenced = on_fenced
        self._retention = retention
        self._reports_retention = reports_retention
        self._monotonic = monotonic
        self._leads = leads
        self._stop = threading.Event()
        now = monotonic()
        self._list = _Chore("list", relist_every, self.list, due=now + relist_every)
        self._chores = [
            _Chore("heartbeat", HEARTBEAT_EVERY, self.beat),
            self._list,
            _Chore("certificate", HOUR, self.certify, due=now + HOUR, writes=True),
        ]
        self._long = [
            _Chore("purge", HOUR, self.purge, writes=True),
            _Chore("checkpoints", MINUTE, clear, writes=True),
            _Chore("stray objects", MINUTE, sweep, writes=True),
            _Chore("old reports", MINUTE, self.remove_reports, writes=True),
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(self.turn,), name="upkeep", daemon=True),
            threading.Thread(target=self._run, args=(self.long_turn,), name="long chores", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """What is in the middle of something is waited for, but not for long."""
        self._stop.set()
        until = time.monotonic() + STOPPING
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, turn: Callable[[], None]) -> None:
        while not self._stop.wait(0.5):
            turn()

    def turn(self) -> None:
        """Do what is due of what is soon done."""
        self._do(self._chores)

    def long_turn(self) -> None:
        """Do what is due of what may take long."""
        self._do(self._long)

    def _do(self, chores: Sequence[_Chore]) -> None:
        for chore in chores:
            now = self._monotonic()
            if now < chore.due or self._stop.is_set() or (chore.writes and not self._leads()):
                continue
            try:
                chore.do()
                chore.due = now + chore.every
            except Fenced:
                self._on_fenced()
            except (StorageUnavailable, errors.ApiError) as error:
                logger.warning("%s: not now: %s", chore.name, error)
                chore.due = now + min(chore.every, 60.0)
            except Exception:
                logger.exception("%s failed", chore.name)
                chore.due = now + min(chore.every, 60.0)

    def list_soon(self) -> None:
        """List at the next turn, unless that was just done."""
        if self._monotonic() - self._health.last_list > FRESH:
            self._list.due = 0.0

    def beat(self) -> None:
        """Send the heartbeat through queue and workers (a standby has none at work: this is its work), and ask how the
        database is, and whether we are still the one that may write to it."""
        leads, up = self._leads(), self._storage.healthy()
        if leads:
            self._queue.add(HEARTBEAT)
            self._metrics.experiments.set(len(self._registry))
        else:
            self._health.ended(HEARTBEAT, well=True)
        self._metrics.database_up.set(1 if up else 0)
        if self._health.database(up):
            self._queue.retry_now()
        if leads and up:
            self._storage.confirm()

    def list(self) -> None:
        """Heal by lists; wake whom they concern."""
        woken, missed = self._relist.run()
        self._health.listed(missed)
        for uid in woken:
            self._queue.add(uid)
        for kind, count in missed.items():
            self._metrics.relist_corrections.labels(kind).inc(count)

    def certify(self) -> None:
        """Renew the gateway's certificate when it is due."""
        authority, expiry = self._keeper.keep(datetime.datetime.now(datetime.UTC))
        self._trust(authority)
        if expiry is not None:
            self._metrics.certificate_expiry.set(expiry)

    def purge(self) -> None:
        """Remove the studies of experiments that were deleted long ago."""
        count = self._storage.purge(self._retention)
        if count:
            logger.info("removed %d studies of experiments that were deleted long ago", count)

    def remove_reports(self) -> None:
        """Remove old reports, as far as a minute's share of transactions goes; 0 keeps them all."""
        if self._reports_retention:
            for _ in range(REMOVALS):
                if not self._storage.remove_reports(self._reports_retention):
                    return
