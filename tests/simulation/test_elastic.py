"""Nodes that are not there, quotas and common limits: what is in force, and what that costs."""

from typing import Any

import pytest

from kubetune.api.spec import Json
from kubetune.api.trial import TrialState
from kubetune.kube import errors
from kubetune.simulator.census import trial_of
from kubetune.simulator.run import Run, simulate
from kubetune.simulator.scenario import Scenario, experiment
from kubetune.simulator.world import BEGIN


def begin(*experiments: Json, **scenario: Any) -> Run:
    return Run(Scenario(3, experiments, **{"nodes": 1, "slots": 3, **scenario}))


def until(run: Run, seconds: float) -> None:
    while run.world.now < BEGIN + seconds:
        run.world.step()
        run.watchdog.step()


def status(run: Run, name: str) -> Json:
    found = run.server.get("experiments", "team-a", name)
    assert found is not None
    return dict(found["status"])


def waits(run: Run) -> int:
    return sum(pod.node is None and not pod.over for pod in run.cluster.pods.values())


def endless(name: str, most: int, **spec: Any) -> Json:
    return experiment(name, maxTrials=500, parallelism={"max": most}, pruner={"name": "none"}, **spec)


def test_pods_without_a_node_are_withdrawn_but_for_a_few_and_count_as_nothing() -> None:
    run = begin(endless("wide", 20))
    until(run, 10)
    assert waits(run) > 10
    until(run, 50)
    assert status(run, "wide")["parallelism"]["reason"] == "NoNodes"
    assert 4 <= status(run, "wide")["parallelism"]["current"] <= 8  # one place or two may be told of late
    assert waits(run) <= 4
    assert status(run, "wide")["counts"]["lostAttempts"] == status(run, "wide")["counts"]["failed"] == 0


def test_new_nodes_are_filled_within_seconds() -> None:
    run = begin(endless("wide", 20))
    until(run, 60)
    for number in range(5):
        run.cluster.add_node(f"new-{number}")
    run.cluster.schedule()
    until(run, 80)
    assert sum(pod.node is not None and not pod.over for pod in run.cluster.pods.values()) >= 15
    assert status(run, "wide")["parallelism"]["current"] >= 17


def test_a_trial_withdrawn_again_and_again_goes_on_when_there_is_a_node() -> None:
    run = begin(experiment("wide", maxTrials=6, parallelism={"max": 6}), nodes=0)
    until(run, 3000)
    assert 1 <= waits(run) <= 2
    assert max(trial.row.attempt for trial in run.database.studies["uid-wide"].trials.values()) > 2
    run.cluster.add_node("late")
    run.cluster.schedule()
    until(run, 3300)
    assert status(run, "wide")["state"] == "Complete"
    rows = [trial.row for trial in run.database.studies["uid-wide"].trials.values()]
    assert all(row.state is not TrialState.FAIL and row.losses == 0 for row in rows)


def test_min_keeps_pods_pending() -> None:
    run = begin(experiment("wide", maxTrials=50, parallelism={"min": 8, "max": 20}))
    until(run, 100)
    assert waits(run) >= 4
    assert status(run, "wide")["parallelism"]["reason"] == "NoNodes"
    assert 8 <= status(run, "wide")["parallelism"]["current"] <= 10


def test_a_quota_is_met_once_and_then_held_to() -> None:
    run = begin(endless("wide", 50), slots=50)
    refused = 0

    def refuse(body: Json) -> errors.ApiError | None:
        nonlocal refused
        if len(run.cluster.live_jobs(60.0)) < 10:
            return None
        refused += 1
        return errors.QuotaExceeded(403, "Forbidden", "exceeded quota: team-a")

    run.server.refuse = refuse
    until(run, 5)
    first = refused
    until(run, 100)
    assert status(run, "wide")["parallelism"]["reason"] == "Quota"
    assert status(run, "wide")["active"] >= 8
    assert refused - first < 30  # a hundred trials have ended by then


IN_WORKERS: Json = {
    "execution": "workers",
    "template": {"spec": {"containers": [{"name": "trial", "image": "trial:1", "command": ["train", "--x=$(x)"]}]}},
}


def with_node(run: Run) -> int:
    return sum(pod.node is not None and not pod.over for pod in run.cluster.pods.values())


@pytest.mark.parametrize("slots", [1, 2])
def test_workers_without_a_node_are_taken_back_but_for_a_few_and_try_again_when_there_is_one(slots: int) -> None:
    run = begin(endless("wide", 20, slotsPerWorker=slots, **IN_WORKERS))
    until(run, 10)
    assert waits(run) == 20 // slots - 3
    until(run, 60)
    assert status(run, "wide")["parallelism"]["reason"] == "NoNodes"
    assert with_node(run) == 3
    assert 1 <= waits(run) <= 3
    assert status(run, "wide")["counts"].get("lostAttempts", 0) == status(run, "wide")["counts"]["failed"] == 0
    for number in range(7):
        run.cluster.add_node(f"new-{number}")
    run.cluster.schedule()
    until(run, 200)
    assert status(run, "wide")["parallelism"] == {"current": 20, "reason": "Spec"}
    assert with_node(run) == 20 // slots


def test_workers_hold_to_a_quota_of_jobs() -> None:
    run = begin(endless("wide", 20, **IN_WORKERS), slots=50)
    refused = 0

    def refuse(body: Json) -> errors.ApiError | None:
        nonlocal refused
        if len(run.cluster.live_jobs(60.0)) < 5:
            return None
        refused += 1
        return errors.QuotaExceeded(403, "Forbidden", "exceeded quota: team-a")

    run.server.refuse = refuse
    until(run, 100)
    assert status(run, "wide")["parallelism"]["reason"] == "Quota"
    assert with_node(run) == 5
    assert refused < 40
    run.server.refuse = lambda body: None
    until(run, 400)
    assert with_node(run) == 20


def in_flight(run: Run, uid: str) -> int:
    return sum(trial_of(job)[0] == uid for job in run.cluster.live_jobs(60.0))


def test_experiments_share_a_limit_by_priority() -> None:
    run = begin(endless("low", 30), endless("high", 30, priority=1), slots=50, limit=12)
    until(run, 100)
    assert status(run, "low")["parallelism"] == {"current": 4, "reason": "FairShare"}
    assert status(run, "high")["parallelism"] == {"current": 8, "reason": "FairShare"}
    seen = set()
    while run.world.now < BEGIN + 120:  # a slot whose trial has just ended is free for a moment
        run.world.step()
        seen.add((in_flight(run, "uid-low"), in_flight(run, "uid-high")))
    assert (max(low for low, _ in seen), max(high for _, high in seen)) == (4, 8)
    assert (4, 8) in seen


def test_who_comes_later_gets_its_share_as_trials_end() -> None:
    early = endless("early", 12)
    run = begin(early, slots=50, limit=12)
    until(run, 30)
    assert in_flight(run, "uid-early") == 12
    run._sources["uid-late"] = "push"
    run.server.add("experiments", endless("late", 12))
    until(run, 80)
    assert (in_flight(run, "uid-early"), in_flight(run, "uid-late")) == (6, 6)


def test_under_a_limit_all_of_it_comes_to_an_end() -> None:
    result = simulate(Scenario(5, tuple(experiment(f"e{n}", maxTrials=5) for n in range(4)), limit=3, crash=0.01))
    assert result.states == ("Complete",) * 4
