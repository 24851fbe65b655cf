"""The gateway's side of PostgreSQL: one row lock per trial decides what is accepted, in the inserting transaction."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import psycopg2.errors

from kubetune.api import names
from kubetune.api.spec import ParamValue
from kubetune.api.trial import Report, TrialRow
from kubetune.storage import base, pool, rows, rules

Key = tuple[str, str, int]  # experiment's UID, the namespace that its speaker is in, and trial number
NUMBERS = range(2**31)  # what the columns of trial number and attempt hold

# Trials by experiment and number. LATERAL … OFFSET 0 keeps the planner to one look-up by the whole key for each row of
# VALUES, also in a young database without statistics, where it would rather join an experiment's trials one by one.
_IDS_AND_KEYS = (
    "SELECT v.uid, v.namespace, v.number, i.id FROM (VALUES %s) AS v (uid, namespace, number)"
    " JOIN kubetune.experiments e ON e.uid = v.uid AND e.namespace = v.namespace"
    " CROSS JOIN LATERAL (SELECT id FROM kubetune.experiment_trials"
    " WHERE experiment_id = e.id AND number = v.number OFFSET 0) AS i"
)
_IDS = f"SELECT id FROM ({_IDS_AND_KEYS}) AS i"


@dataclasses.dataclass
class _Batch:
    """What one transaction knows of the trials that it locked, and will write of them."""

    ids: dict[Key, int]
    trials: dict[Key, TrialRow]
    keys: dict[tuple[int, int, str], int]  # (trial's id, attempt, idempotency key) → seq
    busy: set[Key]  # trials that someone holds for long: not locked
    new: list[tuple[int, str, Report]] = dataclasses.field(default_factory=list)  # (trial's id, key, report)
    changed: set[Key] = dataclasses.field(default_factory=set)


class GatewaySide:
    """See `base.GatewayStorage`; what people read is in `read_side`."""

    def __init__(self, connections: pool.Pool, clock: Callable[[], float]) -> None:
        self.pool = connections
        self.clock = clock

    # ---- reports

    def accept(self, reports: Sequence[base.Incoming]) -> list[base.Answer | Exception]:
        """As `base.GatewayStorage.accept`. A trial whose row someone holds for long does not hold up the others: its
        reports alone are answered with StorageUnavailable."""
        if not reports:
            return []
        try:
            return self._accept(reports, skip_busy=False)
        except base.StorageUnavailable as error:
            if not isinstance(error.__cause__, psycopg2.errors.LockNotAvailable):
                raise
        return self._accept(reports, skip_busy=True)

    def _accept(self, reports: Sequence[base.Incoming], skip_busy: bool) -> list[base.Answer | Exception]:
        now = self.clock()
        with self.pool.transaction() as cursor:
            batch = self._lock_batch(cursor, reports, skip_busy)
            answers = [_take(batch, incoming, now) for incoming in reports]
            self._insert(cursor, batch)
        return answers

    def _lock_batch(self, cursor: pool.Cursor, reports: Sequence[base.Incoming], skip_busy: bool) -> _Batch:
        """Lock the batch's trials, in order of their ids as everyone does, and then look up the keys known already: not
        in one statement, whose snapshot would be older than the locks."""
        wanted = sorted({_key(incoming.who) for incoming in reports if incoming.who.number in NUMBERS})
        locked = {
            (row[-2], row[-1], row[0]): row
            for row in pool.with_values(
                cursor,
                f"SELECT {rows.BARE_COLUMNS}, false, t.id, e.uid, e.namespace FROM kubetune.experiment_trials t"
                f" JOIN kubetune.experiments e ON e.id = t.experiment_id WHERE t.id = ANY(ARRAY({_IDS}))"
                f" ORDER BY t.id FOR NO KEY UPDATE OF t {'SKIP LOCKED' if skip_busy else ''}",
                wanted,
            )
        }
        there = (
            pool.with_values(cursor, f"SELECT uid, namespace, number FROM ({_IDS_AND_KEYS}) AS t", wanted)
            if skip_busy
            else []
        )
        ids = {key: int(row[-3]) for key, row in locked.items()}
        keys = {
            (ids[_key(incoming.who)], incoming.who.attempt, rules.clean(incoming.key))
            for incoming in reports
            if _key(incoming.who) in ids and incoming.who.attempt in NUMBERS
        }
        known = pool.with_values(
            cursor,
            "SELECT v.trial_id, v.attempt, v.key, r.seq FROM (VALUES %s) AS v (trial_id, attempt, key)"
            " CROSS JOIN LATERAL (SELECT seq FROM kubetune.reports"
            " WHERE trial_id = v.trial_id AND attempt = v.attempt AND key = v.key OFFSET 0) AS r",
            sorted(keys),
        )
        return _Batch(
            ids,
            {key: rows.trial(row) for key, row in locked.items()},
            {(trial_id, attempt, key): seq for trial_id, attempt, key, seq in known},
            busy={(uid, namespace, number) for uid, namespace, number in there} - locked.keys(),
        )

    def _insert(self, cursor: pool.Cursor, batch: _Batch) -> None:
        """Insert the new reports, move their trials on, and wake the engine at commit: one round trip."""
        if not batch.new:
            return
        reports = [
            (trial_id, report.seq, report.attempt, report.step, key, rows.metrics_json(report.metrics), report.time)
            for trial_id, key, report in batch.new
        ]
        trials = [
            (batch.ids[key], trial.last_seq, trial.last_step, rows.metrics_json(trial.last_metrics))
            for key, trial in ((key, batch.trials[key]) for key in sorted(batch.changed))
        ]
        cursor.execute(
            b";".join(
                (
                    pool.values(
                        cursor,
                        "INSERT INTO kubetune.reports (trial_id, seq, attempt, step, key, metrics, time) VALUES %s",
                        reports,
                    ),
                    pool.values(
                        cursor,
                        "UPDATE kubetune.experiment_trials t"
                        " SET last_seq = v.last_seq, last_step = v.last_step, last_metrics = v.last_metrics::json"
                        " FROM (VALUES %s) AS v (id, last_seq, last_step, last_metrics) WHERE t.id = v.id",
                        trials,
                    ),
                    cursor.mogrify(*_notification({uid for uid, *_ in batch.changed})),
                )
            )
        )

    # ---- the trial's own word

    def finish(self, who: base.Identity, status: str, message: str) -> base.Answer:
        with self.pool.transaction() as cursor:
            trial_id, row = self._current(cursor, who, "FOR NO KEY UPDATE OF t")
            if row.finish is None:
                finish = rules.with_finish(row, status, message, self.clock()).finish
                assert finish is not None
                cursor.execute(
                    "UPDATE kubetune.experiment_trials SET finish_status = %s, finish_message = %s, finish_time = %s"
                    " WHERE id = %s",
                    (finish.status, finish.message, finish.time, trial_id),
                )
                _notify(cursor, {who.experiment_uid})
        return rules.answer(row, row.last_seq, who.attempt)

    def look(self, who: base.Identity) -> base.Answer:
        with self.pool.transaction() as cursor:
            _, row = self._current(cursor, who)
        return rules.answer(row, row.last_seq, who.attempt)

    def parameters(self, who: base.Identity) -> Mapping[str, ParamValue]:
        with self.pool.transaction() as cursor:
            found = self._find(cursor, who)
        if found is None:
            raise base.NotCurrent(f"there is no trial {who.number} of experiment {who.experiment_uid}")
        return found[1].params

    def _find(self, cursor: pool.Cursor, who: base.Identity, locking: str = "") -> tuple[int, TrialRow] | None:
        if who.number not in NUMBERS:
            return None
        cursor.execute(
            f"SELECT {rows.TRIAL_COLUMNS}, t.id FROM {rows.TRIAL_TABLES}"
            f" WHERE e.uid = %s AND e.namespace = %s AND t.number = %s {locking}",
            _key(who),
        )
        row = cursor.fetchone()
        return (int(row[-1]), rows.trial(row)) if row else None

    def _current(self, cursor: pool.Cursor, who: base.Identity, locking: str = "") -> tuple[int, TrialRow]:
        """The pod's trial, if what it sends is accepted now. Raises NotCurrent or NotRecorded."""
        found = self._find(cursor, who, locking)
        refusal = rules.refusal(found[1] if found else None, who)
        if refusal or found is None:
            raise refusal or base.NotCurrent(f"there is no trial {who.number}")
        return found

    # ---- the log follower's lease and position

    def claim_log(self, who: base.Identity, holder: str, seconds: float) -> base.LogPosition | None:
        with self.pool.transaction() as cursor:
            try:
                trial_id, _ = self._current(cursor, who)
            except (base.NotCurrent, base.NotRecorded):
                return None
            cursor.execute(  # leases by the database's clock: the replicas' own may differ
                "INSERT INTO kubetune.logs AS l (trial_id, attempt, holder, until)"
                " VALUES (%s, %s, %s, now() + %s * interval '1 second')"
                " ON CONFLICT (trial_id, attempt) DO UPDATE SET holder = excluded.holder, until = excluded.until"
                " WHERE l.holder = excluded.holder OR l.until <= now() RETURNING l.since, l.done",
                (trial_id, who.attempt, holder, seconds),
            )
            row = cursor.fetchone()
        return base.LogPosition(*row) if row else None

    def save_log(self, who: base.Identity, holder: str, since: str, done: bool) -> None:
        with self.pool.transaction() as cursor:
            try:
                trial_id, _ = self._current(cursor, who)
            except (base.NotCurrent, base.NotRecorded):
                return
            cursor.execute(
                "UPDATE kubetune.logs SET since = %s, done = done OR %s"
                " WHERE trial_id = %s AND attempt = %s AND holder = %s",
                (since, done, trial_id, who.attempt, holder),
            )
            if done and cursor.rowcount:
                _notify(cursor, {who.experiment_uid})


