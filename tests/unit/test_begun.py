"""Phases that have ended: what failed, what it means, and what is said to do about it."""

import dataclasses
from typing import Any

import pytest

from kubetune.api import spec as api
from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import Best, Counts, Reason, TrialRow, TrialState
from kubetune.controller import begun, epilogue_status
from kubetune.controller.begun import Begun, Look
from kubetune.controller.plan import Observed, Plan
from kubetune.simulator.scenario import experiment
from kubetune.storage.base import Version

BEST = Best(3, (0.5,), {"x": 0.5})
MODEL = Version(2, "refit", "s3://m", "", "trial:1", {"x": 0.5}, 0.0)
ENDED = TrialRow(0, TrialState.COMPLETE, {"x": 0.5}, 1, 0.0, values=(0.5,), ended=9.0)
FAILED = dataclasses.replace(ENDED, state=TrialState.FAIL, values=None, reason=Reason.EXIT_CODE, message="exit code 1")


def phase(name: str, *rows: TrialRow, ended: bool = True) -> Begun:
    plan = Plan((), "Failed" if rows == (FAILED,) else "Complete", Reason.MAX_FAILED_TRIALS, "1 trials failed")
    return Begun(name, {"form": {}}, Look(plan, Observed({}, Counts(), ())), ended, len(rows), rows)


def of(**spec: Any) -> ExperimentSpec:
    return api.parse(experiment("exp", **spec))


def test_what_runs_has_not_failed() -> None:
    running = phase("refit", ended=False)
    assert (running.failed, running.well) == (False, False)
    assert begun.failure(of(refit={}), {"refit": running}) is None


def test_only_what_the_spec_asks_for_holds_the_rest_up() -> None:
    found = {"refit": phase("refit", FAILED)}
    assert begun.failure(of(refit={}), found) is found["refit"]
    assert begun.failure(of(refit={"name": "mended"}), found) is None
    assert begun.failure(of(test={}), found) is None


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        ({}, ["finalists", "refit"]),
        ({"finalists": phase("finalists", FAILED)}, ["finalists", "refit"]),
        ({"refit": phase("refit", FAILED)}, ["finalists", "refit"]),  # nothing was made of the winner
        ({"refit": phase("refit", ended=False)}, ["refit"]),
        ({"refit": phase("refit", ENDED)}, ["refit"]),
    ],
)
def test_who_wins_is_settled_once_something_is_made_of_it(after: dict[str, Begun], wanted: list[str]) -> None:
    assert begun.wanted(of(finalists={}, refit={}), after) == wanted


def test_a_test_that_had_reported_is_looked_at_again_by_name_only() -> None:
    unseen = phase("test", FAILED)
    seen = phase("test", dataclasses.replace(FAILED, last_metrics={"loss": 0.1}))
    spec = of(test={})
    assert "kubectl tune retry" not in begun.failed(spec, seen, "").message
    assert "kubectl tune retry exp" in begun.failed(spec, unseen, "").message
    assert "kubectl tune test exp --again second-look" in begun.failed(spec, seen, "").message
    told = [epilogue_status._scoring(begun.scoring(each)) for each in (unseen, seen, phase("test", ENDED))]
    assert [("value" in each, each.get("seen")) for each in told] == [(False, None), (False, True), (True, None)]


def test_what_is_kept_is_said_and_the_way_on_is_never_cut() -> None:
    long = dataclasses.replace(FAILED, message="no " * 1000)
    kept = begun.kept(of(), BEST, None, MODEL)
    assert kept == "the search's best is kept: trial 3, score = 0.5, its model is version 2"
    said = begun.failed(of(finalists={}), phase("finalists", long), kept)
    assert (said.state, said.reason) == ("Failed", Reason.PHASE_FAILED)
    assert len(said.message) < 1024
    assert said.message.endswith("or leave finalists out to go on with the search's best")
