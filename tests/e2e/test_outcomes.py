"""Every way a trial can end, each told apart by name, none of them the end of the others."""

from typing import Any

import pytest

from tests.e2e import cluster

HANG = "import time; time.sleep(600)"

FAILURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "never reports": ("pass", {}, "NoMetric"),
    "another metric": ("import kubetune_trial as kt; kt.report(0, loss=1)", {}, "NoMetric"),
    "not a number": ("import kubetune_trial as kt; kt.report(0, score=float('nan'))", {}, "NotANumber"),
    "exit code": ("raise SystemExit(3)", {}, "ExitCode"),
    "out of memory": ("x = bytearray(400 << 20); print(len(x))", {}, "OOMKilled"),
    "deadline": (HANG, {"deadline": {"trial": "4s"}}, "DeadlineExceeded"),
    "says so": ("import kubetune_trial as kt; kt.finish('failed', 'no data')", {}, "TrialFailed"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_has_its_name(namespace: str, case: str) -> None:
    script, spec, reason = FAILURES[case]
    body = cluster.manifest("failing", script, maxTrials=1, maxFailedTrials=5, **spec)
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "10m", "memory": "16Mi"},
        "limits": {"memory": "64Mi"},
    }
    experiment = cluster.apply(namespace, body)
    cluster.wait_for("the end", lambda: experiment.trials() and experiment.trials()[0]["state"] == "FAIL")
    (trial,) = experiment.trials()
    if case == "out of memory" and trial["reason"] == "ExitCode":  # a busy container runtime may miss the kernel's word
        reason = "ExitCode"
        assert "exited with code 137 (killed by SIGKILL; for memory, often" in trial["message"]
    assert (trial["state"], trial["reason"], trial["attempt"]) == ("FAIL", reason, 1)
    if case == "exit code":
        assert "3" in trial["message"]


@pytest.mark.parametrize("image", ["kubetune/no-such-image:1", "Not A Name"])
def test_an_image_that_cannot_start_stops_the_experiment_after_three(namespace: str, image: str) -> None:
    body = cluster.manifest("image", HANG, maxTrials=50, parallelism={"max": 3}, maxFailedTrials=50)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = image
    experiment = cluster.apply(namespace, body)
    experiment.wait("Failed", timeout=180)
    condition = experiment.condition("Failed")
    assert condition["reason"] == "StartFailures"
    assert image in condition["message"]
    assert len(experiment.trials()) <= 6


def test_a_missing_secret_is_a_config_failure(namespace: str) -> None:
    body = cluster.manifest("config", HANG, maxTrials=1)
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key"}}}
    ]
    experiment = cluster.apply(namespace, body)
    cluster.wait_for("the end", lambda: experiment.trials() and experiment.trials()[0]["state"] == "FAIL")
    assert experiment.trials()[0]["reason"] == "Config"
    assert "absent" in experiment.trials()[0]["message"]


@pytest.mark.parametrize("kind", ["job", "pod"])
def test_deleted_by_hand_is_a_new_attempt_and_no_failure(namespace: str, kind: str) -> None:
    experiment = cluster.apply(namespace, cluster.manifest("deleted", HANG, maxTrials=1))
    cluster.wait_for("a pod running", lambda: len(experiment.running_pods()) == 1)
    cluster.kubectl("delete", kind, "-n", namespace, "-l", "kubetune.dev/trial=0", "--grace-period=1")
    cluster.wait_for(
        "the second attempt running",
        lambda: [pod["metadata"]["labels"]["kubetune.dev/attempt"] for pod in experiment.running_pods()] == ["2"],
    )
    (trial,) = experiment.trials()
    assert (trial["state"], trial["attempt"]) == ("RUNNING", 2)
    status = cluster.wait_for(
        "the loss in the status", lambda: experiment.status()["counts"].get("lostAttempts") and experiment.status()
    )
    assert status["counts"]["failed"] == 0


def test_waiting_for_a_node_is_no_outcome(namespace: str) -> None:
    body = cluster.manifest("waiting", HANG, maxTrials=1)
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1000"}}
    experiment = cluster.apply(namespace, body)
    status = cluster.wait_for(
        "a pending trial", lambda: experiment.status().get("counts", {}).get("pending") == 1 and experiment.status()
    )
    assert status["counts"]["running"] == 1
    assert experiment.trials()[0]["state"] == "RUNNING"


def test_the_median_stops_bad_trials_while_they_run(namespace: str) -> None:
    script = """
import time, kubetune_trial as kt
good = kt.trial() < 4
for step in range(100 if not good else 6):
    if kt.report(step, score=(1.0 if good else 0.0) + step / 1000):
        break
    time.sleep(0.1 if good else 0.5)
"""
    pruner = {"name": "median", "settings": {"nStartupTrials": 3, "nWarmupSteps": 1}}
    body = cluster.manifest("median", script, maxTrials=6, parallelism={"max": 2}, pruner=pruner)
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete")
    trials = experiment.trials()
    assert [trial["state"] for trial in trials[:4]] == ["COMPLETE"] * 4
    assert [trial["state"] for trial in trials[4:]] == ["PRUNED"] * 2
    assert status["counts"]["pruned"] == 2


def test_asha_stops_the_worse_ones_at_a_rung_and_says_so(namespace: str) -> None:
    script = """
import time, kubetune_trial as kt
for step in range(1, 5 if kt.trial() == 0 else 100):
    if kt.report(step, score=1.0 - kt.trial() / 10):
        break
    time.sleep(0.02 if kt.trial() == 0 else 0.5)
"""
    pruner = {"name": "asha", "settings": {"reductionFactor": 2, "minResource": 2}}
    body = cluster.manifest("asha", script, maxTrials=3, parallelism={"max": 1}, pruner=pruner)
    experiment = cluster.apply(namespace, body)
    experiment.wait("Complete")
    trials = experiment.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert trials[1]["message"] == "pruned by asha at rung 2: 0.9 is not in the best half of 2"


def test_it_is_over_when_nothing_gets_better(namespace: str) -> None:
    script = "import kubetune_trial as kt; kt.report(0, score=0.5)"
    stop = {"noImprovement": {"trials": 3}}
    body = cluster.manifest("enough", script, maxTrials=50, parallelism={"max": 2}, stop=stop)
    status = cluster.apply(namespace, body).wait("Complete")
    assert status["reason"] == "NoImprovement"
    assert status["message"] == "3 trials ended without an improvement: the best is score = 0.5"
    assert 4 <= status["counts"]["complete"] <= 6
    assert status["counts"]["running"] == 0


def test_no_code_metrics_are_read_from_the_log_and_prune_too(namespace: str) -> None:
    script = """
import os, time
good = int(os.environ["KUBETUNE_TRIAL"]) < 4
for epoch in range(100 if not good else 6):
    print(f"epoch={epoch} score={(1.0 if good else 0.0) + epoch / 1000} note=x", flush=True)
    time.sleep(0.1 if good else 0.5)
"""
    pruner = {"name": "median", "settings": {"nStartupTrials": 3, "nWarmupSteps": 1}}
    body = cluster.manifest(
        "nocode", script, maxTrials=6, parallelism={"max": 2}, pruner=pruner, metrics={"from": "log"}
    )
    experiment = cluster.apply(namespace, body)
    experiment.wait("Complete")
    trials = experiment.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 4 + ["PRUNED"] * 2
    assert float(trials[0]["values"][0]) == pytest.approx(1.005)
