"""What comes after the search: judged before it begins, run again where it failed, and beside folds and rungs."""

import math
import statistics

import pytest

from kubetune.api.spec import Json
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import steering
from kubetune.kube import errors
from kubetune.simulator import trials
from kubetune.simulator.run import Run
from tests.simulation.test_phases import FINALISTS, ONCE, REFIT, TEST, UID, ended, rows, small, until
from tests.simulation.test_reconcile import edit, status

SCORED = {"args": ["--score-test-set"]}


def refuse(run: Run, part: str, said: str) -> None:
    """The server takes no Job with this in its name."""
    refused = errors.Invalid(422, "Invalid", said)
    run.server.refuse = lambda body: refused if part in body["metadata"]["name"] else None


def take_all(run: Run) -> None:
    run.server.refuse = lambda body: None


# ---- judged before the first trial


@pytest.mark.parametrize("which", ["refit", "test"])
def test_a_run_that_the_server_would_refuse_at_the_end_is_said_before_the_first_trial(which: str) -> None:
    run = Run(small(ONCE))
    refuse(run, f"-{which}-", "spec.template.spec.volumes[0]: such a volume is not known")
    body = until(run, lambda: status(run).get("state") == "Invalid")
    assert body["message"].startswith(f"{which}: the API server refuses its Job")
    assert "such a volume is not known" in body["message"]
    assert not run.database.studies[UID].trials
    take_all(run)
    edit(run, **{which: {"args": ["--mended"]}})
    assert ended(run)["state"] == "Complete"


def test_an_edit_of_it_that_the_server_refuses_changes_nothing() -> None:
    run = Run(small(ONCE))
    until(run, lambda: len(rows(run, UID)) == 2)
    refuse(run, "-test-", "no such volume")
    edit(run, test={"args": ["--other"]})
    until(run, lambda: "the API server refuses its Job" in status(run)["message"])
    assert status(run)["state"] == "Running"
    take_all(run)
    body = ended(run)
    assert (body["state"], "value" in body["test"]) == ("Complete", True)


def test_finalists_of_a_search_in_workers_are_judged_as_the_jobs_that_they_are() -> None:
    container = {"name": "trial", "image": "trial:1", "command": ["train", "--x=$(x)"]}
    template = {"template": {"spec": {"containers": [container]}}}
    run = Run(small({**template, "execution": "workers"}))
    refuse(run, "-finalists-", "no Jobs of trials here")
    body = until(run, lambda: status(run).get("state") == "Invalid")
    assert body["message"].startswith("template: the API server refuses a finalist's Job")


# ---- after a failure


def test_finalists_that_failed_run_again_under_another_name() -> None:
    run = Run(small())
    refuse(run, "-finalists-", "no fresh runs today")
    body = ended(run)
    best = body["best"]
    assert (body["phase"]["name"], body["phase"]["failed"]) == ("finalists", True)
    assert f"the search's best is kept: trial {best['trial']}" in body["message"]
    assert "kubectl tune retry small" in body["message"]
    take_all(run)
    edit(run, finalists={"top": 2, "replicates": 2, "name": "retry-1"})
    until(run, lambda: status(run)["state"] == "Running")
    body = ended(run)
    assert (body["state"], body["winner"]["runs"], body["best"]) == ("Complete", 2, best)
    assert "phase" not in body
    assert len(rows(run, f"{FINALISTS}.retry-1")) == 4
    recorded = run.database.studies[UID].steering
    assert [each.subject for each in recorded if each.kind == steering.PHASE] == ["finalists.retry-1"]


def test_fresh_runs_under_another_name_are_fresh() -> None:
    run = Run(small())
    ended(run)
    edit(run, finalists={"top": 2, "replicates": 2, "name": "more"})
    until(run, lambda: status(run)["state"] == "Running")
    ended(run)
    seeds = [run.database.studies[f"{FINALISTS}{name}"].kept for name in ("", ".more")]
    first, second = ({*kept.spec["seeds"]} for kept in seeds if kept is not None)
    assert not first & second


def test_without_the_finalists_that_failed_the_searchs_best_goes_on() -> None:
    run = Run(small({**ONCE, "finalists": {"top": 2, "replicates": 1}}))
    refuse(run, "-finalists-", "no fresh runs today")
    assert ended(run)["reason"] == "PhaseFailed"
    take_all(run)
    edit(run, finalists=None)
    until(run, lambda: status(run)["state"] == "Running")
    body = ended(run)
    assert (body["state"], body["model"]["parameters"]) == ("Complete", body["best"]["parameters"])
    assert "winner" not in body


