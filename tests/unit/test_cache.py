"""The cache under events that come late, twice, out of order, or never."""

import itertools
import random
from typing import Any

import pytest

from kubetune.controller.cache import Cache
from kubetune.controller.plan import JobPhase, JobView
from tests.unit import kube_objects as k
from tests.unit.clock import Time

WOKEN = frozenset({k.EXPERIMENT})
NOBODY: frozenset[str] = frozenset()


@pytest.fixture
def time() -> Time:
    return Time(100.0)


@pytest.fixture
def cache(time: Time) -> Cache:
    return Cache(node_lost_after=300, monotonic=time)


def only(cache: Cache) -> JobView:
    (view,) = cache.jobs(k.EXPERIMENT)
    return view


def test_a_job_and_its_pod_meet_in_either_order() -> None:
    for first, second in itertools.permutations([("job", k.job()), ("pod", k.pod())]):
        cache = Cache(300)
        for kind, raw in (first, second):
            cache.apply_job(raw) if kind == "job" else cache.apply_pod(raw)
        view = only(cache)
        assert view.phase is JobPhase.RUNNING
        assert view.pod is not None


def test_who_is_woken(cache: Cache) -> None:
    assert cache.apply_pod(k.pod(version=19, phase="Pending")) == NOBODY  # nobody's yet
    assert cache.apply_job(k.job()) == WOKEN
    assert cache.apply_job(k.job()) == NOBODY  # repeated
    assert cache.apply_job(k.job(version=11, status={"active": 1})) == NOBODY  # nothing that we look at
    assert cache.apply_pod(k.pod(version=20)) == WOKEN
    assert cache.apply_pod(k.pod(version=20)) == NOBODY
    assert cache.apply_job(k.complete_job(version=12)) == WOKEN
    assert cache.apply_job(k.complete_job(version=12), deleted=True) == WOKEN
    assert cache.apply_job(k.complete_job(version=12), deleted=True) == NOBODY


def test_what_frees_a_slot(cache: Cache) -> None:
    cache.apply_job(k.job())
    cache.apply_pod(k.pod(version=20))
    assert not cache.frees(k.EXPERIMENT)  # it has begun
    cache.apply_pod(k.pod(version=21, phase="Succeeded"))
    assert cache.frees(k.EXPERIMENT)
    assert not cache.frees(k.EXPERIMENT)  # asked already
    cache.apply_job(k.complete_job(version=12))
    cache.apply_job(k.complete_job(version=12), deleted=True)
    assert not cache.frees(k.EXPERIMENT)  # it was free


def test_a_job_that_somebody_deletes_frees_its_slot(cache: Cache) -> None:
    cache.apply_job(k.job())
    cache.apply_job(k.job(version=11), deleted=True)
    assert cache.frees(k.EXPERIMENT)


def test_an_older_state_does_not_come_back(cache: Cache) -> None:
    cache.apply_job(k.complete_job(version=12))
    assert cache.apply_job(k.job(version=10)) == NOBODY
    assert only(cache).phase is JobPhase.SUCCEEDED
    cache.apply_pod(k.pod(version=30, phase="Failed"))
    assert cache.apply_pod(k.pod(version=29)) == NOBODY
    assert only(cache).pod.phase == "Failed"  # type: ignore[union-attr]


def test_versions_are_numbers_not_text(cache: Cache) -> None:
    cache.apply_job(k.job(version=9))
    cache.apply_job(k.complete_job(version=10))
    assert only(cache).phase is JobPhase.SUCCEEDED


def test_a_deleted_job_does_not_come_back_by_a_late_event_or_a_stale_list(cache: Cache) -> None:
    cache.apply_job(k.job(version=10))
    cache.apply_job(k.job(version=11), deleted=True)
    assert cache.apply_job(k.job(version=12)) == NOBODY
    assert cache.heal_jobs([k.job(version=10)], begun=99) == NOBODY
    assert cache.apply_pod(k.pod()) == NOBODY
    assert cache.jobs(k.EXPERIMENT) == ()


def test_a_pods_last_state_stays_until_its_job_is_gone(cache: Cache) -> None:
    cache.apply_job(k.job())
    cache.apply_pod(k.pod(version=20))
    assert cache.apply_pod(k.pod(version=21, phase="Failed"), deleted=True) == WOKEN
    pod = only(cache).pod
    assert pod is not None
    assert (pod.deleted, pod.gone, pod.phase, pod.node) == (True, True, "Failed", "node-a")
    cache.apply_job(k.job(version=22), deleted=True)
    assert cache.jobs(k.EXPERIMENT) == ()


