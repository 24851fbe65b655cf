"""Simulated operators: the real loop, cache and engine, on the simulated cluster and database, killed at will.

An operator dies at a write (before it or after it) and takes all its memory along; the next one begins with a new epoch
and a list. Two may be alive at once: the older one is fenced.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import TrialRow
from kubetune.controller.act import Tools, attempt, sequential
from kubetune.controller.cache import Cache
from kubetune.controller.cluster import KubeCluster
from kubetune.controller.elastic import Elastic, claims
from kubetune.controller.fair import Claim, Fair
from kubetune.controller.jobs import Wiring
from kubetune.controller.ports import ClusterUnavailable, Engine, Rank, Withdrawn
from kubetune.controller.queue import Queue
from kubetune.controller.reconcile import Reconciler
from kubetune.controller.shares import Caps
from kubetune.engine import engine
from kubetune.kube import errors
from kubetune.settings import Settings
from kubetune.simulator.api import ApiServer, Client
from kubetune.simulator.world import World
from kubetune.storage.base import Fenced, KeptSpec, StorageUnavailable, StudyRow, Version
from kubetune.storage.memory import Database, MemoryStorage

SETTINGS = Settings(
    resync=30.0,
    relist=60.0,
    stop_grace=20.0,
    image_grace=20.0,
    config_grace=5.0,
    log_grace=15.0,
    node_lost_after=120.0,
    deletion_grace=60.0,
)
SETTLE = 0.1  # seconds in which such writes are taken together when they are over
COALESCE = 0.1  # seconds in which reports are taken together, and events that free no slot
POISONED = 20.0  # seconds that a look at a poisoned experiment takes
_WRITES = frozenset(
    {
        "acquire", "open_study", "save_spec", "create_trials", "record_jobs", "record_start", "new_attempt",
        "decide", "finish_trials", "end_study", "delete_study", "create", "delete", "apply",
        "record_steering", "save_warm_trials", "take_checkpoint",
        "offer", "withdraw", "open_worker", "record_worker", "drain_workers", "end_worker",
    }
)  # fmt: skip


class SimulatedCrash(BaseException):
    """The process is gone, at this very instant."""


class Chaos:
    """What strikes operators and gateways, until it is calm. Rates are probabilities at each request.

    ``crash_at``: kill at exactly this write (counting before and after it as two), and at no other.
    """

    def __init__(self, world: World, until: float) -> None:
        self._world = world
        self.until = until
        self.crash = self.unavailable = self.lost_event = 0.0
        self.lag = self.queued = 0.3  # as in `scenario.Scenario`
        self.look = 0.0
        self.poisoned: frozenset[str] = frozenset()
        self.crash_at: int | None = None
        self.writes = 0

    def strike(self, where: str, down: Callable[[], Exception]) -> None:
        """Maybe fail: ``where`` is before:METHOD or after:METHOD."""
        if where.partition(":")[2] in _WRITES:
            self.writes += 1
            if self.writes == self.crash_at or self._hits(self.crash):
                self._world.note(f"the operator is killed {where}")
                raise SimulatedCrash(where)
        if self._hits(self.unavailable):
            self._world.note(f"not available: {where}")
            raise down()

    def strike_gateway(self, where: str) -> None:
        if self._hits(self.unavailable):
            raise StorageUnavailable(where)

    def loses_event(self) -> bool:
        return self._hits(self.lost_event)

    def _hits(self, rate: float) -> bool:
        return rate > 0 and self._world.now < self.until and self._world.dice.random() < rate


class PoisonError(Exception):
    """Whatever may be wrong with one experiment's look that nobody foresaw."""


