"""No-code trials: what is read from a pod's log, through whatever cuts the stream, however many gateways share it."""

import contextlib
import time
from collections.abc import Callable

import pytest

from kubetune.api import names
from kubetune.api.trial import Reason
from kubetune.gateway import logs
from kubetune.storage import base, memory
from tests import gateway_world
from tests.integration.experiments import Experiment

PATIENCE = 30.0  # seconds; a test that waits longer fails


@pytest.fixture
def experiment() -> Experiment:
    storage = memory.MemoryStorage(time.time)
    storage.acquire("test")
    made = Experiment(storage)
    made.create(0, 1)
    return made


def fail(experiment: Experiment, fault: Callable[[str], None]) -> None:
    """Ask before and after each of the database's transactions whether it fails."""
    assert isinstance(experiment.storage, memory.MemoryStorage)
    experiment.storage.fault = fault


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.02)


def line(second: int, text: str, nanoseconds: int = 0) -> tuple[str, str]:
    return f"2026-03-01T10:00:{second:02d}.{nanoseconds:09d}Z", text


def taken(experiment: Experiment, number: int = 0) -> list[tuple[int, dict[str, float]]]:
    found = experiment.storage.trial_reports(experiment.namespace, experiment.name, number)
    return [(report.step, dict(report.metrics)) for report in found]


def is_read(experiment: Experiment, number: int = 0) -> bool:
    return number in experiment.storage.news(experiment.uid, {}).logs_read


def test_a_log_is_read_while_it_is_written_and_to_its_end(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "hello"), line(2, "epoch=1 loss=0.5 accuracy: 0.9")))
        until(lambda: taken(experiment), "the first report, while the container runs")
        assert not is_read(experiment)
        world.run(world.api.write(pod, line(3, "epoch=2 loss=nan"), line(4, "bye")))
        world.run(world.api.end(pod))
        until(lambda: is_read(experiment), "the log is read to its end")
    assert [(step, sorted(metrics)) for step, metrics in taken(experiment)] == [
        (1, ["accuracy", "loss"]),
        (2, ["loss"]),
    ]


def test_the_pod_says_by_which_pattern(world: gateway_world.World, experiment: Experiment) -> None:
    pattern = r"\[(?P<metric>\w+)\|(?P<value>[0-9.]+)\]"
    pod = gateway_world.pod(experiment.who(0), log=True, pattern=pattern, step="round")
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "loss=1 [Round|7] [loss|0.25]")))
        until(lambda: taken(experiment), "a report")
    assert taken(experiment) == [(7, {"loss": 0.25})]


def test_the_pod_says_that_its_lines_are_json(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    pod["metadata"]["annotations"][names.ANNOTATION_LOG_FORMAT] = "json"
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "loss=1"), line(2, '{"Epoch": 7, "loss": "0.25", "note": "loss=3"}')))
        until(lambda: taken(experiment), "a report")
    assert taken(experiment) == [(7, {"loss": 0.25})]


def test_a_container_that_ended_before_anyone_looked(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    world.run(world.api.put(pod))
    world.run(world.api.write(pod, *(line(1, f"loss={number}", number) for number in range(1000))))
    world.run(world.api.end(pod))
    with world.gateway(experiment.storage):
        until(lambda: is_read(experiment), "the log is read to its end")
    assert taken(experiment) == [(number, {"loss": float(number)}) for number in range(1000)]


@pytest.mark.parametrize("clean", [False, True], ids=["broken", "as if it were the end"])
def test_streams_that_are_cut_lose_and_double_nothing(
    world: gateway_world.World, experiment: Experiment, clean: bool
) -> None:
    """Ten lines a second, equal ones among them; the stream ends after 3, 7 and 12 lines."""
    pod = gateway_world.pod(experiment.who(0), log=True)
    lines = [line(number // 10, f"loss={number // 4}", (number // 2) % 5) for number in range(40)]
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.api.log(pod).cuts = [(3, clean), (7, clean), (12, clean)]
        world.run(world.api.write(pod, *lines))
        until(lambda: len(taken(experiment)) == 40, "all lines")
        assert not is_read(experiment)  # a good end of a stream is no end of the log while the container runs
        world.run(world.api.end(pod))
        until(lambda: is_read(experiment), "the log is read to its end")
    assert [metrics["loss"] for _, metrics in taken(experiment)] == [number // 4 for number in range(40)]


def test_another_gateway_goes_on_where_one_stopped(world: gateway_world.World, experiment: Experiment) -> None:
    """A gateway that is stopped gives its leases back; the log goes on in the meantime."""
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, *(line(1, "loss=1") for _ in range(3))))
        until(lambda: len(taken(experiment)) == 3, "the first three")
    world.run(world.api.write(pod, line(1, "loss=1"), line(1, "loss=2", 5)))
    position = experiment.storage.claim_log(experiment.who(0), "another holder", 0.0)
    assert position == base.LogPosition(line(1, "")[0], False)
    with world.gateway(experiment.storage):
        until(lambda: len(taken(experiment)) == 5, "the other two")
        world.run(world.api.end(pod))
        until(lambda: is_read(experiment), "the log is read to its end")
    assert [metrics["loss"] for _, metrics in taken(experiment)] == [1, 1, 1, 1, 2]


def test_a_log_that_another_one_holds_is_left_alone_until_its_lease_ends(
    world: gateway_world.World, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "TRY_LEASE", (0.05, 0.1))
    held = experiment.storage.claim_log(experiment.who(0), "one that was killed", 3600.0)
    assert held
    pod = gateway_world.pod(experiment.who(0), log=True)
    other = gateway_world.pod(experiment.who(1), log=True)
    with world.gateway(experiment.storage):
        for each in (pod, other):
            world.run(world.api.put(each))
            world.run(world.api.write(each, line(1, "loss=1")))
        until(lambda: taken(experiment, 1), "the other trial's report")
        assert world.api.log(pod).streams == 0
        experiment.storage.claim_log(experiment.who(0), "one that was killed", 0.0)
        until(lambda: taken(experiment), "the report, once the lease is free")


def test_a_lease_is_kept_while_nothing_is_written(
    world: gateway_world.World, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RENEW", 0.05)
    monkeypatch.setattr(logs, "LEASE", 0.5)
    calls: list[str] = []
    fail(experiment, calls.append)
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        until(lambda: calls.count("after:claim_log") > 20, "the lease is renewed again and again")
        assert world.api.log(pod).streams == 1
        assert experiment.storage.claim_log(experiment.who(0), "another", 1.0) is None


def test_an_attempt_that_is_over_is_not_followed_any_more(
    world: gateway_world.World, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RENEW", 0.05)
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage) as gateway:
        world.run(world.api.put(pod))
        until(lambda: b"kubetune_logs_followed 1.0" in gateway.http("/metrics")[1], "the log is followed")
        experiment.storage.new_attempt(experiment.uid, 0, 1, Reason.EVICTED, "")
        until(lambda: b"kubetune_logs_followed 0.0" in gateway.http("/metrics")[1], "it is not any more")
        world.run(world.api.write(pod, line(1, "loss=1")))
    assert taken(experiment) == []


def test_a_pod_that_goes_away_leaves_what_was_read(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "loss=1")))
        until(lambda: taken(experiment), "the report")
        world.run(world.api.remove(pod))
        until(lambda: is_read(experiment), "there is nothing more to read")
    assert taken(experiment) == [(0, {"loss": 1.0})]


def test_a_pod_that_has_not_started_is_waited_for(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    waiting = {**pod, "status": {"phase": "Pending"}}
    with world.gateway(experiment.storage):
        world.run(world.api.put(waiting))
        until(lambda: world.api.watches, "the watch")
        assert world.api.log(pod).streams == 0
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "loss=1")))
        until(lambda: taken(experiment), "the report")


