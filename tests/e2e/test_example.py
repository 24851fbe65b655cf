"""The examples, as README shows them, to their end; and the tools around them on the result."""

import base64
import json
import pathlib
import subprocess
import time

import optuna
import pytest
import yaml

from tests.e2e import cluster

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def load(path: str) -> cluster.Json:
    text = (EXAMPLES / path).read_text().replace("image: ", f"image: {cluster.IMAGE_PREFIX}")
    body: cluster.Json = yaml.safe_load(text)
    return body


def test_digits_to_the_end(namespace: str) -> None:
    experiment = cluster.apply(namespace, load("digits/experiment.yaml"))
    status = experiment.wait("Complete", timeout=600)
    counts = status["counts"]
    assert counts["total"] == 40
    assert counts["failed"] == 0
    assert counts["pruned"] > 0
    assert float(status["best"]["value"]) > 0.93
    _check_commands(namespace, experiment)
    _check_study(status)


def _check_commands(namespace: str, experiment: cluster.Experiment) -> None:
    table = cluster.kubectl("get", "exp", experiment.name, "-n", namespace)
    assert "40/40" in table
    assert "Complete" in table
    best = json.loads(cluster.run("kubectl-tune", "best", experiment.name, "-n", namespace, "-o", "json"))
    assert best["trial"] == experiment.status()["best"]["trial"]
    listed = json.loads(cluster.run("kubectl-tune", "trials", experiment.name, "-n", namespace, "-o", "json"))
    assert [trial["number"] for trial in listed] == list(range(40))
    log = cluster.run("kubectl-tune", "logs", experiment.name, str(best["trial"]), "-n", namespace)
    assert log.strip()


def _check_study(status: cluster.Json) -> None:
    """`optuna.load_study` opens it, over a port-forward, with the address that the release's Secret holds."""
    secret = cluster.kubectl_json("get", "secret", "kubetune-postgresql", "-n", cluster.NAMESPACE)
    password = base64.b64decode(secret["data"]["password"]).decode()
    forward = subprocess.Popen(
        ["kubectl", "port-forward", "-n", "kubetune", "service/kubetune-postgresql", "15432:5432"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(2)
        storage = f"postgresql+psycopg2://kubetune:{password}@127.0.0.1:15432/kubetune"
        study = cluster.wait_for(
            "the study", lambda: optuna.load_study(study_name=status["study"], storage=storage), timeout=30
        )
        assert len(study.trials) == 40
        assert study.best_trial.number == status["best"]["trial"]
        assert study.best_value == pytest.approx(float(status["best"]["value"]), abs=1e-4)
    finally:
        forward.terminate()
        forward.wait()


def test_digits_without_code(namespace: str) -> None:
    body = load("digits/experiment-nocode.yaml")
    body["spec"]["maxTrials"] = 8
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete", timeout=400)
    assert status["counts"]["total"] == 8
    assert status["counts"]["failed"] == 0
    assert float(status["best"]["value"]) > 0.8


def test_an_architecture(namespace: str) -> None:
    """Conditions, nested, and a constraint; three generations of an evolution that is made smaller."""
    body = load("architecture/architecture.yaml")
    body["spec"] |= {"maxTrials": 12}
    body["spec"]["sampler"]["settings"] = {"populationSize": 4, "tournamentSize": 2}
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete", timeout=400)
    assert (status["counts"]["total"], status["counts"]["failed"]) == (12, 0)
    best = status["best"]
    assert best["feasible"] is True
    assert float(best["value"]) > 0.6
