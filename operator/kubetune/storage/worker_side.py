"""The operator's side of workers in PostgreSQL: what is offered to them, which Jobs are workers, who is to drain."""

from collections.abc import Collection, Mapping

from kubetune.api.trial import Reason, WorkerRow
from kubetune.storage import engine_side, pool, rows, rules, tell, trial_ends

_WORKER = "w.number, w.incarnation, w.created, w.job_uid, w.draining, w.ended, w.reason, w.message"
_LATEST = (
    f"SELECT DISTINCT ON (w.number) {_WORKER}, w.experiment_id FROM kubetune.workers w"
    " JOIN kubetune.experiments e ON e.id = w.experiment_id WHERE e.uid = %s"
    " AND (%s::integer IS NULL OR w.number = %s) ORDER BY w.number, w.incarnation DESC"
)


class WorkerSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    # ---- attempts

    def offer(self, uid: str, attempts: Mapping[int, int]) -> set[int]:
        with self._write() as cursor:
            current = _current(trial_ends.lock(cursor, uid, attempts), attempts)
            taken = _offered(cursor, current)
            new = {trial.id for trial in current if trial.id not in taken and trial.row.job_uid is None}
            cursor.execute("UPDATE kubetune.experiment_trials SET offered = true WHERE id = ANY(%s)", (list(new),))
            if new:
                tell.workers(cursor, uid)
        return {trial.row.number for trial in current if trial.id in taken | new}

    def withdraw(self, uid: str, attempts: Mapping[int, int]) -> set[int]:
        with self._write() as cursor:
            current = _current(trial_ends.lock(cursor, uid, attempts), attempts)
            leased = {trial.id for trial in current if trial.row.job_uid is not None}
            kept = _offered(cursor, current) & leased
            withdrawn = [trial.id for trial in current if trial.id not in kept]
            cursor.execute("UPDATE kubetune.experiment_trials SET offered = false WHERE id = ANY(%s)", (withdrawn,))
        return {trial.row.number for trial in current if trial.id not in kept}

    def leased_log(self, uid: str, number: int) -> str | None:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT s.log_tail FROM kubetune.experiments e JOIN kubetune.experiment_trials t"
                " ON t.experiment_id = e.id JOIN kubetune.leases s ON s.trial_id = t.id AND s.attempt = t.attempt"
                " WHERE e.uid = %s AND t.number = %s",
                (uid, number),
            )
            row = cursor.fetchone()
        return None if row is None or row[0] is None else str(row[0])

    # ---- workers

    def workers(self, uid: str) -> list[WorkerRow]:
        with self.pool.transaction() as cursor:
            cursor.execute(_LATEST, (uid, None, None))
            return [_worker(row) for row in cursor.fetchall()]

    def open_worker(self, uid: str, number: int) -> WorkerRow:
        with self._write() as cursor:
            cursor.execute("SELECT id FROM kubetune.experiments WHERE uid = %s FOR NO KEY UPDATE", (uid,))
            (experiment_id,) = cursor.fetchone() or (None,)
            if experiment_id is None:
                raise KeyError(uid)
            cursor.execute(_LATEST, (uid, number, number))
            row = cursor.fetchone()
            last = _worker(row) if row else None
            if last is not None and last.ended is None:
                return last
            new = WorkerRow(number, last.incarnation + 1 if last else 1, self.clock())
            cursor.execute(
                "INSERT INTO kubetune.workers (experiment_id, number, incarnation, created) VALUES (%s, %s, %s, %s)",
                (experiment_id, new.number, new.incarnation, new.created),
            )
            return new

    def record_worker(self, uid: str, number: int, incarnation: int, job_uid: str) -> bool:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.workers w SET job_uid = %s FROM kubetune.experiments e WHERE e.id = w.experiment_id"
                " AND e.uid = %s AND w.number = %s AND w.incarnation = %s AND w.ended IS NULL"
                " AND (w.job_uid IS NULL OR w.job_uid = %s)",
                (job_uid, uid, number, incarnation, job_uid),
            )
            return cursor.rowcount == 1

    def drain_workers(self, uid: str, numbers: Collection[int]) -> None:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.workers w SET draining = true FROM kubetune.experiments e WHERE e.id = w.experiment_id"
                " AND e.uid = %s AND w.number = ANY(%s) AND w.ended IS NULL AND NOT w.draining",
                (uid, list(numbers)),
            )
            if cursor.rowcount:
                tell.workers(cursor, uid)

    def end_worker(self, uid: str, number: int, incarnation: int, reason: Reason, message: str) -> None:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.workers w SET ended = %s, reason = %s, message = %s FROM kubetune.experiments e"
                " WHERE e.id = w.experiment_id AND e.uid = %s AND w.number = %s AND w.incarnation = %s"
                " AND w.ended IS NULL",
                (self.clock(), str(reason), rules.clean(message), uid, number, incarnation),
            )


def _current(trials: Collection[trial_ends.Locked], attempts: Mapping[int, int]) -> list[trial_ends.Locked]:
    return [trial for trial in trials if trial.row.attempt == attempts[trial.row.number] and not trial.row.paused]


def _offered(cursor: pool.Cursor, trials: Collection[trial_ends.Locked]) -> set[int]:
    ids = [trial.id for trial in trials]
    cursor.execute("SELECT id FROM kubetune.experiment_trials WHERE id = ANY(%s) AND offered", (ids,))
    return {int(trial_id) for (trial_id,) in cursor.fetchall()}


def _worker(row: rows.Row) -> WorkerRow:
    number, incarnation, created, job_uid, draining, ended, reason, message = row[:8]
    return WorkerRow(
        number, incarnation, created, job_uid, draining, ended, None if reason is None else Reason(reason), message
    )
