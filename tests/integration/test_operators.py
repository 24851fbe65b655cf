"""Two operators as processes of their own, on a real PostgreSQL and a small API server: who leads, and what follows."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubetune.api import names
from tests.api_server import ApiServer
from tests.unit.test_kube_client import KUBECONFIG

Json = dict[str, Any]
MAIN = """
import socket, sys
socket.gethostname = lambda: {host!r}
from kubetune.__main__ import main
sys.exit(main())
"""
PATIENCE = 60.0  # seconds; how long it takes is told, not judged


class Process:
    """`kubetune operator`, on a host of the given name (as far as it can tell)."""

    def __init__(self, folder: pathlib.Path, kubeconfig: pathlib.Path, url: str, host: str) -> None:
        self.host = host
        with contextlib.closing(socket.socket()) as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.log = folder / f"{host}.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBETUNE_", "KUBERNETES_"))}
        environment = {
            **kept,
            "PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "operator"),
            "KUBECONFIG": str(kubeconfig),
            "KUBETUNE_DATABASE_URL": url,
            "KUBETUNE_HTTP_PORT": str(self.port),
            "KUBETUNE_GATEWAY_URL": "http://gateway.test",
            "KUBETUNE_LOG_FORMAT": "text",
        }
        code = MAIN.format(host=host)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "operator"], env=environment, stdout=log, stderr=log
            )

    def ready(self) -> bool:
        return self._get("readyz") is not None

    def leads(self) -> bool:
        return "kubetune_leader 1.0" in (self._get("metrics") or "")

    def _get(self, page: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{page}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def wait_for(what: Callable[[], bool]) -> float:
    """Seconds until it was so."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < PATIENCE
        time.sleep(0.05)
    return time.monotonic() - begun


@pytest.fixture
def server() -> Iterator[ApiServer]:
    made = ApiServer()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def begin(tmp_path: pathlib.Path, server: ApiServer, postgres_url: str) -> Iterator[Callable[[str], Process]]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(port=server.port))
    processes: list[Process] = []

    def start(host: str) -> Process:
        made = Process(tmp_path, kubeconfig, postgres_url, host)
        processes.append(made)
        return made

    yield start
    for each in processes:
        each.process.kill()
        each.process.wait()
        print(each.host, each.log.read_text(), sep="\n")


def experiment(name: str) -> Json:
    template = {"spec": {"containers": [{"name": "trial", "image": "x", "command": ["train"]}]}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"double": [0.0, 1.0]}},
            "sampler": {"name": "random"},
            "maxTrials": 5,
            "parallelism": {"max": 2},
            "template": template,
        },
    }


def holder(server: ApiServer) -> str:
    leases = server.all("leases")
    return str(leases[0]["spec"]["holderIdentity"]) if leases else ""


def jobs_of(server: ApiServer, name: str) -> list[str]:
    return [
        job["metadata"]["name"]
        for job in server.all("jobs")
        if job["metadata"]["labels"][names.LABEL_EXPERIMENT] == name
    ]


def test_a_standby_is_ready_and_takes_over_from_one_that_was_killed(
    server: ApiServer, begin: Callable[[str], Process]
) -> None:
    server.put("experiments", experiment("first"))
    one = begin("pod-a")
    wait_for(lambda: len(jobs_of(server, "first")) == 2)
    other = begin("pod-b")
    wait_for(other.ready)
    assert (one.leads(), other.leads()) == (True, False)
    one.end(signal.SIGKILL)
    server.put("experiments", experiment("second"))
    seconds = wait_for(lambda: len(jobs_of(server, "second")) == 2)
    print(f"from SIGKILL to the next right action: {seconds:.2f} s")
    assert other.leads()
    assert holder(server).startswith("pod-b_")
    assert len(jobs_of(server, "first")) == 2


def test_who_is_asked_to_stop_hands_over(server: ApiServer, begin: Callable[[str], Process]) -> None:
    one = begin("pod-a")
    wait_for(one.leads)
    other = begin("pod-b")
    wait_for(other.ready)
    assert one.end(signal.SIGTERM) == 0
    assert not holder(server).startswith("pod-a_")
    wait_for(other.leads)
    assert other.end(signal.SIGTERM) == 0
    assert holder(server) == ""


def test_a_frozen_leader_that_wakes_up_gives_way(server: ApiServer, begin: Callable[[str], Process]) -> None:
    one = begin("pod-a")
    wait_for(one.leads)
    other = begin("pod-b")
    wait_for(other.ready)
    one.process.send_signal(signal.SIGSTOP)
    wait_for(other.leads)
    assert one.end(signal.SIGCONT) == 3
    assert other.leads()
    assert holder(server).startswith("pod-b_")
