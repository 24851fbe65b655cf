"""Experiments in workers from their first trial to their end: loop, database, gateway and agents are the real ones."""

import pathlib
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubetune.api.trial import Reason, TrialState
from kubetune.storage import postgres
from tests import gateway_world
from tests.worker_cluster import Operator

Start = Callable[..., Operator]
REPORT = "import kubetune_trial as kt, os; kt.report(0, loss=float(os.environ['x']))\n"


@pytest.fixture
def storage(postgres_url: str) -> Iterator[postgres.PostgresStorage]:
    made = postgres.PostgresStorage(postgres_url)
    made.acquire("test")
    yield made
    made.close()


@pytest.fixture
def start(tmp_path: pathlib.Path, storage: postgres.PostgresStorage) -> Iterator[Start]:
    """Starts an experiment whose trials run some Python."""
    world = gateway_world.World(tmp_path)
    made: list[Operator] = []
    with world.gateway(storage) as gateway:

        def begin(code: str, *arguments: str, **fields: Any) -> Operator:
            container = {"name": "trial", "image": "any", "command": [sys.executable, "-c", code], "args": [*arguments]}
            resource = {
                "metadata": {
                    "namespace": "team-a",
                    "name": f"digits-{uuid.uuid4().hex[:8]}",
                    "uid": str(uuid.uuid4()),
                    "generation": 1,
                },
                "spec": {
                    "objective": {"metric": "loss", "direction": "minimize"},
                    "parameters": {"x": {"double": [0, 1]}},
                    "sampler": {"name": "random"},
                    "pruner": {"name": "none"},
                    "parallelism": {"max": 2},
                    "maxTrials": 6,
                    "execution": "workers",
                    "template": {"spec": {"containers": [container]}},
                    **fields,
                },
            }
            made.append(Operator(world, gateway, storage, resource))
            return made[-1]

        yield begin
        for operator in made:
            operator.close()
    world.close()


def rows(operator: Operator, storage: postgres.PostgresStorage) -> dict[int, Any]:
    return {row.number: row for row in storage.load_trials(operator.uid)}


def is_over(operator: Operator) -> Callable[[], bool]:
    """Ended, and everything is cleared away."""
    return lambda: operator.status.get("state") in ("Complete", "Failed") and not [*operator.server.all("jobs")]


def test_from_the_first_trial_to_the_end(start: Start, storage: postgres.PostgresStorage) -> None:
    operator = start(REPORT)
    operator.run(is_over(operator))
    found = rows(operator, storage)
    assert [row.state for row in found.values()] == [TrialState.COMPLETE] * 6
    assert all(row.values == (row.params["x"],) for row in found.values())
    assert len(operator.agents) == 2
    assert operator.status["reason"] == str(Reason.MAX_TRIALS)
    assert operator.status["counts"]["complete"] == 6
    assert all(row.attempt == 1 and row.started is not None for row in found.values())


def test_slots_of_one_worker(start: Start, storage: postgres.PostgresStorage) -> None:
    operator = start(REPORT, slotsPerWorker=2)
    operator.run(is_over(operator))
    assert len(operator.agents) == 1
    assert len(rows(operator, storage)) == 6


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(3)", Reason.EXIT_CODE),
        ("pass", Reason.NO_METRIC),
        ("import kubetune_trial as kt; kt.report(0, loss=float('nan'))", Reason.NOT_A_NUMBER),
        ("import kubetune_trial as kt; kt.finish('failed', 'so it is'); raise SystemExit(4)", Reason.TRIAL_FAILED),
    ],
)
def test_trials_end_as_those_of_jobs_do(
    start: Start, storage: postgres.PostgresStorage, code: str, reason: Reason
) -> None:
    operator = start(f"print('a word')\n{code}", maxTrials=2, maxFailedTrials=5)
    operator.run(is_over(operator))
    assert [row.reason for row in rows(operator, storage).values()] == [reason] * 2
    metadata = operator.resource["metadata"]
    assert "a word" in (storage.log_tail(metadata["namespace"], metadata["name"], 0) or "")


def test_a_deadline_is_the_trials_own(start: Start, storage: postgres.PostgresStorage) -> None:
    operator = start("import time; time.sleep(600)", maxTrials=2, deadline={"trial": "1s"})
    operator.run(is_over(operator))
    assert [row.reason for row in rows(operator, storage).values()] == [Reason.DEADLINE_EXCEEDED] * 2
    assert len(operator.agents) == 2


def test_a_worker_that_dies_costs_an_attempt_and_no_trial(start: Start, storage: postgres.PostgresStorage) -> None:
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    operator = start(wait + REPORT, "/nonexistent", maxTrials=2)
    go = pathlib.Path(operator._world.folder) / "go"
    container = operator.resource["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [str(go)]
    operator.run(lambda: sum(row.lease is not None for row in rows(operator, storage).values()) == 2)
    operator.agents[0].process.kill()
    operator.run(lambda: max(row.attempt for row in rows(operator, storage).values()) == 2)
    go.touch()
    operator.run(is_over(operator))
    found = rows(operator, storage)
    assert sorted(row.attempt for row in found.values()) == [1, 2]
    assert [row.state for row in found.values()] == [TrialState.COMPLETE] * 2
    assert operator.status["counts"]["lostAttempts"] == 1


def test_suspended_and_resumed(start: Start, storage: postgres.PostgresStorage) -> None:
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    operator = start(wait + REPORT, "/nonexistent", maxTrials=2)
    go = pathlib.Path(operator._world.folder) / "go"
    operator.resource["spec"]["template"]["spec"]["containers"][0]["args"] = [str(go)]
    operator.run(lambda: sum(row.lease is not None for row in rows(operator, storage).values()) == 2)
    operator.edit(suspend=True)
    operator.run(lambda: operator.status.get("state") == "Suspended" and not [*operator.server.all("jobs")])
    assert all(row.lease is None and row.attempt == 2 for row in rows(operator, storage).values())
    go.touch()
    operator.edit(suspend=False)
    operator.run(is_over(operator))
    assert [row.state for row in rows(operator, storage).values()] == [TrialState.COMPLETE] * 2
    assert operator.status["counts"]["lostAttempts"] == 0


def test_a_lowered_parallelism_drains(start: Start, storage: postgres.PostgresStorage) -> None:
    operator = start(REPORT, maxTrials=12, parallelism={"max": 3})
    operator.run(lambda: any(row.ended for row in rows(operator, storage).values()))
    operator.edit(parallelism={"max": 1})
    operator.run(is_over(operator))
    found = rows(operator, storage)
    assert [row.state for row in found.values()] == [TrialState.COMPLETE] * 12
    assert {row.attempt for row in found.values()} == {1}
    drained = [agent.process.wait() for agent in operator.agents]
    assert drained.count(0) >= 2


def test_a_pruned_trial_is_told(start: Start, storage: postgres.PostgresStorage) -> None:
    code = "import itertools, kubetune_trial as kt, time\nfor step in itertools.count():\n"
    code += "    if kt.report(step, loss=1.0): break\n    time.sleep(0.01)\n"
    operator = start(code, maxTrials=1, parallelism={"max": 1})
    operator.run(lambda: any(row.lease is not None for row in rows(operator, storage).values()))
    operator.edit(stopTrials=[0])
    operator.run(is_over(operator))
    assert [row.reason for row in rows(operator, storage).values()] == [Reason.STOPPED]
