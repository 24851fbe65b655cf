"""What comes after the search: over kills, edits, suspends and deadlines; the search's end stays as it was."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.kube import errors
from kubetune.simulator.census import study_of
from kubetune.simulator.run import Result, Run, simulate
from kubetune.simulator.scenario import REFUSED_IMAGE, Scenario, experiment, with_image
from tests.simulation.test_reconcile import edit, status

SHORT = {"maxTrials": 2, "finalists": {"top": 2, "replicates": 1}}
UID, FINALISTS = "uid-small", "uid-small/finalists"


def small(spec: Json | None = None, **changes: Any) -> Scenario:
    body = {"maxTrials": 4, "parallelism": {"max": 2}, "finalists": {"top": 2, "replicates": 2}, **(spec or {})}
    return dataclasses.replace(Scenario(3, (experiment("small", **body),)), **changes)


def until(run: Run, there: Callable[[], bool], seconds: float = 600.0) -> Json:
    """Let time pass until something is there; the status then."""
    end = run.world.now + seconds
    while not there():
        assert run.world.now < end, run.world.trace[-10:]
        run.world.step()
        run.watchdog.step()
    found = run.server.get("experiments", "team-a", "small") or {}
    return dict(found.get("status") or {})


def ended(run: Run) -> Json:
    return until(run, lambda: status(run).get("state") in ("Complete", "Failed"))


def rows(run: Run, uid: str) -> list[TrialRow]:
    study = run.database.studies.get(uid)
    return [] if study is None else [trial.row for trial in study.trials.values()]


def test_finalists_run_after_the_search_and_a_winner_is_told() -> None:
    run = Run(small())
    begun = until(run, lambda: "phase" in status(run))
    assert begun["state"] == "Running"
    assert begun["phase"]["name"] == "finalists"
    assert begun["counts"]["complete"] == 4
    assert run.database.studies[UID].row.ended is not None
    body = ended(run)
    assert (body["state"], body["reason"]) == ("Complete", "MaxTrials")
    assert "phase" not in body
    assert body["winner"]["runs"] == 2
    assert len(rows(run, FINALISTS)) == 4
    assert {each["type"]: each["status"] for each in body["conditions"]}["Winner"] == "True"


def killed_at(write: int) -> Result:
    return simulate(small(SHORT, crash_at=write))


def test_a_kill_at_any_write_changes_nothing() -> None:
    """Before and after every single write, one run each: the same trials in the same Jobs, each created once."""
    calm = simulate(small(SHORT))
    assert (calm.trials, calm.jobs, calm.states) == (4, 4, ("Complete",))
    for write in range(1, calm.writes + 1):
        found = killed_at(write)
        assert (found.names, found.jobs, found.trials) == (calm.names, 4, 4), f"killed at write {write}"
        assert (found.states, found.reasons, found.operators) == (calm.states, calm.reasons, 2)


def test_an_edit_counts_until_the_phase_begins() -> None:
    run = Run(small())
    until(run, lambda: len(rows(run, UID)) == 2)
    edit(run, finalists={"top": 1, "replicates": 3})
    until(run, lambda: len(rows(run, FINALISTS)) > 0)
    edit(run, finalists={"top": 4, "replicates": 9})
    body = ended(run)
    assert (len(rows(run, FINALISTS)), body["winner"]["runs"]) == (3, 3)
    assert "runnerUp" not in body["winner"]


def test_asked_for_after_the_search_has_ended() -> None:
    run = Run(small({"finalists": None}))
    before = ended(run)
    assert "winner" not in before
    edit(run, finalists={"top": 2, "replicates": 1})
    until(run, lambda: status(run)["state"] == "Running")
    body = ended(run)
    assert body["winner"]["runs"] == 1
    assert (body["reason"], body["counts"]["total"]) == ("MaxTrials", 4)


def test_suspended_it_waits_and_goes_on() -> None:
    run = Run(small())
    until(run, lambda: len(rows(run, FINALISTS)) > 0)
    edit(run, suspend=True)
    body = until(run, lambda: status(run)["state"] == "Suspended" and not run.cluster.pods)
    assert body["phase"]["name"] == "finalists"
    assert "Complete" not in {each["type"] for each in body["conditions"] if each["status"] == "True"}
    edit(run, suspend=False)
    assert ended(run)["state"] == "Complete"
    assert all(row.state is TrialState.COMPLETE for row in rows(run, FINALISTS))


def test_suspended_before_it_begins_nothing_begins() -> None:
    run = Run(small())
    until(run, lambda: len(rows(run, UID)) == 4)
    edit(run, suspend=True)
    until(run, lambda: status(run)["state"] == "Suspended" and not run.cluster.pods)
    edit(run, suspend=False, finalists={"top": 1, "replicates": 1})
    ended(run)
    assert len(rows(run, FINALISTS)) == 1


def test_the_deadline_is_the_experiments() -> None:
    """It counts from the search's start; what it cuts short ends, and what has no time left does not begin."""
    calm = Run(small())
    ended(calm)
    first = min(row.created for row in rows(calm, FINALISTS)) - calm.database.studies[UID].row.created
    run = Run(small({"deadline": {"experiment": f"{int(first) + 1}s"}}))
    until(run, lambda: bool(rows(run, FINALISTS)))
    body = ended(run)
    assert run.database.studies[FINALISTS].row.end_reason is Reason.EXPERIMENT_DEADLINE
    assert all(row.state is not TrialState.RUNNING for row in rows(run, FINALISTS))
    assert (body["state"], body["reason"]) == ("Failed", "PhaseFailed")
    late = Run(small({"deadline": {"experiment": "3s"}}))
    ended(late)
    assert FINALISTS not in late.database.studies


