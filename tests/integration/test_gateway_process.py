"""The gateway as a process of its own on a real PostgreSQL: started, killed at random moments, asked to stop."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3

from kubetune.api import names
from kubetune.storage import postgres
from tests import gateway_world
from tests.integration.experiments import Experiment

KILLS = 6
REPORTS = 60  # of each trial


@pytest.fixture
def storage(postgres_url: str) -> Iterator[postgres.PostgresStorage]:
    made = postgres.PostgresStorage(postgres_url)
    made.acquire("test")
    yield made
    made.close()


class Process:
    """`kubetune gateway` on ports of its own; the same after every start, as a Service's address is."""

    def __init__(self, world: gateway_world.World, url: str) -> None:
        self.ports = (free_port(), free_port())
        self.url = f"https://127.0.0.1:{self.ports[0]}"
        self.tls = gateway_world.certificates(world.folder / "tls")
        self._log = (world.folder / "gateway.log").open("ab")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KUBETUNE_", "KUBERNETES_"))},
            "PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "operator"),
            "KUBECONFIG": str(world.kubeconfig),
            "KUBETUNE_DATABASE_URL": url,
            "KUBETUNE_LISTEN_PORT": str(self.ports[0]),
            "KUBETUNE_HTTP_PORT": str(self.ports[1]),
            "KUBETUNE_TLS_DIRECTORY": str(self.tls),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "kubetune", "gateway"]
        self._process = subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)

    def send(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process
        self._process.send_signal(number)
        return self._process.wait(timeout=60)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.send(signal.SIGKILL)
        self._log.close()

    def resident(self) -> int:
        """Bytes of memory that it has."""
        assert self._process
        pages = pathlib.Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(urllib3.exceptions.HTTPError), urllib3.PoolManager(retries=False) as pool:
                if pool.request("GET", f"http://127.0.0.1:{self.ports[1]}/readyz", timeout=5).status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(pathlib.Path(self._log.name).read_text())


@pytest.fixture
def gateway(world: gateway_world.World, postgres_url: str) -> Iterator[Process]:
    made = Process(world, postgres_url)
    made.start()
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


TRIAL = """
import sys, time, kubetune_trial as kt
for step in range(int(sys.argv[1])):
    kt.report(step, score=step)
    print(step, flush=True)  # acknowledged
    time.sleep(0.02)
"""


def trial(gateway: Process, token_file: pathlib.Path, reports: int) -> "subprocess.Popen[str]":
    """A trial's process."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "trial-image"),
        names.ENV_GATEWAY: gateway.url,
        names.ENV_GATEWAY_CA: (gateway.tls / "ca.crt").read_text(),
        names.ENV_TOKEN_FILE: str(token_file),
    }
    command = [sys.executable, "-c", TRIAL, str(reports)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_killed_at_random_moments_it_loses_and_doubles_nothing(
    world: gateway_world.World, gateway: Process, storage: postgres.PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """Trials 0 and 1 push, trial 2 writes a log; the gateway is killed again and again in the meantime."""
    seed = int(os.environ.get("KUBETUNE_TEST_SEED", random.randrange(10**6)))
    print(f"seed: {seed} (KUBETUNE_TEST_SEED={seed} kills at the same moments)")
    dice = random.Random(seed)
    experiment = Experiment(storage, metrics=("score",))
    experiment.create(0, 1, 2)
    trials = []
    for number in (0, 1):
        token_file = tmp_path / f"token-{number}"
        token_file.write_text(world.api.knows(experiment.who(number)))
        trials.append(trial(gateway, token_file, REPORTS))
    pod = gateway_world.pod(experiment.who(2), log=True)
    world.run(world.api.put(pod))
    writer = threading.Thread(target=write, args=(world, pod))
    writer.start()
    for _ in range(KILLS):
        gateway.wait_until_ready()
        time.sleep(dice.uniform(0.0, 0.5))
        assert gateway.send(signal.SIGKILL) == -signal.SIGKILL
        gateway.start()
    writer.join()
    acknowledged = [[int(step) for step in each.communicate(timeout=120)[0].split()] for each in trials]
    assert [each.returncode for each in trials] == [0, 0]
    assert acknowledged == [list(range(REPORTS))] * 2
    end = time.monotonic() + 60
    while 2 not in storage.news(experiment.uid, {}).logs_read:
        assert time.monotonic() < end, "the log is not read to its end"
        time.sleep(0.1)
    for number in range(3):
        reports = storage.trial_reports(experiment.namespace, experiment.name, number)
        assert [report.seq for report in reports] == list(range(1, REPORTS + 1))
        assert [report.step for report in reports] == list(range(REPORTS))


def write(world: gateway_world.World, pod: gateway_world.Json) -> None:
    """A container's output, two equal lines at each instant among others that say nothing."""
    for number in range(REPORTS):
        time_of_it = f"2026-03-01T10:00:{number // 10:02d}.{number // 2 % 5:09d}Z"
        world.run(world.api.write(pod, (time_of_it, "working"), (time_of_it, f"score={number // 2}")))
        time.sleep(0.03)
    world.run(world.api.end(pod))


def test_asked_to_stop_it_answers_what_it_has_taken_and_exits_well(
    world: gateway_world.World, gateway: Process, storage: postgres.PostgresStorage, tmp_path: pathlib.Path
) -> None:
    experiment = Experiment(storage, metrics=("score",))
    experiment.create(0)
    token_file = tmp_path / "token"
    token_file.write_text(world.api.knows(experiment.who(0)))
    gateway.wait_until_ready()
    reporting = trial(gateway, token_file, 10**6)
    assert reporting.stdout
    assert reporting.stdout.readline() == "0\n"
    assert gateway.send(signal.SIGTERM) == 0
    reporting.kill()
    acknowledged = len(reporting.communicate()[0].split()) + 1
    reports = storage.trial_reports(experiment.namespace, experiment.name, 0)
    assert len(reports) >= acknowledged > 1


def test_without_its_certificate_it_waits_and_says_so(
    world: gateway_world.World, storage: postgres.PostgresStorage, postgres_url: str, tmp_path: pathlib.Path
) -> None:
    process = Process(world, postgres_url)
    (process.tls / "tls.crt").rename(tmp_path / "kept")
    process.start()
    try:
        reasons = None
        end = time.monotonic() + 60
        while reasons != ["the certificate is not there yet"]:
            assert time.monotonic() < end, reasons
            with contextlib.suppress(urllib3.exceptions.HTTPError), urllib3.PoolManager(retries=False) as pool:
                answer = pool.request("GET", f"http://127.0.0.1:{process.ports[1]}/readyz", timeout=5)
                reasons = json.loads(answer.data)["reasons"]
            time.sleep(0.05)
        (tmp_path / "kept").rename(process.tls / "tls.crt")
        process.wait_until_ready()
        (process.tls / "tls.crt").rename(tmp_path / "kept")
        assert process.send(signal.SIGTERM) == 0
    finally:
        process.close()


def test_while_it_waits_for_its_certificate_it_can_be_stopped(world: gateway_world.World, postgres_url: str) -> None:
    process = Process(world, postgres_url)
    (process.tls / "tls.crt").unlink()
    process.start()
    try:
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", process.ports[1])):
                break
            time.sleep(0.05)
        assert process.send(signal.SIGTERM) == 0
    finally:
        process.close()


def test_trials_that_are_connected_cost_little_memory(gateway: Process) -> None:
    gateway.wait_until_ready()
    before = gateway.resident()
    context = ssl.create_default_context(cafile=str(gateway.tls / "ca.crt"))
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            plain = socket.create_connection(("127.0.0.1", gateway.ports[0]), timeout=30)
            stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        assert (gateway.resident() - before) / 300 < 128 * 1024  # 256 KiB as asyncio has it