def test_finalists_come_too_late_once_there_is_a_model() -> None:
    run = Run(small(ONCE))
    before = ended(run)
    edit(run, finalists={"top": 2, "replicates": 1})
    until(run, lambda: status(run)["observedGeneration"] == 2)
    body = status(run)
    assert (body["state"], body["model"], FINALISTS in run.database.studies) == ("Complete", before["model"], False)
    assert "finalists came too late" in body["message"]


def test_a_test_that_never_reported_is_no_scoring() -> None:
    run = Run(small({**ONCE, "test": SCORED}))
    until(run, lambda: bool(rows(run, UID)))
    refuse(run, "-test-", "no test today")
    body = ended(run)
    assert (body["reason"], body["phase"]["name"]) == ("PhaseFailed", "test")
    assert "its model is version 1" in body["message"]
    assert "kubectl tune retry small" in body["message"]
    assert "value" not in body["test"]
    assert "seen" not in body["test"]
    take_all(run)
    edit(run, test={**SCORED, "name": "retry-1"})
    until(run, lambda: status(run)["state"] == "Running")
    body = ended(run)
    assert [(each["name"], "value" in each) for each in body["scorings"]] == [("test", False), ("test.retry-1", True)]
    assert len(rows(run, REFIT)) == 1


# ---- deadlines


def test_a_refit_has_a_deadline_of_its_own() -> None:
    once = {"args": ["--full-data"], "deadline": "2h"}
    run = Run(small({**ONCE, "refit": once, "deadline": {"trial": "2m"}}))
    ended(run)
    given = {
        job["metadata"]["labels"].get("kubetune.dev/phase", ""): job["spec"]["template"]["spec"].get(
            "activeDeadlineSeconds"
        )
        for job in run.cluster.jobs_made
    }
    assert given == {"": 120, "refit": 7200, "test": None}


# ---- beside folds, replicates and rungs


def test_with_folds_a_fresh_run_is_all_of_them_with_one_seed() -> None:
    run = Run(small({"validation": {"folds": 3}, "pruner": {"name": "none"}}, odd=0.0))
    body = ended(run)
    assert body["state"] == "Complete"
    found = rows(run, FINALISTS)
    assert [len(row.legs) for row in found] == [3] * 4
    for row in found:
        assert row.values is not None
        assert row.values[0] == pytest.approx(statistics.fmean(leg.values[0] for leg in row.legs))
    means = [row.values[0] for row in found if row.values]
    assert body["winner"]["mean"] == pytest.approx(max(statistics.fmean(means[0::2]), statistics.fmean(means[1::2])))
    seen = [variables(job) for job in run.cluster.jobs_made if job["metadata"]["labels"].get("kubetune.dev/phase")]
    runs = {(each["KUBETUNE_REPLICATE"], each["KUBETUNE_SEED"]) for each in seen}
    assert len(runs) == 2
    assert sorted(each["KUBETUNE_FOLD"] for each in seen) == sorted("012" * 4)


def test_replicates_of_the_search_are_not_those_of_the_finalists() -> None:
    run = Run(small({"replicates": {"max": 2, "min": 2}, "pruner": {"name": "none"}}, odd=0.0))
    body = ended(run)
    assert (body["state"], body["winner"]["runs"]) == ("Complete", 2)
    assert [len(row.legs) for row in rows(run, UID)] == [2] * 4
    assert [len(row.legs) for row in rows(run, FINALISTS)] == [0] * 4


def test_after_rungs_finalists_refit_and_test_get_all_of_the_resource() -> None:
    rungs = {
        "pruner": {"name": "asha", "settings": {"type": "promotion", "reductionFactor": 2}},
        "fidelity": {"name": trials.RESOURCE, "min": 1, "max": 4, "resume": "checkpoint"},
    }
    run = Run(small({**ONCE, **rungs, "maxTrials": 6, "finalists": {"top": 2, "replicates": 2}}, odd=0.0))
    body = ended(run)
    assert body["state"] == "Complete"
    complete = [row.number for row in rows(run, UID) if row.state is TrialState.COMPLETE]
    assert body["winner"]["trial"] in complete
    assert all(row.reason is Reason.COMPLETED and not row.legs for row in rows(run, FINALISTS))
    phases = [job for job in run.cluster.jobs_made if job["metadata"]["labels"].get("kubetune.dev/phase")]
    assert len(phases) == 2 * min(2, len(complete)) + 2
    assert {variables(job)[trials.RESOURCE] for job in phases} == {"4"}
    assert math.isfinite(body["test"]["value"])
    assert len(rows(run, TEST)) == 1


def variables(job: Json) -> dict[str, str]:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each.get("value", "") for each in container["env"]}