def _key(who: base.Identity) -> Key:
    """The namespace with it: a pod that was forged in another one speaks for nothing."""
    return who.experiment_uid, who.namespace, who.number


def _take(batch: _Batch, incoming: base.Incoming, now: float) -> base.Answer | Exception:
    """Judge one report under its trial's lock, and take it into the batch."""
    who, key, text = incoming.who, _key(incoming.who), rules.clean(incoming.key)
    row = batch.trials.get(key)
    if key in batch.busy:
        return base.StorageUnavailable(f"trial {who.number} is being written by someone else")
    known = None if row is None else batch.keys.get((batch.ids[key], who.attempt, text))
    if row is not None and known is not None:
        return rules.answer(row, known, who.attempt)
    refusal = rules.refusal(row, who)
    if refusal or row is None:
        return refusal or base.NotCurrent(f"there is no trial {who.number}")
    try:
        step = rules.step_after(row.last_step, incoming.step)
        report = Report(row.last_seq + 1, who.attempt, step, rules.metrics_of(row, incoming.metrics), now)
    except ValueError as error:
        return error
    batch.trials[key] = rules.with_report(row, report)
    batch.keys[batch.ids[key], who.attempt, text] = report.seq
    batch.new.append((batch.ids[key], text, report))
    batch.changed.add(key)
    return rules.answer(row, report.seq, who.attempt)


def _notify(cursor: pool.Cursor, uids: set[str]) -> None:
    cursor.execute(*_notification(uids))


def _notification(uids: set[str]) -> tuple[str, tuple[str, list[str]]]:
    return "SELECT pg_notify(%s, uid) FROM unnest(%s::text[]) AS uid", (names.NOTIFY_CHANNEL, sorted(uids))
