"""What the status says, and that it stays a summary."""

import dataclasses
import json
from typing import Any

import pytest

from kubetune.api.insight import Advice, AdviceKind, Insight
from kubetune.api.spec import InvalidSpec, Json, Objective
from kubetune.api.stop import Regret
from kubetune.api.trial import Best, Counts, Reason
from kubetune.controller import status
from kubetune.controller.plan import Observed, Plan
from kubetune.controller.status import Facts
from tests.unit import loop_objects as o

NOW = o.NOW
STUDY = Facts("team-a/digits-1a2b3c4d")


def make(seen: Observed, state: str = "Running", reason: Reason = Reason.RUNNING, **more: Any) -> Json:
    plan = Plan((), state, reason, more.pop("message", "trials are running"))
    whole = more.pop("spec", o.spec())
    return status.status(whole, plan, seen, more.pop("facts", STUDY), more.pop("previous", None), more.pop("now", NOW))


def condition(body: Json, kind: str) -> Json | None:
    return next((each for each in body["conditions"] if each["type"] == kind), None)


def test_a_running_experiment() -> None:
    rows = (o.row(4), o.row(5), o.row(6, job_uid=None))
    counts = Counts(running=3, complete=2, pruned=1, failed=1, lost_attempts=2)
    recent = (Reason.COMPLETED, Reason.EXIT_CODE, Reason.PRUNED)
    seen = o.seen(*rows, jobs=(o.job(4), o.pending(5)), counts=counts, recent_failures=recent)
    best = Best(1, (0.93,), {"lr": 0.01, "act": "relu", "bias": True})
    body = make(seen, facts=dataclasses.replace(STUDY, best=[best], saved_steps=(75, 25)))
    assert body["counts"] == {
        "total": 7,
        "running": 3,
        "pending": 2,
        "complete": 2,
        "pruned": 1,
        "failed": 1,
        "lostAttempts": 2,
    }
    assert (body["active"], body["finished"], body["progress"]) == (2, 4, "4/10")
    assert body["best"] == {
        "trial": 1,
        "value": "0.93",
        "metrics": {"accuracy": 0.93},
        "parameters": {"lr": "0.01", "act": "relu", "bias": "true"},
    }
    assert body["saved"] == {"steps": 25, "share": 0.25}
    assert body["failures"] == [{"reason": "ExitCode", "count": 1}]
    assert body["parallelism"] == {"current": 2, "reason": "Spec"}
    assert (body["study"], body["observedGeneration"]) == ("team-a/digits-1a2b3c4d", 3)
    assert body["startTime"] == "1970-01-01T00:15:00Z"
    assert "completionTime" not in body
    assert "front" not in body


def test_a_mean_of_runs_is_told_with_them_and_their_spread() -> None:
    runs = (0.9, 0.8, 1.0)
    body = make(o.seen(), facts=dataclasses.replace(STUDY, best=[Best(1, (0.9,), {"lr": 0.1}, runs=runs)]))
    assert body["best"]["runs"] == [0.9, 0.8, 1.0]
    assert body["best"]["spread"] == pytest.approx(0.1)
    once = make(o.seen(), facts=dataclasses.replace(STUDY, best=[Best(1, (0.9,), {}, runs=(0.9,))]))
    assert (once["best"]["runs"], "spread" in once["best"]) == ([0.9], False)
    wild = make(o.seen(), facts=dataclasses.replace(STUDY, best=[Best(1, (0.9,), {}, runs=(0.9, float("inf")))]))
    assert (wild["best"]["runs"], "spread" in wild["best"]) == ([], False)