class Onlooker:
    """A meter that nobody reads, and events as lines of the run's story."""

    def __init__(self, world: World) -> None:
        self._world = world

    def observe(self, name: str, value: float, labels: object) -> None:
        pass

    def event(self, spec: ExperimentSpec, kind: str, reason: str, message: str) -> None:
        self._world.note(f"{spec.name}: {reason}: {message}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Begun:
    """A write that nobody waits for, on its way."""

    key: str
    rank: Rank
    call: Callable[[], object]
    done: Callable[[object], None]


class Operator:
    """One process. ``on_death``: told when it was killed (not when it was fenced)."""

    def __init__(
        self,
        name: str,
        world: World,
        server: ApiServer,
        database: Database,
        chaos: Chaos,
        on_death: Callable[[], None],
        settings: Settings = SETTINGS,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.name, self.alive = name, True
        self._ready = False  # it has taken the epoch and listed everything
        self._world, self._server, self._chaos, self._on_death = world, server, chaos, on_death
        self._storage = MemoryStorage(world.clock, database, self._storage_fault)
        self._cache = Cache(SETTINGS.node_lost_after, world.clock)
        self._engines: dict[str, Engine] = {}
        self._queue = Queue(world.clock, world.dice.random, waited)
        self._due: dict[str, float] = {}  # when the queue is asked for the key
        self._hands = settings.reconcile_threads  # that are free
        self._begun: dict[_Begun, None] = {}
        onlooker: Any = Onlooker(world)
        cluster = KubeCluster(
            cast(Any, Client(server, self._api_fault)),
            self._cache,
            onlooker,
            home=self._home,
            clock=world.clock,
            monotonic=world.clock,
        )
        tools = Tools(
            cluster=cluster,
            clock=world.clock,
            confirm=self._storage.confirm,
            wiring=lambda: Wiring("https://gateway"),
            parallel=sequential,
            start=self._begin,
            withdraw=self._withdraw,
            wake=lambda uid: self.wake(uid, SETTLE),
            meter=onlooker,
            log_tail_bytes=100,
        )
        fair = Fair(
            Caps(settings.max_trials, settings.max_trials_per_namespace),
            self._claims,
            lambda uid: self.wake(names.base_uid(uid), 0.5),
        )
        self._reconciler = Reconciler(self, tools, settings, Elastic(fair, grace=settings.deletion_grace))

    def start(self) -> None:
        """Take the epoch, list everything, look at everything; all again if something is not available."""
        if not self.alive:
            return
        try:
            self._storage.acquire(self.name)
        except StorageUnavailable:
            self._world.after(3.0, self.start)
            return
        except SimulatedCrash:
            self._die()
            return
        self._world.note(f"{self.name} takes over")
        self._server.watchers.append(self._watch)
        self._ready = True
        self._relist()

    def stop(self) -> None:
        """It is gone, by whatever cause."""
        self.alive = False
        if self._watch in self._server.watchers:
            self._server.watchers.remove(self._watch)

    def _die(self) -> None:
        self.stop()
        self._on_death()

    # ---- what it is told

    def _relist(self) -> None:
        if not self.alive:
            return
        now = self._world.now
        self._cache.heal_jobs(self._server.all("jobs"), now)
        self._cache.heal_pods(self._server.all("pods"), now)
        self._cache.heal_nodes(self._server.all("nodes"), now)
        known = {raw["metadata"]["uid"] for raw in self._server.all("experiments")}
        with contextlib.suppress(StorageUnavailable):
            there = self._storage.studies()  # also of experiments that are gone
            known |= {names.base_uid(study.uid) for study in there}
        for uid in sorted(known):
            self.wake(uid, 0.0)
        self._world.after(SETTINGS.relist, self._relist)

    def _watch(self, plural: str, raw: Json, deleted: bool) -> None:
        if self._chaos.loses_event():
            self._world.note(f"{self.name} never hears of {raw['metadata']['name']}")
            return
        self._world.soon(0.0, self._chaos.lag, lambda: self._hear(plural, raw, deleted))

    def _hear(self, plural: str, raw: Json, deleted: bool) -> None:
        if not self.alive:
            return
        take_in = {"jobs": self._cache.apply_job, "pods": self._cache.apply_pod, "nodes": self._cache.apply_node}
        experiment = plural == "experiments"
        woken = {raw["metadata"]["uid"]} if experiment else take_in[plural](raw, deleted)
        for uid in sorted(woken):
            self.wake(uid, 0.0 if experiment or self._cache.frees(uid) else COALESCE)

    def notified(self, uid: str) -> None:
        """The database told of reports; that may be lost too."""
        if self.alive and not self._chaos.loses_event():
            uid = names.base_uid(uid)
            self.wake(uid, 0.0 if self._reconciler.is_eager(uid) else COALESCE)

    # ---- writes that nobody waits for (`ports.Start`)

    def _begin(
        self, calls: Sequence[Callable[[], object]], key: str, rank: Rank, done: Callable[[int, object], None]
    ) -> None:
        """Each arrives in its own time, in any order, or never, if it is taken back or the process is gone by then."""
        for index, call in enumerate(calls):
            begun = _Begun(key, rank, call, functools.partial(done, index))
            self._begun[begun] = None
            self._world.soon(0.0, self._chaos.queued, functools.partial(self._arrive, begun))

    def _withdraw(self, key: str) -> None:
        for begun in [begun for begun in self._begun if (begun.key, begun.rank) == (key, Rank.CREATE)]:
            del self._begun[begun]
            begun.done(Withdrawn())

    def _arrive(self, begun: _Begun) -> None:
        if not self.alive or begun not in self._begun:
            return
        del self._begun[begun]
        call, done = begun.call, begun.done
        try:
            done(attempt(call))
        except SimulatedCrash:
            self._die()
        except (Fenced, StorageUnavailable) as error:
            done(error)

    # ---- engines (`ports.Engines`)

    def engine(self, spec: ExperimentSpec) -> Engine:
        if spec.owner in self._chaos.poisoned:
            raise PoisonError(spec.owner)
        if spec.uid not in self._engines:
            self._engines[spec.uid] = engine.Engine(spec, self._storage, self._world.clock)
        return self._engines[spec.uid]

    def drop_engine(self, uid: str) -> None:
        self._engines.pop(uid, None)

    def kept_spec(self, uid: str) -> KeptSpec | None:
        return self._storage.load_spec(uid)

    def keep_spec(self, uid: str, kept: KeptSpec) -> None:
        self._storage.save_spec(uid, kept)

    def phases(self, uid: str) -> list[StudyRow]:
        return self._storage.phases(uid)

    def versions(self, uid: str) -> list[Version]:
        return self._storage.versions(uid)

    def trials(self, uid: str) -> list[TrialRow]:
        return self._storage.load_trials(uid)

    # ---- its work

    def wake(self, uid: str, seconds: float) -> None:
        """Look at the experiment in so many seconds at the latest."""
        if not self.alive or not self._ready:
            return
        if seconds > 0:
            self._queue.add_after(uid, seconds)
        else:
            self._queue.add(uid)
        due = self._world.now + seconds
        if due < self._due.get(uid, math.inf):
            self._due[uid] = due
            self._world.after(seconds, self._turns)

    def _turns(self) -> None:
        """Every key that is due and finds a hand free."""
        while self.alive and self._hands and (uid := self._queue.get(timeout=0.0)) is not None:
            self._due.pop(uid, None)
            self._hands -= 1
            self._turn(uid)

    def _turn(self, uid: str) -> None:
        """One look. What it does, it does at once; then its hand is busy for a while, and what wakes it waits."""
        try:
            again = self._work(uid)
        except SimulatedCrash:
            self._die()
        except Fenced:
            self._world.note(f"{self.name} is fenced")
            self.stop()
        except (StorageUnavailable, ClusterUnavailable, errors.Unavailable):
            self._world.after(self._chaos.look, lambda: self._failed(uid))
        except PoisonError:
            self._world.after(POISONED, lambda: self._failed(uid))
        else:
            self._world.after(self._chaos.look, lambda: self._done(uid, again))

    def _done(self, uid: str, again: float | None) -> None:
        self._hands += 1
        self._queue.done(uid, again)
        if again is not None:
            self._world.after(again, self._turns)
        self._turns()

    def _failed(self, uid: str) -> None:
        self._hands += 1
        self._world.after(self._queue.failed(uid), self._turns)
        self._turns()

    def _work(self, uid: str) -> float | None:
        resource = self._resource(uid)
        if resource is not None:
            return self._reconciler.reconcile(resource)
        self._withdraw(uid)
        for each in [each for each in self._engines if names.base_uid(each) == uid]:
            self.drop_engine(each)
        self._reconciler.forget(uid)
        self._storage.delete_study(uid)
        return None

    def _resource(self, uid: str) -> Json | None:
        return self._server.of_uid("experiments", uid)

    def _claims(self, known: Collection[str]) -> list[Claim]:
        others = [raw for raw in self._server.all("experiments") if raw["metadata"]["uid"] not in known]
        return claims(others, self._cache.jobs_by_study)

    def _home(self, uid: str) -> str | None:
        resource = self._resource(uid)
        return None if resource is None else str(resource["metadata"]["namespace"])

    # ---- faults

    def _storage_fault(self, where: str) -> None:
        self._chaos.strike(where, lambda: StorageUnavailable(where))

    def _api_fault(self, where: str) -> None:
        self._chaos.strike(where, lambda: errors.Unavailable(503, "ServiceUnavailable", where))