def test_runs_that_all_fail_fail_the_experiment_and_say_why() -> None:
    run = Run(small())
    refused = errors.Invalid(422, "Invalid", "no fresh runs today")
    run.server.refuse = lambda body: refused if "-finalists-" in body["metadata"]["name"] else None
    body = ended(run)
    assert (body["state"], body["reason"]) == ("Failed", "PhaseFailed")
    assert "finalists: three trials in a row failed to start" in body["message"]
    assert "no fresh runs today" in body["message"]
    assert (body["counts"]["complete"], body["best"]["trial"] >= 0) == (4, True)


def test_a_deleted_experiment_takes_its_phases_along() -> None:
    run = Run(small())
    until(run, lambda: len(rows(run, FINALISTS)) > 0)
    found = run.server.get("experiments", "team-a", "small")
    assert found is not None
    run.server.remove("experiments", found)
    run._collect(UID)
    until(run, lambda: run.database.studies[FINALISTS].deleted is not None)
    assert all(row.reason is Reason.EXPERIMENT_DELETED for row in rows(run, FINALISTS) if row.ended == run.world.now)
    until(run, lambda: not run.server.all("jobs") and not run.cluster.pods)


def test_a_template_that_the_server_refuses_stops_nothing() -> None:
    run = Run(small())
    until(run, lambda: len(rows(run, FINALISTS)) > 0)
    edit(run, **with_image(REFUSED_IMAGE))
    body = ended(run)
    assert body["state"] == "Complete"
    assert all(row.state is TrialState.COMPLETE for row in rows(run, FINALISTS))


# ---- refit and test

ONCE = {"maxTrials": 2, "finalists": None, "refit": {"args": ["--full-data"]}, "test": {"args": ["--score-test-set"]}}
REFIT, TEST = "uid-small/refit", "uid-small/test"


