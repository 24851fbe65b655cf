"""What people know and want tried: initial sets, sets enqueued into a running experiment."""

import json

from tests.e2e import cluster

QUICK = """
import kubetune_trial as kt
kt.report(0, score=float(kt.parameters()["x"]))
"""

SPACE = {"x": {"double": [0, 1]}, "k": {"int": [1, 3]}}


def test_initial_sets_come_first_and_enqueued_ones_next(namespace: str) -> None:
    initial = [{"x": 0.25, "k": 2}, {"k": 3}]
    body = cluster.manifest(
        "given", QUICK, parameters=SPACE, initial=initial, maxTrials=5, parallelism={"max": 1}, suspend=True
    )
    experiment = cluster.apply(namespace, body)
    experiment.wait("Suspended", timeout=30)
    experiment.patch({"enqueue": [{"name": "mine", "parameters": {"x": 0.75}}]})
    experiment.patch({"suspend": False})
    experiment.wait("Complete")
    trials = experiment.trials()
    assert [trial["source"] for trial in trials] == ["initial/0", "initial/1", "enqueue/mine", None, None]
    assert trials[0]["params"] == initial[0]
    assert trials[1]["params"]["k"] == 3
    assert trials[2]["params"]["x"] == 0.75
    fixed = (
        "SELECT a.value_json FROM trial_system_attributes a JOIN trials t USING (trial_id)"
        f" JOIN studies s USING (study_id) WHERE a.key = 'fixed_params' AND s.study_name LIKE '{namespace}/given-%'"
        " ORDER BY t.number"
    )
    assert [json.loads(row) for row in cluster.sql(fixed)] == [{"x": 0.25, "k": 2}, {"k": 3}, {"x": 0.75}]


CONSTRAINED = """
import kubetune_trial as kt
x = float(kt.parameters()["x"])
kt.report(0, score=x, latency_ms=100 * x)
"""


def test_the_best_trial_keeps_the_constraints(namespace: str) -> None:
    body = cluster.manifest(
        "constrained",
        CONSTRAINED,
        initial=[{"x": 0.875}, {"x": 0.125}, {"x": 0.25}],
        constraints=[{"metric": "latency_ms", "max": 50}],
        maxTrials=3,
    )
    status = cluster.apply(namespace, body).wait("Complete")
    assert (status["best"]["trial"], status["best"]["feasible"], status["counts"]["infeasible"]) == (2, True, 1)
    constraints = (
        "SELECT t.number, a.key, a.value_json FROM trial_system_attributes a JOIN trials t USING (trial_id)"
        f" JOIN studies s USING (study_id) WHERE s.study_name LIKE '{namespace}/constrained-%'"
        " AND a.key LIKE 'constraints:%' ORDER BY t.number"
    )
    rows = [f"{number}|constraints:latency_ms.max|{excess}" for number, excess in enumerate((37.5, -37.5, -25.0))]
    assert cluster.sql(constraints) == rows


SLOW = """
import time, kubetune_trial as kt
x = float(kt.parameters()["x"])
for step in range(600):
    if kt.report(step, score=x):
        break
    time.sleep(0.2)
"""


def test_a_narrower_space_holds_for_what_is_asked_next(namespace: str) -> None:
    body = cluster.manifest("narrow", SLOW, parameters=SPACE, maxTrials=4, parallelism={"max": 1})
    experiment = cluster.apply(namespace, body)
    cluster.wait_for("the first runs", lambda: len(experiment.running_pods()) == 1)
    experiment.patch({"narrow": {"x": {"min": 0.5, "max": 0.5}, "k": {"min": 2, "max": 2}}, "stopTrials": [0]})
    cluster.wait_for("the next one", lambda: len(experiment.trials()) == 2)
    assert experiment.trials()[1]["params"] == {"x": 0.5, "k": 2}
    told = (
        "SELECT s.kind, s.subject FROM kubetune.steering s JOIN kubetune.experiments e ON e.id = s.experiment_id"
        f" WHERE e.uid = '{experiment.uid()}' AND s.kind NOT IN ('search', 'image') ORDER BY s.id"
    )
    assert cluster.sql(told) == ["stop|0", "narrow|"]


def test_a_warm_start_counts_none_of_the_others_trials(namespace: str) -> None:
    cluster.apply(namespace, cluster.manifest("first", QUICK, maxTrials=3, parallelism={"max": 3})).wait("Complete")
    body = cluster.manifest("second", QUICK, sampler={"name": "tpe"}, maxTrials=2, warmStart={"from": ["first"]})
    status = cluster.apply(namespace, body).wait("Complete")
    assert (status["counts"]["total"], status["counts"]["warm"]) == (2, 3)
