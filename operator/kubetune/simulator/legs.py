"""What must be so of trials that consist of rungs, at the end of a run: every leg in its place, everybody promoted who
was among the best, nobody left half done."""

import statistics
from collections.abc import Mapping

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.engine import courses, searching
from kubetune.engine.courses.base import Course
from kubetune.simulator.trials import ENDS, METRIC, RESOURCE, Behaviour
from kubetune.simulator.violation import check
from kubetune.storage import rules
from kubetune.storage.memory import Study

_GOING_ON = (Reason.MAX_TRIALS, Reason.SPACE_EXHAUSTED)  # ends that cut nobody short


def resource(course: Course, number: int, leg: int) -> int:
    """What a leg gives."""
    return int(course.environment(number, leg)[RESOURCE])


def at_most(spec: ExperimentSpec, what: Behaviour) -> Behaviour:
    """What a run does that has all of the resource at once."""
    course = courses.build(spec)
    return what.given(resource(course, 0, course.legs(0) - 1))


def trial(spec: ExperimentSpec, study: Study, row: TrialRow, what: Behaviour, flaky: bool) -> None:
    """One trial's legs and its end follow from what it did."""
    course = courses.build(searching.begun(spec, study.steering))
    about = f"trial {row.number} ended {row.state} {row.reason} {row.values} {row.message}, legs {row.legs}"
    check(not row.paused and row.leg == len(row.legs) < course.legs(row.number), "I4", about)
    attempts = [leg.attempt for leg in row.legs]
    check(attempts == sorted(set(attempts)) and all(each < row.attempt for each in attempts), "I1", about)
    for place, leg in enumerate(row.legs):
        done = what.given(resource(course, row.number, place))
        check(leg.values == (done.value(done.steps - 1),) and leg.last_step == done.steps - 1, "I4", about)
    if row.stop_requested is not None:
        check(row.state in (TrialState.PRUNED, TrialState.FAIL), "I4", about)
        return
    if is_left(row):
        check(row.state is TrialState.PRUNED and bool(row.legs) and row.values == row.legs[-1].values, "I4", about)
        return
    now = what.given(resource(course, row.number, row.leg))
    expected = {ENDS[now.kind], Reason.EXIT_CODE if now.kind == "gives up" else ENDS[now.kind]}  # in a log: not said
    if flaky and row.reason is Reason.DEADLINE_EXCEEDED:
        return
    check(row.reason in expected, "I4", about)
    if row.state is TrialState.COMPLETE:
        series = rules.series(rules.chain(row, study.trials[row.number].reports), METRIC)
        check(row.leg + 1 == course.legs(row.number), "I4", about)
        check(row.values == (now.value(now.steps - 1),), "I4", about)
        if spec.metrics.source == "push":
            check(series == {step: now.value(step) for step in range(now.steps)}, "I4", f"{about}, series {series}")


def runs(spec: ExperimentSpec, row: TrialRow) -> None:
    """A COMPLETE trial of several runs had whole rounds of folds, as many as it may have, each run by its own attempt,
    and its value is their mean."""
    if row.state is not TrialState.COMPLETE or not spec.validation.runs:
        return
    about = f"trial {row.number}: {row.values}, legs {row.legs}"
    folds, replicates = spec.validation.folds, spec.validation.replicates
    least, most = (replicates.least, replicates.most) if replicates else (1, 1)
    check(len(row.legs) % folds == 0 and least <= len(row.legs) // folds <= most, "I4", about)
    attempts = [leg.attempt for leg in row.legs]
    check(attempts == sorted(set(attempts)) and attempts[-1] == row.attempt, "I1", about)
    check(row.values == (statistics.mean(leg.values[0] for leg in row.legs),), "I4", about)


def is_left(row: TrialRow) -> bool:
    """It was paused when nothing more could come."""
    return row.reason is Reason.NOT_PROMOTED


def all_trials(spec: ExperimentSpec, reason: Reason | None, rows: Mapping[int, TrialRow]) -> None:
    """Everybody was promoted who is among the best of a rung; and somebody came to the last one, if anybody could."""
    left = {number: row for number, row in rows.items() if is_left(row)}
    if reason not in _GOING_ON or spec.fidelity is None:
        check(not left, "I3", f"left paused, though {reason} cuts everybody short: {sorted(left)}")
        return
    factor = int(spec.pruner.settings["reductionFactor"])
    if spec.pruner.name == "asha":
        for rung in range(max((len(row.legs) for row in rows.values()), default=0)):
            came = [row for row in rows.values() if len(row.legs) > rung]
            came.sort(key=lambda row: (-row.legs[rung].values[0], row.number))
            stayed = [row.number for row in came[: len(came) // factor] if is_left(row) and len(row.legs) == rung + 1]
            check(not stayed, "I3", f"{stayed} are among the best of rung {rung}, and stayed there")
    complete = [number for number, row in rows.items() if row.state is TrialState.COMPLETE]
    check(bool(complete) or not left, "I3", f"nobody came to the last rung, and {sorted(left)} could have gone on")
