"""Hundreds of runs by chance: trials of every kind, people's edits, losses, faults, kills; all invariants hold."""

import pytest

from kubetune.simulator import one
from kubetune.simulator.run import Result, simulate
from kubetune.simulator.scenario import HOLDS, Scenario, draw, experiment, in_populations, in_stages, in_workers

RUNS, BATCH = 300, 25
WORKER_RUNS = 100
STAGED_RUNS = 50
POPULATED_RUNS = 50


@pytest.mark.parametrize("first", range(1, RUNS + 1, BATCH))
def test_all_invariants_hold(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(draw(seed))


@pytest.mark.parametrize("first", range(1, WORKER_RUNS + 1, BATCH))
def test_all_invariants_hold_in_workers(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(in_workers(seed))


@pytest.mark.parametrize("first", range(1, STAGED_RUNS + 1, BATCH))
def test_all_invariants_hold_in_stages(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(in_stages(seed))


@pytest.mark.parametrize("first", range(1, POPULATED_RUNS + 1, BATCH))
def test_all_invariants_hold_of_populations(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(in_populations(seed))


def test_a_population_is_the_same_whatever_write_a_kill_comes_at() -> None:
    sampler = {"name": "pbt", "settings": {"populationSize": 2, "quantileFraction": 0.5}}
    populated = experiment("small", maxTrials=6, sampler=sampler, parallelism={"max": 2})
    calm = simulate(small(experiments=(populated,)))
    assert (calm.trials, calm.states, calm.reasons) == (6, ("Complete",), ("MaxTrials",))
    for write in range(1, calm.writes + 1, 3):
        found = simulate(small(experiments=(populated,), crash_at=write))
        assert (found.names, found.states, found.reasons) == (calm.names, calm.states, calm.reasons)


def test_stages_are_run_to_the_end_whatever_write_a_kill_comes_at() -> None:
    stages = [
        {"sampler": {"name": "grid", "settings": {"points": 2}}, "maxTrials": 3},
        {"sampler": {"name": "random"}, "maxTrials": 2, "narrow": {"best": 1}},
    ]
    staged = experiment("small", maxTrials=100, stages=stages, sampler={"name": "tpe"}, parallelism={"max": 2})
    calm = simulate(small(experiments=(staged,)))
    assert (calm.trials, calm.states, calm.reasons) == (5, ("Complete",), ("MaxTrials",))
    for write in range(1, calm.writes + 1, 3):
        found = simulate(small(experiments=(staged,), crash_at=write))
        assert (found.names, found.states, found.reasons) == (calm.names, calm.states, calm.reasons)


def test_the_same_seed_is_the_same_run() -> None:
    assert simulate(draw(7)) == simulate(draw(7))


def small(**changes: object) -> Scenario:
    """Five trials, two at a time, nothing wrong."""
    whole = {"seed": 3, "experiments": (experiment("small", maxTrials=5, parallelism={"max": 2}),), **changes}
    return Scenario(**whole)  # type: ignore[arg-type]


def crashed_at(write: int) -> Result:
    return simulate(small(crash_at=write))


def test_a_kill_at_any_write_changes_nothing() -> None:
    """Before and after every single write of a run, one run each: the same trials in the same Jobs, each created once,
    as without the kill."""
    calm = simulate(small())
    assert (calm.trials, calm.jobs, calm.states, calm.operators) == (5, 5, ("Complete",), 1)
    for write in range(1, calm.writes + 1):
        found = crashed_at(write)
        assert (found.names, found.jobs, found.trials) == (calm.names, 5, 5), f"killed at write {write}"
        assert found.operators == 2
        assert (found.states, found.reasons) == (calm.states, calm.reasons)


@pytest.mark.parametrize("kind", ["evict", "delete pod", "delete job", "cut off", "lose node"])
def test_a_loss_is_a_new_attempt_and_no_failure(kind: str) -> None:
    losses = tuple((5.0 + 3 * number, kind) for number in range(6))
    found = simulate(small(losses=losses))
    assert (found.trials, found.states, found.reasons) == (5, ("Complete",), ("MaxTrials",))
    assert found.jobs > 5


@pytest.mark.parametrize("kind", HOLDS)
def test_a_job_that_somebody_deletes_and_holds_blocks_nothing(kind: str) -> None:
    losses = tuple((3.0 + number, kind) for number in range(20))
    found = simulate(small(losses=losses))
    assert (found.trials, found.states, found.reasons) == (5, ("Complete",), ("MaxTrials",))
    assert found.jobs > 5


def test_an_operator_that_was_replaced_does_no_more_harm() -> None:
    found = simulate(small(takeovers=(2.0, 4.0, 6.0, 8.0)))
    assert (found.operators, found.jobs, found.trials) == (5, 5, 5)


def test_a_grid_is_asked_cell_by_cell_whatever_happens() -> None:
    grid = {"parameters": {"x": {"values": [0.25, 0.5]}, "k": {"int": [1, 3]}}, "sampler": {"name": "grid"}}
    body = experiment("grid", maxTrials=100, parallelism={"max": 3}, pruner={"name": "none"}, **grid)
    for seed in range(10):
        found = simulate(Scenario(seed, (body,), crash=0.02, unavailable=0.02))
        assert (found.trials, found.reasons) == (6, ("SpaceExhausted",))


@pytest.mark.parametrize(
    ("kind", "reason"), [("image", "StartFailures"), ("config", "StartFailures"), ("exits", "MaxFailedTrials")]
)
def test_what_always_fails_ends_soon(kind: str, reason: str) -> None:
    body = experiment("failing", maxTrials=50, maxFailedTrials=5)
    found = simulate(Scenario(1, (body,), odd=1.0, kinds=(kind,)))
    assert (found.states, found.reasons) == (("Failed",), (reason,))
    assert found.trials < 10


def test_no_node_is_no_failure() -> None:
    found = simulate(small(nodes=1, slots=1))
    assert (found.trials, found.jobs, found.reasons) == (5, 5, ("MaxTrials",))


@pytest.mark.parametrize("seed", [23, 47, 138, 218, 223, 349, 548, 1026, 1531, 1599])
def test_what_once_went_wrong(seed: int) -> None:
    """Seeds that found something while the loop was written."""
    simulate(draw(seed))


@pytest.mark.parametrize("faulty", [False, True])
def test_a_large_experiment_is_made_to_its_last_trial(faulty: bool) -> None:
    found = simulate(one.scenario(trials=600, parallelism=100, faulty=faulty))
    assert (found.trials, found.reasons) == (600, ("MaxTrials",))
    assert (found.jobs > 600) == (found.operators > 1) == faulty
