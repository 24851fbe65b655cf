"""What comes after the search, as an experiment: what is run, with which seeds and names, under which labels."""

import dataclasses
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api import spec as api
from kubetune.api.spec import Algorithm, Constraint, ExperimentSpec, InvalidSpec
from kubetune.api.trial import Best, Reason, Report, TrialRow, TrialState
from kubetune.controller import jobs, views
from kubetune.controller.jobs import Wiring
from kubetune.engine import phases, value
from kubetune.engine.check import check
from kubetune.engine.engine import Engine
from kubetune.gateway import auth
from kubetune.simulator.scenario import experiment
from kubetune.storage.base import Version
from kubetune.storage.memory import MemoryStorage


def spec(**changes: Any) -> ExperimentSpec:
    return api.parse(experiment("exp", finalists={"top": 2, "replicates": 3}, **changes))


BEST = [Best(7, (0.9,), {"x": 0.5, "k": 3}), Best(2, (0.8,), {"x": 0.25, "k": 1})]


def derived(of: ExperimentSpec | None = None) -> ExperimentSpec:
    of = of or spec()
    return phases.derive(of, "finalists", phases.plan_finalists(of, BEST))


def environment(of: ExperimentSpec, number: int) -> dict[str, str]:
    body = jobs.build_job(of, number, 1, BEST[number % 2].params, Wiring("https://gateway"))
    container = body["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each["value"] for each in container["env"]}


def test_each_finalist_runs_once_with_each_seed_replicate_by_replicate() -> None:
    runs = derived()
    check(runs)
    assert [given.source for given in runs.given] == [
        *("finalists/7.0", "finalists/2.0", "finalists/7.1"),
        *("finalists/2.1", "finalists/7.2", "finalists/2.2"),
    ]
    engine = Engine(runs, acquired(), lambda: 0.0)
    rows = engine.ask(10)
    assert [row.params for row in rows] == [BEST[0].params, BEST[1].params] * 3
    assert not engine.ask(1)


def test_a_winner_that_no_draw_would_find_can_be_run() -> None:
    """A grid has cells that fulfil `where`; random sets, which a phase never asks for, do not."""
    both = {"x": {"double": [0, 1]}, "y": {"double": [0, 1]}}
    grid = {"name": "grid", "settings": {"points": 3}}
    of = spec(parameters=both, sampler=grid, where=["x + y == 1"])
    check(of)
    runs = phases.derive(of, "finalists", phases.plan_finalists(of, [Best(1, (0.9,), {"x": 0.5, "y": 0.5})]))
    engine = Engine(runs, acquired(), lambda: 0.0)
    assert [row.params for row in engine.ask(10)] == [{"x": 0.5, "y": 0.5}] * 3


def acquired() -> MemoryStorage:
    storage = MemoryStorage(lambda: 0.0)
    storage.acquire("test")
    return storage


def test_seeds_are_common_fresh_and_the_same_again() -> None:
    seeds = [environment(derived(), number)["KUBETUNE_SEED"] for number in range(6)]
    assert seeds[0::2] == seeds[1::2]
    assert len(set(seeds)) == 3
    assert not {str(1 + number) for number in range(8)} & set(seeds)  # those of the search
    assert seeds == [environment(derived(), number)["KUBETUNE_SEED"] for number in range(6)]
    other = derived(spec(seed=2))
    assert environment(other, 0)["KUBETUNE_SEED"] not in seeds


def test_without_a_seed_runs_have_one_all_the_same() -> None:
    unseeded = dataclasses.replace(spec(), seed=None)
    assert environment(derived(unseeded), 0)["KUBETUNE_SEED"] != environment(derived(unseeded), 2)["KUBETUNE_SEED"]


def test_a_run_knows_its_phase_and_replicate() -> None:
    found = environment(derived(), 3)
    assert (found["KUBETUNE_PHASE"], found["KUBETUNE_REPLICATE"], found["KUBETUNE_TRIAL"]) == ("finalists", "1", "3")
    assert "KUBETUNE_PHASE" not in environment(spec(), 3)


def test_nothing_of_the_search_ends_it_early() -> None:
    of = spec(
        objective={"metric": "score", "direction": "maximize", "target": 0.5},
        stop={"noImprovement": {"trials": 1}},
        stopTrials=[0],
        sampler={"name": "tpe"},
    )
    found = derived(of)
    assert (found.objectives[0].target, found.no_improvement, found.stop_trials) == (None, None, frozenset())
    assert (found.pruner, found.max_trials, found.execution) == (Algorithm("none"), 6, "jobs")


def test_jobs_belong_to_the_experiment_and_are_told_from_the_searchs() -> None:
    search, runs = spec(), derived()
    ours, theirs = (jobs.build_job(each, 0, 1, BEST[0].params, Wiring("")) for each in (search, runs))
    assert theirs["metadata"]["name"] != ours["metadata"]["name"]
    assert "-finalists-0-1" in theirs["metadata"]["name"]
    assert theirs["metadata"]["ownerReferences"] == ours["metadata"]["ownerReferences"]
    assert views.experiment_uid(ours) == search.uid
    assert views.experiment_uid(theirs) == runs.uid == names.phase_uid(search.uid, "finalists")
    owner = {"kind": "Job", "apiVersion": "batch/v1", "uid": "job", "controller": True}
    labels = theirs["spec"]["template"]["metadata"]["labels"]
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "pod", "labels": labels, "ownerReferences": [owner]}}
    assert auth.identity(pod).experiment_uid == runs.uid


