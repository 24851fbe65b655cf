"""How trials are locked by the operator, and how the end of an attempt or of a trial is written everywhere at once."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from kubetune.api import names
from kubetune.api.trial import Ending, Reason, Report, TrialRow
from kubetune.storage import optuna_tables, pool, rows, rules

RUNNING = "t.state = 'RUNNING'"
ANY_STATE = "true"


@dataclasses.dataclass(frozen=True)
class Locked:
    """A trial whose row is locked, and what its end needs of its experiment."""

    id: int
    optuna_id: int
    row: TrialRow
    namespace: str
    experiment: str
    uid: str
    metrics: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Ended:
    """A locked trial with its end, not written yet."""

    locked: Locked
    row: TrialRow  # with its final state
    reports: Sequence[Report]  # that count
    log_tail: str | None
    series: Mapping[int, float] | None = None  # as `Ending.series`
    order: int | None = None


def lock(
    cursor: pool.Cursor, uid: str, numbers: Collection[int] | None = None, condition: str = RUNNING
) -> list[Locked]:
    """Lock trials in order of their ids, as everyone does who locks several: so nobody waits in a circle.

    Args:
        numbers: None: all of the experiment.
        condition: `RUNNING` or `ANY_STATE`.
    """
    chosen = "" if numbers is None else " AND t.number = ANY(%s::integer[])"  # by the index: few of many that run
    cursor.execute(
        f"SELECT {rows.TRIAL_COLUMNS}, t.id, t.optuna_id, e.namespace, e.name, e.uid, e.metrics"
        f" FROM {rows.TRIAL_TABLES} WHERE e.uid = %s{chosen} AND {condition} ORDER BY t.id FOR NO KEY UPDATE OF t",
        (uid,) if numbers is None else (uid, list(numbers)),
    )
    return [
        Locked(trial_id, optuna_id, rows.trial(tuple(row)), namespace, name, uid, tuple(metrics))
        for *row, trial_id, optuna_id, namespace, name, uid, metrics in cursor.fetchall()
    ]


def reports(cursor: pool.Cursor, trials: Sequence[Locked]) -> dict[int, list[Report]]:
    """The trials' reports that count, by the trial's id, ascending; nothing for one without."""
    found = pool.with_values(
        cursor,
        f"SELECT {rows.REPORT_COLUMNS}, r.trial_id FROM (VALUES %s) AS v (trial_id)"
        " JOIN kubetune.reports r ON r.trial_id = v.trial_id ORDER BY r.trial_id, r.seq",
        [(trial.id,) for trial in trials],
    )
    by_trial: dict[int, list[Report]] = {}
    for row in found:
        by_trial.setdefault(row[-1], []).append(rows.report(row))
    of = {trial.id: trial.row for trial in trials}
    return {trial_id: list(rules.chain(of[trial_id], came)) for trial_id, came in by_trial.items()}


def ended(
    trial: Locked, ending: Ending, came: Sequence[Report], log_tail: str | None, now: float, order: int | None = None
) -> Ended:
    """A trial with its end. Raises ValueError as `rules.ended` does."""
    row = rules.ended(trial.row, ending, len(trial.metrics), now)
    return Ended(trial, row, came, None if log_tail is None else rules.clean(log_tail), ending.series, order)


def write(cursor: pool.Cursor, trials: Sequence[Ended], now: float) -> None:
    """Write the ends of trials of one experiment, in our tables and in Optuna's."""
    if not trials:
        return
    metrics = trials[0].locked.metrics
    series = [rules.series(trial.reports, metrics[0]) if trial.series is None else trial.series for trial in trials]
    over = [(trial.locked, trial.row.reason or Reason.COMPLETED, trial.row.message) for trial in trials]
    ends = pool.values(
        cursor,
        "UPDATE kubetune.experiment_trials t SET state = v.state, reason = v.reason, message = v.message,"
        " objective_values = v.objective_values, ended = v.ended, log_tail = v.log_tail,"
        " series_steps = v.steps, series_values = v.series, constraint_values = v.constraints, legs = v.legs,"
        " paused = false, end_order = v.place::bigint"
        " FROM (VALUES %s) AS v (id, state, reason, message, objective_values, ended, log_tail, steps, series,"
        " constraints, legs, place)"
        " WHERE t.id = v.id",
        [
            (
                trial.locked.id,
                str(trial.row.state),
                str(trial.row.reason),
                trial.row.message,
                None if trial.row.values is None else list(trial.row.values),
                trial.row.ended,
                trial.log_tail,
                list(curve),
                list(curve.values()),
                None if trial.row.constraints is None else rows.metrics_json(trial.row.constraints),
                rows.legs_json(trial.row.legs),
                trial.order,
            )
            for trial, curve in zip(trials, series, strict=True)
        ],
        "(%s, %s, %s, %s, %s::double precision[], %s::double precision, %s, %s::bigint[], %s::double precision[],"
        " %s::json, %s::json, %s)",
    )
    finished = [_for_optuna(trial, curve) for trial, curve in zip(trials, series, strict=True)]
    ours = [attempts_over(cursor, over, now), ends, leases_over(cursor, [trial.locked for trial in trials])]
    optuna_tables.finish_trials(cursor, finished, len(metrics), ours)


