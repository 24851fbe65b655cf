"""What is shown of an experiment and its trials: from the custom resource and the gateway's answers to lines."""

import copy
import io
import math
import os
from typing import Any

import pytest

from kubetune.cli import edits, explain, model, progress, render, watch

NOW = 1_000_100.0
RESOURCE: dict[str, Any] = {
    "metadata": {"namespace": "team-a", "name": "digits", "creationTimestamp": "1970-01-12T13:46:40Z"},
    "spec": {
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "parameters": {
            "lr": {"double": [1e-4, 1e-1], "scale": "log"},
            "layers": {"int": [1, 4]},
            "batch": {"values": [32, 64.5]},
            "activation": {"choice": ["relu", "tanh"]},
            "nesterov": {"bool": {}},
        },
        "maxTrials": 40,
        "parallelism": {"max": 4},
        "stopTrials": [3],
        "template": {"spec": {"containers": [{"name": "trial", "image": "digits:1"}]}},
    },
    "status": {
        "state": "Running",
        "reason": "Running",
        "message": "4 trials run",
        "study": "team-a/digits-0a1b2c3d",
        "startTime": "1970-01-12T13:46:40Z",
        "counts": {
            "total": 23,
            "running": 4,
            "pending": 1,
            "complete": 11,
            "pruned": 7,
            "failed": 1,
            "lostAttempts": 2,
        },
        "active": 4,
        "finished": 19,
        "best": {
            "trial": 12,
            "value": "0.97222",
            "metrics": {"accuracy": 0.972222},
            "parameters": {
                "lr": "0.00123456",
                "layers": "2",
                "batch": "64.5",
                "activation": "relu",
                "nesterov": "true",
            },
        },
        "saved": {"steps": 140, "share": 0.31},
        "failures": [{"reason": "OOMKilled", "count": 1}],
    },
}
TYPED = {"lr": 0.00123456, "layers": 2, "batch": 64.5, "activation": "relu", "nesterov": True}


