"""The record of a real experiment: exported, decided again, with the image's digest."""

import json
import pathlib

from tests.e2e import cluster

REPORTS = """
import kubetune_trial as kt
x = float(kt.parameters()["x"])
for step in range(1, 5):
    kt.report(step, score=x + step / 100)
"""


def test_what_was_decided_is_decided_again(namespace: str, tmp_path: pathlib.Path) -> None:
    sampler = {"name": "tpe", "settings": {"nStartupTrials": 2}}
    body = cluster.manifest("again", REPORTS, sampler=sampler, pruner={"name": "asha"}, maxTrials=5)
    cluster.apply(namespace, body).wait("Complete")
    exported = cluster.run("kubectl-tune", "export", "again", "-n", namespace)
    images = [each for each in json.loads(exported)["record"]["steering"] if each["kind"] == "image"]
    assert len(images) == 1
    assert "sha256:" in images[0]["detail"]["digest"]
    file = tmp_path / "again.json"
    file.write_text(exported)
    assert cluster.run("kubectl-tune", "replay", str(file)).startswith("the same: 5 sets of parameters, ")
    assert "Searching" in cluster.run("kubectl-tune", "history", "again", "-n", namespace)
