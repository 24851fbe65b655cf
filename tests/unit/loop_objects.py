"""Builders for the loop's tests: specs, rows, Jobs and what is observed; only what is said differs from the usual."""

import dataclasses
from typing import Any

from kubetune.api.spec import Double, ExperimentSpec, Objective
from kubetune.api.trial import Counts, Finish, TrialRow, TrialState
from kubetune.controller.plan import JobPhase, JobView, Observed, PodView

NOW = 1_000.0
UID = "3b3c2f2e-1d9a-4c54-9f6c-0a1b2c3d4e5f"


def spec(**changes: Any) -> ExperimentSpec:
    """Ten trials, two at a time."""
    plain = ExperimentSpec(
        namespace="team-a",
        name="digits",
        uid=UID,
        generation=3,
        objectives=(Objective("accuracy", "maximize"),),
        parameters={"lr": Double(1e-4, 1e-1, log=True)},
        template={"spec": {"containers": [{"name": "trial", "image": "digits:1"}]}},
        max_trials=10,
        max_failed_trials=3,
        parallelism=2,
    )
    return dataclasses.replace(plain, **changes)


def row(number: int = 0, **changes: Any) -> TrialRow:
    """RUNNING, first attempt, its Job recorded."""
    plain = TrialRow(number, TrialState.RUNNING, {"lr": 0.01}, 1, NOW - 100, job_uid=f"job-{number}-1")
    return dataclasses.replace(plain, **changes)


def pod(**changes: Any) -> PodView:
    """Runs on node-a."""
    plain = PodView("pod-1", "the-pod", node="node-a", phase="Running", created=NOW - 90, started=NOW - 80)
    return dataclasses.replace(plain, **{"scheduled": True, **changes})


def job(number: int = 0, attempt: int = 1, **changes: Any) -> JobView:
    """A Job whose pod runs."""
    name, uid = f"digits-{number}-{attempt}", f"job-{number}-{attempt}"
    plain = JobView(name, uid, number, attempt, NOW - 95, JobPhase.RUNNING, pod=pod())
    return dataclasses.replace(plain, **changes)


def succeeded(number: int = 0, **changes: Any) -> JobView:
    ending = pod(phase="Succeeded", exit_code=0, terminated="Completed")
    return job(number, **{"phase": JobPhase.SUCCEEDED, "ended": NOW - 1, "pod": ending, **changes})


def failed(number: int = 0, **changes: Any) -> JobView:
    """Exited with code 1."""
    ending = pod(phase="Failed", exit_code=1, terminated="Error", terminated_message="no such file")
    failure = {"phase": JobPhase.FAILED, "failure": "BackoffLimitExceeded", "ended": NOW - 1, "pod": ending}
    return job(number, **{**failure, **changes})


def pending(number: int = 0, **changes: Any) -> JobView:
    """Its pod starts."""
    starting = pod(phase="Pending", started=None, waiting="ContainerCreating")
    return job(number, **{"phase": JobPhase.PENDING, "pod": starting, **changes})


def finish(status: str = "complete", time: float = NOW - 1) -> Finish:
    return Finish(1, status, "", time)


def seen(*rows: TrialRow, jobs: tuple[JobView, ...] = (), **changes: Any) -> Observed:
    """These trials run; nothing else was ever asked."""
    plain = Observed(
        running={each.number: each for each in rows}, counts=Counts(running=len(rows)), jobs=jobs, started=NOW - 100
    )
    return dataclasses.replace(plain, **changes)