def resource(spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    made = copy.deepcopy(RESOURCE)
    made["spec"].update(spec or {})
    made["status"].update(status)
    return made


def test_constraints_are_shown_and_that_none_keeps_them() -> None:
    spec = {"constraints": [{"metric": "latency_ms", "max": 20}, {"metric": "recall", "min": 0.5, "max": 0.9}]}
    made = resource(spec)
    made["status"]["counts"]["infeasible"] = 11
    made["status"]["best"] |= {"feasible": False, "broken": {"latency_ms.max": 1.5}}
    lines = "\n".join(render.experiment(model.experiment(made), NOW))
    assert "latency_ms <= 20, recall >= 0.5, recall <= 0.9 (11 of 11 complete trials break them)" in lines
    assert "no trial keeps the constraints; this one breaks latency_ms.max by 1.5" in lines
    assert "constraints" not in "\n".join(render.experiment(model.experiment(resource()), NOW))


def test_a_long_front_says_how_many_more_there_are() -> None:
    spec = {"objective": None, "objectives": [{"metric": "a", "direction": "maximize"}]}
    front = [{"trial": number, "value": "1", "metrics": {"a": 1.0}, "parameters": {}} for number in range(2)]
    shown = model.experiment(resource(spec, front=front, frontSize=7))
    assert render.front(shown)[-1] == "and 5 more on the front"


def ended(state: str = "Complete", **status: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "state": state,
        "completionTime": "1970-01-12T13:50:00Z",
        "active": 0,
        "message": "all done",
    }
    return resource(**{**given, **status})


def answer(number: int, state: str = "COMPLETE", value: Any = 0.9, **more: Any) -> dict[str, Any]:
    """A trial as the gateway sends it."""
    base = {
        "number": number,
        "state": state,
        "reason": {"COMPLETE": "Completed", "PRUNED": "Pruned"}.get(state, ""),
        "message": "",
        "parameters": {"lr": 0.01, "layers": 2},
        "values": None if value is None else [value],
        "attempt": 1,
        "created": 1_000_000.0 + number,
        "started": 1_000_002.0 + number,
        "ended": None if state == "RUNNING" else 1_000_012.0 + number,
        "lastStep": 30,
        "lastMetrics": {"accuracy": 0.9},
    }
    return {**base, **more}


def trials(*answers: dict[str, Any]) -> list[model.Trial]:
    return [model.trial(one) for one in answers]


# the experiment


def test_a_resource_without_status_is_pending_and_empty() -> None:
    shown = model.experiment({"metadata": {"namespace": "n", "name": "x"}, "spec": RESOURCE["spec"]})
    assert (shown.state, shown.finished, shown.best, shown.started, shown.ended) == ("Pending", 0, None, None, False)
    assert render.experiment(shown, NOW)[0] == "n/x"


def test_parameters_of_the_status_get_the_types_of_the_spec() -> None:
    best = model.experiment(RESOURCE).best
    assert best
    assert best.parameters == TYPED
    assert isinstance(best.parameters["layers"], int)
    assert best.parameters["nesterov"] is True


def test_a_value_that_does_not_fit_its_type_is_left_as_it_is() -> None:
    assert model.typed("many", {"int": [1, 2]}) == "many"
    assert model.typed("1", {"choice": ["1", "2"]}) == "1"


def test_the_table_of_get() -> None:
    second = resource()
    second["metadata"]["name"] = "a-much-longer-name"
    second["status"] = {}
    assert render.experiments([model.experiment(RESOURCE), model.experiment(second)], NOW, everywhere=True) == [
        "NAMESPACE  NAME                STATE    BEST    FINISHED  ACTIVE  AGE",
        "team-a     digits              Running  0.9722  19/40     4       1m40s",
        "team-a     a-much-longer-name  Pending  -       0/40      0       1m40s",
    ]


def test_the_page_of_get() -> None:
    assert render.experiment(model.experiment(RESOURCE), NOW) == [
        "team-a/digits",
        "  state            Running: 4 trials run",
        "  objective        maximize accuracy",
        "  search           tpe, pruner median, at most 4 at a time",
        "  finished         19 of 40: 11 complete, 7 pruned, 1 failed",
        "  active           4 (1 waiting for a slot, a node or an image)",
        "  best             0.9722 (trial 12)  lr=0.001235 layers=2 batch=64.5 activation=relu nesterov=true",
        "  pruning          saved 31 %: 7 trials stopped early, about 140 steps not run",
        "  attempts lost    2",
        "  recent failures  1 × OOMKilled",
        "  for              1m40s",
        "  study            team-a/digits-0a1b2c3d",
    ]


def test_the_page_of_an_experiment_that_ended_says_how_long_it_took() -> None:
    lines = render.experiment(model.experiment(ended()), NOW + 1e6)
    assert "  took             3m20s" in lines
    assert not [line for line in lines if "active" in line]


def test_what_auto_picked_stands_beside_it_with_its_reason() -> None:
    made = resource({"sampler": {"name": "auto"}}, sampler={"name": "cmaes", "reason": "six numbers, 600 trials"})
    lines = render.experiment(model.experiment(made), NOW)
    assert lines[3] == "  search           auto, pruner median, at most 4 at a time"
    assert lines[4] == "  picked           cmaes: six numbers, 600 trials"


def test_the_page_of_an_experiment_says_what_is_left_to_gain_while_it_runs() -> None:
    told = "at most 0.0123 is left to gain, by 25 complete trials; less than 0.001 is enough"
    for made, shown in ((resource(), True), (ended(), False)):
        made["status"]["regretBound"] = {"bound": 0.0123, "below": 0.001, "trials": 25, "message": told}
        lines = render.experiment(model.experiment(made), NOW)
        assert (f"  to gain          {told}" in lines) is shown


# trials


def test_the_table_of_trials() -> None:
    rows = trials(
        answer(0, value=0.95),
        answer(1, "PRUNED", 0.5, lastStep=4),
        answer(2, "FAIL", None, reason="OOMKilled", message="over 512Mi", lastStep=None),
        answer(3, "RUNNING", None, attempt=2, lastStep=7),
        answer(4, "RUNNING", None, started=None, lastStep=None, lastMetrics={}),
    )
    assert render.trials(model.experiment(RESOURCE), rows, 1_000_020.0) == [
        "TRIAL  STATE     ACCURACY  STEP  TOOK  PARAMETERS        WHY",
        "    0  COMPLETE      0.95    30   10s  lr=0.01 layers=2",
        "    1  PRUNED         0.5     4   10s  lr=0.01 layers=2",
        "    2  FAILED           -     -   10s  lr=0.01 layers=2  OOMKilled: over 512Mi",
        "    3  RUNNING      (0.9)     7   15s  lr=0.01 layers=2  attempt 2",
        "    4  RUNNING          -     -     -  lr=0.01 layers=2",
    ]


def test_the_table_tells_what_the_pruner_said() -> None:
    said = "pruned by median at step 4: 0.5 is worse than 0.7123, the median of 12 complete trials"
    raced = "2 of 5 seeds: behind the best by 0.12, which is no chance"
    shown, rows = (
        model.experiment(RESOURCE),
        trials(
            answer(0, "PRUNED", 0.5, reason="Pruned", message=said),
            answer(1, "PRUNED", 0.5, reason="Pruned", message="the trial stopped itself", attempt=2),
            answer(2, "PRUNED", 0.5, reason="Stopped", message="stopped by spec.stopTrials"),
            answer(3, message=raced),
        ),
    )
    assert [line.partition("layers=2")[2].strip() for line in render.trials(shown, rows, 1_000_020.0)[1:]] == [
        "median at step 4: 0.5 is worse than 0.7123, the median of 1…",
        "attempt 2, the trial stopped itself",
        "Stopped: stopped by spec.stopTrials",
        "",
    ]
    wide = [line.partition("layers=2")[2].strip() for line in render.trials(shown, rows, 1_000_020.0, wide=True)[1:]]
    assert wide[0] == said.removeprefix("pruned by ")
    assert wide[3] == raced
    assert f',PRUNED,Pruned,"{said}",1,' in render.trials_csv(shown, rows)


def with_folds() -> dict[str, Any]:
    made = resource()
    made["spec"]["validation"] = {"folds": 3}
    return made


def legs(*values: Any) -> list[dict[str, Any]]:
    return [{"attempt": attempt, "lastStep": 3, "values": [value]} for attempt, value in enumerate(values, 1)]


def test_of_folds_the_table_says_how_many_there_are_and_how_far_apart() -> None:
    rows = trials(
        answer(0, value=0.9, legs=legs(0.8, 0.9, 1.0)),
        answer(1, "RUNNING", None, attempt=2, legs=legs(0.9)),
        answer(2, value="inf", legs=legs("inf", "inf", 1)),
    )
    shown = model.experiment(with_folds())
    assert shown.pruner == "wilcoxon"
    assert render.trials(shown, rows, 1_000_020.0) == [
        "TRIAL  STATE     ACCURACY    RUNS  STEP  TOOK  PARAMETERS        WHY",
        "    0  COMPLETE       0.9  3 ±0.1    30   10s  lr=0.01 layers=2",
        "    1  RUNNING      (0.9)       1    30   17s  lr=0.01 layers=2  attempt 2",
        "    2  COMPLETE       inf       3    30   10s  lr=0.01 layers=2",
    ]
    assert render.trials_csv(shown, rows).splitlines()[1].endswith(",0.9,0.8 0.9 1.0,0.01,2")


def test_csv_names_columns_as_optuna_does_and_rounds_nothing() -> None:
    rows = trials(answer(0, value=0.1 + 0.2, parameters={"lr": 1 / 3, "nesterov": True}), answer(1, "FAIL", None))
    lines = render.trials_csv(model.experiment(RESOURCE), rows).splitlines()
    header = (
        "number,state,reason,message,attempt,created,started,ended,last_step,accuracy,"
        "params_lr,params_nesterov,params_layers"
    )
    assert lines[0] == header
    assert lines[1] == (
        "0,COMPLETE,Completed,,1,1000000.0,1000002.0,1000012.0,30,0.30000000000000004,0.3333333333333333,true,"
    )
    assert lines[2] == "1,FAIL,,,1,1000001.0,1000003.0,1000013.0,30,,0.01,,2"


@pytest.mark.parametrize(("maximize", "order"), [(True, [2, 0, 1, 4, 3, 5]), (False, [4, 0, 1, 2, 3, 5])])
def test_by_value_the_best_first_and_none_last(maximize: bool, order: list[int]) -> None:
    rows = trials(
        answer(0, value=0.5),
        answer(1, "PRUNED", 0.5),
        answer(2, value=0.9),
        answer(3, "FAIL", None),
        answer(4, value=0.1),
        answer(5, value="NaN"),
    )
    assert [one.number for one in model.by_value(rows, maximize)] == order


def test_numbers_that_json_has_not_come_as_text() -> None:
    one = model.trial(answer(0, value="-Infinity", lastMetrics={"accuracy": "NaN"}))
    assert one.values == (-math.inf,)
    assert math.isnan(one.last_metrics["accuracy"])


def test_best_history_goes_by_the_order_of_ends_and_by_complete_trials_only() -> None:
    rows = trials(
        answer(0, value=0.5, ended=30.0),
        answer(1, value=0.7, ended=10.0),
        answer(2, "PRUNED", 0.99, ended=15.0),
        answer(3, value=0.8, ended=40.0),
    )
    assert model.best_history(rows, maximize=True) == [0.7, 0.7, 0.8]
    assert model.best_history(rows, maximize=False) == [0.7, 0.5, 0.5]


# the time left


def test_time_left_by_the_pace_since_the_start() -> None:
    shown = model.experiment(resource())  # started at 1,000,000; 19 of 40 finished
    rows = trials(*(answer(number, ended=1_000_000.0 + 10 * number) for number in range(1, 6)))
    assert model.seconds_left(shown, rows, 1_000_050.0) == pytest.approx(21 * 50 / 5)


def test_time_left_by_the_latest_pace_when_many_have_ended() -> None:
    shown = model.experiment(resource())
    slow = [answer(number, ended=1_000_000.0 + 100 * number) for number in range(5)]
    fast = [answer(number, ended=1_001_000.0 + number) for number in range(5, 15)]
    assert model.seconds_left(shown, trials(*slow, *fast), 1_001_014.0) == pytest.approx(21 * 9 / 9)


@pytest.mark.parametrize(
    "made",
    [resource({"suspend": True}), ended(), resource(counts={"complete": 40})],
    ids=["suspended", "ended", "all finished"],
)
def test_no_time_left_is_guessed(made: dict[str, Any]) -> None:
    rows = trials(*(answer(number) for number in range(20)))
    assert model.seconds_left(model.experiment(made), rows, NOW) is None


def test_no_time_left_is_guessed_from_two_ends() -> None:
    assert model.seconds_left(model.experiment(RESOURCE), trials(answer(0), answer(1)), NOW) is None


# best


def test_best_as_a_page() -> None:
    shown = model.experiment(RESOURCE)
    assert shown.best
    assert render.best(shown, shown.best) == [
        "trial 12: accuracy 0.9722  (so far: 19 of 40 finished)",
        "  parameter   value",
        "  lr          0.00123456",
        "  layers      2",
        "  batch       64.5",
        "  activation  relu",
        "  nesterov    true",
    ]


def test_best_of_runs_says_what_its_value_is_the_mean_of() -> None:
    made = with_folds()
    made["status"]["best"] |= {"runs": [0.9622, 0.9822, 0.9722], "spread": 0.01}
    shown = model.experiment(made)
    assert shown.best
    assert render.best(shown, shown.best)[:2] == [
        "trial 12: accuracy 0.9722  (so far: 19 of 40 finished)",
        "  the mean of 3 ±0.01: 0.9622 0.9822 0.9722",
    ]
    assert render.best_json(shown, shown.best)["runs"] == [0.9622, 0.9822, 0.9722]


def test_best_as_arguments_and_environment_is_ready_for_a_shell() -> None:
    values = {"lr": 1e-05, "name": "a b", "nesterov": True}
    assert render.arguments(values) == "--lr=1e-05 '--name=a b' --nesterov=true"
    assert render.environment(values) == ["lr=1e-05", "name='a b'", "nesterov=true"]


def test_best_as_json() -> None:
    shown = model.experiment(ended())
    assert shown.best
    assert render.best_json(shown, shown.best) == {
        "experiment": "digits",
        "namespace": "team-a",
        "trial": 12,
        "value": 0.972222,
        "metrics": {"accuracy": 0.972222},
        "parameters": TYPED,
        "final": True,
    }


def test_a_front_is_a_table() -> None:
    objectives = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "size", "direction": "minimize"}]
    entries = [
        {"trial": 3, "metrics": {"accuracy": 0.9, "size": 12.0}, "parameters": {"lr": "0.1"}},
        {"trial": 14, "metrics": {"accuracy": 0.8}, "parameters": {"lr": "0.2"}},
    ]
    made = resource({"objectives": objectives}, best=entries[0], front=entries)
    del made["spec"]["objective"]
    assert render.front(model.experiment(made)) == [
        "TRIAL  ACCURACY  SIZE  PARAMETERS",
        "    3       0.9    12  lr=0.1",
        "   14       0.8     -  lr=0.2",
    ]


