"""The deep dives of examples/ on a real cluster, to their end (make test-all)."""

import json
import pathlib
import sys
from collections.abc import Callable

import pytest

from tests.e2e import cluster
from tests.e2e.test_example import EXAMPLES, load


def put(namespace: str, path: str) -> None:
    """Whatever else than an Experiment an example brings."""
    text = (EXAMPLES / path).read_text().replace("image: ", f"image: {cluster.IMAGE_PREFIX}")
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two each")
@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_most_trials_end_early_and_say_why(namespace: str, name: str) -> None:
    experiment = cluster.apply(namespace, load(f"{name}/experiment.yaml"))
    status = experiment.wait("Complete", timeout=600)
    counts = status["counts"]
    assert counts["total"] == 60
    assert counts["failed"] == 0
    assert counts["pruned"] > (30 if name == "asha" else 10)  # of Hyperband's brackets one stops nobody
    assert float(status["best"]["value"]) > 0.9
    messages = [trial["message"] for trial in experiment.trials() if trial["state"] == "PRUNED"]
    assert all(message.startswith(f"pruned by {name} at rung ") for message in messages)


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two")
def test_promoted_trials_go_on_from_their_checkpoints(namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / "asha" / "claim.yaml"))
    experiment = cluster.apply(namespace, load("asha/experiment-promotion.yaml"))
    status = experiment.wait("Complete", timeout=600)
    assert (status["counts"]["total"], status["counts"]["failed"]) == (60, 0)
    trials = experiment.trials()
    best = next(trial for trial in trials if trial["number"] == status["best"]["trial"])
    assert best["state"] == "COMPLETE"
    log = cluster.run("kubectl-tune", "logs", experiment.name, str(best["number"]), "-n", namespace)
    assert "goes on after epoch 9" in log
    stayed = [trial["message"] for trial in trials if trial["state"] == "PRUNED"]
    assert len(stayed) > 30
    assert all(message.startswith("stayed at rung ") for message in stayed)


@pytest.mark.skipif(
    not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two, and an image without a test set"
)
def test_a_winner_is_scored_on_what_no_trial_could_see(namespace: str, tmp_path: pathlib.Path) -> None:
    held_out = tmp_path / "test.csv"
    held_out.write_text(cluster.run(sys.executable, str(EXAMPLES / "digits" / "hold_out.py"), "test"))
    cluster.kubectl("create", "configmap", "digits-test", f"--from-file={held_out}", "-n", namespace)
    put(namespace, "digits/claim.yaml")
    experiment = cluster.apply(namespace, load("digits/experiment-honest.yaml"))
    status = experiment.wait("Complete", timeout=600)
    assert status["test"]["value"] > 0.9
    log = cluster.run("kubectl-tune", "logs", experiment.name, str(status["best"]["trial"]), "-n", namespace)
    assert ", 0 to test" in log
    models = cluster.run("kubectl-tune", "models", experiment.name, "-n", namespace, "-o", "json")
    (model,) = json.loads(models)
    assert (model["version"], model["address"]) == (1, "/models/digits-honest.pickle")
    assert [score["value"] for score in model["scores"]] == [status["test"]["value"]]


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two")
def test_a_population_has_a_schedule(namespace: str) -> None:
    put(namespace, "pbt/claim.yaml")
    experiment = cluster.apply(namespace, load("pbt/pbt.yaml"))
    status = experiment.wait("Complete", timeout=800)
    assert (status["counts"]["complete"], status["counts"]["failed"]) == (80, 0)
    assert float(status["best"]["value"]) < 0.6
    assert sum(trial["parent"] is None for trial in experiment.trials()) == 8
    schedule = cluster.run("kubectl-tune", "schedule", experiment.name, "-n", namespace)
    assert schedule.startswith(f"trial {status['best']['trial']} of {experiment.name}: loss ")


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two")
def test_trials_start_from_given_weights(namespace: str) -> None:
    put(namespace, "transfer/pretrain.yaml")
    cluster.kubectl("wait", "--for=condition=Complete", "job/pretrain", "-n", namespace, "--timeout=120s", timeout=150)
    experiment = cluster.apply(namespace, load("transfer/transfer.yaml"))
    status = experiment.wait("Complete", timeout=600)
    assert status["counts"]["failed"] == 0
    assert float(status["best"]["value"]) > 0.8  # from random weights: 0.77 at best (its README)


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two, and an image with Hyperopt")
def test_hyperopt_chooses(namespace: str) -> None:
    put(namespace, "hyperopt/searcher.yaml")
    cluster.kubectl("rollout", "status", "deployment/hyperopt", "-n", namespace, "--timeout=120s", timeout=150)
    experiment = cluster.apply(namespace, load("hyperopt/digits.yaml"))
    status = experiment.wait("Complete", timeout=600)
    assert (status["counts"]["total"], status["counts"]["failed"]) == (40, 0)
    assert float(status["best"]["value"]) > 0.93
    assert not [each for each in status["conditions"] if each["type"] == "SamplerFailed"]


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two, and an operator's image")
def test_a_plug_in_of_the_operators_image_chooses(namespace: str, release: Callable[[str], None]) -> None:
    release("image.tag=0.1.0-reinforce")
    experiment = cluster.apply(namespace, load("reinforce/experiment.yaml"))
    status = experiment.wait("Complete", timeout=600)
    assert (status["counts"]["total"], status["counts"]["failed"]) == (60, 0)
    assert float(status["best"]["value"]) > 0.9


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: a minute or two")
def test_an_operators_draws_are_those_that_bench_search_measures_in_process() -> None:
    table = cluster.run(sys.executable, "-m", "dev.bench.search.cluster", "--only", "tpe,cmaes", timeout=600)
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("|")[3].strip() for row in rows[1:]] == ["all", "all"]  # after the head
