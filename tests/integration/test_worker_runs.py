"""Worker agents at a real gateway over PostgreSQL: what Jobs bring about, leases bring about."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import kubetune_worker
from kubetune.storage import postgres
from tests import gateway_world
from tests.integration.experiments import Experiment
from tests.integration.workers import offer, worker

TRIAL = """
import kubetune_trial as kt
number = kt.trial()
kt.report(0, loss=number / 100)
if number % 5 == 3:
    kt.finish("failed", "as it says")
if number % 5 == 4:
    raise SystemExit(7)
"""


@pytest.fixture
def experiment(postgres_url: str) -> Iterator[Experiment]:
    storage = postgres.PostgresStorage(postgres_url)
    storage.acquire("test")
    yield Experiment(storage)
    storage.close()


def test_two_workers_run_what_is_offered_each_trial_once(
    world: gateway_world.World, experiment: Experiment, tmp_path: pathlib.Path
) -> None:
    offer(experiment, *range(10))
    script = tmp_path / "train.py"
    script.write_text(TRIAL)
    with world.gateway(experiment.storage) as gateway:
        agents = []
        for number in range(2):
            folder = tmp_path / f"worker-{number}"
            folder.mkdir()
            (folder / "token").write_text(world.api.knows_worker(worker(experiment, number)))
            environment = {
                **gateway.environment(folder / "token"),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(pathlib.Path(kubetune_worker.__file__).parent),
                "KUBETUNE_WORKER_SLOTS": "2",
                "KUBETUNE_WORKER_DIRECTORY": str(folder),
            }
            command = [sys.executable, kubetune_worker.__file__, "--", sys.executable, str(script)]
            agents.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        while not all(
            (lease := leases.get(number)) is not None and lease.exit is not None
            for leases in [experiment.storage.news(experiment.uid, {}).leases]
            for number in range(10)
        ):
            assert all(agent.poll() is None for agent in agents)
        experiment.storage.drain_workers(experiment.uid, [0, 1])
        assert [agent.wait(60) for agent in agents] == [0, 0]
    news = experiment.storage.news(experiment.uid, {})
    assert {number: [report.metrics["loss"] for report in news.reports[number]] for number in range(10)} == {
        number: [number / 100] for number in range(10)
    }
    reasons = [lease.exit.reason if lease.exit else None for _, lease in sorted(news.leases.items())]
    assert [reason and str(reason) for reason in reasons] == [None, None, None, None, "ExitCode"] * 2
    assert {number: finish.message for number, finish in news.finishes.items()} == {3: "as it says", 8: "as it says"}
