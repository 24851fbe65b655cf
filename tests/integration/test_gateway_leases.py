"""Leasing over HTTP, as docs/gateway-api.md says it: who may, what is handed over, and how a request waits."""

import concurrent.futures
from collections.abc import Iterator
from typing import Any

import pytest

from kubetune.api.trial import Exit, Reason
from kubetune.gateway import leases
from kubetune.storage import base
from tests import gateway_world
from tests.integration.experiments import Experiment
from tests.integration.workers import offer, worker

Json = dict[str, Any]
WAIT = 20  # seconds that nothing here takes: what is told wakes who waits


@pytest.fixture
def who(experiment: Experiment) -> base.Worker:
    return worker(experiment)


@pytest.fixture
def token(world: gateway_world.World, who: base.Worker) -> str:
    return world.api.knows_worker(who)


@pytest.fixture
def threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits does not look again by itself."""
    monkeypatch.setattr(leases, "LOOK_AGAIN", 60.0)


def lease(gateway: gateway_world.Running, token: str, slot: int = 0, **more: Any) -> Json:
    status, answer, _ = gateway.call("POST", "/v1/lease", {"slot": slot, **more}, token)
    assert status == 200, answer
    return answer


def test_a_trial_and_its_parameters(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    offer(experiment, 0)
    granted = {"trial": 0, "attempt": 1, "parameters": {"x": 0.5}, "parent": None, "drain": False}
    assert lease(gateway, token) == granted
    assert lease(gateway, token, slot=1) == {"trial": None, "drain": False}


def test_how_long_a_slot_waited_for_its_next_trial_is_measured(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    offer(experiment, 0, 1)
    lease(gateway, token)
    assert handed_over(gateway) == 0
    lease(gateway, token, ended={"trial": 0, "attempt": 1, "reason": None})
    assert handed_over(gateway) == 1
    lease(gateway, token, ended={"trial": 1, "attempt": 1, "reason": None})  # nothing is left
    assert handed_over(gateway) == 1


def handed_over(gateway: gateway_world.Running) -> int:
    name = "kubetune_handover_seconds_count"
    return next(
        int(float(line.split()[1]))
        for line in gateway.http("/metrics")[1].decode().splitlines()
        if line.startswith(name)
    )


def test_the_trial_reports_with_the_token_of_its_own(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    offer(experiment, 0, 1)
    lease(gateway, token)
    body = {"metrics": {"loss": 0.5}, "key": "a"}
    assert gateway.call("POST", "/v1/report", body, f"{token}~0~1")[:2] == (
        200,
        {"seq": 1, "stop": False, "reason": ""},
    )
    assert gateway.call("GET", "/v1/trial", token=f"{token}~0~1")[1]["parameters"] == {"x": 0.5}
    assert gateway.call("POST", "/v1/finish", {"status": "complete"}, f"{token}~0~1")[0] == 200
    assert [report.metrics for report in experiment.reports(0)] == [{"loss": 0.5}]


def test_it_speaks_for_no_other(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    offer(experiment, 0)
    experiment.create(1)
    lease(gateway, token)
    body = {"metrics": {"loss": 0.5}}
    answers = [gateway.call("POST", "/v1/report", body, f"{token}{suffix}")[0] for suffix in ("~1~1", "~0~2", "~7~1")]
    assert answers == [409, 409, 409]
    for suffix in ("", "~0", "~0~1~1", "~a~1"):
        assert gateway.call("POST", "/v1/report", body, token + suffix)[0] in (401, 403)
    assert experiment.reports(0) == experiment.reports(1) == []


def test_a_trial_of_a_job_of_its_own_leases_nothing(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    experiment.create(0)
    offer(experiment, 1)
    own = world.api.knows(experiment.who(0))
    assert gateway.call("POST", "/v1/lease", {"slot": 0}, own)[0] == 403
    assert gateway.call("POST", "/v1/lease", {"slot": 0})[0] == 401


def test_before_its_job_is_recorded_a_worker_asks_again(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    unknown = base.Worker(experiment.uid, experiment.namespace, experiment.name, 0, "job", "pod")
    token = world.api.knows_worker(unknown)
    status, answer, headers = gateway.call("POST", "/v1/lease", {"slot": 0}, token)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "not recorded yet" in answer["error"]


def test_an_end_is_committed_with_the_next_lease(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    offer(experiment, 0, 1)
    lease(gateway, token)
    ended = {"trial": 0, "attempt": 1, "reason": "ExitCode", "message": "exited with code 3", "log": "x" * 20_000}
    assert lease(gateway, token, ended=ended)["trial"] == 1
    found = experiment.storage.news(experiment.uid, {}).leases[0]
    assert found.exit is not None
    assert found.exit == Exit(Reason.EXIT_CODE, "exited with code 3", found.exit.time)
    assert experiment.storage.leased_log(experiment.uid, 0) == "x" * 16384


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "slot"),
        ({"slot": -1}, "slot"),
        ({"slot": True}, "slot"),
        ({"slot": 0, "wait": "long"}, "wait"),
        ({"slot": 0, "wait": float("nan")}, "wait"),
        ({"slot": 0, "finished": {}}, "finished"),
        ({"slot": 0, "ended": []}, "ended"),
        ({"slot": 0, "ended": {"trial": 0}}, "ended.attempt"),
        ({"slot": 0, "ended": {"trial": 0, "attempt": 1, "reason": "Tired"}}, "ended.reason"),
        ({"slot": 0, "ended": {"trial": 0, "attempt": 1, "log": 3}}, "ended"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    gateway: gateway_world.Running, token: str, body: Json, fault: str
) -> None:
    status, answer, _ = gateway.call("POST", "/v1/lease", body, token)
    assert status == 400
    assert fault in answer["error"]


def test_a_request_waits_until_something_is_offered(
    gateway: gateway_world.Running,
    experiment: Experiment,
    token: str,
    threads: concurrent.futures.ThreadPoolExecutor,
    only_when_told: None,
) -> None:
    waiting = [threads.submit(lease, gateway, token, slot, wait=WAIT) for slot in range(3)]
    offer(experiment, 0)
    first = next(concurrent.futures.as_completed(waiting))
    assert first.result()["trial"] == 0
    offer(experiment, 1, 2)
    assert sorted(each.result()["trial"] for each in waiting) == [0, 1, 2]


def test_who_drains_is_told_while_waiting(
    gateway: gateway_world.Running,
    experiment: Experiment,
    token: str,
    threads: concurrent.futures.ThreadPoolExecutor,
    only_when_told: None,
) -> None:
    waiting = threads.submit(lease, gateway, token, 0, wait=WAIT)
    experiment.storage.drain_workers(experiment.uid, [0])
    assert waiting.result() == {"trial": None, "drain": True}


def test_a_gateway_that_drains_holds_nobody(
    world: gateway_world.World,
    gateway: gateway_world.Running,
    token: str,
    threads: concurrent.futures.ThreadPoolExecutor,
    only_when_told: None,
) -> None:
    waiting = threads.submit(lease, gateway, token, 0, wait=WAIT)
    world.loop.call_soon_threadsafe(gateway.served.drain)
    assert waiting.result() == {"trial": None, "drain": False}


def test_a_heartbeat_tells_of_stops_and_of_what_is_over(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    offer(experiment, 0, 1, 2)
    for slot in range(3):
        lease(gateway, token, slot)
    experiment.storage.request_stop(experiment.uid, {1: Reason.PRUNED})
    experiment.lose(2)
    running = [{"trial": number, "attempt": 1} for number in range(3)]
    status, answer, _ = gateway.call("POST", "/v1/heartbeat", {"running": running}, token)
    assert status == 200
    assert answer["drain"] is False
    assert [(each["over"], each["stop"], each["reason"]) for each in answer["trials"]] == [
        (False, False, ""),
        (False, True, "Pruned"),
        (True, True, ""),
    ]


def test_a_worker_that_is_over_is_told_so(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    experiment.storage.end_worker(experiment.uid, 0, 1, Reason.NODE_LOST, "")
    assert gateway.call("POST", "/v1/lease", {"slot": 0}, token)[0] == 409
    assert gateway.call("POST", "/v1/heartbeat", {"running": []}, token)[1] == {"trials": [], "drain": True}