def test_running_is_always_a_condition_and_the_others_from_their_first_true_on() -> None:
    first = make(o.seen(), "Pending")
    assert [each["type"] for each in first["conditions"]] == ["Running"]
    assert condition(first, "Running") == {
        "type": "Running",
        "status": "False",
        "reason": "Running",
        "message": "trials are running",
        "observedGeneration": 3,
        "lastTransitionTime": "1970-01-01T00:16:40Z",
    }
    suspended = make(o.seen(), "Suspended", Reason.SUSPENDED, previous=first)
    resumed = make(o.seen(), previous=suspended)
    kinds = {each["type"]: each["status"] for each in resumed["conditions"]}
    assert kinds == {"Running": "True", "Suspended": "False"}


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    first = make(o.seen())
    later = make(o.seen(), message="others", previous=first, now=NOW + 100)
    assert condition(later, "Running") == {**(condition(first, "Running") or {}), "message": "others"}
    ended = make(o.seen(), "Complete", Reason.MAX_TRIALS, previous=later, now=NOW + 200)
    assert (condition(ended, "Running") or {})["lastTransitionTime"] == "1970-01-01T00:20:00Z"
    assert (condition(ended, "Complete") or {})["status"] == "True"


def test_an_end_keeps_its_time_and_takes_the_parallelism_away() -> None:
    ended = make(o.seen(), "Complete", Reason.MAX_TRIALS)
    again = make(o.seen(), "Complete", Reason.MAX_TRIALS, previous=ended, now=NOW + 100)
    assert again == ended
    assert ended["completionTime"] == "1970-01-01T00:16:40Z"
    assert ended["parallelism"] == {"current": 0, "reason": "MaxTrials"}


def test_suspended_nothing_is_in_force() -> None:
    body = make(o.seen(), "Suspended", Reason.SUSPENDED, spec=o.spec(suspend=True))
    assert body["parallelism"] == {"current": 0, "reason": "Suspended"}


def test_several_objectives_have_a_front_of_bounded_size() -> None:
    both = o.spec(objectives=(Objective("accuracy", "maximize"), Objective("size", "minimize")))
    front = [Best(number, (0.5, float(number)), {"lr": 0.1}) for number in range(50)]
    body = make(o.seen(), spec=both, facts=dataclasses.replace(STUDY, best=front))
    assert len(body["front"]) == 20
    assert body["front"][3]["metrics"] == {"accuracy": 0.5, "size": 3.0}
    assert body["best"] == body["front"][0]


def test_infinity_is_text_only() -> None:
    body = make(o.seen(), facts=dataclasses.replace(STUDY, best=[Best(0, (float("inf"),), {})]))
    assert (body["best"]["value"], body["best"]["metrics"]) == ("inf", {})
    json.dumps(body, allow_nan=False)


def test_it_is_bounded_however_many_trials_there_are() -> None:
    rows = [o.row(number) for number in range(5000)]
    jobs = tuple(o.job(number) for number in range(5000))
    seen = o.seen(*rows, jobs=jobs, recent_failures=(Reason.EXIT_CODE,) * 10)
    body = make(seen, message="x" * 5000, facts=dataclasses.replace(STUDY, best=[Best(0, (1.0,), {"lr": 0.1})]))
    assert len(json.dumps(body)) < 5000


def test_an_invalid_spec_says_what_to_do_and_keeps_what_was_known() -> None:
    before = make(o.seen(counts=Counts(complete=3)))
    body = status.invalid(InvalidSpec("parameters.lr", "min must be below max"), 4, before, NOW)
    assert (body["state"], body["reason"], body["observedGeneration"]) == ("Invalid", "InvalidSpec", 4)
    assert body["message"] == "parameters.lr: min must be below max"
    assert body["counts"] == before["counts"]
    assert (condition(body, "Invalid") or {})["status"] == "True"
    mended = make(o.seen(), previous=body)
    assert (condition(mended, "Invalid") or {})["status"] == "False"


LONG = ("x" * 1024, "ü" * 1024, '"' * 1024, "\x01" * 1024, "𝄞" * 1024)


