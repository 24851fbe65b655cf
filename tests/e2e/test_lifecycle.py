"""What a person does to a running experiment: suspend, resume, scale, stop a trial, delete."""

import pytest

from tests.e2e import cluster

SLOW = """
import time, kubetune_trial as kt
x = float(kt.parameters()["x"])
for step in range(600):
    if kt.report(step, score=x + step):
        break
    time.sleep(0.2)
"""

QUICK = """
import kubetune_trial as kt
kt.report(0, score=float(kt.parameters()["x"]))
"""


def test_runs_to_its_end_with_exactly_max_trials(namespace: str) -> None:
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, cluster.manifest("quick", QUICK, maxTrials=7, parallelism={"max": 3}))
        status = experiment.wait("Complete")
    trials = experiment.trials()
    assert [trial["number"] for trial in trials] == list(range(7))
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    assert status["counts"]["complete"] == 7
    best = max(trials, key=lambda trial: float(trial["values"][0]))
    assert status["best"]["trial"] == best["number"]
    assert sorted(audit.names) == [(number, 1) for number in range(7)]
    assert not audit.overlaps
    assert audit.most <= 3
    cluster.wait_for("Jobs deleted", lambda: not experiment.jobs())
    cluster.kubectl("wait", "--for=condition=Complete", "experiment/quick", "-n", namespace, "--timeout=5s")


def test_grid_asks_every_cell_exactly_once(namespace: str) -> None:
    parameters = {"x": {"values": [0.25, 0.5]}, "k": {"int": [1, 3]}}
    body = cluster.manifest(
        "grid", QUICK, parameters=parameters, sampler={"name": "grid"}, maxTrials=100, parallelism={"max": 3}
    )
    experiment = cluster.apply(namespace, body)
    experiment.wait("Complete")
    cells = sorted((trial["params"]["x"], trial["params"]["k"]) for trial in experiment.trials())
    assert cells == [(x, k) for x in (0.25, 0.5) for k in (1, 2, 3)]


def test_suspend_frees_the_nodes_and_resume_goes_on(namespace: str) -> None:
    experiment = cluster.apply(namespace, cluster.manifest("slow", SLOW, maxTrials=2))
    cluster.wait_for("two pods running", lambda: len(experiment.running_pods()) == 2)
    experiment.patch({"suspend": True})
    cluster.wait_for("no pod left", lambda: not experiment.pods())
    experiment.wait("Suspended", timeout=30)
    assert {trial["state"] for trial in experiment.trials()} == {"RUNNING"}
    experiment.patch({"suspend": False})
    cluster.wait_for("two pods running again", lambda: len(experiment.running_pods()) == 2)
    trials = experiment.trials()
    assert [(trial["number"], trial["attempt"]) for trial in trials] == [(0, 2), (1, 2)]
    assert experiment.status()["counts"]["failed"] == 0


def test_scale_changes_the_parallelism_up_and_down(namespace: str) -> None:
    body = cluster.manifest("scaled", SLOW, maxTrials=20, parallelism={"max": 1})
    with cluster.JobAudit(namespace) as audit:
        experiment = cluster.apply(namespace, body)
        cluster.wait_for("one pod", lambda: len(experiment.running_pods()) == 1)
        cluster.kubectl("scale", "experiment/scaled", "-n", namespace, "--replicas=4")
        cluster.wait_for("four pods", lambda: len(experiment.running_pods()) == 4)
        assert audit.most == 4
        cluster.kubectl("scale", "experiment/scaled", "-n", namespace, "--replicas=2")
        cluster.wait_for("parallelism 2 in force", lambda: experiment.status()["parallelism"]["current"] == 2)
        experiment.patch({"stopTrials": [0, 1]})
        cluster.wait_for("two stopped, none started", lambda: len(experiment.running_pods()) == 2)
        stopped = [trial for trial in experiment.trials() if trial["state"] != "RUNNING"]
        assert [(trial["number"], trial["state"], trial["reason"]) for trial in stopped] == [
            (0, "PRUNED", "Stopped"),
            (1, "PRUNED", "Stopped"),
        ]
        assert len(experiment.trials()) == 4
        experiment.patch({"stopTrials": [0, 1, 2]})
        cluster.wait_for("a successor for the third", lambda: len(experiment.trials()) == 5)


def test_delete_leaves_nothing(namespace: str) -> None:
    experiment = cluster.apply(namespace, cluster.manifest("gone", SLOW, maxTrials=2))
    cluster.wait_for("two pods running", lambda: len(experiment.running_pods()) == 2)
    uid = experiment.uid()
    experiment.delete()
    cluster.wait_for("no Job and no pod", lambda: not experiment.jobs() and not experiment.pods())
    cluster.wait_for(
        "no RUNNING trial in the database",
        lambda: (
            cluster.sql(f"SELECT count(*) FROM {cluster.TRIALS} WHERE e.uid='{uid}' AND t.state='RUNNING'") == ["0"]
        ),
    )
    running = (
        "SELECT count(*) FROM trials t JOIN studies s USING (study_id)"
        f" WHERE t.state = 'RUNNING' AND s.study_name LIKE '{namespace}/gone-%'"
    )
    assert cluster.sql(running) == ["0"]
    again = cluster.apply(namespace, cluster.manifest("gone", QUICK, maxTrials=1))
    again.wait("Complete")
    assert [trial["number"] for trial in again.trials()] == [0]


def test_target_reached_ends_it_early(namespace: str) -> None:
    objective = {"metric": "score", "direction": "maximize", "target": 0}
    body = cluster.manifest("target", QUICK, objective=objective, maxTrials=50, parallelism={"max": 1})
    experiment = cluster.apply(namespace, body)
    experiment.wait("Complete")
    assert experiment.condition("Complete")["reason"] == "TargetReached"
    assert len(experiment.trials()) < 5


def test_the_search_space_cannot_change_once_started(namespace: str) -> None:
    experiment = cluster.apply(namespace, cluster.manifest("fixed", SLOW))
    cluster.wait_for("started", lambda: experiment.status().get("startTime"))
    with pytest.raises(cluster.CommandError, match=r"parameters.*(cannot change|immutable)"):
        experiment.patch({"parameters": {"x": {"double": [0, 2]}}})
    experiment.patch({"maxTrials": 5})
