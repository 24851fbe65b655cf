"""A trial on a volume claim whose pod is taken away goes on where it stopped; afterwards nothing is left."""

import json

import pytest

from tests.e2e import cluster

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "checkpoints"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
}
SLOW = """
import pathlib, time, kubetune_trial as kt
folder = kt.load_checkpoint()
count = int(pathlib.Path(folder, "count").read_text()) if folder else 0
for step in range(folder.step + 1 if folder else 0, 40):
    count += 1
    if kt.report(step, score=count):
        break
    with kt.save_checkpoint(step) as folder:
        pathlib.Path(folder, "count").write_text(str(count))
    time.sleep(0.2)
"""
LEARN = """
import pathlib, kubetune_trial as kt
folder = kt.load_checkpoint()
begun = float(pathlib.Path(folder, "value").read_text()) if folder else 0.0
value = begun + kt.parameters()["x"]
if not folder:
    with kt.save_checkpoint(1) as made:
        pathlib.Path(made, "value").write_text(repr(value))
kt.report(1, score=value)
"""
OF = "kubetune.checkpoints c JOIN kubetune.experiments e ON e.id = c.experiment_id"


def begin(namespace: str, **spec: object) -> cluster.Experiment:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(CLAIM))
    body = cluster.manifest("training", SLOW, maxTrials=1, checkpoints={"claim": "checkpoints"}, **spec)
    return cluster.apply(namespace, body)


def committed(uid: str) -> int:
    return int(cluster.sql(f"SELECT count(*) FROM {OF} WHERE e.uid = '{uid}'")[0])


def test_a_trial_whose_pod_is_deleted_goes_on_where_it_stopped(namespace: str) -> None:
    experiment = begin(namespace)
    uid = experiment.uid()
    cluster.wait_for("a few checkpoints", lambda: committed(uid) >= 3)
    (pod,) = experiment.running_pods()
    cluster.kubectl("delete", "pod", "-n", namespace, pod["metadata"]["name"], "--grace-period=0", "--force")
    experiment.wait("Complete")
    (trial,) = experiment.trials()
    assert trial["attempt"] == 2
    assert trial["values"] == [40]  # counted on, not from one
    (resumed,) = cluster.sql(
        "SELECT r.attempt, r.source, r.source_attempt, r.step >= 2 FROM kubetune.resumes r"
        f" JOIN {cluster.TRIALS} ON t.id = r.trial_id WHERE e.uid = '{uid}'"
    )
    assert resumed == "2|0|1|t"
    kept = cluster.sql(f"SELECT c.step FROM {OF} WHERE e.uid = '{uid}' AND c.released IS NULL")
    assert kept == ["39"]  # the best trial's last


def test_trials_start_from_another_experiments_best(namespace: str) -> None:
    """The second one is there first, and waits for the one that it names."""
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(CLAIM))
    of_best = {"from": {"experiment": "first"}}
    second = cluster.apply(namespace, cluster.manifest("second", LEARN, maxTrials=1, initCheckpoint=of_best))
    cluster.wait_for("the second to wait", lambda: second.status().get("reason") == "Awaiting")
    assert "there is no experiment first" in second.status()["message"]
    first = cluster.apply(
        namespace, cluster.manifest("first", LEARN, maxTrials=3, checkpoints={"claim": "checkpoints"})
    )
    first.wait("Complete")
    second.wait("Complete")
    best = max(trial["values"][0] for trial in first.trials())
    (trial,) = second.trials()
    assert trial["values"] == [best + trial["params"]["x"]]


@pytest.mark.skipif(not cluster.EVERYTHING, reason="looked after once a minute: make test-all")
def test_a_deleted_experiment_leaves_nothing_on_its_claim(namespace: str) -> None:
    experiment = begin(namespace)
    uid = experiment.uid()
    cluster.wait_for("a checkpoint", lambda: committed(uid) >= 1)
    experiment.delete()
    left = f"SELECT count(*) FROM {OF} WHERE e.uid = '{uid}' AND c.removed IS NULL"
    cluster.wait_for("the claim cleared", lambda: cluster.sql(left) == ["0"], timeout=240)
    look = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "look"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsUser": 1000,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "look",
                    "image": f"{cluster.IMAGE_PREFIX}kubetune/trial:0.1.0",
                    "command": ["python3", "-c", "import os; print([f for _, _, f in os.walk('/claim')])"],
                    "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "checkpoints"}}],
        },
    }
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(look))
    cluster.wait_for("a look at it", lambda: cluster.kubectl("logs", "look", "-n", namespace).strip() == "[[], [], []]")
    cluster.wait_for("the Job gone", lambda: not experiment.jobs())
