"""The gateway's side of workers in PostgreSQL: leases, one row lock each, found by SKIP LOCKED so that nobody waits."""

import threading
from collections.abc import Callable, Sequence

from kubetune.api import names
from kubetune.api.trial import TrialRow, WorkerRow
from kubetune.storage import base, gateway_side, notifications, pool, rows, rules, tell

_SECONDS = "%s * interval '1 second'"


class LeaseSide(gateway_side.GatewaySide):
    """See `base.GatewayStorage`."""

    def lease(
        self, who: base.Worker, slot: int | None, seconds: float, ended: base.Ended | None = None
    ) -> base.Granted:
        with self.pool.transaction() as cursor:
            freed = ended is not None and self._take_end(cursor, who, ended)
            worker = _worker(cursor, who)
            refusal = rules.worker_refusal(worker, who)
            granted = None
            if refusal is None and worker is not None and slot is not None:
                granted = _held(cursor, who, slot) or (None if worker.draining else self._grant(cursor, who, slot))
                if granted is not None:
                    number, attempt, params, parent, environment, trial_id = granted
                    _extend(cursor, [trial_id], seconds)
            if freed:
                tell.engine_of_an_end(cursor, who.experiment_uid)
            elif granted is not None:
                tell.engine(cursor, who.experiment_uid)
        if refusal is not None or worker is None:
            raise refusal or base.NotCurrent(f"there is no worker {who.number}")
        if granted is None:
            return base.Granted(drain=worker.draining)
        return base.Granted(number, attempt, params, parent=parent, environment=environment or {})

    def _take_end(self, cursor: pool.Cursor, who: base.Worker, ended: base.Ended) -> bool:
        """How a process ended; False if that is known, or nobody's business any more."""
        found = _find(cursor, who, ended.number)
        if found is None or not rules.holds(found[1], who, ended.attempt):
            return False
        cursor.execute(
            "UPDATE kubetune.leases SET exit_time = %s, exit_reason = %s, exit_message = %s, log_tail = %s"
            " WHERE trial_id = %s",
            (
                self.clock(),
                None if ended.exit.reason is None else str(ended.exit.reason),
                rules.clean(ended.exit.message),
                None if ended.log is None else rules.clean(ended.log),
                found[0],
            ),
        )
        return True

    def _grant(self, cursor: pool.Cursor, who: base.Worker, slot: int) -> rows.Row | None:
        """The first offered attempt that nobody else is about to take."""
        cursor.execute(
            "SELECT t.number, t.attempt, t.params, t.parent, t.environment, t.id FROM kubetune.experiment_trials t"
            " WHERE t.experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s)"
            " AND t.state = 'RUNNING' AND t.offered AND t.job_uid IS NULL"
            " ORDER BY t.number LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
            (who.experiment_uid,),
        )
        row = cursor.fetchone()
        if row is None:
            return None
        _, attempt, *_, trial_id = row
        cursor.execute(
            "UPDATE kubetune.experiment_trials SET job_uid = %s, started = coalesce(started, %s) WHERE id = %s",
            (who.job_uid, self.clock(), trial_id),
        )
        cursor.execute(
            "INSERT INTO kubetune.leases (trial_id, attempt, job_uid, pod_uid, slot, until)"
            " VALUES (%s, %s, %s, %s, %s, now())",
            (trial_id, attempt, who.job_uid, who.pod_uid, slot),
        )
        return row

    def renew(
        self, who: base.Worker, held: Sequence[tuple[int, int]], seconds: float
    ) -> tuple[list[base.Answer | None], bool]:
        with self.pool.transaction() as cursor:
            worker = _worker(cursor, who)
            refusal = rules.worker_refusal(worker, who)
            if worker is None:
                raise refusal or base.NotRecorded("")
            if refusal is not None:
                return [None] * len(held), True
            found = {number: _find(cursor, who, number) for number in sorted({number for number, _ in held})}
            answers, ids = [], []
            for number, attempt in held:
                trial_id, row = found[number] or (0, None)
                good = row is not None and rules.holds(row, who, attempt)
                answers.append(rules.answer(row, row.last_seq, attempt) if good and row is not None else None)
                ids += [trial_id] if good else []
            _extend(cursor, ids, seconds)
        return answers, worker.draining

    def listen_for_offers(self, callback: Callable[[str], None], stop: threading.Event) -> None:
        notifications.listen(self.pool.url, f"{self.pool.application}-offers", {names.OFFER_CHANNEL: callback}, stop)


def _worker(cursor: pool.Cursor, who: base.Worker) -> WorkerRow | None:
    cursor.execute(
        "SELECT w.number, w.incarnation, w.created, w.job_uid, w.draining, w.ended FROM kubetune.workers w"
        " JOIN kubetune.experiments e ON e.id = w.experiment_id WHERE e.uid = %s AND e.namespace = %s"
        " AND w.job_uid = %s",
        (who.experiment_uid, who.namespace, who.job_uid),
    )
    row = cursor.fetchone()
    return WorkerRow(*row) if row else None


def _find(cursor: pool.Cursor, who: base.Worker, number: int) -> tuple[int, TrialRow] | None:
    """A trial, locked, with its lease."""
    if number not in gateway_side.NUMBERS:
        return None
    cursor.execute(
        f"SELECT {rows.BARE_COLUMNS}, false, t.id FROM kubetune.experiment_trials t"
        " JOIN kubetune.experiments e ON e.id = t.experiment_id"
        " WHERE e.uid = %s AND e.namespace = %s AND t.number = %s FOR NO KEY UPDATE OF t",
        (who.experiment_uid, who.namespace, number),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute(f"SELECT {rows.LEASE_COLUMNS}, s.attempt FROM kubetune.leases s WHERE s.trial_id = %s", (row[-1],))
    trial, lease = rows.trial(row), cursor.fetchone()
    if lease is not None and lease[-1] == trial.attempt:
        trial = rows.with_lease(trial, rows.lease(lease))
    return int(row[-1]), trial


def _held(cursor: pool.Cursor, who: base.Worker, slot: int) -> rows.Row | None:
    """What the slot has, and was not told of."""
    cursor.execute(
        "SELECT t.number, t.attempt, t.params, t.parent, t.environment, t.id FROM kubetune.leases s"
        " JOIN kubetune.experiment_trials t ON t.id = s.trial_id AND t.attempt = s.attempt"
        " WHERE s.job_uid = %s AND s.pod_uid = %s AND s.slot = %s AND s.exit_time IS NULL AND t.state = 'RUNNING'",
        (who.job_uid, who.pod_uid, slot),
    )
    return cursor.fetchone()


def _extend(cursor: pool.Cursor, ids: Sequence[int], seconds: float) -> None:
    """Not each time: a tenth of the lease more or less is no matter, a write of every worker every few seconds is."""
    cursor.execute(
        f"UPDATE kubetune.leases SET until = now() + {_SECONDS} WHERE trial_id = ANY(%s)"
        f" AND until < now() + 0.9 * {_SECONDS}",
        (seconds, list(ids), seconds),
    )
