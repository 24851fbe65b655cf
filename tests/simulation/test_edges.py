"""Edits that cannot be run change nothing; Jobs that somebody deletes and something holds block nothing."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.simulator.operators import SETTINGS, Operator
from kubetune.simulator.run import Run
from kubetune.simulator.scenario import REFUSED_IMAGE, Scenario, experiment, with_image
from tests.simulation.test_reconcile import begin, edit, until

# ---- edits that cannot be run


def invalid_condition(body: Json) -> Json | None:
    return next((found for found in body["conditions"] if found["type"] == "Invalid"), None)


BLUNDERS = {
    "no such parameter": (with_image("trial:1", "--y=$(y)"), "$(y) is neither a parameter"),
    "no such pattern": ({"metrics": {"pattern": "("}}, "metrics.pattern"),
    "refused by the server": (with_image(REFUSED_IMAGE), "the API server refuses the Job"),
}


@pytest.mark.parametrize("kind", BLUNDERS)
@pytest.mark.parametrize("restarted", [False, True])
def test_an_edit_that_cannot_be_run_changes_nothing_and_is_said(kind: str, restarted: bool) -> None:
    """The study goes on to its end by the spec before, also under an operator that has never seen that one."""
    run = begin(maxTrials=6)
    assert until(run, 6)["state"] == "Running"
    blunder, words = BLUNDERS[kind]
    edit(run, **blunder, maxTrials=40)
    if restarted:
        run.operator()
    body = until(run, 12)
    assert (body["state"], body["observedGeneration"]) == ("Running", 1)
    found = invalid_condition(body)
    assert found is not None
    assert (found["status"], found["reason"], found["observedGeneration"]) == ("True", "InvalidSpec", 2)
    assert words in found["message"]
    assert found["message"].endswith("the experiment goes on with the spec of generation 1")
    assert found["message"] in body["message"]
    ended = until(run, 300)
    assert (ended["state"], ended["counts"]["total"]) == ("Complete", 6)
    images = {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in run.cluster.jobs_made}
    assert images == {"trial:1"}
    assert invalid_condition(until(run, 400)) == invalid_condition(ended)


def test_mended_it_goes_on_with_the_new_spec() -> None:
    run = begin(maxTrials=6)
    until(run, 6)
    edit(run, **with_image(REFUSED_IMAGE))
    until(run, 12)
    edit(run, **with_image("trial:2"), maxTrials=7)
    body = until(run, 15)
    found = invalid_condition(body)
    assert found is not None
    assert (found["status"], body["observedGeneration"]) == ("False", 3)
    assert until(run, 300)["counts"]["total"] == 7
    images = [job["spec"]["template"]["spec"]["containers"][0]["image"] for job in run.cluster.jobs_made]
    assert set(images) == {"trial:1", "trial:2"}


@pytest.mark.parametrize("restarted", [False, True])
def test_suspend_is_obeyed_in_a_spec_that_cannot_be_run(restarted: bool) -> None:
    run = begin()
    until(run, 6)
    edit(run, **with_image("trial:1", "--y=$(y)"), suspend=True)
    if restarted:
        run.operator()
    body = until(run, 15)
    assert (body["state"], body["active"]) == ("Suspended", 0)
    assert not list(run.server.all("jobs"))
    edit(run, suspend=False)
    assert until(run, 300)["state"] == "Complete"


def test_the_server_is_asked_about_an_edit_of_the_template_once_and_about_no_other() -> None:
    run = begin(maxTrials=40, parallelism={"max": 4})
    asked: list[str] = []
    for operator in run.operators:
        note_dry_runs(operator, asked)
    until(run, 10)
    assert asked == ["trial:1"]
    edit(run, parallelism={"max": 2})
    until(run, 15)
    assert asked == ["trial:1"]
    edit(run, **with_image("trial:2"))
    until(run, 20)
    assert asked == ["trial:1", "trial:2"]
    edit(run, **with_image(REFUSED_IMAGE))
    until(run, 45)
    assert asked == ["trial:1", "trial:2", REFUSED_IMAGE]
    until(run, 55)  # after the resync, since what is refused may be taken later
    assert asked == ["trial:1", "trial:2", REFUSED_IMAGE, REFUSED_IMAGE]


def test_where_trials_run_in_workers_the_server_is_asked_about_a_worker() -> None:
    def template(image: str) -> Json:
        container = {"name": "trial", "image": image, "command": ["train", "--x=$(x)"]}
        return {"template": {"spec": {"containers": [container]}}}

    run = begin(execution="workers", maxTrials=40, **template(REFUSED_IMAGE))
    asked: list[str] = []
    for operator in run.operators:
        note_dry_runs(operator, asked, lambda job: job["metadata"]["labels"][names.LABEL_COMPONENT])
    body = until(run, 10)
    assert asked == ["worker"]
    assert (body["state"], "refuses the Job" in body["message"]) == ("Invalid", True)
    assert not list(run.server.all("jobs"))
    edit(run, **template("trial:1"))
    until(run, 60)
    assert asked == ["worker"] * 2
    assert list(run.server.all("jobs"))


def image_of(job: Json) -> str:
    return str(job["spec"]["template"]["spec"]["containers"][0]["image"])


def note_dry_runs(operator: Operator, asked: list[str], what: Callable[[Json], str] = image_of) -> None:
    client = operator._reconciler._tools.cluster._client  # type: ignore[attr-defined]
    create = client.create

    def noted(resource: Any, namespace: Any, body: Any, dry_run: bool = False, strict: bool = False) -> Any:
        if dry_run:
            asked.append(what(body))
        return create(resource, namespace, body, dry_run, strict)

    client.create = noted


def test_an_edit_after_the_end_leaves_the_end() -> None:
    run = begin()
    ended = until(run, 200)
    edit(run, **with_image("trial:1", "--y=$(y)"))
    again = until(run, 300)
    assert (again["state"], again["completionTime"]) == ("Complete", ended["completionTime"])
    found = invalid_condition(again)
    assert found is not None
    assert found["status"] == "True"


# ---- Jobs that somebody deletes, and that something holds


def hanging() -> Run:
    """One trial, which reports for a while and then runs on for ever; after a few seconds, its Job is deleted and
    held."""
    run = Run(Scenario(3, (experiment("small", maxTrials=1),), kinds=("hangs",), odd=1.0))
    until(run, 8)
    (job,) = run.server.all("jobs")
    run.cluster.hold_job(job, 10_000.0, False)
    return run


def attempt(run: Run) -> int:
    return run.database.studies["uid-small"].trials[0].row.attempt


def test_a_held_job_on_a_node_that_is_lost_is_not_waited_for() -> None:
    run = hanging()
    run.cluster.lose(run.cluster.nodes["node-0"])
    run.cluster.lose(run.cluster.nodes["node-1"])
    assert attempt(run) == 1
    until(run, 30)
    assert attempt(run) == 2


def test_a_held_job_whose_pod_runs_is_waited_for_up_to_the_grace() -> None:
    run = hanging()
    until(run, 8 + SETTINGS.deletion_grace / 2)
    assert (attempt(run), len(run.cluster.jobs_made)) == (1, 1)
    until(run, 8 + SETTINGS.deletion_grace + 10)
    assert (attempt(run), len(run.cluster.jobs_made)) == (2, 2)


def test_a_held_job_delays_no_stop() -> None:
    run = hanging()
    edit(run, stopTrials=[0])
    assert until(run, 12)["state"] == "Complete"


def test_an_unrecorded_job_on_its_way_out_is_an_attempt_that_is_over() -> None:
    """Created before a crash, never recorded, and deleted by hand since: the next Job is of the next attempt."""
    run = hanging()
    trial = run.database.studies["uid-small"].trials[0]
    run.operators[0].stop()
    trial.row = dataclasses.replace(trial.row, job_uid=None)
    run.operator()
    until(run, 12)
    assert trial.row.job_uid is not None
    until(run, 8 + SETTINGS.deletion_grace + 10)
    assert attempt(run) == 2
    names = [job["metadata"]["name"] for job in run.cluster.jobs_made]
    assert len(set(names)) == len(names) == 2
