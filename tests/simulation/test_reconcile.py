"""What a reconcile says and does not do: specs that cannot run, Jobs that are refused, ends that stay."""

import itertools
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api.checkpoints import Checkpoint
from kubetune.api.searcher import SamplerFailed
from kubetune.api.spec import Json
from kubetune.api.trial import TrialRow, TrialState
from kubetune.engine.engine import Engine
from kubetune.kube import errors
from kubetune.simulator.run import Run
from kubetune.simulator.scenario import Scenario, experiment
from kubetune.simulator.world import BEGIN


def begin(**spec: Any) -> Run:
    return Run(Scenario(3, (experiment("small", **{"maxTrials": 4, **spec}),)))


def until(run: Run, seconds: float) -> Json:
    """Let time pass; the status then."""
    while run.world.now < BEGIN + seconds:
        run.world.step()
        run.watchdog.step()
    return status(run)


def status(run: Run) -> Json:
    found = run.server.get("experiments", "team-a", "small")
    assert found is not None
    return dict(found.get("status") or {})


def state(run: Run, name: str) -> str:
    found = run.server.get("experiments", "team-a", name) or {}
    return str(found.get("status", {}).get("state"))


def edit(run: Run, **spec: Any) -> None:
    found = run.server.get("experiments", "team-a", "small")
    assert found is not None
    metadata = {**found["metadata"], "generation": found["metadata"]["generation"] + 1}
    run.server.put("experiments", {**found, "metadata": metadata, "spec": {**found["spec"], **spec}})


def test_a_spec_that_cannot_run_says_so_within_seconds_and_starts_nothing() -> None:
    run = begin()
    container = {"name": "trial", "image": "x", "args": ["--y=$(y)"]}
    edit(run, template={"spec": {"containers": [container]}})
    body = until(run, 5)
    assert (body["state"], body["reason"]) == ("Invalid", "InvalidSpec")
    assert "$(y)" in body["message"]
    assert not run.cluster.jobs_made
    assert not run.database.studies
    edit(run, template={"spec": {"containers": [{"name": "trial", "image": "x"}]}})
    assert until(run, 200)["state"] == "Complete"


def test_of_ended_trials_only_the_bests_last_checkpoint_stays() -> None:
    run = begin(checkpoints={"claim": "shared"})
    while state(run, "small") != "Complete":
        run.world.step()
        for study in run.database.studies.values():
            for number in study.running:
                for step in (1, 2):
                    one = Checkpoint(number, 1, step, f"{number}/1-{step}", "0" * 64, 1, 1)
                    study.checkpoints.commit(one, keep=2, now=run.world.now)
    best = status(run)["best"]["trial"]
    (study,) = run.database.studies.values()
    assert len(study.checkpoints.stored) == 8
    assert study.checkpoints.staying == (f"{best}/1-2",)


def checkpointed(run: Run, name: str) -> None:
    """Until it is over, each of its running trials commits one."""
    while state(run, name) != "Complete":
        run.world.step()
        for study in run.database.studies.values():
            for number in study.running if study.row.name == name else ():
                study.checkpoints.commit(
                    Checkpoint(number, 1, 1, f"{number}/1-1", f"{number}" * 64, 1, 1), 2, run.world.now
                )