# watch


def test_the_picture_while_it_runs() -> None:
    rows = trials(
        answer(0, value=0.5),
        answer(1, value=0.9),
        answer(2, value=0.8),
        answer(20, "RUNNING", None, lastStep=3, lastMetrics={"accuracy": 0.91253}),
        answer(21, "RUNNING", None, started=None, lastStep=None, lastMetrics={}),
    )
    moment = progress.Moment(model.experiment(RESOURCE), rows, NOW, "the gateway does not answer\ncheck: its pods")
    assert progress.picture(moment, 110, plain=True) == [
        "team-a/digits  Running  maximize accuracy  1m40s, about 11m40s to go",
        "###############.................  19/40 finished · 11 complete, 7 pruned, 1 failed · 4 active (1 waiting)",
        "best 0.9722 (trial 12)  _##  lr=0.001235 layers=2 batch=64.5 activation=relu nesterov=true",
        "pruning saved 31 %: 7 trials stopped early, about 140 steps not run",
        "2 attempts lost to the cluster and started again",
        "failed of late: 1 × OOMKilled",
        "",
        "TRIAL  STEP  ACCURACY    FOR  PARAMETERS",
        "   20     3    0.9125  1m18s  lr=0.01 layers=2",
        "   21     -         -  waits  lr=0.01 layers=2",
        "",
        "! the gateway does not answer",
        "! check: its pods",
    ]