def test_a_pod_that_ended_without_having_started_has_no_log(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put({**pod, "status": {"phase": "Failed", "reason": "Evicted"}}))
        until(lambda: is_read(experiment), "there is nothing to read")
    assert world.api.log(pod).streams == 0


def test_a_pattern_that_is_none_ends_the_reading(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True, pattern="(?P<metric>")
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        until(lambda: is_read(experiment), "nothing can be read")


def test_the_database_away_delays_and_loses_nothing(world: gateway_world.World, experiment: Experiment) -> None:
    """Also where a commit broke after it was done: the same lines have the same keys."""
    down = True

    def fault(where: str) -> None:
        if down and where in ("before:claim_log", "after:accept", "before:save_log"):
            raise base.StorageUnavailable("away")

    fail(experiment, fault)
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "loss=1"), line(1, "loss=1"), line(2, "loss=2")))
        time.sleep(0.7)
        down = False
        until(lambda: len(taken(experiment)) == 3, "all three")
        down = True
        world.run(world.api.write(pod, line(3, "loss=3")))
        world.run(world.api.end(pod))
        until(lambda: len(taken(experiment)) == 4, "the fourth is committed, though nobody was told")
        down = False
        until(lambda: is_read(experiment), "the log is read to its end")
    assert [metrics["loss"] for _, metrics in taken(experiment)] == [1, 1, 2, 3]


def test_the_api_server_away_delays_and_loses_nothing(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    world.api.failing = 503
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, line(1, "loss=1")))
        time.sleep(0.3)
        world.api.failing = None
        until(lambda: taken(experiment), "the report")


def test_words_of_the_kubelet_are_no_lines_of_the_log(world: gateway_world.World, experiment: Experiment) -> None:
    pod = gateway_world.pod(experiment.who(0), log=True)
    with world.gateway(experiment.storage):
        world.run(world.api.put(pod))
        world.run(world.api.write(pod, ("unable", "to retrieve container logs: loss=5"), line(1, "loss=1")))
        until(lambda: taken(experiment), "the report")
    assert taken(experiment) == [(0, {"loss": 1.0})]


def test_gateways_share_the_logs(world: gateway_world.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas, twelve trials: every line counts once, and they do not both read all of them."""
    storage = memory.MemoryStorage(time.time)
    storage.acquire("test")
    experiment = Experiment(storage)
    experiment.create(*range(12))
    found = [gateway_world.pod(experiment.who(number), log=True) for number in range(12)]
    with contextlib.ExitStack() as stack:
        replicas = []
        for name in ("gateway-a", "gateway-b"):
            monkeypatch.setenv("HOSTNAME", name)
            replicas.append(stack.enter_context(world.gateway(storage)))
        for each in found:
            world.run(world.api.put(each))
            world.run(world.api.write(each, *(line(1, f"loss={number}", number) for number in range(50))))
            world.run(world.api.end(each))
        until(lambda: all(is_read(experiment, number) for number in range(12)), "all logs are read")
        accepted = [accepted_by(replica) for replica in replicas]
    for number in range(12):
        assert [metrics["loss"] for _, metrics in taken(experiment, number)] == [float(each) for each in range(50)]
    assert 600 <= sum(accepted) < 1200


def accepted_by(gateway: gateway_world.Running) -> float:
    """Reports that a gateway sent to the database, those that were there already among them."""
    (told,) = [
        text
        for text in gateway.http("/metrics")[1].decode().splitlines()
        if text.startswith("kubetune_reports_accepted_total ")
    ]
    return float(told.split()[1])