def test_a_template_cannot_claim_a_phase() -> None:
    body = experiment("exp")
    body["spec"]["template"]["metadata"] = {"labels": {names.LABEL_PHASE: "test", "team": "a"}}
    made = jobs.build_job(api.parse(body), 0, 1, {}, Wiring(""))
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert names.LABEL_PHASE not in labels
    assert labels["team"] == "a"


def test_infeasible_trials_are_no_finalists() -> None:
    best = [BEST[0], dataclasses.replace(BEST[1], broken={"latency.max": 1.0})]
    assert [one["trial"] for one in phases.plan_finalists(spec(), best)["sets"]] == [7]


def test_the_winner_follows_from_the_runs_alone() -> None:
    of = spec()
    plan = phases.plan_finalists(of, BEST)
    values = [0.5, 0.7, 0.6, 0.8, 0.5, 0.9]  # by number: trials 7 and 2 in turns
    rows = [
        TrialRow(number, TrialState.COMPLETE, BEST[number % 2].params, 1, 0.0, values=(value,))
        for number, value in enumerate(values)
    ]
    found = phases.judge(of, plan, rows)
    assert found is not None
    assert (found.trial, found.runs, found.runner_up) == (2, 3, 7)
    assert found.mean == pytest.approx(0.8)
    lost = [dataclasses.replace(row, state=TrialState.FAIL, values=None) for row in rows[:1]] + rows[1:]
    again = phases.judge(of, plan, lost)
    assert again is not None
    assert again.p is not None  # of the seeds that both have


