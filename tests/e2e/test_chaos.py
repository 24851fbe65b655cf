"""SIGKILL of operator, gateway and PostgreSQL at random moments of a running experiment: none lost, none twice."""

import os
import random
import time

import pytest

from tests.e2e import cluster

# Each trial counts the reports that were acknowledged and says so in its last one.
SCRIPT = """
import random, time, kubetune_trial as kt
generator = random.Random(kt.trial())
steps = generator.randint(5, 15)
for step in range(steps):
    kt.report(step, score=float(step), acked=float(step))
    time.sleep(generator.uniform(0.05, 0.5))
kt.report(steps, score=float(steps), acked=float(steps))
"""
COMPONENTS = ("operator", "gateway", "postgresql")
KILL = 'for p in /proc/[0-9]*; do grep -q "$1" $p/cgroup 2>/dev/null && kill -9 ${p#/proc/}; done; true'
KILLS = 60 if cluster.EVERYTHING else 21


def node_of(pod: str) -> str:
    return str(cluster.kubectl_json("get", "pod", pod, "-n", cluster.NAMESPACE)["spec"]["nodeName"])


def sigkill(component: str) -> None:
    """To every pod of the component."""
    for pod in cluster.component_pods(component):
        sigkill_pod(pod)


def sigkill_pod(pod: str) -> None:
    """SIGKILL to every process of the pod's containers, then the pod is replaced.

    The kill comes from the node, as the kernel's would. The dead pod is deleted, since the kubelet's growing back-off
    after many crashes would be all that is measured otherwise.
    """
    uid = cluster.kubectl_json("get", "pod", pod, "-n", cluster.NAMESPACE)["metadata"]["uid"]
    script = f"for p in /proc/[0-9]*; do grep -q 'pod{uid}' $p/cgroup 2>/dev/null && kill -9 ${{p#/proc/}}; done; true"
    cluster.run("docker", "exec", node_of(pod), "sh", "-c", script)
    cluster.kubectl("delete", "pod", pod, "-n", cluster.NAMESPACE, "--grace-period=0", "--force", "--wait=false")


@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_done_twice(namespace: str) -> None:
    seed = int(os.environ.get("KUBETUNE_CHAOS_SEED", random.randrange(10**6)))
    print(f"\nchaos seed: {seed} (KUBETUNE_CHAOS_SEED={seed} runs the same again)")
    dice = random.Random(seed)
    trials = 3 * KILLS
    body = cluster.manifest("chaos", SCRIPT, maxTrials=trials, parallelism={"max": 4}, maxFailedTrials=5)
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, body)
        cluster.wait_for("the first pod", experiment.running_pods)
        kills = [COMPONENTS[number % len(COMPONENTS)] for number in range(KILLS)]
        dice.shuffle(kills)
        for number, component in enumerate(kills, start=1):
            print(f"kill {number}/{KILLS}: {component}", flush=True)
            sigkill(component)
            time.sleep(dice.uniform(0.5, 8))
        assert experiment.status()["state"] == "Running", (
            "it ended before the last kill: nothing was tested by that one"
        )
        status = experiment.wait("Complete", timeout=600)
    rows = experiment.trials()
    assert [row["number"] for row in rows] == list(range(trials))
    assert {row["state"] for row in rows} == {"COMPLETE"}, [row for row in rows if row["state"] != "COMPLETE"]
    assert status["counts"]["complete"] == trials
    assert {number for number, _ in audit.names} == set(range(trials))
    assert all(len(uids) == 1 for uids in audit.names.values()), "a Job was created twice"
    assert not audit.overlaps
    assert audit.most <= 4
    # No node was lost and no pod of a trial was touched: every trial needs exactly one attempt.
    assert sorted(audit.names) == [(number, 1) for number in range(trials)]
    _check_reports(experiment.uid())
    _check_optuna(namespace, trials)
    cluster.wait_for("Jobs deleted", lambda: not experiment.jobs())


def _check_reports(uid: str) -> None:
    """The last report says how many were acknowledged before it: they are all there, each once."""
    rows = cluster.sql(
        "SELECT t.number, count(*), max((r.metrics->>'acked')::float)::int, count(DISTINCT r.step), max(r.seq)"
        f" FROM {cluster.TRIALS} JOIN kubetune.reports r ON r.trial_id = t.id WHERE e.uid = '{uid}'"
        " GROUP BY 1 ORDER BY 1"
    )
    assert len(rows) == 3 * KILLS
    for row in rows:
        number, count, acked, steps, seq = (int(value) for value in row.split("|"))
        assert count == acked + 1 == steps == seq, (
            f"trial {number}: {count} reports, {acked} acknowledged before the last"
        )


def _check_optuna(namespace: str, trials: int) -> None:
    """Optuna's own tables say the same."""
    states = cluster.sql(
        "SELECT t.state, count(*), count(DISTINCT t.number) FROM trials t JOIN studies s USING (study_id)"
        f" WHERE s.study_name LIKE '{namespace}/chaos-%' GROUP BY 1"
    )
    assert states == [f"COMPLETE|{trials}|{trials}"]
