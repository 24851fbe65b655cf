"""A standby (`operator.replicas=2`): the leader is killed while trials run, the standby goes on, none lost, none twice.

The release is upgraded to two operators for this module, and back to one after it.
"""

from collections.abc import Iterator

import pytest

from tests.e2e import cluster
from tests.e2e.test_chaos import sigkill_pod

LEASE = "kubetune-leader"
SCRIPT = """
import time, kubetune_trial as kt
for step in range(10):
    kt.report(step, score=float(step))
    time.sleep(0.3)
"""
TRIALS = 30


def upgrade(replicas: int) -> None:
    cluster.upgrade("--reuse-values", "--set", f"operator.replicas={replicas}")


def leader() -> str:
    """The pod that holds the Lease; "": nobody does."""
    found = cluster.kubectl_json("get", "lease", LEASE, "-n", cluster.NAMESPACE)
    return str(found["spec"].get("holderIdentity") or "").rpartition("_")[0]


def leads() -> str | None:
    """The leader's pod, once it is one of those that are there."""
    holder = leader()
    return next((pod for pod in cluster.component_pods("operator") if pod == holder), None)


@pytest.fixture(scope="module", autouse=True)
def two_operators() -> Iterator[None]:
    upgrade(2)
    cluster.wait_for("two operators", lambda: len(cluster.component_pods("operator")) == 2, timeout=120)
    cluster.wait_for("a leader", leads)
    yield
    upgrade(1)
    cluster.wait_for("one operator", lambda: len(cluster.component_pods("operator")) == 1, timeout=120)


@pytest.mark.timeout(900)
def test_the_standby_goes_on_where_the_killed_leader_stopped(namespace: str) -> None:
    body = cluster.manifest("standby", SCRIPT, maxTrials=TRIALS, parallelism={"max": 3})
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, body)
        cluster.wait_for("three pods", lambda: len(experiment.running_pods()) == 3)
        epoch = int(cluster.sql("SELECT epoch FROM kubetune.leader")[0])
        first = cluster.wait_for("a leader", leads)
        (standby,) = [pod for pod in cluster.component_pods("operator") if pod != first]
        sigkill_pod(first)
        cluster.wait_for("the standby leads", lambda: leads() == standby, timeout=60)
        assert experiment.status()["state"] == "Running", "it was over before the standby led: nothing was tested"
        status = experiment.wait("Complete", timeout=300)
    assert leader() == standby, "somebody else had to finish it"
    assert int(cluster.sql("SELECT epoch FROM kubetune.leader")[0]) == epoch + 1, "not one takeover"
    trials = experiment.trials()
    assert [(trial["number"], trial["attempt"], trial["state"]) for trial in trials] == [
        (number, 1, "COMPLETE") for number in range(TRIALS)
    ]
    assert {float(trial["values"][0]) for trial in trials} == {9.0}, "a last report was lost"
    assert status["counts"]["lostAttempts"] == 0
    assert all(len(uids) == 1 for uids in audit.names.values()), "a Job was created twice"
    assert not audit.overlaps
    assert audit.most <= 3
    cluster.wait_for("Jobs deleted", lambda: not experiment.jobs())