def test_no_line_of_the_picture_is_wider_than_the_terminal() -> None:
    rows = trials(*(answer(number, "RUNNING", None) for number in range(40)))
    lines = progress.picture(progress.Moment(model.experiment(RESOURCE), rows, NOW), 40)
    assert max(map(len, lines)) == 40
    assert lines[-1] == "and 32 more"


def test_a_suspended_experiment_says_why_it_stands_still() -> None:
    made = resource({"suspend": True}, state="Suspended", message="suspended by spec.suspend", active=0)
    head = progress.picture(progress.Moment(model.experiment(made), [], NOW), 120)[0]
    assert head == "team-a/digits  Suspended  maximize accuracy  1m40s  (suspended by spec.suspend)"


def test_plain_lines_come_only_with_news() -> None:
    first = progress.Moment(model.experiment(RESOURCE), [], NOW)
    later = progress.Moment(model.experiment(RESOURCE), trials(answer(3, "RUNNING", None)), NOW + 5)
    finished = progress.Moment(model.experiment(resource(counts={"complete": 20})), [], NOW)
    assert progress.news(first) == progress.news(later)
    assert progress.news(first) != progress.news(finished)
    assert progress.line(first) == (
        "digits Running · 19/40 finished · 11 complete, 7 pruned, 1 failed · 4 active (1 waiting)"
        " · best 0.9722 (trial 12) · 1m40s"
    )


