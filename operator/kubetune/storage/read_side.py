"""What people read through the gateway: an experiment's trials by page, one trial's reports and the end of its log."""

from kubetune.api.trial import Counts, Report, TrialRow
from kubetune.storage import base, pool, rows


class ReadSide:
    """The reading part of `base.GatewayStorage`."""

    def __init__(self, connections: pool.Pool) -> None:
        self.pool = connections

    def trials(
        self, namespace: str, name: str, state: str | None, offset: int, limit: int, phase: str = ""
    ) -> tuple[base.StudyRow, Counts, list[TrialRow]]:
        with self.pool.transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # counts and page of one moment
            experiment_id = newest(cursor, namespace, name, phase)
            cursor.execute(f"SELECT {rows.STUDY_COLUMNS} FROM kubetune.experiments e WHERE e.id = %s", (experiment_id,))
            study = rows.study(cursor.fetchone() or ())
            found = page(cursor, experiment_id, state, offset, limit)
            return study, _counts(cursor, experiment_id), found

    def trial_reports(self, namespace: str, name: str, number: int, phase: str = "") -> list[Report]:
        with self.pool.transaction() as cursor:
            trial_id, _ = _trial(cursor, namespace, name, number, phase)
            cursor.execute(
                f"SELECT {rows.REPORT_COLUMNS} FROM kubetune.reports r WHERE r.trial_id = %s ORDER BY r.seq",
                (trial_id,),
            )
            return [rows.report(row) for row in cursor.fetchall()]

    def log_tail(self, namespace: str, name: str, number: int, phase: str = "") -> str | None:
        with self.pool.transaction() as cursor:
            return _trial(cursor, namespace, name, number, phase)[1]

    def place(self, namespace: str, name: str, number: int, phase: str = "") -> base.Place:
        with self.pool.transaction() as cursor:
            trial_id, _ = _trial(cursor, namespace, name, number, phase)
            cursor.execute(
                "SELECT t.attempt, t.state = 'RUNNING', t.started, w.number, w.incarnation"
                " FROM kubetune.experiment_trials t LEFT JOIN kubetune.workers w"
                " ON w.job_uid = t.job_uid AND w.experiment_id = t.experiment_id WHERE t.id = %s",
                (trial_id,),
            )
            attempt, running, started, worker, incarnation = cursor.fetchone() or ()
        return base.Place(attempt, running, started, None if worker is None else (worker, incarnation))


def page(cursor: pool.Cursor, experiment_id: int, state: str | None, offset: int, limit: int) -> list[TrialRow]:
    """Trials by number, at a cost that does not grow with the offset: numbers have no gaps, so that it is the first
    one's number; of one state, the index alone is counted through."""
    if state is None:
        chosen = "t.number >= %s"
        arguments: tuple[object, ...] = (offset,)
    else:
        chosen = (
            "t.state = %s AND t.number >= (SELECT number FROM kubetune.experiment_trials"
            " WHERE experiment_id = %s AND state = %s ORDER BY number OFFSET %s LIMIT 1)"
        )
        arguments = (state, experiment_id, state, offset)
    cursor.execute(
        f"SELECT {rows.TRIAL_COLUMNS} FROM {rows.TRIAL_TABLES} WHERE e.id = %s AND t.experiment_id = %s AND {chosen}"
        " ORDER BY t.number LIMIT %s",
        (experiment_id, experiment_id, *arguments, limit),
    )
    return [rows.trial(row) for row in cursor.fetchall()]


def newest(cursor: pool.Cursor, namespace: str, name: str, phase: str = "") -> int:
    """The search of the newest experiment of that name, or a phase of it."""
    cursor.execute(
        "SELECT max(id) FROM kubetune.experiments"
        " WHERE namespace = %s AND name = %s AND phase = %s AND deleted IS NULL",
        (namespace, name, phase),
    )
    (experiment_id,) = cursor.fetchone() or (None,)
    if experiment_id is None:
        raise KeyError(f"there is no {f'{phase} of ' if phase else ''}experiment {namespace}/{name}")
    return int(experiment_id)


def _trial(cursor: pool.Cursor, namespace: str, name: str, number: int, phase: str) -> tuple[int, str | None]:
    """A trial's id and the kept end of its log."""
    cursor.execute(
        "SELECT id, log_tail FROM kubetune.experiment_trials WHERE experiment_id = %s AND number = %s::bigint",
        (newest(cursor, namespace, name, phase), number),
    )
    row = cursor.fetchone()
    if row is None:
        raise KeyError(f"experiment {namespace}/{name} has no trial {number}")
    return row


def _counts(cursor: pool.Cursor, experiment_id: int) -> Counts:
    cursor.execute(
        "SELECT CASE WHEN paused THEN 'PAUSED' ELSE state END, count(*), sum(losses) FROM kubetune.experiment_trials"
        " WHERE experiment_id = %s GROUP BY 1",
        (experiment_id,),
    )
    by_state = {state: (int(number), int(lost)) for state, number, lost in cursor.fetchall()}
    number = {state: count for state, (count, _) in by_state.items()}
    return Counts(
        running=number.get("RUNNING", 0),
        paused=number.get("PAUSED", 0),
        complete=number.get("COMPLETE", 0),
        pruned=number.get("PRUNED", 0),
        failed=number.get("FAIL", 0),
        lost_attempts=sum(lost for _, lost in by_state.values()),
    )
