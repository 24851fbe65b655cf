"""Population-based training: members hand their checkpoints over, and the winner's schedule is trained again."""

import json

from tests.e2e import cluster

COUNTS = """
import pathlib, kubetune_trial as kt
folder = kt.load_checkpoint()
gained = float(pathlib.Path(folder, "total").read_text()) if folder else 0.0
step = folder.step if folder else 0
gained += kt.parameters()["gain"]
kt.report(step + 1, total=gained)
with kt.save_checkpoint(step + 1) as place:
    pathlib.Path(place, "total").write_text(repr(gained))
"""
SPACE = {"gain": {"double": [0.1, 1.0]}}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "population"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
}


def body(name: str, **spec: object) -> dict[str, object]:
    return cluster.manifest(
        name,
        COUNTS,
        objective={"metric": "total", "direction": "maximize"},
        parameters=SPACE,
        checkpoints={"claim": "population"},
        seed=1,
        **spec,
    )


def test_segments_go_on_from_their_parents_and_a_schedule_is_trained_again(namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(CLAIM))
    sampler = {"name": "pbt", "settings": {"populationSize": 2, "quantileFraction": 0.5}}
    population = cluster.apply(namespace, body("population", sampler=sampler, maxTrials=6, parallelism={"max": 2}))
    population.wait("Complete")
    trials = population.trials()
    assert [trial["parent"] is None for trial in trials] == [True, True, False, False, False, False]
    for trial in trials:
        before = 0.0 if trial["parent"] is None else trials[trial["parent"]]["values"][0]
        assert abs(trial["values"][0] - before - trial["params"]["gain"]) < 1e-9
    best = max(trials, key=lambda trial: trial["values"][0])
    line = [best]
    while line[-1]["parent"] is not None:
        line.append(trials[line[-1]["parent"]])
    segments = [trial["params"] for trial in reversed(line)]
    again = {"name": "schedule", "settings": {"segments": segments}}
    replayed = cluster.apply(namespace, body("again", sampler=again, maxTrials=10, parallelism={"max": 1}))
    replayed.wait("Complete")
    assert len(replayed.trials()) == len(segments)
    assert abs(replayed.trials()[-1]["values"][0] - best["values"][0]) < 1e-9
