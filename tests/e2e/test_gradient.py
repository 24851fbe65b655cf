"""A trial reports its objective's gradient, and the next trial is where that leads."""

import math

import pytest

from tests.e2e import cluster

VALLEY = """
import math, kubetune_trial as kt
p = kt.parameters()
x, lr = p["x"], p["lr"]
away = math.log10(lr) + 3
slopes = {"x": 2 * (x - 3), "lr": 2 * away / (lr * math.log(10))}
kt.report(0, score=-((x - 3) ** 2 + away ** 2), gradient={name: -slope for name, slope in slopes.items()})
"""


def test_one_trial_for_each_move(namespace: str) -> None:
    body = cluster.manifest(
        "gradient",
        VALLEY,
        parameters={"x": {"double": [-5, 5]}, "lr": {"double": [1e-5, 1e-1], "scale": "log"}},
        sampler={"name": "gradient", "settings": {"gradient": "reported", "rounds": 12}},
        maxTrials=12,
        parallelism={"max": 1},
    )
    experiment = cluster.apply(namespace, body)
    experiment.wait("Complete")
    params = [trial["params"] for trial in experiment.trials()]
    assert (params[0]["x"], params[0]["lr"]) == pytest.approx((0.0, 1e-3))
    assert params[1]["x"] == pytest.approx(1.0)  # Adam's first move: a tenth of the range, uphill
    assert all(abs(math.log10(each["lr"]) + 3) < 0.01 for each in params)  # its slope is 0 there
    assert min(abs(each["x"] - 3) for each in params) < 0.6