def test_a_pod_that_is_being_deleted_is_not_gone_yet(cache: Cache) -> None:
    cache.apply_job(k.job())
    cache.apply_pod(k.pod(version=21, deletion=k.ENDED))
    pod = only(cache).pod
    assert pod is not None
    assert (pod.deleted, pod.gone) == (True, False)
    assert cache.apply_pod(k.pod(version=20), deleted=True) == WOKEN
    assert only(cache).pod.gone  # type: ignore[union-attr]


def test_a_deletion_is_final_however_old_the_state_it_carries(cache: Cache) -> None:
    cache.apply_job(k.job())
    cache.apply_pod(k.pod(version=25, phase="Failed"))
    cache.apply_pod(k.pod(version=21), deleted=True)
    pod = only(cache).pod
    assert pod is not None
    assert (pod.deleted, pod.phase) == (True, "Failed")
    cache.apply_pod(k.pod(version=26))
    assert only(cache).pod.deleted  # type: ignore[union-attr]


def test_a_job_that_we_deleted_is_marked_at_once_and_stays_so(cache: Cache) -> None:
    cache.apply_job(k.job(version=10))
    cache.mark_deleting("job-1")
    assert only(cache).deleting
    cache.apply_job(k.complete_job(version=11))
    assert only(cache).deleting


def test_a_list_heals_missed_deletions_and_missed_changes(cache: Cache, time: Time) -> None:
    for uid in ("job-1", "job-2"):
        cache.apply_job(k.job(uid, version=10))
    cache.apply_pod(k.pod(owner="job-1"))
    time.now = 200
    assert cache.heal_jobs([k.complete_job(uid="job-1", version=15)], begun=150) == WOKEN
    assert (only(cache).uid, only(cache).phase) == ("job-1", JobPhase.SUCCEEDED)
    assert cache.heal_pods([], begun=150) == WOKEN
    assert only(cache).pod.deleted  # type: ignore[union-attr]
    assert cache.heal_pods([], begun=150) == NOBODY


def test_a_list_does_not_remove_what_was_created_after_it_began(cache: Cache, time: Time) -> None:
    time.now = 151
    cache.apply_job(k.job())
    cache.apply_pod(k.pod())
    time.now = 200
    assert cache.heal_jobs([], begun=150) == NOBODY
    assert cache.heal_pods([], begun=150) == NOBODY
    assert only(cache).pod is not None


def test_a_live_read_that_finds_nothing_removes_what_was_known_before_it(cache: Cache, time: Time) -> None:
    cache.apply_job(k.job(name="digits-17-2"))
    assert cache.forget_job("team-a", "other", before=150) == NOBODY
    assert cache.forget_job("team-a", "digits-17-2", before=50) == NOBODY  # heard of since
    assert cache.forget_job("team-a", "digits-17-2", before=150) == WOKEN
    assert cache.jobs(k.EXPERIMENT) == ()


def test_a_second_job_of_the_same_name_is_another_job(cache: Cache) -> None:
    cache.apply_job(k.job("job-1", name="same"))
    cache.apply_job(k.job("job-2", name="same", version=12))
    cache.apply_job(k.job("job-1", name="same"), deleted=True)
    assert only(cache).uid == "job-2"
    assert cache.forget_job("team-a", "same", before=150) == WOKEN


def test_jobs_and_pods_of_other_namespaces_that_claim_to_be_ours(cache: Cache) -> None:
    cache.apply_job(k.job("job-2", namespace="elsewhere"))
    assert cache.jobs(k.EXPERIMENT, "team-a") == ()
    cache.apply_job(k.job("job-1"))
    assert [view.uid for view in cache.jobs(k.EXPERIMENT, "team-a")] == ["job-1"]
    assert cache.apply_pod(k.pod(owner="job-1", namespace="elsewhere")) == NOBODY
    assert cache.apply_job(k.job("job-3", ownerReferences=[])) == NOBODY


def on_node(cache: Cache) -> None:
    cache.apply_job(k.job())
    cache.apply_pod(k.pod(node="node-a"))


