"""Cross-validation and finalists together, on a real cluster: a fresh run is all folds with one seed of its own."""

import json
import statistics

import pytest

from tests.e2e import cluster

# The folds differ in how hard they are, for all trials alike; the seed is the only chance.
SCRIPT = """
import os, random
import kubetune_trial as kt
x, fold = float(kt.parameters()["x"]), int(os.environ["KUBETUNE_FOLD"])
assert os.environ["KUBETUNE_FOLDS"] == "3"
kt.report(0, score=x + fold / 10 + random.Random(kt.seed()).random() / 1000)
"""


def test_finalists_run_all_folds_with_each_fresh_seed(namespace: str) -> None:
    body = cluster.manifest(
        "folded-finalists",
        SCRIPT,
        seed=7,
        maxTrials=3,
        parallelism={"max": 3},
        validation={"folds": 3},
        pruner={"name": "none"},
        finalists={"top": 2, "replicates": 2},
    )
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete")
    searched = {trial["number"]: trial["params"]["x"] for trial in experiment.trials()}
    assert len(searched) == 3
    best, winner = max(searched, key=lambda number: searched[number]), status["winner"]
    rows = cluster.sql(
        "SELECT json_build_object('params', t.params, 'value', t.objective_values[1], 'legs', t.legs)"
        f" FROM {cluster.TRIALS} WHERE e.uid = '{experiment.uid()}/finalists' ORDER BY t.number"
    )
    runs = [json.loads(row) for row in rows]
    assert len(runs) == 4
    assert all(len(run["legs"]) == 3 for run in runs)
    for run in runs:
        assert run["params"]["x"] + 0.1 == pytest.approx(run["value"], abs=0.001)  # the mean of the folds
    mine = [run["value"] for run in runs if run["params"]["x"] == searched[best]]
    assert (winner["trial"], winner["runs"], len(set(mine))) == (best, 2, 2)
    assert winner["mean"] == pytest.approx(statistics.fmean(mine))
