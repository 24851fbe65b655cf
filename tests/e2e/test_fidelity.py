"""ASHA's promotion form on a cluster: trials pause at rungs without a Job, the best go on, the rest stay."""

from tests.e2e import cluster

# Its own checkpoint would be a file; what it has come to is a function of the epoch here.
PROGRAM = """
import os
import kubetune_trial as kt
first = 0 if os.environ["KUBETUNE_ATTEMPT"] == "1" else int(os.environ["epochs"]) // 2
for epoch in range(first, int(os.environ["epochs"])):
    kt.report(epoch, score=float(kt.parameters()["x"]) + epoch / 100)
"""


def test_the_best_are_trained_on_and_the_others_stay(namespace: str) -> None:
    body = cluster.manifest(
        "rungs",
        PROGRAM,
        maxTrials=4,
        fidelity={"name": "epochs", "min": 1, "max": 4},
        pruner={"name": "asha", "settings": {"type": "promotion", "reductionFactor": 2}},
    )
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, body)
        status = experiment.wait("Complete")
    trials = experiment.trials()
    states = [trial["state"] for trial in trials]
    assert "COMPLETE" in states
    assert {trial["reason"] for trial in trials if trial["state"] == "PRUNED"} == {"NotPromoted"}
    best = max(trials, key=lambda trial: float(trial["params"]["x"]))
    assert best["state"] == "COMPLETE"  # whoever is best is among the best of each rung
    assert float(best["values"][0]) == float(best["params"]["x"]) + 0.03
    assert status["counts"]["paused"] == status["active"] == 0
    assert not audit.overlaps
    assert set(audit.names) == {
        (trial["number"], attempt)
        for trial in trials
        for attempt in range(1, trial["attempt"] + (trial["state"] == "COMPLETE"))
    }