def test_a_node_is_gone_when_unreachable_for_long_and_back_when_it_answers(cache: Cache) -> None:
    on_node(cache)
    assert cache.apply_node(k.node()) == NOBODY
    assert cache.apply_node(k.node(ready="Unknown", since=k.ENDED)) == WOKEN
    assert cache.apply_node(k.node(ready="Unknown", since=k.ENDED)) == NOBODY
    assert cache.nodes_gone(k.ENDED_AT + 299) == frozenset()
    assert cache.nodes_gone(k.ENDED_AT + 300) == {"node-a"}
    assert cache.apply_node(k.node()) == WOKEN
    assert cache.nodes_gone(k.ENDED_AT + 300) == frozenset()


def test_a_deleted_node_is_gone_at_once_until_one_of_its_name_comes(cache: Cache) -> None:
    on_node(cache)
    assert cache.apply_node(k.node(), deleted=True) == WOKEN
    assert cache.nodes_gone(0) == {"node-a"}
    cache.apply_node(k.node())
    assert cache.nodes_gone(0) == frozenset()


def test_a_list_finds_nodes_that_went_while_nobody_watched(cache: Cache, time: Time) -> None:
    on_node(cache)
    time.now = 200
    assert cache.heal_nodes([k.node("node-b")], begun=50) == NOBODY  # the pod was heard of after the list began
    assert cache.nodes_gone(0) == frozenset()
    assert cache.heal_nodes([k.node("node-b")], begun=150) == WOKEN
    assert cache.nodes_gone(0) == {"node-a"}
    assert cache.heal_nodes([k.node("node-a")], begun=150) == WOKEN
    assert cache.nodes_gone(0) == frozenset()


def test_a_deleted_node_is_forgotten_with_the_last_pod_on_it(cache: Cache) -> None:
    on_node(cache)
    cache.apply_node(k.node(), deleted=True)
    cache.apply_job(k.job(version=30), deleted=True)
    cache.heal_nodes([], begun=150)
    assert cache.nodes_gone(0) == frozenset()


EVENTS: list[tuple[str, dict[str, Any], bool]] = [
    ("job", k.job(version=10), False),
    ("job", k.job(version=13, status={"active": 1}), False),
    ("job", k.complete_job(version=17), False),
    ("pod", k.pod(version=11, phase="Pending", containers=[]), False),
    ("pod", k.pod(version=12), False),
    ("pod", k.pod(version=15, phase="Succeeded", containers=[k.container(**k.terminated(0, "Completed"))]), False),
]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_with_repetitions_ends_the_same(seed: int) -> None:
    order = random.Random(seed).choices(EVENTS, k=10) + EVENTS
    random.Random(seed).shuffle(order)
    straight, shuffled = Cache(300), Cache(300)
    for cache, events in ((straight, EVENTS), (shuffled, order)):
        for kind, raw, deleted in events:
            (cache.apply_job if kind == "job" else cache.apply_pod)(raw, deleted)
    assert shuffled.jobs(k.EXPERIMENT) == straight.jobs(k.EXPERIMENT)
    assert only(shuffled).phase is JobPhase.SUCCEEDED


@pytest.mark.parametrize("seed", range(20))
def test_reading_in_between_changes_nothing(seed: int) -> None:
    """What was read once is kept until it changes, and no longer."""
    draw, clock = random.Random(seed), Time(100.0)
    watched, untouched = Cache(300.0, clock), Cache(300.0, clock)
    for version in range(1, 60):
        clock.now += 1.0
        uid = f"job-{draw.randint(0, 2)}"
        pod = k.pod(
            uid=f"pod-{draw.randint(0, 3)}",
            version=version + draw.randint(-3, 0),
            owner=uid,
            phase=draw.choice(["Pending", "Running", "Succeeded"]),
            created=draw.choice([k.CREATED, k.STARTED]),
        )
        job = draw.choice([k.job, k.complete_job, k.failed_job])(uid=uid, version=version)
        events: list[tuple[Any, ...]] = [
            (Cache.apply_pod, pod, draw.random() < 0.1),
            (Cache.apply_pod, pod),
            (Cache.apply_job, job),
            (Cache.mark_deleting, uid),
            (Cache.heal_pods, [pod], clock.now),
        ]
        method, *arguments = draw.choice(events)
        for cache in (watched, untouched):
            method(cache, *arguments)
        watched.jobs(k.EXPERIMENT)
    assert watched.jobs(k.EXPERIMENT) == untouched.jobs(k.EXPERIMENT)
