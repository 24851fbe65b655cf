"""`helm upgrade` while trials run: none lost, none twice; password, certificate and database stay as they are."""

import json
import secrets

from tests.e2e import cluster

SCRIPT = """
import time, kubetune_trial as kt
for step in range(20):
    kt.report(step, score=float(step))
    time.sleep(0.3)
"""


def kept() -> cluster.Json:
    """What an upgrade may not touch: contents of Secrets, and the database's pod."""
    names = ("kubetune-postgresql", "kubetune-gateway-tls", "kubetune-gateway-tls-ca")
    found = {name: cluster.kubectl_json("get", "secret", name, "-n", cluster.NAMESPACE)["data"] for name in names}
    pod = cluster.kubectl_json("get", "pod", cluster.database_pod(), "-n", cluster.NAMESPACE)
    return {**found, "pod": pod["metadata"]["uid"]}


def test_an_upgrade_with_running_trials_loses_none(namespace: str) -> None:
    before, operators = kept(), cluster.component_pods("operator")
    body = cluster.manifest("upgraded", SCRIPT, maxTrials=9, parallelism={"max": 3})
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, body)
        cluster.wait_for("three pods", lambda: len(experiment.running_pods()) == 3)
        cluster.upgrade("--reuse-values", "--set-string", f"podAnnotations.upgraded={secrets.token_hex(4)}")
        status = experiment.wait("Complete", timeout=180)
    assert not set(operators) & set(cluster.component_pods("operator")), "the operator was not replaced"
    trials = experiment.trials()
    assert [(trial["number"], trial["attempt"], trial["state"]) for trial in trials] == [
        (number, 1, "COMPLETE") for number in range(9)
    ]
    assert {float(trial["values"][0]) for trial in trials} == {19.0}, "a last report was lost"
    assert status["counts"]["lostAttempts"] == 0
    assert not audit.overlaps
    assert all(len(uids) == 1 for uids in audit.names.values())
    assert kept() == before


def test_helm_says_that_it_works() -> None:
    cluster.run("helm", "test", "kubetune", "--namespace", cluster.NAMESPACE, timeout=180)


def test_the_release_is_described_by_its_notes() -> None:
    release = json.loads(cluster.run("helm", "status", "kubetune", "--namespace", cluster.NAMESPACE, "-o", "json"))
    assert "rollout status deployment/kubetune-operator deployment/kubetune-gateway" in release["info"]["notes"]
