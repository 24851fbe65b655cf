"""When is the operator alive, and when of use? And what its three pages answer."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from kubetune.controller import health
from kubetune.metrics.catalog import Metrics
from tests.unit.clock import Time


@pytest.fixture
def time() -> Time:
    return Time(1000.0)


@pytest.fixture
def state(time: Time) -> health.Health:
    return health.Health(relist=300, monotonic=time)


def work(state: health.Health, key: str = health.HEARTBEAT, well: bool = True) -> None:
    state.began(key)
    state.ended(key, well)


def test_a_fresh_operator_is_alive_and_says_what_it_waits_for(state: health.Health) -> None:
    assert state.faults() == []
    assert state.wants() == [
        "the database does not answer",
        "the first list is not done",
        "the watches have not begun",
    ]


def test_ready_when_database_list_and_watches_are_there(state: health.Health) -> None:
    state.database(True)
    state.listed({})
    state.watching(True)
    assert state.wants() == []
    state.database(False)
    assert state.wants() == ["the database does not answer"]


def test_no_experiments_are_no_fault_as_long_as_the_heartbeat_comes_through(state: health.Health, time: Time) -> None:
    for _ in range(100):
        time.now += health.HEARTBEAT_EVERY
        state.listed({})
        work(state)
    assert state.faults() == []


def test_workers_that_finish_nothing_are_a_fault(state: health.Health, time: Time) -> None:
    time.now += health.WORK_STALE
    assert state.faults() == []
    time.now += 1
    assert state.faults() == ["no worker has finished anything for 121 s"]
    work(state)
    assert state.faults() == []


def test_workers_that_fail_are_not_stuck_and_their_age_is_told(state: health.Health, time: Time) -> None:
    for _ in range(10):
        time.now += 60
        work(state, well=False)
    assert state.faults() == []
    assert time.now - state.last_work == 600


def test_one_stuck_worker_is_a_fault_though_the_others_work(state: health.Health, time: Time) -> None:
    state.began("uid-1")
    for _ in range(10):
        time.now += health.WORK_STUCK / 10
        state.listed({})
        work(state)
    assert state.faults() == []
    time.now += 1
    assert state.faults() == ["a worker has been at uid-1 for 1801 s"]
    state.ended("uid-1", well=False)
    assert state.faults() == []


def test_lists_that_stay_away_are_a_fault(state: health.Health, time: Time) -> None:
    time.now += 901
    work(state)
    assert state.faults() == ["the cache was last compared with a list 901 s ago"]


def test_a_database_that_is_away_is_no_reason_to_restart(state: health.Health) -> None:
    state.database(False)
    assert state.faults() == []


def test_the_databases_return_is_told_once(state: health.Health) -> None:
    assert [state.database(up) for up in (True, True, False, False, True)] == [True, False, False, False, True]


def test_a_watch_that_tells_nothing_while_lists_find_changes_is_dead(state: health.Health) -> None:
    state.listed({"jobs": 5, "pods": 5})  # the first list finds everything
    for _ in range(2):
        assert state.faults() == []
        state.heard("pods")
        state.listed({"jobs": 1, "pods": 3})
    assert state.faults() == ["the watch of jobs tells nothing, though there are changes"]
    state.heard("jobs")
    state.listed({"jobs": 1})
    assert state.faults() == []


def test_a_quiet_watch_on_a_quiet_cluster_is_well(state: health.Health) -> None:
    for _ in range(10):
        state.listed({"jobs": 0})
    assert state.faults() == []


@pytest.fixture
def address(state: health.Health) -> Iterator[str]:
    server = health.serve(0, state, Metrics(), host="127.0.0.1")
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_pages(address: str, state: health.Health, time: Time) -> None:
    assert get(f"{address}/healthz") == (200, '{"ok": true, "reasons": []}')
    status, body = get(f"{address}/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == state.wants()
    time.now += 1000
    assert get(f"{address}/healthz")[0] == 503
    status, body = get(f"{address}/metrics")
    assert status == 200
    assert "# TYPE kubetune_queue_depth gauge" in body
    assert get(f"{address}/")[0] == 404
