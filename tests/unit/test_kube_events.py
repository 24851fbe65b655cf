"""Events: told once, counted when they come again, never a flood and never a failure."""

from typing import Any

import pytest

from kubetune.api import spec
from kubetune.controller import events
from kubetune.kube import errors, resources

Json = dict[str, Any]
SPEC = spec.ExperimentSpec("team-a", "digits", "uid-1", 1, (), {}, {})


class Server:
    """The API server's events by name, and each write made to them."""

    def __init__(self) -> None:
        self.events: dict[str, Json] = {}
        self.writes: list[str] = []
        self.away = False

    def create(self, resource: resources.Resource, namespace: str, body: Json) -> None:
        self._written("create")
        name = body["metadata"]["name"]
        if name in self.events:
            raise errors.AlreadyExists(409, "AlreadyExists", name)
        self.events[name] = dict(body)

    def get(self, resource: resources.Resource, namespace: str, name: str) -> Json:
        return self.events[name]

    def patch(self, resource: resources.Resource, namespace: str, name: str, body: Json) -> None:
        self._written("patch")
        if name not in self.events:
            raise errors.NotFound(404, "NotFound", name)
        self.events[name].update(body)

    def _written(self, verb: str) -> None:
        if self.away:
            raise errors.Unavailable(503, "", "away")
        self.writes.append(verb)


class Bench:
    def __init__(self) -> None:
        self.server = Server()
        self.now = 1_772_359_200.0
        self.recorder = self.successor()

    def successor(self) -> events.Recorder:
        return events.Recorder(self.server, clock=lambda: self.now)  # type: ignore[arg-type]

    def tell(self, message: str = "4 trials started", recorder: events.Recorder | None = None) -> None:
        happening = events.Happening("team-a", "digits", "uid-1", "Normal", "SlotFree", message)
        (recorder or self.recorder).tell(happening)

    def counts(self) -> list[int]:
        return [event["count"] for event in self.server.events.values()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_event_says_what_happened_to_which_experiment(bench: Bench) -> None:
    bench.tell()
    (event,) = bench.server.events.values()
    assert event["metadata"]["namespace"] == "team-a"
    assert event["involvedObject"] == {
        "apiVersion": "kubetune.dev/v1alpha1",
        "kind": "Experiment",
        "namespace": "team-a",
        "name": "digits",
        "uid": "uid-1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "SlotFree", "4 trials started")
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-03-01T10:00:00Z"


def test_the_same_again_is_counted_and_written_only_now_and_then(bench: Bench) -> None:
    bench.tell()
    for _ in range(5):
        bench.now += 1
        bench.tell()
    assert bench.server.writes == ["create"]
    bench.now += events.REPEAT
    bench.tell()
    assert bench.server.writes == ["create", "patch"]
    assert bench.counts() == [7]


def test_other_words_are_another_event(bench: Bench) -> None:
    bench.tell("trial 1 failed")
    bench.tell("trial 2 failed")
    assert bench.counts() == [1, 1]


def test_after_a_restart_the_count_goes_on(bench: Bench) -> None:
    bench.tell()
    bench.tell(recorder=bench.successor())
    assert bench.counts() == [2]


def test_an_event_that_the_server_forgot_begins_anew(bench: Bench) -> None:
    bench.tell()
    bench.server.events.clear()
    bench.now += events.REPEAT
    bench.tell()
    assert bench.counts() == [1]


def test_a_flood_is_cut_and_refills_slowly(bench: Bench) -> None:
    for number in range(1000):
        bench.tell(f"trial {number} failed")
    assert len(bench.server.events) == events.BURST
    bench.now += 2 * events.REFILL
    for number in range(1000, 1010):
        bench.tell(f"trial {number} failed")
    assert len(bench.server.events) == events.BURST + 2


def test_one_experiments_flood_is_not_anothers(bench: Bench) -> None:
    for number in range(events.BURST):
        bench.tell(f"trial {number} failed")
    bench.recorder.tell(events.Happening("team-b", "other", "uid-2", "Normal", "Running", "started"))
    assert len(bench.server.events) == events.BURST + 1


def test_telling_waits_for_nothing_and_survives_a_server_that_is_away(bench: Bench) -> None:
    bench.server.away = True
    bench.recorder.start()
    bench.recorder.event(SPEC, "Warning", "Image", "x" * 5000)
    bench.recorder.event(SPEC, "Normal", "Running", "started")
    bench.recorder.close(30)
    assert bench.server.events == {}
    back = bench.successor()
    bench.server.away = False
    back.start()
    back.event(SPEC, "Warning", "Image", "x" * 5000)
    back.close(30)
    (event,) = bench.server.events.values()
    assert len(event["message"]) == 1000


def test_more_than_can_wait_is_dropped(bench: Bench) -> None:
    for number in range(5000):
        bench.recorder.event(SPEC, "Normal", "Running", str(number))
    assert bench.server.events == {}