def test_stages_and_what_comes_after_the_search_are_news() -> None:
    stage = {"name": "fine", "number": 2, "of": 2, "sampler": "tpe", "firstTrial": 27, "maxTrials": 20}
    searching = progress.Moment(model.experiment(resource(stage=stage)), [], NOW)
    counts = "19/40 finished · 11 complete, 7 pruned, 1 failed · 4 active (1 waiting)"
    assert f"digits Running · stage fine, 2 of 2 (tpe) · {counts} · best" in progress.line(searching)
    assert "  stage            fine, 2 of 2 (tpe)" in render.experiment(searching.experiment, NOW)
    moments = [
        progress.Moment(
            model.experiment(resource(stage=stage, phase={"name": "finalists", "finished": n, "total": 9})), [], NOW
        )
        for n in (2, 3)
    ]
    assert f"digits Running · {counts} · finalists: 3 of 9 runs ended · best" in progress.line(moments[1])
    assert len({progress.news(each) for each in (searching, *moments)}) == 3


def test_the_end_names_the_winner_in_the_place_of_the_searchs_best() -> None:
    winner = {"trial": 17, "mean": 0.97, "parameters": {"lr": "0.01"}, "sentence": "trial 17 wins: accuracy = 0.97"}
    made = ended(
        winner=winner,
        model={"version": 1, "address": "/models/digits.pickle"},
        test={"name": "test", "value": 0.9611, "time": "2026-11-21T20:00:00Z"},
        conditions=[{"type": "TooFewTrials", "status": "True", "message": "raise maxTrials"}],
    )
    shown = model.experiment(made)
    assert shown.best
    assert render.best(shown, shown.best)[-1] == "by fresh runs trial 17 wins: kubectl tune winner digits"
    lines = progress.ending(progress.Moment(shown, [], NOW))
    assert lines[3:] == [
        "",
        "best of the search: 0.9722 (trial 12)  lr=0.001235 layers=2 batch=64.5 activation=relu nesterov=true",
        "trial 17 wins: accuracy = 0.97",
        "  parameter  value",
        "  lr         0.01",
        "",
        "model: version 1: /models/digits.pickle",
        "test set: 0.9611, scored as test at 2026-11-21T20:00:00Z",
        "advice: TooFewTrials: raise maxTrials",
    ]


