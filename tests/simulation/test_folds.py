"""Runs by chance of experiments whose trials are several runs each: folds, replicates, both; all invariants hold."""

import pytest

from kubetune.simulator.run import simulate
from kubetune.simulator.scenario import experiment, in_runs
from tests.simulation.test_runs import small

RUNS, BATCH = 30, 15


@pytest.mark.parametrize("first", range(1, RUNS + 1, BATCH))
def test_all_invariants_hold(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(in_runs(seed))


def test_folds_are_run_once_each_whatever_write_a_kill_comes_at() -> None:
    folded = experiment("small", maxTrials=2, validation={"folds": 2}, pruner={"name": "none"}, parallelism={"max": 2})
    calm = simulate(small(experiments=(folded,)))
    assert (calm.trials, calm.states, len(calm.names)) == (2, ("Complete",), 4)
    for write in range(1, calm.writes + 1, 3):
        found = simulate(small(experiments=(folded,), crash_at=write))
        assert (found.names, found.states, found.reasons) == (calm.names, calm.states, calm.reasons)
