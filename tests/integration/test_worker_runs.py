"""Worker agents at a real gateway over PostgreSQL: what Jobs bring about, leases bring about."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import kubetune_worker
from kubetune.api.trial import Reason
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


RESUMING = """
import pathlib, time
import kubetune_trial as kt
folder = kt.load_checkpoint()
for step in range(folder.step + 1 if folder else 0, 5):
    kt.report(step, loss=1.0)
    with kt.save_checkpoint(step) as made:
        pathlib.Path(made, "state").write_text(str(step))
    if step == 2 and not folder:
        time.sleep(600)
"""


def test_a_lost_attempt_goes_on_from_its_checkpoint_in_a_workers_process(
    world: gateway_world.World, experiment: Experiment, tmp_path: pathlib.Path
) -> None:
    offer(experiment, 0)
    script, volume, token = tmp_path / "train.py", tmp_path / "volume", tmp_path / "token"
    script.write_text(RESUMING)
    token.write_text(world.api.knows_worker(worker(experiment)))
    with world.gateway(experiment.storage) as gateway:
        environment = {
            **gateway.environment(token),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(pathlib.Path(kubetune_worker.__file__).parent),
            "KUBETUNE_WORKER_DIRECTORY": str(tmp_path),
            "KUBETUNE_CHECKPOINTS": str(volume),
        }
        command = [sys.executable, kubetune_worker.__file__, "--", sys.executable, str(script)]
        agent = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while len(experiment.reports(0)) < 3 or not list(volume.glob("0/1-2-*/state")):
            assert agent.poll() is None
        while not experiment.storage.new_attempt(experiment.uid, 0, 1, Reason.WORKER_LOST, ""):
            assert agent.poll() is None
        assert experiment.storage.offer(experiment.uid, {0: 2}) == {0}
        while (lease := experiment.storage.news(experiment.uid, {}).leases.get(0)) is None or lease.exit is None:
            assert agent.poll() is None
        experiment.storage.drain_workers(experiment.uid, [0])
        assert agent.wait(60) == 0
    (resumed,) = experiment.storage.resumes(experiment.uid)
    first = [report.step for report in experiment.reports(0) if report.attempt == 1]
    second = [report.step for report in experiment.reports(0) if report.attempt == 2]
    assert (first, resumed.step, second) == ([0, 1, 2], resumed.step, list(range(resumed.step + 1, 5)))
    assert resumed.step in (1, 2)  # the last commit was under way when the attempt was given up