def test_the_end_says_the_result_the_time_and_what_pruning_saved() -> None:
    lines = progress.ending(progress.Moment(model.experiment(ended()), [], NOW))
    assert lines[:3] == [
        "Complete: all done",
        "19 trials (11 complete, 7 pruned, 1 failed) in 3m20s",
        "pruning saved 31 %: 7 trials stopped early, about 140 steps not run",
    ]
    assert lines[4].startswith("best: trial 12: accuracy 0.9722\n")


# what is written


@pytest.mark.parametrize(
    ("suspended", "wanted", "change"),
    [(False, True, {"suspend": True}), (True, False, {"suspend": False}), (True, True, None), (False, False, None)],
)
def test_suspend_and_resume_change_only_what_is_not_so_yet(suspended: bool, wanted: bool, change: Any) -> None:
    assert edits.suspend(resource({"suspend": suspended}), wanted) == change


@pytest.mark.parametrize(
    ("numbers", "change"), [([17], {"stopTrials": [3, 17]}), ([3], None), ([5, 3, 5], {"stopTrials": [3, 5]})]
)
def test_stop_merges_with_what_is_there(numbers: list[int], change: Any) -> None:
    assert edits.stop(RESOURCE, numbers) == change


def test_stop_refuses_a_trial_that_does_not_exist() -> None:
    with pytest.raises(explain.Problem, match="has no trial 23; its trials are 0 to 22"):
        edits.stop(RESOURCE, [22, 23])


def test_nothing_is_written_to_an_experiment_that_ended() -> None:
    with pytest.raises(explain.Problem, match="has ended"):
        edits.stop(ended(), [1])
    with pytest.raises(explain.Problem, match="has ended"):
        edits.suspend(ended("Failed"), True)


def test_what_waits_while_suspended_waits_to_go_on() -> None:
    shown = model.experiment(resource({"suspend": True}, state="Suspended", active=0))
    assert render.active(shown) == "0 (1 waiting to go on)"


def test_each_picture_is_drawn_over_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 5)))
    out = io.StringIO()
    screen = watch.Screen(out, plain=True)
    rows = trials(*(answer(number, "RUNNING", None) for number in range(6)))
    screen.draw(progress.Moment(model.experiment(RESOURCE), rows, NOW))  # ten lines and more, on a screen of five
    screen.draw(progress.Moment(model.experiment(ended(best=None, saved=None, failures=None)), [], NOW))
    first, second, rest = out.getvalue().split("\x1b[J")
    assert first.count("\n") == 4
    assert "\x1b[4A" not in first
    assert second.startswith("\x1b[4A\r")
    assert second.count("\n") == 3
    assert rest == ""