def write_legs(cursor: pool.Cursor, over: Sequence[tuple[Locked, TrialRow]], now: float) -> None:
    """Write ended legs: each trial as it was, and as it is then (`rules.next_leg`)."""
    if not over:
        return
    attempts = attempts_over(cursor, [(trial, Reason.COMPLETED, "") for trial, _ in over], now)
    ends = pool.values(
        cursor,
        "UPDATE kubetune.experiment_trials t SET attempt = v.attempt, leg = v.leg, paused = v.paused, legs = v.legs,"
        " environment = v.environment, last_step = v.last_step, job_uid = NULL, offered = false, finish_status = NULL,"
        " finish_message = NULL, finish_time = NULL"
        " FROM (VALUES %s) AS v (id, attempt, leg, paused, legs, environment, last_step) WHERE t.id = v.id",
        [
            (
                trial.id,
                row.attempt,
                row.leg,
                row.paused,
                rows.legs_json(row.legs),
                rows.environment_json(row.environment),
                row.last_step,
            )
            for trial, row in over
        ],
        "(%s, %s, %s, %s, %s::json, %s::json, %s::bigint)",
    )
    pool.together(cursor, attempts, ends, leases_over(cursor, [trial for trial, _ in over]))


def attempts_over(cursor: pool.Cursor, over: Sequence[tuple[Locked, Reason, str]], now: float) -> bytes:
    """The statement by which attempts that are over stay on record. One began when the one before it ended."""
    return pool.values(
        cursor,
        "INSERT INTO kubetune.attempts (trial_id, attempt, job_uid, began, ended, reason, message)"
        " SELECT v.trial_id, v.attempt, v.job_uid, coalesce(before.ended, v.created), v.ended, v.reason, v.message"
        " FROM (VALUES %s) AS v (trial_id, attempt, job_uid, created, ended, reason, message)"
        " LEFT JOIN kubetune.attempts before ON before.trial_id = v.trial_id AND before.attempt = v.attempt - 1",
        [
            (trial.id, trial.row.attempt, trial.row.job_uid, trial.row.created, now, str(reason), message)
            for trial, reason, message in over
        ],
    )


def leases_over(cursor: pool.Cursor, trials: Sequence[Locked]) -> bytes:
    """The statement by which nobody has these trials on lease any more."""
    return cursor.mogrify("DELETE FROM kubetune.leases WHERE trial_id = ANY(%s)", ([trial.id for trial in trials],))


def _for_optuna(trial: Ended, series: Mapping[int, float]) -> optuna_tables.Finished:
    """What Optuna has no column for becomes user attributes: kubetune's own, and metrics that are no objective."""
    locked, row = trial.locked, trial.row
    others = {name: value for name, value in row.last_metrics.items() if name not in locked.metrics}
    attributes = {
        **others,
        "kubetune:reason": str(row.reason),
        "kubetune:message": row.message,
        "kubetune:attempt": row.attempt,
        "kubetune:job": names.job_name(locked.experiment, locked.uid, row.number, row.attempt),
    }
    constraints = row.constraints or {}
    return optuna_tables.Finished(
        locked.optuna_id, row.state, row.values, row.ended or 0.0, series, attributes, constraints
    )