def test_the_best_is_refitted_and_then_scored_with_its_model() -> None:
    run = Run(small(ONCE))
    body = ended(run)
    assert (body["state"], body["reason"]) == ("Complete", "MaxTrials")
    best = body["best"]["parameters"]
    assert (body["model"]["version"], body["model"]["parameters"], body["model"]["image"]) == (1, best, "trial:1")
    (scored,) = rows(run, TEST)
    assert body["test"]["value"] == (scored.values or ())[0]
    assert [each["name"] for each in body["scorings"]] == ["test"]
    pods = {job["metadata"]["labels"].get("kubetune.dev/phase"): job for job in run.cluster.jobs_made}
    container = pods["test"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--x=$(x)", "--score-test-set"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["KUBETUNE_MODEL"] == body["model"]["address"]


def test_with_finalists_it_is_their_winner() -> None:
    run = Run(small({**ONCE, "finalists": {"top": 2, "replicates": 2}}))
    body = ended(run)
    assert body["model"]["parameters"] == body["winner"]["parameters"]
    assert [names.phase_of(study.row.uid) for study in run.database.studies.values()] == [
        "",
        "finalists",
        "refit",
        "test",
    ]


def test_scored_once_whatever_is_edited_and_again_by_name_only() -> None:
    run = Run(small(ONCE))
    first = ended(run)
    edit(run, test={"args": ["--score-it-better"]})
    until(run, lambda: status(run)["observedGeneration"] == 2)
    body = status(run)
    assert (body["state"], body["test"]) == ("Complete", first["test"])
    assert "give test.name another name" in body["message"]
    edit(run, test={"args": ["--score-it-better"], "name": "second-look"})
    until(run, lambda: len(rows(run, "uid-small/test.second-look")) == 1)
    body = ended(run)
    assert [each["name"] for each in body["scorings"]] == ["test", "test.second-look"]
    assert body["scorings"][0] == first["test"]
    assert len(rows(run, TEST)) == 1


def alone(run: Run) -> bool:
    """The test's Job and pod are the only ones there are."""
    return len(run.cluster.pods) == 1 and [study_of(job) for job in run.server.all("jobs")] == [TEST]


def test_a_run_that_is_lost_is_made_again_until_a_score_was_accepted() -> None:
    run = Run(small(ONCE))
    until(run, lambda: any(row.job_uid for row in rows(run, TEST)) and alone(run))
    assert not rows(run, TEST)[0].last_metrics
    run._lose("delete job")
    until(run, lambda: rows(run, TEST)[0].attempt == 2 and bool(rows(run, TEST)[0].last_metrics))
    run._lose("delete job")
    body = ended(run)
    (row,) = rows(run, TEST)
    assert (row.state, row.attempt) == (TrialState.COMPLETE, 2)
    assert body["test"]["value"] == (row.values or ())[0]


@pytest.mark.parametrize("kind", ["evict", "delete pod"])
def test_a_run_that_scores_on_its_way_out_is_not_made_again(kind: str) -> None:
    """A pod that is asked to go may still report for a while."""
    run = Run(small(ONCE))
    until(run, lambda: any(row.job_uid for row in rows(run, TEST)) and alone(run))
    run._lose(kind)
    body = ended(run)
    (row,) = rows(run, TEST)
    reports = run.database.studies[TEST].trials[0].reports
    assert {report.attempt for report in reports} == {row.attempt}
    assert body["test"]["value"] == (row.values or ())[0]


def test_a_kill_at_any_write_of_refit_and_test_changes_nothing() -> None:
    spec = {**ONCE, "maxTrials": 1}
    calm = simulate(small(spec))
    assert (calm.trials, calm.jobs, calm.states) == (3, 3, ("Complete",))
    for write in range(1, calm.writes + 1):
        found = simulate(small(spec, crash_at=write))
        assert (found.names, found.jobs, found.trials) == (calm.names, 3, 3), f"killed at write {write}"
        assert (found.states, found.reasons) == (calm.states, calm.reasons)


def test_a_refit_that_fails_is_said_and_made_again_under_another_name() -> None:
    run = Run(small(ONCE))
    refused = errors.Invalid(422, "Invalid", "no refit today")
    until(run, lambda: bool(rows(run, UID)))
    run.server.refuse = lambda body: refused if "-refit-" in body["metadata"]["name"] else None
    body = ended(run)
    assert (body["state"], body["reason"]) == ("Failed", "PhaseFailed")
    assert "no refit today" in body["message"]
    assert "give refit.name another name" in body["message"]
    assert TEST not in run.database.studies
    run.server.refuse = lambda body: None
    edit(run, refit={"args": ["--full-data"], "name": "mended"})
    until(run, lambda: status(run)["state"] == "Running")
    body = ended(run)
    assert (body["state"], body["model"]["phase"]) == ("Complete", "refit.mended")
    assert "value" in body["test"]