def test_a_constraint_is_judged_by_the_mean_of_the_runs() -> None:
    of = dataclasses.replace(spec(), constraints=(Constraint("latency", "max", 20.0),))
    plan = phases.plan_finalists(of, BEST)
    rows = [
        TrialRow(
            number,
            TrialState.COMPLETE,
            BEST[number % 2].params,
            1,
            0.0,
            values=(1.0 if number % 2 == 0 else 0.1,),
            constraints={"latency.max": 1.0 if number % 2 == 0 else (-3.0, 1.0, 1.0)[number // 2]},
        )
        for number in range(6)
    ]
    found = phases.judge(of, plan, rows)
    assert found is not None
    assert found.trial == 2


def test_several_objectives_have_no_one_winner() -> None:
    two = [{"metric": "a", "direction": "maximize"}, {"metric": "b", "direction": "minimize"}]
    body = experiment("exp", finalists={"top": 2})
    del body["spec"]["objective"]
    body["spec"] |= {"objectives": two, "pruner": {"name": "none"}}
    with pytest.raises(InvalidSpec, match="finalists: several objectives"):
        api.parse(body)


# ---- refit and test


def with_volume(*volumes: dict[str, Any], **test: Any) -> dict[str, Any]:
    body = experiment("exp", test={"volumes": list(volumes), **test})
    body["spec"]["template"]["spec"]["volumes"] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "train"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    return body


@pytest.mark.parametrize(
    "volume",
    [
        {"name": "data", "persistentVolumeClaim": {"claimName": "held-out"}},
        {"name": "other", "persistentVolumeClaim": {"claimName": "train", "readOnly": True}},
    ],
)
def test_the_test_set_is_nowhere_in_the_template(volume: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match="every trial of the search could read the test set"):
        api.parse(with_volume(volume))


def test_the_test_set_is_not_beside_what_trials_start_from() -> None:
    body = with_volume({"name": "held-out", "persistentVolumeClaim": {"claimName": "held-out"}})
    body["spec"]["initCheckpoint"] = {"claim": "held-out"}
    with pytest.raises(InvalidSpec, match="every trial of the search could read the test set"):
        api.parse(body)
    body["spec"]["initCheckpoint"]["path"] = "weights"  # only this folder is mounted
    assert api.parse(body).test is not None
    for path, apart in (("sets/test", True), ("weights-2", True), ("weights", False), ("weights/test/", False)):
        body["spec"]["test"]["volumeMounts"] = [{"name": "held-out", "mountPath": "/test", "subPath": path}]
        if apart:
            assert api.parse(body).test is not None
            continue
        with pytest.raises(InvalidSpec, match="every trial of the search could read the test set"):
            api.parse(body)


def test_a_volume_of_its_own_is_the_tests_alone() -> None:
    body = with_volume(
        {"name": "held-out", "persistentVolumeClaim": {"claimName": "held-out"}},
        {"name": "more", "emptyDir": {}},
        volumeMounts=[{"name": "held-out", "mountPath": "/test"}],
    )
    of = api.parse(body)
    assert of.test is not None
    run = phases.derive(of, "test", phases.plan_once(of, of.test, 7, BEST[0].params, None))
    check(run)
    ours, theirs = (jobs.build_job(each, 0, 1, BEST[0].params, Wiring("")) for each in (of, run))
    mounts = [mount["name"] for mount in theirs["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert "held-out" in mounts
    assert "held-out" not in str(ours)


def test_a_command_takes_the_place_of_the_trials_and_args_alone_follow_them() -> None:
    def container(**form: Any) -> dict[str, Any]:
        of = api.parse(experiment("exp", refit=form))
        assert of.refit is not None
        run = phases.derive(of, "refit", phases.plan_once(of, of.refit, 7, BEST[0].params, None))
        return dict(run.template["spec"]["containers"][0])

    assert container(args=["--full"])["args"] == ["--x=$(x)", "--full"]
    replaced = container(command=["fit"], args=["--k=$(k)"])
    assert (replaced["command"], replaced["args"]) == (["fit"], ["--k=$(k)"])
    assert container(env=[{"name": "DATA", "value": "all"}])["env"] == [{"name": "DATA", "value": "all"}]


def test_what_a_phase_names_must_be_there() -> None:
    with pytest.raises(InvalidSpec, match=r"refit: with it, .*\$\(lr\) is neither a parameter nor in env"):
        api.parse(experiment("exp", refit={"args": ["--lr=$(lr)"]}))


def test_a_model_is_told_to_the_test() -> None:
    of = api.parse(experiment("exp", test={}))
    assert of.test is not None
    model = Version(3, "refit", "s3://m", "sha256:00", "trial:1", {}, 0.0)
    run = phases.derive(of, "test", phases.plan_once(of, of.test, 7, BEST[0].params, model))
    assert run.once
    assert environment(run, 0).items() >= {"KUBETUNE_MODEL": "s3://m", "KUBETUNE_MODEL_DIGEST": "sha256:00"}.items()


def test_a_score_stands_however_the_job_ended() -> None:
    reports = [Report(1, 1, 0, {"score": 0.5}, 0.0)]
    failed = value.Outcome(Reason.EXIT_CODE, "exit code 1")
    objectives = spec().objectives
    found = value.settle(reports, None, value.scored(failed, reports, objectives), objectives)
    assert (found.state, found.values) == (TrialState.COMPLETE, (0.5,))
    assert value.scored(failed, [], objectives) == failed
