"""Experiments in workers on a real cluster: what the user sees is what Jobs show, but for the speed."""

import json
from typing import Any

import pytest

from tests.e2e import cluster

REPORT = "import kubetune_trial as kt; kt.report(0, score=kt.parameters()['x'])"
HANG = "import kubetune_trial as kt, time; kt.report(0, score=1.0); time.sleep(600)"


def manifest(name: str, script: str, **spec: Any) -> cluster.Json:
    return cluster.manifest(name, script, **{"execution": "workers", **spec})


def worker_pods(experiment: cluster.Experiment) -> list[cluster.Json]:
    return [pod for pod in experiment.running_pods() if "kubetune.dev/worker" in pod["metadata"]["labels"]]


def leases(experiment: cluster.Experiment) -> dict[int, str]:
    """Trial → its worker's Job, of those on lease now."""
    rows = cluster.sql(
        "SELECT json_build_array(t.number, s.job_uid) FROM kubetune.leases s"
        " JOIN kubetune.experiment_trials t ON t.id = s.trial_id JOIN kubetune.experiments e"
        f" ON e.id = t.experiment_id WHERE e.uid = '{experiment.uid()}'"
    )
    return dict(json.loads(row) for row in rows)


def test_many_trials_few_pods(namespace: str) -> None:
    experiment = cluster.apply(namespace, manifest("many", REPORT, maxTrials=40, parallelism={"max": 4}))
    names: set[str] = set()

    def over() -> bool:
        names.update(pod["metadata"]["name"] for pod in experiment.pods())
        return experiment.status().get("state") == "Complete"

    cluster.wait_for("the end", over, timeout=180)
    trials = experiment.trials()
    assert [(trial["state"], trial["attempt"]) for trial in trials] == [("COMPLETE", 1)] * 40
    assert all(trial["values"] == [trial["params"]["x"]] for trial in trials)
    assert len(names) <= 5
    cluster.wait_for("nothing left", lambda: not experiment.jobs() and not experiment.pods())
    assert experiment.status()["execution"]["mode"] == "workers"


def test_slots_share_a_pod(namespace: str) -> None:
    body = manifest("slots", HANG, maxTrials=4, parallelism={"max": 4}, slotsPerWorker=2)
    experiment = cluster.apply(namespace, body)
    cluster.wait_for(
        "four trials in two pods", lambda: len(leases(experiment)) == 4 and len(worker_pods(experiment)) == 2
    )
    assert len(set(leases(experiment).values())) == 2


FAILURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "never reports": ("pass", {}, "NoMetric"),
    "not a number": ("import kubetune_trial as kt; kt.report(0, score=float('nan'))", {}, "NotANumber"),
    "exit code": ("raise SystemExit(3)", {}, "ExitCode"),
    "out of memory": ("x = bytearray(400 << 20); print(len(x))", {}, "OOMKilled"),
    "deadline": ("import time; time.sleep(600)", {"deadline": {"trial": "4s"}}, "DeadlineExceeded"),
    "says so": ("import kubetune_trial as kt; kt.finish('failed', 'no data')", {}, "TrialFailed"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_has_its_name(namespace: str, case: str) -> None:
    script, spec, reason = FAILURES[case]
    body = manifest("failing", script, maxTrials=1, maxFailedTrials=5, **spec)
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "10m", "memory": "32Mi"},
        "limits": {"memory": "128Mi"},
    }
    experiment = cluster.apply(namespace, body)
    cluster.wait_for("the end", lambda: experiment.trials() and experiment.trials()[0]["state"] == "FAIL")
    assert [(trial["reason"], trial["attempt"]) for trial in experiment.trials()] == [(reason, 1)]


