"""Runs by chance in which trials are paused and promoted: nobody is lost, nobody doubled, whatever goes wrong."""

import pytest

from kubetune.api.spec import Json
from kubetune.simulator.run import Result, simulate
from kubetune.simulator.scenario import Scenario, experiment, in_legs

RUNS, BATCH = 60, 10


@pytest.mark.parametrize("first", range(1, RUNS + 1, BATCH))
def test_all_invariants_hold(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(in_legs(seed))


def calm(crash_at: int | None = None) -> Result:
    """Four trials, one after the other, two of which are promoted, one of these to the last rung."""
    rungs: Json = {
        "fidelity": {"name": "epochs", "min": 1, "max": 4, "resume": "checkpoint"},
        "pruner": {"name": "asha", "settings": {"type": "promotion", "reductionFactor": 2}},
    }
    made = experiment("calm", maxTrials=4, parallelism={"max": 1}, **rungs)
    return simulate(Scenario(seed=3, experiments=(made,), crash_at=crash_at))


def test_a_kill_at_any_write_changes_nothing() -> None:
    found = calm()
    assert (found.trials, found.jobs, found.states, found.reasons) == (4, 7, ("Complete",), ("MaxTrials",))
    for write in range(1, found.writes + 1):
        again = calm(write)
        assert (again.trials, again.names, again.jobs) == (4, found.names, 7), f"killed at write {write}"
        assert (again.operators, again.states, again.reasons) == (2, found.states, found.reasons)
