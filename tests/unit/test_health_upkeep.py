"""The chores: when they are done, what a failing one costs, and that lists conclude nothing from half an answer."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubetune.controller.cache import Cache
from kubetune.controller.health import HEARTBEAT, HEARTBEAT_EVERY, Health
from kubetune.controller.queue import Queue
from kubetune.controller.registry import Registry
from kubetune.controller.upkeep import FRESH, HOUR, REMOVALS, Relist, Upkeep
from kubetune.kube import errors, resources
from kubetune.metrics.catalog import Metrics
from kubetune.storage.base import Fenced, StorageUnavailable, StudyRow
from tests.unit import kube_objects as k
from tests.unit.test_registry import experiment, study

Json = dict[str, Any]
WAIT = 30.0  # seconds that a thread may take


class Server:
    """Lists by kind, in pages of one object; an error in a list is raised when its turn comes."""

    def __init__(self) -> None:
        self.listed: dict[str, list[Json | Exception]] = {"experiments": [], "jobs": [], "pods": [], "nodes": []}
        self.asked: list[tuple[str, str | None]] = []

    def pages(self, resource: resources.Resource, namespace: str | None, labels: str) -> Iterator[Json]:
        self.asked.append((resource.plural, namespace))
        for item in self.listed[resource.plural]:
            if isinstance(item, Exception):
                raise item
            yield {"items": [item]}

    def list(self, resource: resources.Resource, page: int) -> tuple[list[Json], str]:
        return [item for answer in self.pages(resource, None, "") for item in answer["items"]], "1"


class Database:
    def __init__(self) -> None:
        self.rows: list[StudyRow] = []
        self.up = True
        self.purged: list[float] = []
        self.old_reports = 0  # transactions that it takes to remove them
        self.fault: Exception | None = None
        self.superseded = False
        self.asked = threading.Event()

    def studies(self) -> list[StudyRow]:
        if not self.up:
            raise StorageUnavailable("away")
        return self.rows

    def healthy(self) -> bool:
        self.asked.set()
        return self.up

    def confirm(self) -> None:
        if self.superseded:
            raise Fenced("epoch 9 is in force")

    def delete_study(self, uid: str) -> None:
        pass

    def purge(self, retention: float) -> int:
        if self.fault is not None:
            raise self.fault
        self.purged.append(retention)
        return 0

    def remove_reports(self, retention: float) -> bool:
        assert retention == 30 * 86400
        self.old_reports -= 1
        return self.old_reports > 0


class Keeper:
    def keep(self, now: Any) -> tuple[str, float]:
        return "PEM", 4e9


class Bench:
    """All the parts, on one clock that stands until told."""

    def __init__(
        self, namespaces: tuple[str, ...] = (), nodes: bool = True, reports_retention: float = 30 * 86400
    ) -> None:
        self.now, self.leads = 1000.0, True
        self.clear: Callable[[], None] = lambda: None
        clock = lambda: self.now  # noqa: E731
        self.server, self.database, self.metrics = Server(), Database(), Metrics()
        self.queue = Queue(monotonic=clock, chance=lambda: 1.0)
        self.cache = Cache(300, clock)
        self.registry = Registry(self.database, lambda spec: None, monotonic=clock)  # type: ignore[arg-type,return-value]
        self.health = Health(300, clock)
        self.trusted: list[str | None] = []
        self.fenced: list[bool] = []
        relist: Any = Relist(self.server, self.cache, self.registry, self.database, namespaces, nodes, clock)  # type: ignore[arg-type]
        self.upkeep = Upkeep(
            relist,
            self.queue,
            self.registry,
            self.database,  # type: ignore[arg-type]
            self.health,
            self.metrics,
            Keeper(),  # type: ignore[arg-type]
            self.trusted.append,
            lambda: self.fenced.append(True),
            300,
            7 * 86400,
            reports_retention,
            clock,
            lambda: self.leads,
            clear=lambda: self.clear(),
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.upkeep.turn()
        self.upkeep.long_turn()

    def keys(self) -> set[str]:
        found = set()
        while (key := self.queue.get(timeout=0)) is not None:
            found.add(key)
            self.queue.done(key)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_heartbeat_goes_through_the_queue(bench: Bench) -> None:
    bench.pass_time(0)
    assert bench.keys() == {HEARTBEAT}
    bench.pass_time(HEARTBEAT_EVERY - 1)
    assert bench.keys() == set()
    bench.pass_time(1)
    assert bench.keys() == {HEARTBEAT}


def test_the_heart_beats_on_while_a_chore_hangs(bench: Bench) -> None:
    """An object storage that does not answer is not mended by a restart of ours."""
    hangs, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        let_go.wait()

    bench.clear = hang
    bench.upkeep.start()
    try:
        assert hangs.wait(WAIT)
        bench.database.asked.clear()
        bench.now += HEARTBEAT_EVERY
        assert bench.database.asked.wait(WAIT)
    finally:
        let_go.set()
        bench.upkeep.stop()


def test_when_the_database_is_back_nobody_waits_out_a_backoff(bench: Bench) -> None:
    bench.database.up = False
    bench.pass_time(0)
    assert bench.metrics.registry.get_sample_value("kubetune_database_up") == 0
    bench.keys()
    bench.queue.add("a")
    bench.queue.get(timeout=0)
    for _ in range(10):
        bench.queue.failed("a")
    bench.database.up = True
    bench.pass_time(HEARTBEAT_EVERY)
    assert bench.keys() == {HEARTBEAT, "a"}
    assert bench.metrics.registry.get_sample_value("kubetune_database_up") == 1


def test_a_list_heals_all_and_wakes_whom_it_concerns(bench: Bench) -> None:
    bench.server.listed = {
        "experiments": [experiment("u1")],
        "jobs": [k.job()],
        "pods": [k.pod()],
        "nodes": [k.node()],
    }
    bench.database.rows = [study("u1"), study("gone")]
    bench.upkeep.list()
    assert bench.keys() == {"u1", "gone", k.EXPERIMENT}
    assert bench.registry.resource("u1") is not None
    assert bench.registry.bury("gone")
    (job,) = bench.cache.jobs(k.EXPERIMENT)
    assert job.pod is not None
    assert "the first list is not done" not in bench.health.wants()


def test_a_list_that_breaks_off_concludes_nothing(bench: Bench) -> None:
    bench.server.listed["jobs"] = [k.job("job-1"), k.job("job-2")]
    bench.upkeep.list()
    bench.now += 10
    bench.server.listed["jobs"] = [k.job("job-1"), errors.Gone(410, "Expired", "the pages expired")]
    with pytest.raises(errors.Gone):
        bench.upkeep.list()
    assert len(bench.cache.jobs(k.EXPERIMENT)) == 2


def test_a_cluster_without_our_kind_is_told_what_to_install(bench: Bench) -> None:
    bench.server.listed["experiments"] = [errors.NotFound(404, "", "404 page not found")]
    with pytest.raises(errors.NotFound, match="install the CRD"):
        bench.upkeep.list()


def test_only_the_namespaces_given_are_listed_and_nodes_where_allowed() -> None:
    bench = Bench(("team-a", "team-b"), nodes=False)
    bench.upkeep.list()
    kinds = ("experiments", "jobs", "pods")
    assert bench.server.asked == [(kind, space) for kind in kinds for space in ("team-a", "team-b")]


def test_a_chore_that_fails_is_done_again_within_a_minute_and_stops_no_other(bench: Bench) -> None:
    bench.database.fault = StorageUnavailable("away")
    bench.pass_time(0)
    assert bench.keys() == {HEARTBEAT}
    bench.database.fault = None
    bench.pass_time(59)
    assert bench.database.purged == []
    bench.pass_time(1)
    assert bench.database.purged == [7 * 86400]
    bench.pass_time(HOUR - 1)
    assert len(bench.database.purged) == 1


def test_trials_trust_the_certificate_of_the_moment(bench: Bench) -> None:
    bench.pass_time(HOUR)
    assert bench.trusted == ["PEM"]
    assert bench.metrics.registry.get_sample_value("kubetune_certificate_expiry_timestamp_seconds") == 4e9


def test_a_fenced_operator_learns_it_from_its_chores_too(bench: Bench) -> None:
    bench.database.fault = Fenced("epoch 9 is in force")
    bench.pass_time(0)
    assert bench.fenced == [True]


def test_an_idle_leader_that_was_superseded_learns_it_by_its_heartbeat(bench: Bench) -> None:
    bench.pass_time(0)
    assert bench.fenced == []
    bench.database.superseded = True
    bench.pass_time(HEARTBEAT_EVERY)
    assert bench.fenced == [True]


def test_a_standby_reads_and_is_well_and_writes_nothing(bench: Bench) -> None:
    bench.leads, bench.database.superseded = False, True
    bench.pass_time(HOUR)
    assert bench.keys() == set()
    assert (bench.trusted, bench.database.purged, bench.fenced) == ([], [], [])
    assert bench.health.faults() == []
    assert "the first list is not done" not in bench.health.wants()
    assert bench.health.last_work == bench.now
    bench.leads = True
    bench.pass_time(HEARTBEAT_EVERY)
    assert bench.trusted == ["PEM"]
    assert bench.database.purged == [7 * 86400]


def test_who_begins_to_lead_lists_unless_that_was_just_done(bench: Bench) -> None:
    bench.upkeep.list()
    asked = len(bench.server.asked)
    bench.now += FRESH
    bench.upkeep.list_soon()
    bench.pass_time(0)
    assert len(bench.server.asked) == asked
    bench.now += 1
    bench.upkeep.list_soon()
    bench.pass_time(0)
    assert len(bench.server.asked) == 2 * asked


def test_old_reports_are_removed_in_shares(bench: Bench) -> None:
    bench.database.old_reports = 30
    bench.pass_time(0)
    assert bench.database.old_reports == 30 - REMOVALS
    bench.pass_time(59)
    assert bench.database.old_reports == 30 - REMOVALS
    bench.pass_time(1)
    assert bench.database.old_reports == 0


def test_reports_are_kept_unless_a_retention_is_set() -> None:
    bench = Bench(reports_retention=0.0)
    bench.database.old_reports = 1
    bench.pass_time(0)
    assert bench.database.old_reports == 1
