"""Stages on a cluster: a coarse grid, then a search around its best; what is shown and recorded of it."""

from tests.e2e import cluster

QUICK = """
import kubetune_trial as kt
kt.report(0, score=-(float(kt.parameters()["x"]) - 0.5) ** 2)
"""
SPACE = {"x": {"double": [0, 1]}}


def test_a_coarse_grid_and_then_a_narrower_search(namespace: str) -> None:
    stages = [
        {"name": "coarse", "sampler": {"name": "grid", "settings": {"points": 3}}, "maxTrials": 10},
        {"name": "fine", "sampler": {"name": "random"}, "maxTrials": 2, "narrow": {"best": 1, "to": 0.25}},
    ]
    body = cluster.manifest("staged", QUICK, parameters=SPACE, stages=stages, parallelism={"max": 3})
    body["spec"].pop("maxTrials", None)
    body["spec"].pop("sampler", None)
    experiment = cluster.apply(namespace, body)
    status = experiment.wait("Complete")
    values = [float(trial["params"]["x"]) for trial in experiment.trials()]
    assert sorted(values[:3]) == [0.0, 0.5, 1.0]
    assert len(values) == 5
    assert all(0.375 <= value <= 0.625 for value in values[3:])
    assert status["stage"] == {
        "name": "fine",
        "number": 2,
        "of": 2,
        "sampler": "random",
        "firstTrial": 3,
        "maxTrials": 2,
        "space": ["x: 0.375 to 0.625"],
    }
    recorded = cluster.sql(
        "SELECT s.subject FROM kubetune.steering s JOIN kubetune.experiments e ON e.id = s.experiment_id"
        f" WHERE e.namespace = '{namespace}' AND e.name = 'staged' AND s.kind = 'stage' ORDER BY s.id"
    )
    assert recorded == ["coarse", "fine"]