@pytest.mark.parametrize("text", LONG, ids=["ascii", "latin", "quotes", "control", "astral"])
@pytest.mark.parametrize(("parameters", "objectives"), [(64, 8), (64, 1), (3, 8), (0, 2)])
def test_a_status_never_takes_more_than_16_kib(text: str, parameters: int, objectives: int) -> None:
    """With as many and as long names and values as the resource may have."""
    objective = [Objective(f"{place}{text}"[:128], "minimize") for place in range(objectives)]
    names = [f"{place:02d}".ljust(63, "p") for place in range(parameters)]
    best = [
        Best(10**9 + number, (-1.2345678901234567e-308,) * objectives, dict.fromkeys(names, text))
        for number in range(30)
    ]
    spec = dataclasses.replace(o.spec(), namespace="n" * 63, name="e" * 63, objectives=tuple(objective))
    body: Json | None = None
    for state in ("Suspended", "Failed", "Complete", "Running", "Invalid"):
        facts = Facts(f"{'n' * 63}/{'e' * 63}-12345678", best, (10**12, 10**12))
        body = make(o.seen(), state, Reason.EXPERIMENT_DEADLINE, message=text, spec=spec, facts=facts, previous=body)
        body = status.invalid(InvalidSpec("field", text), 7, body, NOW) if state == "Invalid" else body
        assert len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) <= 16 * 1024
        assert set(body["best"]["parameters"]) == set(names)
    assert body is not None
    assert len(body["conditions"]) == 5


def test_a_front_that_fits_is_shown_to_twenty() -> None:
    best = [Best(number, (0.5, 0.25), {"lr": 0.001 * number, "act": "relu"}) for number in range(30)]
    two = (Objective("accuracy", "maximize"), Objective("latency", "minimize"))
    spec = dataclasses.replace(o.spec(), objectives=two)
    body = make(o.seen(), spec=spec, facts=dataclasses.replace(STUDY, best=best))
    assert [each["trial"] for each in body["front"]] == list(range(20))
    long = [dataclasses.replace(each, params={"act": "x" * 1000}) for each in best]
    body = make(o.seen(), spec=spec, facts=dataclasses.replace(STUDY, best=long))
    assert [each["trial"] for each in body["front"]] == list(range(len(body["front"])))
    assert 5 < len(body["front"]) < 20
    assert status.size(body) <= 16 * 1024 < status.size(body) + 1200


def test_the_most_important_parameters_and_advice_that_comes_and_goes() -> None:
    shares = {f"p{place}": share for place, share in enumerate([0.5, 0.2, 0.1, 0.1, 0.06, 0.04])}
    said = Insight(shares, (Advice(AdviceKind.BEST_AT_EDGE, "lr at its upper end 0.1"),))
    body = make(o.seen(), facts=dataclasses.replace(STUDY, insight=said))
    assert body["importances"] == [{"parameter": name, "share": shares[name]} for name in list(shares)[:5]]
    told = condition(body, "BestAtEdge")
    assert told is not None
    assert (told["status"], told["reason"], told["message"]) == ("True", "Advice", "lr at its upper end 0.1")
    assert condition(body, "NoEffect") is None
    effects = {"p1": "0.1 → 0.01: loss -0.3", "p2": "x" * 300}
    body = make(o.seen(), facts=dataclasses.replace(STUDY, insight=dataclasses.replace(said, effects=effects)))
    assert [each.get("effect") for each in body["importances"]] == [None, effects["p1"], "x" * 200, None, None]
    later = condition(make(o.seen(), previous=body), "BestAtEdge")
    assert later is not None
    assert (later["status"], later["reason"]) == ("False", "NotSeen")
    assert "importances" not in make(o.seen())


def test_what_is_left_to_gain_is_told_as_far_as_it_is_known() -> None:
    facts = dataclasses.replace(STUDY, regret=Regret(0.0123, 0.001, 25))
    assert make(o.seen(), facts=facts)["regretBound"] == {
        "bound": 0.0123,
        "below": 0.001,
        "trials": 25,
        "message": "at most 0.0123 is left to gain, by 25 complete trials; less than 0.001 is enough",
    }
    facts = dataclasses.replace(STUDY, regret=Regret(trouble="the process ended"))
    assert make(o.seen(), facts=facts)["regretBound"] == {
        "trials": 0,
        "message": "nothing is known yet of what is left to gain: the process ended",
    }
    assert "regretBound" not in make(o.seen())
