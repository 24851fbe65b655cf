"""What comes after the search, on a real cluster: fresh runs, a refit that tells of its model, a test set apart."""

import json

from tests.e2e import cluster

SCRIPT = """
import os
import kubetune_trial as kt
x, phase = float(kt.parameters()["x"]), os.environ.get("KUBETUNE_PHASE", "")
if phase == "refit":
    kt.model(f"somewhere/{x}", "sha256:" + 64 * "0")
elif phase == "test":
    assert os.environ["KUBETUNE_MODEL"] == f"somewhere/{x}"
    kt.report(0, score=float(open("/held-out/answer").read()))
else:
    assert not os.path.exists("/held-out")
    kt.report(0, score=x + kt.seed() % 7 / 1000)
"""
HELD_OUT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held-out"}, "data": {"answer": "0.5"}}


RETRIED = """
import os, sys
import kubetune_trial as kt
x = float(kt.parameters()["x"])
if os.environ.get("KUBETUNE_PHASE") != "refit":
    kt.report(0, score=x)
elif "--mended" in sys.argv:
    kt.model(f"somewhere/{x}", "sha256:" + 64 * "0")
else:
    sys.exit("no model today")
"""


def test_a_refit_that_failed_is_run_again_on_record(namespace: str) -> None:
    body = cluster.manifest("retried", RETRIED, maxTrials=2, refit={"args": ["--first"], "deadline": "5m"})
    experiment = cluster.apply(namespace, body)
    failed = experiment.wait("Failed")
    assert (failed["reason"], failed["phase"]["name"], failed["phase"]["failed"]) == ("PhaseFailed", "refit", True)
    assert f"the search's best is kept: trial {failed['best']['trial']}" in failed["message"]
    log = cluster.run("kubectl-tune", "logs", "retried", "0", "-n", namespace, "--phase", "refit")
    assert "no model today" in log
    experiment.patch({"refit": {"args": ["--mended"]}})
    cluster.run("kubectl-tune", "retry", "retried", "-n", namespace)
    status = experiment.wait("Complete")
    assert (status["model"]["phase"], status["best"]) == ("refit.retry-1", failed["best"])
    history = cluster.run("kubectl-tune", "history", "retried", "-n", namespace)
    assert "refit.retry-1 is to be run after the search" in history
    (model,) = json.loads(cluster.run("kubectl-tune", "models", "retried", "-n", namespace, "-o", "json"))
    assert (model["address"], model["scores"]) == (status["model"]["address"], [])


def test_the_winner_is_found_refitted_and_scored_once(namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(HELD_OUT))
    test = {
        "volumes": [{"name": "held-out", "configMap": {"name": "held-out"}}],
        "volumeMounts": [{"name": "held-out", "mountPath": "/held-out"}],
    }
    body = cluster.manifest(
        "honest",
        SCRIPT,
        maxTrials=3,
        parallelism={"max": 3},
        finalists={"top": 2, "replicates": 2},
        refit={"args": []},
        test=test,
    )
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete")
    trials = experiment.trials()
    assert len(trials) == 3  # those of the search
    ranked = sorted(trials, key=lambda trial: -trial["params"]["x"])
    winner, model = status["winner"], status["model"]
    assert (winner["trial"], winner["runs"]) == (ranked[0]["number"], 2)
    assert (model["version"], model["address"]) == (1, f"somewhere/{winner['parameters']['x']}")
    assert (status["test"]["name"], status["test"]["value"]) == ("test", 0.5)
    names = cluster.sql(
        "SELECT coalesce(nullif(phase, ''), 'search') FROM kubetune.experiments"
        f" WHERE namespace = '{namespace}' AND name = 'honest' ORDER BY id"
    )
    assert names == ["search", "finalists", "refit", "test"]
    experiment.patch({"test": {**test, "name": "second-look"}})
    cluster.wait_for("a second scoring", lambda: len(experiment.status().get("scorings", [])) == 2)
    assert [each["name"] for each in experiment.wait("Complete")["scorings"]] == ["test", "test.second-look"]