def test_what_the_best_of_another_left_is_what_every_trial_starts_from() -> None:
    first = experiment("first", maxTrials=4, checkpoints={"claim": "shared", "path": "runs"})
    given = {"initCheckpoint": {"from": {"experiment": "first"}}}
    run = Run(Scenario(3, (experiment("small", maxTrials=2, **given), first)))
    checkpointed(run, "first")
    awaiting = status(run)
    assert (awaiting["state"], awaiting["reason"]) == ("Pending", "Awaiting")
    assert "first is still running" in awaiting["message"]
    assert [each["status"] for each in awaiting["conditions"]] == ["False"]  # Running; and none is Invalid
    until(run, run.world.now - BEGIN + 10)
    source = run.server.get("experiments", "team-a", "first")
    assert source is not None
    best = source["status"]["best"]["trial"]
    digest = f"{best}" * 64
    assert status(run)["initCheckpoint"] == {"experiment": "first", "trial": best, "step": 1, "digest": digest}
    (job, *_) = (each for each in run.cluster.jobs_made if each["metadata"]["name"].startswith("small-"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == names.INIT_VOLUME)
    assert mount["subPath"] == f"runs/{source['metadata']['uid']}/{best}/1-1"
    assert mount["readOnly"]
    assert {"name": names.ENV_INIT_DIGEST, "value": digest} in container["env"]


def test_a_job_that_the_server_refuses_is_found_before_the_first_trial() -> None:
    run = begin()
    run.server.refuse = lambda body: errors.Invalid(422, "Invalid", "spec.template: unknown field imagee")
    body = until(run, 40)
    assert body["state"] == "Invalid"
    assert "unknown field imagee" in body["message"]
    assert all(not study.trials for study in run.database.studies.values())
    run.server.refuse = lambda body: None
    assert until(run, 300)["state"] == "Complete"


def test_jobs_refused_later_fail_their_trials_and_after_three_the_experiment() -> None:
    run = begin(maxTrials=50, parallelism={"max": 1})
    until(run, 5)
    run.server.refuse = lambda body: errors.Forbidden(403, "Forbidden", "a policy says no")
    body = until(run, 200)
    assert (body["state"], body["reason"]) == ("Failed", "StartFailures")
    assert "a policy says no" in body["message"]
    assert body["failures"] == [{"reason": "JobRefused", "count": 3}]


def test_a_quota_is_waited_for() -> None:
    run = begin()
    run.server.refuse = lambda body: errors.QuotaExceeded(403, "Forbidden", "exceeded quota")
    body = until(run, 60)
    assert (body["state"], body["counts"]["pending"], body["active"]) == ("Running", 2, 0)
    run.server.refuse = lambda body: None
    assert until(run, 300)["counts"]["complete"] + status(run)["counts"]["pruned"] == 4


def test_suspended_it_says_so_and_resumes_the_same_trials() -> None:
    run = begin()
    until(run, 6)
    before = set(run.database.studies["uid-small"].trials)
    edit(run, suspend=True)
    body = until(run, 12)
    assert (body["state"], body["active"]) == ("Suspended", 0)
    assert body["parallelism"] == {"current": 0, "reason": "Suspended"}
    assert not list(run.server.all("jobs"))
    trials = run.database.studies["uid-small"].trials
    assert set(trials) == before
    assert all(trial.row.state is TrialState.RUNNING for trial in trials.values())
    edit(run, suspend=False)
    assert until(run, 300)["state"] == "Complete"


def test_an_end_stays_when_max_trials_is_raised_afterwards() -> None:
    run = begin()
    ended = until(run, 200)
    edit(run, maxTrials=50)
    again = until(run, 400)
    assert (again["state"], again["completionTime"]) == ("Complete", ended["completionTime"])
    assert again["counts"] == ended["counts"]
    assert again["observedGeneration"] == 2


def test_figures_alone_are_written_at_most_once_a_second() -> None:
    run = begin(maxTrials=60, parallelism={"max": 20})
    writes_of_status: list[tuple[float, str]] = []

    def watch(plural: str, raw: Json, deleted: bool) -> None:
        if plural == "experiments" and raw.get("status"):
            writes_of_status.append((run.world.now, raw["status"]["state"]))

    run.server.watchers.append(watch)
    until(run, 400)
    gaps = [
        later - earlier
        for (earlier, before), (later, after) in itertools.pairwise(writes_of_status)
        if before == after == "Running"
    ]
    assert len(gaps) > 5
    assert sum(gap < 0.99 for gap in gaps) <= 1  # the one that says that all trials are made


def test_a_sampler_still_at_work_is_not_asked_in_a_loop_and_its_wake_starts_the_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    ready: list[None] = []

    def slowly(engine: Engine, count: int, offered: bool = False) -> list[TrialRow]:
        asked.append(count)
        return whole(engine, min(count, 1)) if ready else []

    whole = Engine.ask
    monkeypatch.setattr(Engine, "ask", slowly)
    run = begin(parallelism={"max": 3}, maxTrials=3)
    body = until(run, 20)
    assert body["state"] == "Running"
    assert len(asked) <= 3
    ready.append(None)
    run.operators[0].wake(run.server.get("experiments", "team-a", "small")["metadata"]["uid"], 0.0)  # type: ignore[index]
    asked.clear()
    until(run, run.world.now - BEGIN + 1)
    assert asked[:3] == [3, 2, 1]  # what came in part is asked for again at once
    assert until(run, 300)["state"] == "Complete"


def test_a_sampler_that_fails_is_told_left_in_peace_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    real = Engine.ask
    run = begin()

    def ask(engine: Engine, count: int, offered: bool = False) -> list[TrialRow]:
        asked.append(run.world.now)
        if run.world.now < BEGIN + 60:
            raise SamplerFailed("Traceback\n  in choose\nOSError: http://tpe cannot be asked: refused\n")
        return real(engine, count, offered)

    monkeypatch.setattr(Engine, "ask", ask)
    body = until(run, 40)
    failed = {each["type"]: each for each in body["conditions"]}["SamplerFailed"]
    assert (failed["status"], "OSError: http://tpe cannot be asked: refused" in failed["message"]) == ("True", True)
    assert body["counts"]["total"] == 0
    body = until(run, 300)
    assert body["state"] == "Complete"
    assert {each["type"]: each["status"] for each in body["conditions"]}["SamplerFailed"] == "False"
    waits = [later - earlier for earlier, later in itertools.pairwise(at for at in asked if at < BEGIN + 60)]
    assert waits
    assert all(later >= earlier for earlier, later in itertools.pairwise(waits))
    assert min(waits) >= 5


def test_figures_of_many_experiments_are_written_in_turns_and_their_ends_at_once() -> None:
    names = [f"e{number}" for number in range(16)]
    run = Run(Scenario(3, tuple(experiment(name, maxTrials=12, parallelism={"max": 4}) for name in names)))
    written: list[tuple[float, bool]] = []
    real = run.server.put

    def put(plural: str, changed: Json) -> Json:
        metadata = changed["metadata"]
        before = (run.server.get(plural, metadata["namespace"], metadata["name"]) or {}).get("status")
        after = changed.get("status")
        if plural == "experiments" and before and after and before != after:
            telling = ("state", "reason", "parallelism")
            written.append((run.world.now, all(before[field] == after[field] for field in telling)))
        return real(plural, changed)

    run.server.put = put  # type: ignore[method-assign]
    while not all(state(run, name) == "Complete" for name in names):
        run.world.step()
        run.watchdog.step()
    figures = [at for at, same in written if same]
    assert figures
    assert max(sum(begin <= at < begin + 1 for at in figures) for begin in figures) <= 5


def test_too_little_left_to_gain_ends_it_and_the_status_says_how_much() -> None:
    pytest.importorskip("sklearn")
    run = begin(
        maxTrials=60,
        maxFailedTrials=60,
        parallelism={"max": 6},
        parameters={"x": {"double": [0.0, 1.0]}},
        stop={"regretBound": {"below": 1e6, "minTrials": 10}},
    )
    body = until(run, 3000)
    assert (body["state"], body["reason"]) == ("Complete", "RegretBound")
    assert body["counts"]["total"] < 60
    found = body["regretBound"]
    assert found["trials"] >= 10
    assert 0 <= found["bound"] < found["below"] == 1e6
    assert found["message"] in body["message"]
    run.watchdog.step()


def test_a_bound_by_runs_that_all_came_to_the_same_ends_nothing_and_says_so() -> None:
    pytest.importorskip("sklearn")
    run = begin(maxTrials=12, maxFailedTrials=60, validation={"folds": 2}, stop={"regretBound": {"minTrials": 2}})
    body = until(run, 3000)
    assert body["reason"] == "MaxTrials"
    assert "message" in body["regretBound"]
