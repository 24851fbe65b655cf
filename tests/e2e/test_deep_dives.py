"""The deep dives of examples/ on a real cluster, to their end (make test-all)."""

import sys

import pytest

from tests.e2e import cluster
from tests.e2e.test_example import load


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two each")
@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_most_trials_end_early_and_say_why(namespace: str, name: str) -> None:
    experiment = cluster.apply(namespace, load(f"{name}/experiment.yaml"))
    status = experiment.wait("Complete", timeout=600)
    counts = status["counts"]
    assert counts["total"] == 60
    assert counts["failed"] == 0
    assert counts["pruned"] > (30 if name == "asha" else 10)  # of Hyperband's brackets one stops nobody
    assert float(status["best"]["value"]) > 0.9
    messages = [trial["message"] for trial in experiment.trials() if trial["state"] == "PRUNED"]
    assert all(message.startswith(f"pruned by {name} at rung ") for message in messages)


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two")
def test_an_operators_draws_are_those_that_bench_search_measures_in_process() -> None:
    table = cluster.run(sys.executable, "-m", "dev.bench.search.cluster", "--only", "tpe,cmaes", timeout=600)
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("|")[3].strip() for row in rows] == ["all", "all"]
