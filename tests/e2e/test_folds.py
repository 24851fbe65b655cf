"""Trials of several runs on a real cluster: a Job for each fold, and for each seed that is worth it."""

import json
from typing import Any

from tests.e2e import cluster

FOLDS = """
import sys, kubetune_trial as kt
assert int(sys.argv[1]) == kt.fold() and kt.folds() == 3
kt.report(0, score=float(kt.fold()))
kt.report(1, score=kt.parameters()["x"] + kt.fold())
"""
# The noise is 0.01 at most; a trial below the best by 0.1 is no rival.
SEEDS = """
import random, kubetune_trial as kt
x, noise = kt.parameters()["x"], random.Random(kt.seed()).uniform(-0.01, 0.01)
kt.report(0, score=x + noise, seed=kt.seed(), replicate=kt.replicate())
"""


def legs(experiment: cluster.Experiment) -> dict[int, list[cluster.Json]]:
    """The runs of each trial, in order."""
    rows = cluster.sql(
        f"SELECT json_build_array(t.number, t.legs) FROM {cluster.TRIALS} WHERE e.uid = '{experiment.uid()}'"
    )
    return dict(json.loads(row) for row in rows)


def seeds(experiment: cluster.Experiment) -> list[float]:
    rows = cluster.sql(
        f"SELECT r.metrics->>'seed' FROM {cluster.TRIALS} JOIN kubetune.reports r ON r.trial_id = t.id"
        f" WHERE e.uid = '{experiment.uid()}' ORDER BY t.number, r.seq"
    )
    return [float(row) for row in rows]


def test_a_trial_is_a_job_for_each_fold_and_its_value_their_mean(namespace: str) -> None:
    body = cluster.manifest("folds", FOLDS, maxTrials=2, parallelism={"max": 2}, validation={"folds": 3})
    body["spec"]["template"]["spec"]["containers"][0]["args"] = ["$(KUBETUNE_FOLD)"]
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, body)
        status = experiment.wait("Complete")
    trials = experiment.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 2, trials
    for trial in trials:
        x = trial["params"]["x"]
        assert [leg["values"][0] - x for leg in legs(experiment)[trial["number"]]] == [0, 1, 2]
        assert abs(trial["values"][0] - (x + 1)) < 1e-9
    assert sorted(audit.names) == [(number, attempt) for number in range(2) for attempt in (1, 2, 3)]
    assert not audit.overlaps
    assert audit.most <= 2
    assert (len(status["best"]["runs"]), status["best"]["spread"]) == (3, 1.0)
    steps = cluster.sql(
        "SELECT t.number, v.step FROM trial_intermediate_values v JOIN trials t USING (trial_id)"
        f" JOIN studies s USING (study_id) WHERE s.study_name LIKE '{namespace}/folds-%' ORDER BY 1, 2"
    )
    assert steps == [f"{number}|{fold}" for number in range(2) for fold in range(3)]


def test_another_seed_is_for_those_that_may_be_the_best(namespace: str) -> None:
    given: list[dict[str, Any]] = [{"x": x, "k": 1} for x in (0.5, 0.4, 0.2, 0.9)]
    body = cluster.manifest("seeds", SEEDS, maxTrials=4, parallelism={"max": 1}, initial=given, replicates={"max": 3})
    del body["spec"]["pruner"]
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete")
    found = legs(experiment)
    assert [len(found[number]) for number in range(4)] == [3, 3, 1, 3]
    assert len(set(seeds(experiment))) == 10
    assert experiment.trials()[2]["message"].startswith("1 of 3 seeds: behind the best by 0.")
    assert (status["best"]["trial"], len(status["best"]["runs"])) == (3, 3)
