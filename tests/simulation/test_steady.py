"""Telling the trials apart that merely run changes no decision: at every look of many runs, by chance."""

import dataclasses

import pytest

from kubetune.api.spec import ExperimentSpec
from kubetune.controller import elastic, reconcile, status
from kubetune.controller.decide import Limits, decide
from kubetune.controller.parallelism import Tuning
from kubetune.controller.plan import Observed, Plan
from kubetune.simulator.run import simulate
from kubetune.simulator.scenario import draw, in_workers


def test_a_look_that_passes_over_steady_trials_decides_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    steady = []

    def both(spec: ExperimentSpec, seen: Observed, now: float, limits: Limits) -> Plan:
        whole, plan = dataclasses.replace(seen, apart=None), decide(spec, seen, now, limits)
        assert plan == decide(spec, whole, now, limits)
        assert status.in_flight(seen) == status.in_flight(whole)
        assert elastic.sight(seen, 0, now, Tuning()) == elastic.sight(whole, 0, now, Tuning())
        facts = status.Facts("study")
        assert status.status(spec, plan, seen, facts, None, now) == status.status(spec, plan, whole, facts, None, now)
        steady.append(len(seen.stirring.steady))
        return plan

    monkeypatch.setattr(reconcile, "decide", both)
    for seed in range(1, 13):
        simulate(draw(seed))
        simulate(in_workers(seed))
    assert sum(steady) > 100  # there were some to pass over
