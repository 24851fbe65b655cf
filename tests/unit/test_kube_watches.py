"""kopf against a small API server: what the watches bring in, that they survive what they meet, and that nothing is
ever written."""

import collections
import http.server
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from kubetune.api import names
from kubetune.controller.cache import Cache
from kubetune.controller.handlers import Watches
from kubetune.controller.health import Health
from kubetune.controller.queue import Queue
from kubetune.controller.registry import Registry
from kubetune.kube import credentials
from kubetune.kube.client import Client
from kubetune.metrics.catalog import Metrics
from tests.unit import kube_objects as k
from tests.unit.test_kube_client import KUBECONFIG

Json = dict[str, Any]
GROUPS = {
    "batch": ("v1", "jobs", "Job"),
    names.GROUP: (names.VERSION, names.PLURAL, names.KIND),
    "apiextensions.k8s.io": ("v1", "customresourcedefinitions", "CustomResourceDefinition"),  # kopf waits for it
}


class Server(http.server.ThreadingHTTPServer):
    """Lists by kind, and one stream of watch events by kind."""

    daemon_threads = True
    kinds: ClassVar = ("experiments", "jobs", "pods", "nodes")

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.listed: dict[str, list[Json]] = {kind: [] for kind in self.kinds}
        self.streams: dict[str, queue.Queue[Json | None]] = {kind: queue.Queue() for kind in self.kinds}
        self.selectors: dict[str, str] = {}
        self.lists: collections.Counter[str] = collections.Counter()
        self.begun: dict[str, queue.Queue[str]] = {kind: queue.Queue() for kind in self.kinds}  # watches: from where
        self.writes: list[str] = []
        self.port = self.server_address[1]

    def tell(self, kind: str, event: str, raw: Json) -> None:
        self.streams[kind].put({"type": event, "object": raw})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that stops in the middle of an answer is no error."""

    def stop(self) -> None:
        for stream in self.streams.values():
            stream.put(None)
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        kind = address.path.rsplit("/", 1)[-1]
        if kind not in self.server.kinds:
            self._answer(discovery(address.path))
        elif "watch" in query:
            self.server.begun[kind].put(query["resourceVersion"][0])
            self._stream(kind)
        else:
            self.server.lists[kind] += 1
            self.server.selectors[kind] = query.get("labelSelector", [""])[0]
            self._answer({"metadata": {"resourceVersion": "100"}, "items": self.server.listed[kind]})

    def _stream(self, kind: str) -> None:
        self.send_response(200)
        self.end_headers()
        while (event := self.server.streams[kind].get()) is not None:
            self.wfile.write(json.dumps(event).encode() + b"\n")

    def _write(self) -> None:
        self.server.writes.append(f"{self.command} {self.path}")
        self._answer({})

    do_POST = do_PUT = do_PATCH = do_DELETE = _write  # noqa: N815

    def _answer(self, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def discovery(path: str) -> Json:
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        groups = [
            {"name": group, "preferredVersion": {"version": version}, "versions": [{"version": version}]}
            for group, (version, _, _) in GROUPS.items()
        ]
        return {"groups": groups}
    if path == "/api/v1":
        cluster = [kind("nodes", "Node", namespaced=False), kind("namespaces", "Namespace", namespaced=False)]
        return {"resources": [kind("pods", "Pod"), kind("events", "Event"), *cluster]}
    _, plural, name = GROUPS[path.split("/")[2]]
    return {"resources": [kind(plural, name)]}


def kind(plural: str, name: str, namespaced: bool = True) -> Json:
    verbs = ["get", "list", "watch", "patch"]
    return {
        "name": plural,
        "kind": name,
        "namespaced": namespaced,
        "verbs": verbs,
        "singularName": "",
        "shortNames": [],
    }


def experiment(version: int = 5, generation: int = 1) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": "digits",
            "namespace": "team-a",
            "uid": k.EXPERIMENT,
            "resourceVersion": str(version),
            "generation": generation,
        },
        "spec": {},
    }


class Bench:
    def __init__(self, kubeconfig: str) -> None:
        self.queue = Queue()
        self.cache = Cache(300)
        self.registry = Registry(None, lambda spec: None)  # type: ignore[arg-type,return-value]
        self.health = Health(300)
        self.stop = threading.Event()
        access = credentials.Credentials.load(kubeconfig)
        self.metrics = Metrics()
        self.watches = Watches(Client(access), access, self.queue, self.cache, self.registry, self.health, self.metrics)
        self.thread = threading.Thread(target=self.watches.run, args=(self.stop,))

    def woken(self) -> str | None:
        """The next key, within half a minute."""
        key = self.queue.get(timeout=30)
        if key is not None:
            self.queue.done(key)
        return key


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.stop()
    thread.join()


@pytest.fixture
def bench(server: Server, tmp_path: Any) -> Iterator[Bench]:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(port=server.port))
    made = Bench(str(path))
    yield made
    made.stop.set()
    for stream in server.streams.values():
        stream.put(None)
    made.thread.join(30)


def test_what_is_there_and_what_comes_wakes_its_experiment_and_nothing_is_written(server: Server, bench: Bench) -> None:
    server.listed["experiments"] = [experiment()]
    bench.thread.start()
    assert bench.woken() == k.EXPERIMENT
    for kind_, raw in (("jobs", k.job()), ("pods", k.pod()), ("experiments", experiment(version=9, generation=2))):
        server.tell(kind_, "ADDED" if kind_ != "experiments" else "MODIFIED", raw)
        assert bench.woken() == k.EXPERIMENT
    server.tell("nodes", "ADDED", k.node(ready="Unknown", since=k.ENDED))
    assert bench.woken() == k.EXPERIMENT
    (job,) = bench.cache.jobs(k.EXPERIMENT)
    assert job.pod is not None
    assert bench.cache.nodes_gone(k.ENDED_AT + 300) == {"node-a"}
    server.tell("jobs", "DELETED", k.job(version=30))
    assert bench.woken() == k.EXPERIMENT
    assert bench.cache.jobs(k.EXPERIMENT) == ()
    server.tell("experiments", "DELETED", experiment(version=31, generation=2))
    assert bench.woken() == k.EXPERIMENT
    assert bench.registry.resource(k.EXPERIMENT) is None
    assert server.writes == []
    assert server.selectors["jobs"] == server.selectors["pods"] == names.TRIAL_SELECTOR
    assert server.selectors["experiments"] == server.selectors["nodes"] == ""


def test_our_own_status_writes_wake_nobody(server: Server, bench: Bench) -> None:
    server.listed["experiments"] = [experiment()]
    bench.thread.start()
    assert bench.woken() == k.EXPERIMENT
    server.tell("experiments", "MODIFIED", {**experiment(version=6), "status": {"state": "Running"}})
    server.tell("jobs", "ADDED", k.job())  # after it, so that there is something to wait for
    assert bench.woken() == k.EXPERIMENT
    assert bench.queue.get(timeout=0) is None


def test_an_object_that_is_not_understood_stops_no_other(server: Server, bench: Bench) -> None:
    bench.thread.start()
    server.tell("jobs", "ADDED", k.job("broken", creationTimestamp="yesterday"))
    server.tell("jobs", "ADDED", k.job("job-1"))
    assert bench.woken() == k.EXPERIMENT
    assert [job.uid for job in bench.cache.jobs(k.EXPERIMENT)] == ["job-1"]


def test_ready_while_watching_and_not_before_or_after(server: Server, bench: Bench) -> None:
    waiting = "the watches have not begun"
    assert waiting in bench.health.wants()
    server.listed["experiments"] = [experiment()]
    bench.thread.start()
    bench.woken()
    assert waiting not in bench.health.wants()
    bench.stop.set()
    for stream in server.streams.values():
        stream.put(None)
    bench.thread.join(30)
    assert waiting in bench.health.wants()


def test_a_watch_that_ends_goes_on_where_it_was_and_one_that_lost_its_place_lists_again(
    server: Server, bench: Bench
) -> None:
    bench.thread.start()
    assert server.begun["jobs"].get(timeout=30) == "100"
    server.tell("jobs", "ADDED", k.job(version=107))
    assert bench.woken() == k.EXPERIMENT
    server.streams["jobs"].put(None)
    assert server.begun["jobs"].get(timeout=30) == "107"
    assert server.lists["jobs"] == 1
    server.listed["jobs"] = [k.job("job-2", name="digits-2")]
    server.tell("jobs", "ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    assert server.begun["jobs"].get(timeout=30) == "100"
    assert {job.uid for job in bench.cache.jobs(k.EXPERIMENT)} == {"job-1", "job-2"}  # what is gone, the relist finds


def test_a_defect_in_a_watch_is_not_lived_with(server: Server, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.queue, "add_after", lambda key, seconds: 1 / 0)
    server.tell("jobs", "ADDED", k.job())
    threading.Timer(30, bench.stop.set).start()  # should it go on as if nothing had happened
    bench.thread = threading.Thread(target=bool)
    bench.thread.start()
    with pytest.raises(ZeroDivisionError):
        bench.watches.run(bench.stop)


STOPPABLE = """
import signal, sys, threading
from kubetune.controller.handlers import Watches
from tests.unit.test_kube_watches import Bench
bench = Bench(sys.argv[1])
threading.Thread(target=lambda: (bench.woken(), print("watching", flush=True)), daemon=True).start()
bench.watches.run(bench.stop)
print("stopped", bench.stop.is_set(), flush=True)
"""


def test_sigterm_ends_the_watches_at_once(server: Server, tmp_path: Any) -> None:
    """In a process of its own, since signals reach the main thread only. kopf would kill it after half a minute."""
    server.listed["experiments"] = [experiment()]
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(port=server.port))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", STOPPABLE, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopped True\n"
    assert process.returncode == 0