def test_a_dead_workers_trial_is_leased_again(namespace: str) -> None:
    experiment = cluster.apply(namespace, manifest("dies", HANG, maxTrials=1, parallelism={"max": 1}))
    cluster.wait_for("the trial on lease", lambda: leases(experiment))
    (pod,) = cluster.wait_for("its worker's pod, as the kubelet tells it", lambda: worker_pods(experiment))
    cluster.kubectl("delete", "pod", "-n", namespace, pod["metadata"]["name"], "--grace-period=0", "--force")
    cluster.wait_for(
        "the second attempt on lease", lambda: leases(experiment) and experiment.trials()[0]["attempt"] == 2
    )
    cluster.wait_for("the loss in the status", lambda: experiment.status()["counts"].get("lostAttempts") == 1)
    assert experiment.status()["counts"]["failed"] == 0


def test_scaled_down_it_drains(namespace: str) -> None:
    script = "import kubetune_trial as kt, time; kt.report(0, score=1.0); time.sleep(3)"
    experiment = cluster.apply(namespace, manifest("drains", script, maxTrials=12, parallelism={"max": 3}))
    cluster.wait_for("three trials", lambda: len(leases(experiment)) == 3)
    experiment.patch({"parallelism": {"max": 1}})
    cluster.wait_for("one worker", lambda: len(worker_pods(experiment)) == 1)
    experiment.wait("Complete")
    assert {(trial["state"], trial["attempt"]) for trial in experiment.trials()} == {("COMPLETE", 1)}


def test_suspended_there_is_no_pod_and_resumed_it_goes_on(namespace: str) -> None:
    experiment = cluster.apply(namespace, manifest("suspended", HANG, maxTrials=2))
    cluster.wait_for("two trials", lambda: len(leases(experiment)) == 2)
    experiment.patch({"suspend": True})
    cluster.wait_for("no Job", lambda: not experiment.jobs())
    experiment.patch({"suspend": False})
    cluster.wait_for("two trials again", lambda: len(leases(experiment)) == 2)
    assert {(trial["state"], trial["attempt"]) for trial in experiment.trials()} == {("RUNNING", 2)}
    assert experiment.status()["counts"].get("lostAttempts", 0) == 0


def test_the_operator_and_the_gateway_killed_cost_no_attempt(namespace: str) -> None:
    script = "import kubetune_trial as kt, time; time.sleep(1); kt.report(0, score=1.0)"
    experiment = cluster.apply(namespace, manifest("killed", script, maxTrials=30, parallelism={"max": 3}))
    cluster.wait_for("some have ended", lambda: experiment.status().get("finished", 0) >= 3)
    for component in ("gateway", "operator"):
        for pod in cluster.component_pods(component):
            cluster.kubectl("delete", "pod", "-n", cluster.NAMESPACE, pod, "--grace-period=0", "--force")
    experiment.wait("Complete")
    assert {(trial["state"], trial["attempt"]) for trial in experiment.trials()} == {("COMPLETE", 1)}


@pytest.mark.parametrize("image", ["kubetune/no-such-image:1"])
def test_an_image_that_cannot_start_stops_the_experiment(namespace: str, image: str) -> None:
    body = manifest("image", HANG, maxTrials=50, parallelism={"max": 3}, maxFailedTrials=50)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = image
    experiment = cluster.apply(namespace, body)
    experiment.wait("Failed", timeout=300)
    assert experiment.condition("Failed")["reason"] == "StartFailures"
    assert len(experiment.trials()) <= 8


def test_auto_moves_to_workers_and_says_why(namespace: str) -> None:
    body = manifest("auto", REPORT, execution="auto", maxTrials=40, parallelism={"max": 2})
    experiment = cluster.apply(namespace, body)
    experiment.wait("Complete", timeout=300)
    status = experiment.status()["execution"]
    assert (status["mode"], "to start" in status["reason"]) == ("workers", True)
    assert {(trial["state"], trial["attempt"]) for trial in experiment.trials()} == {("COMPLETE", 1)}


def test_auto_without_a_command_stays_on_jobs_and_says_so(namespace: str) -> None:
    body = manifest("image-command", REPORT, execution="auto", maxTrials=1)
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["args"] = container.pop("command")
    experiment = cluster.apply(namespace, body)
    status = cluster.wait_for("the status", lambda: experiment.status().get("execution"))
    assert (status["mode"], "write command" in status["reason"]) == ("jobs", True)
