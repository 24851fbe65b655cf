"""How a trial's reports become its end: state, reason and one value per objective.

Pure, and the only place that judges it: the same function settles a trial on PostgreSQL, in memory and in the
simulator, so a final state is a function of the accepted reports and the outcome of the Job (invariant I4).
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from kubetune.api.spec import Constraint, Objective
from kubetune.api.trial import Ending, Finish, Reason, Report, TrialState
from kubetune.storage import rules

_STOPPED = {
    Reason.PRUNED: "the pruner stopped it",
    Reason.STOPPED: "stopped on request",
    Reason.EXPERIMENT_ENDED: "the experiment ended before it",
}
_NAMES_SHOWN = 10  # of metrics in a message


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is known of a trial's end beside its reports. ``failure``: its Job failed, for this reason; None: it ended
    well, or on request. ``stop``: the reason of the stop that was requested of it, if one was; ``why``: more of it,
    in words."""

    failure: Reason | None = None
    message: str = ""
    stop: Reason | None = None
    why: str = ""


def scored(outcome: Outcome, reports: Sequence[Report], objectives: Sequence[Objective]) -> Outcome:
    """Of a trial that runs once only: what it has reported stands, however its Job ended after that."""
    if not all(series(reports, objective.metric) for objective in objectives):
        return outcome
    return Outcome(message=outcome.message)


def series(reports: Sequence[Report], metric: str) -> list[float]:
    """The metric's values in order of acceptance, from the reports that have it."""
    return [report.metrics[metric] for report in reports if metric in report.metrics]


def reduce(objective: Objective, values: Sequence[float]) -> float:
    """The one value of a series of at least one report, by ``objective.value``.

    ``last``: the last report's. ``best``: the largest or smallest, not counting NaN among numbers. ``mean``: of the
    last ``objective.window`` reports. ``min``, ``max``: the smallest or largest as in ``best``, whichever is better.
    NaN if nothing is left that is a number, or if infinities cancel out.
    """
    return _REDUCTIONS[objective.value](objective, values)


def _best(objective: Objective, values: Sequence[float]) -> float:
    return (_max if objective.direction == "maximize" else _min)(objective, values)


def _min(_: Objective, values: Sequence[float]) -> float:
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def _max(_: Objective, values: Sequence[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _mean(objective: Objective, values: Sequence[float]) -> float:
    return float(statistics.mean(values[-objective.window :]))  # exact: no overflow, and inf - inf is nan


_REDUCTIONS: Mapping[str, Callable[[Objective, Sequence[float]], float]] = {
    "last": lambda _, values: values[-1],
    "best": _best,
    "mean": _mean,
    "min": _min,
    "max": _max,
}


def reaches(objectives: Sequence[Objective], values: Sequence[float]) -> bool:
    """Whether one trial's values reach the target of every objective that has one; False if none has."""
    pairs = [(goal, value) for goal, value in zip(objectives, values, strict=True) if goal.target is not None]
    return bool(pairs) and all(_reached(goal, value) for goal, value in pairs)


def _reached(goal: Objective, value: float) -> bool:
    target = goal.target
    return target is not None and (value >= target if goal.direction == "maximize" else value <= target)


def settle(
    reports: Sequence[Report],
    finish: Finish | None,
    outcome: Outcome,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> Ending:
    """The end of a trial, from the accepted reports of its last attempt and what it said of its end.

    In this order: a failed Job is FAIL with the Job's reason; a stop that was requested makes it PRUNED, however the
    trial took it; then the trial's own word (failed, pruned); then its metrics: COMPLETE, or FAIL for one that is
    missing or not a number. ±inf are values. So it is with the metrics that constraints are about; a PRUNED trial may
    lack them.
    """
    ending = _settled(reports, finish, outcome, objectives)
    return _constrained(ending, reports, constraints) if constraints and ending.state is not TrialState.FAIL else ending


def _settled(
    reports: Sequence[Report], finish: Finish | None, outcome: Outcome, objectives: Sequence[Objective]
) -> Ending:
    if outcome.failure is not None:
        return Ending(TrialState.FAIL, outcome.failure, outcome.message, None)
    if outcome.stop is not None:
        message = outcome.message or _STOPPED.get(outcome.stop, "stopped")
        if outcome.why:
            message = f"{outcome.why}; {outcome.message}" if outcome.message else outcome.why
        return Ending(TrialState.PRUNED, outcome.stop, message, _last(reports, objectives))
    if finish is not None and finish.status == "failed":
        message = finish.message or "the trial reported that it failed"
        return Ending(TrialState.FAIL, Reason.TRIAL_FAILED, message, None)
    if finish is not None and finish.status == "pruned":
        message = finish.message or "the trial stopped itself"
        return Ending(TrialState.PRUNED, Reason.PRUNED, message, _last(reports, objectives))
    return _completed(reports, finish, outcome, objectives)


def _completed(
    reports: Sequence[Report], finish: Finish | None, outcome: Outcome, objectives: Sequence[Objective]
) -> Ending:
    missing = [objective.metric for objective in objectives if not series(reports, objective.metric)]
    if missing:
        return Ending(TrialState.FAIL, Reason.NO_METRIC, _no_metric(missing, reports), None)
    values = tuple(reduce(objective, series(reports, objective.metric)) for objective in objectives)
    for objective, value in zip(objectives, values, strict=True):
        if math.isnan(value):
            message = f"{objective.metric} ({objective.value} of its reports) is not a number"
            return Ending(TrialState.FAIL, Reason.NOT_A_NUMBER, message, None)
    message = (finish.message if finish is not None else "") or outcome.message
    return Ending(TrialState.COMPLETE, Reason.COMPLETED, message, values)


def _constrained(ending: Ending, reports: Sequence[Report], constraints: Sequence[Constraint]) -> Ending:
    """By the last report of each metric."""
    latest: dict[str, float] = {}
    for report in reports:
        latest |= report.metrics
    missing = sorted({each.metric for each in constraints} - latest.keys())
    excess = {each.name: each.excess(latest[each.metric]) for each in constraints if each.metric in latest}
    unknown = [name for name, value in excess.items() if math.isnan(value)]
    if not missing and not unknown:
        return dataclasses.replace(ending, constraints=excess)
    if ending.state is TrialState.PRUNED:
        return ending
    if missing:
        message = f"{_no_metric(missing, reports)} (spec.constraints)"
        return Ending(TrialState.FAIL, Reason.NO_METRIC, message, None)
    return Ending(TrialState.FAIL, Reason.NOT_A_NUMBER, f"constraint {unknown[0]} is not a number", None)


def _last(reports: Sequence[Report], objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """What a trial cut short had come to, as `optuna.Study.tell` has it: the values at the highest step reported, or
    None where one is missing or not a number."""
    found = [rules.series(reports, objective.metric) for objective in objectives]
    values = tuple(curve[max(curve)] for curve in found if curve)
    return values if len(values) == len(objectives) and not any(map(math.isnan, values)) else None


def _no_metric(missing: Sequence[str], reports: Sequence[Report]) -> str:
    came = sorted({name for report in reports for name in report.metrics})
    what = f"the trial ended without a report of {', '.join(missing)}"
    if not came:
        return f"{what}; no metric came at all"
    more = f" and {len(came) - _NAMES_SHOWN} more" if len(came) > _NAMES_SHOWN else ""
    return f"{what}; the metrics that came are {', '.join(came[:_NAMES_SHOWN])}{more}"
