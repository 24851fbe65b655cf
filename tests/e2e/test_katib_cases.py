"""Cases taken from Katib's examples (examples/katib) on a real cluster: a sample, and all of them by make test-all.

The rows are what the database holds in the end; the search itself is checked elsewhere (tests/unit).
"""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.e2e import cluster

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "katib"
VOLUME = "simple-pbt-volume"
GP = "bayesian-optimization"  # in an image of its own
OTHERS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in ("resume", VOLUME, GP))


def apply(namespace: str, name: str) -> cluster.Experiment:
    """The case as it stands in the folder."""
    body = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    trial = body["spec"]["template"]["spec"]["containers"][0]
    trial["image"] = cluster.IMAGE_PREFIX + trial["image"]
    return cluster.apply(namespace, body)


def values(experiment: cluster.Experiment) -> list[float]:
    return [float(trial["values"][0]) for trial in experiment.trials() if trial["state"] == "COMPLETE"]


def series(experiment: cluster.Experiment, metric: str) -> list[list[float]]:
    """What each COMPLETE trial reported of a metric, in order."""
    rows = cluster.sql(
        f"SELECT string_agg(r.metrics->>'{metric}', ' ' ORDER BY r.seq) FROM {cluster.TRIALS}"
        f" JOIN kubetune.reports r ON r.trial_id = t.id WHERE e.uid = '{experiment.uid()}'"
        " AND t.state = 'COMPLETE' GROUP BY t.number ORDER BY t.number"
    )
    return [[float(value) for value in row.split()] for row in rows]


def _strategy(experiment: cluster.Experiment) -> None:
    """`value: min`: the smallest of the reports, which is not the last one."""
    reported = series(experiment, "loss")
    assert values(experiment) == pytest.approx([min(losses) for losses in reported])
    assert any(min(losses) < losses[-1] for losses in reported)


def _json(experiment: cluster.Experiment) -> None:
    """Numbers that stand in the lines as texts, under a step of another name."""
    assert values(experiment) == pytest.approx([told[-1] for told in series(experiment, "accuracy")])
    steps = cluster.sql(
        f"SELECT DISTINCT r.step FROM {cluster.TRIALS} JOIN kubetune.reports r ON r.trial_id = t.id"
        f" WHERE e.uid = '{experiment.uid()}' ORDER BY 1"
    )
    assert steps == ["1", "2", "3"]


def _conditional(experiment: cluster.Experiment) -> None:
    """A trial has what its optimizer has, and its program got no more than that."""
    for trial in experiment.trials():
        own = {"sgd": "momentum", "rmsprop": "decay"}[trial["params"]["optimizer"]]
        assert trial["params"].keys() == {"lr", "optimizer", own}


def _pruned(experiment: cluster.Experiment) -> None:
    """Worse ones were stopped, and say by what."""
    stopped = [trial for trial in experiment.trials() if trial["state"] == "PRUNED"]
    assert stopped
    assert all(trial["message"].startswith("pruned by ") for trial in stopped)


def _nothing(experiment: cluster.Experiment) -> None:
    assert min(values(experiment)) > 0


def _trained(experiment: cluster.Experiment) -> None:
    """Of 200 populations like this one, trained in process, the worst came to 0.14."""
    assert max(values(experiment)) > 0.05


MORE: dict[str, Callable[[cluster.Experiment], Any]] = {
    "metrics-collection-strategy": _strategy,
    "file-json": _json,
    "conditional": _conditional,
    "median-stop": _pruned,
    "random": _nothing,
    "simple-pbt": _trained,
}
SAMPLE = ("metrics-collection-strategy", "file-json", "conditional")
CASES = OTHERS if cluster.EVERYTHING else SAMPLE


@pytest.mark.parametrize("name", CASES)
def test_a_case_runs_to_its_end(namespace: str, name: str) -> None:
    if name == "simple-pbt":
        cluster.kubectl("apply", "-n", namespace, "-f", str(FOLDER / f"{VOLUME}.yaml"))
    experiment = apply(namespace, name)
    _check(name, experiment)


def _check(name: str, experiment: cluster.Experiment) -> None:
    status = experiment.wait("Complete")
    trials = experiment.trials()
    assert {trial["state"] for trial in trials} <= {"COMPLETE", "PRUNED"}, trials
    if status["reason"] != "TargetReached":
        assert len(trials) == experiment.get()["spec"]["maxTrials"]
    assert status["best"]["trial"] in {trial["number"] for trial in trials if trial["state"] == "COMPLETE"}
    if name in MORE:
        MORE[name](experiment)


@pytest.mark.skipif(not cluster.EVERYTHING, reason="KUBETUNE_TEST_ALL=1: the image with scikit-learn")
def test_gp_is_refused_without_its_image_and_runs_with_it(namespace: str, release: Callable[[str], None]) -> None:
    refused = apply(namespace, GP)
    refused.wait("Invalid", timeout=30)
    assert "image.extras" in refused.condition("Invalid")["message"]
    refused.delete()
    release("image.extras=gp")
    _check(GP, apply(namespace, GP))
    bowl = "import kubetune_trial as kt; x = kt.parameters()['x']; kt.report(0, score=-(x - 0.3) ** 2)"
    stop = {"regretBound": {"below": 0.1, "minTrials": 10}}  # of the best, 0: the whole range is 0.49
    manifest = cluster.manifest("bound", bowl, maxTrials=200, stop=stop, execution="workers")
    status = cluster.apply(namespace, manifest).wait("Complete")
    assert status["reason"] == "RegretBound"
    assert status["regretBound"]["bound"] < 0.1
    assert 10 <= status["counts"]["complete"] < 200


def test_a_resumed_one_starts_from_the_trials_of_the_first(namespace: str) -> None:
    apply(namespace, "resume-first").wait("Complete")
    status = apply(namespace, "resume").wait("Complete")
    assert (status["counts"]["total"], status["counts"]["warm"]) == (6, 6)
