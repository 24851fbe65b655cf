"""The operator's side of PostgreSQL: every write checks its epoch in its own transaction, so only the leader writes."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import psycopg2.errors

from kubetune.api import names
from kubetune.api.spec import Parameter
from kubetune.api.trial import Ending, JobRecord, Lease, Leg, Reason, Report, TrialRow, TrialState, from_json_metrics
from kubetune.storage import base, batches, copying, optuna_tables, pool, rows, rules, series, tell, trial_ends
from kubetune.storage.judging import judgements
from kubetune.storage.record import Judged
from kubetune.storage.series import Piece, Take

REMOVED_AT_ONCE = 10_000  # reports a transaction: a trial may have any number of them
PURGED_AT_ONCE = 200  # trials a transaction: a new leader never waits long for the old one's
PHASES = (  # by the index of names: an experiment's phases have its own
    f"SELECT {rows.STUDY_COLUMNS} FROM kubetune.experiments b JOIN kubetune.experiments e"
    " ON e.namespace = b.namespace AND e.name = b.name AND e.phase <> ''"
    " WHERE b.uid = %s AND split_part(e.uid, '/', 1) = %s AND e.deleted IS NULL ORDER BY e.id"
)


class EngineSide(base.EngineStorage):
    """See `base.EngineStorage`. One object is one writer: it has the epoch that its `acquire` took."""

    def __init__(self, connections: pool.Pool, clock: Callable[[], float]) -> None:
        self.pool = connections
        self.clock = clock
        self.epoch: int | None = None
        self._acquiring = threading.Lock()

    def acquire(self, holder: str) -> int:
        with self._acquiring, self.pool.transaction() as cursor:
            cursor.execute(
                "UPDATE kubetune.leader SET epoch = epoch + 1, holder = %s, taken = %s RETURNING epoch",
                (holder, self.clock()),
            )
            (epoch,) = cursor.fetchone() or (None,)
        self.epoch = epoch
        if epoch is None:
            raise base.StorageUnavailable("kubetune.leader has no row: run `python -m kubetune migrate`")
        return int(epoch)

    @contextlib.contextmanager
    def _write(self) -> Iterator[pool.Cursor]:
        """A transaction of the single writer. The lock on the epoch keeps a successor out until it is over."""
        with self.pool.transaction("SELECT epoch FROM kubetune.leader FOR SHARE") as cursor:
            (epoch,) = cursor.fetchone() or (None,)
            if self.epoch is None or epoch != self.epoch:
                raise base.Fenced(f"epoch {epoch} is in force, this writer has {self.epoch}")
            yield cursor

    def confirm(self) -> None:
        with self._write():
            pass

    # ---- the study

    def open_study(
        self, uid: str, namespace: str, name: str, metrics: Sequence[str], directions: Sequence[str]
    ) -> base.StudyRow:
        with self._write() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('kubetune.open_study'), hashtext(%s))", (uid,))
            found = self._study(cursor, uid)
            if found is None:
                study_name = names.study_name(namespace, name, uid)
                attributes = {"kubetune:uid": uid, "kubetune:namespace": namespace, "kubetune:experiment": name}
                study_id = optuna_tables.create_study(cursor, study_name, metrics, directions, attributes)
                cursor.execute(
                    "INSERT INTO kubetune.experiments (uid, namespace, name, study_id, study_name, metrics, directions,"
                    " created, phase) VALUES (%s, %s, %s, %s, %s, %s::text[], %s::text[], %s, %s)",
                    (
                        *(uid, namespace, name, study_id, study_name, list(metrics), list(directions)),
                        *(self.clock(), names.phase_of(uid)),
                    ),
                )
                found = self._study(cursor, uid)
            if found is None:
                raise KeyError(f"there is no experiment {uid}")
            return found

    def _study(self, cursor: pool.Cursor, uid: str) -> base.StudyRow | None:
        cursor.execute(f"SELECT {rows.STUDY_COLUMNS} FROM kubetune.experiments e WHERE e.uid = %s", (uid,))
        row = cursor.fetchone()
        return rows.study(row) if row else None

    def save_spec(self, uid: str, kept: base.KeptSpec) -> None:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.experiments SET generation = %s, spec = %s WHERE uid = %s",
                (kept.generation, json.dumps(kept.spec), uid),
            )
            if cursor.rowcount != 1:
                raise KeyError(uid)

    def load_spec(self, uid: str) -> base.KeptSpec | None:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT generation, spec FROM kubetune.experiments WHERE uid = %s AND spec IS NOT NULL", (uid,)
            )
            row = cursor.fetchone()
            return base.KeptSpec(*row) if row else None

    def end_study(self, uid: str, reason: Reason, message: str) -> base.StudyRow:
        with self._write() as cursor:
            self._end_study(cursor, uid, reason, message)
            found = self._study(cursor, uid)
        if found is None:
            raise KeyError(uid)
        return found

    def _end_study(self, cursor: pool.Cursor, uid: str, reason: Reason, message: str) -> None:
        cursor.execute(
            "UPDATE kubetune.experiments SET ended = %s, end_reason = %s, end_message = %s"
            " WHERE uid = %s AND ended IS NULL",
            (self.clock(), str(reason), rules.clean(message), uid),
        )

    def studies(self) -> list[base.StudyRow]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                f"SELECT {rows.STUDY_COLUMNS} FROM kubetune.experiments e WHERE e.deleted IS NULL ORDER BY e.id"
            )
            return [rows.study(row) for row in cursor.fetchall()]

    def phases(self, uid: str) -> list[base.StudyRow]:
        with self.pool.transaction() as cursor:
            cursor.execute(PHASES, (uid, uid))
            return [rows.study(row) for row in cursor.fetchall()]

    def delete_study(self, uid: str) -> None:
        with self._write() as cursor:
            cursor.execute(
                "SELECT id FROM kubetune.experiments WHERE uid = %s AND deleted IS NULL FOR NO KEY UPDATE", (uid,)
            )
            if cursor.fetchone() is None:
                return
            cursor.execute(PHASES, (uid, uid))
            for each in (uid, *(rows.study(row).uid for row in cursor.fetchall())):
                self._delete(cursor, each)

    def _delete(self, cursor: pool.Cursor, uid: str) -> None:
        running, now = trial_ends.lock(cursor, uid), self.clock()
        reports = trial_ends.reports(cursor, running)
        ending = Ending(TrialState.FAIL, Reason.EXPERIMENT_DELETED, "", None)
        ended = [trial_ends.ended(trial, ending, reports.get(trial.id, []), None, now) for trial in running]
        trial_ends.write(cursor, ended, now)
        self._end_study(cursor, uid, Reason.EXPERIMENT_DELETED, "")
        cursor.execute("UPDATE kubetune.experiments SET deleted = %s WHERE uid = %s", (self.clock(), uid))

    def remove_reports(self, retention: float) -> bool:
        with self._write() as cursor:
            cursor.execute(
                "SELECT id FROM kubetune.experiment_trials WHERE ended < %s AND NOT reports_removed"
                " ORDER BY ended LIMIT %s",
                (self.clock() - retention, PURGED_AT_ONCE),
            )
            ids = [trial_id for (trial_id,) in cursor.fetchall()]
            cursor.execute(
                "DELETE FROM kubetune.reports WHERE ctid = ANY(ARRAY("
                "SELECT ctid FROM kubetune.reports WHERE trial_id = ANY(%s) LIMIT %s))",
                (ids, REMOVED_AT_ONCE),
            )
            if cursor.rowcount < REMOVED_AT_ONCE:
                cursor.execute(
                    "UPDATE kubetune.experiment_trials SET reports_removed = true WHERE id = ANY(%s)", (ids,)
                )
        return bool(ids)

    def purge(self, retention: float) -> int:
        """As `base.EngineStorage.purge`, but a transaction for each `PURGED_AT_ONCE` trials: a study may be large."""
        before = self.clock() - retention
        with self.pool.transaction() as cursor:
            cursor.execute(
                f"SELECT e.id, e.study_id FROM kubetune.experiments e WHERE e.deleted < %s AND NOT {rows.HELD_ANY}"
                " AND (e.uploaded IS NULL OR e.swept >= e.uploaded + %s OR e.deleted < %s)",
                (before, base.SETTLED, before - base.SWEEP_PATIENCE),
            )
            gone = cursor.fetchall()
        for experiment_id, study_id in gone:
            while self._purge_trials(experiment_id):
                pass
            with self._write() as cursor:
                optuna_tables.delete_study(cursor, study_id)
                for table in ("workers", "steering", "warm_trials", "judgements", "init_checkpoints"):
                    cursor.execute(f"DELETE FROM kubetune.{table} WHERE experiment_id = %s", (experiment_id,))
                cursor.execute("DELETE FROM kubetune.experiments WHERE id = %s", (experiment_id,))
        return len(gone)

    def _purge_trials(self, experiment_id: int) -> bool:
        with self._write() as cursor:
            cursor.execute(
                "SELECT id, optuna_id FROM kubetune.experiment_trials WHERE experiment_id = %s ORDER BY id LIMIT %s",
                (experiment_id, PURGED_AT_ONCE),
            )
            found = cursor.fetchall()
            ids = [trial_id for trial_id, _ in found]
            optuna_tables.delete_trials(cursor, [optuna_id for _, optuna_id in found])
            for table in ("reports", "logs", "attempts", "leases", "checkpoints", "resumes", "versions"):
                cursor.execute(f"DELETE FROM kubetune.{table} WHERE trial_id = ANY(%s)", (ids,))
            cursor.execute("DELETE FROM kubetune.experiment_trials WHERE id = ANY(%s)", (ids,))
        return bool(found)

    # ---- what the engine loads

    def load_trials(self, uid: str) -> list[TrialRow]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                f"SELECT {rows.TRIAL_COLUMNS} FROM {rows.TRIAL_TABLES} WHERE e.uid = %s ORDER BY t.number", (uid,)
            )
            trials = [rows.trial(row) for row in cursor.fetchall()]
            leases = _leases(cursor, uid)
        return _leased(trials, leases)

    def load_running(self, uid: str) -> tuple[list[TrialRow], list[Piece]]:
        pieces: list[Piece] = []
        with self.pool.transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # both of one moment
            cursor.execute(
                f"SELECT {rows.TRIAL_COLUMNS} FROM {rows.TRIAL_TABLES} WHERE e.uid = %s AND t.state = 'RUNNING'"
                " ORDER BY t.number",
                (uid,),
            )
            running = [rows.trial(row) for row in cursor.fetchall()]
            leases = _leases(cursor, uid)
            copying.copy(cursor, rows.RUNNING_SERIES, (uid,), pieces.append)
            if any(row.attempt > 1 for row in running):
                pieces.append(_later_series(cursor, uid, {row.number: row for row in running}))
        return _leased(running, leases), pieces

    def load_ended(self, uid: str, after: int, limit: int) -> list[base.EndedTrial]:
        with self.pool.transaction() as cursor:
            cursor.execute(rows.ENDED_TRIALS, (uid, after, limit))
            return rows.ended(cursor.fetchall())

    def each_series(self, uid: str, state: TrialState, take: Take) -> None:
        with self.pool.transaction() as cursor:
            copying.copy(cursor, rows.ENDED_SERIES, (uid, str(state)), take)

    def marks(self, uid: str, state: TrialState) -> list[base.Mark]:
        with self.pool.transaction() as cursor:
            cursor.execute(rows.MARKS, (uid, str(state)))
            return [rows.mark(row) for row in cursor.fetchall()]

    def last_metrics(self, uid: str, numbers: Sequence[int]) -> dict[int, Mapping[str, float]]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT t.number, t.last_metrics FROM kubetune.experiment_trials t"
                " WHERE t.experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s) AND t.number = ANY(%s)",
                (uid, list(numbers)),
            )
            return {number: from_json_metrics(metrics) for number, metrics in cursor.fetchall()}

    def ended_legs(self, uid: str) -> list[tuple[int, tuple[Leg, ...]]]:
        with self.pool.transaction() as cursor:
            cursor.execute(rows.ENDED_LEGS, (uid,))
            return [(number, rows.legs(found)) for number, found in cursor.fetchall()]

    def count_lost_attempts(self, uid: str) -> int:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT coalesce(sum(t.losses), 0)"
                " FROM kubetune.experiments e JOIN kubetune.experiment_trials t ON t.experiment_id = e.id"
                " WHERE e.uid = %s",
                (uid,),
            )
            (lost,) = cursor.fetchone() or (0,)
            return int(lost)

    def news(self, uid: str, seen: Mapping[int, int]) -> base.News:
        with self.pool.reading() as cursor:
            cursor.execute(rows.NEWS, (_integers(seen), _integers(seen.values()), uid))
            found = [rows.NewsOf(*row) for row in cursor.fetchall()]
            came = pool.with_values(
                cursor,
                f"SELECT {rows.REPORT_COLUMNS}, v.number FROM (VALUES %s) AS v (trial_id, number, seen, last)"
                " CROSS JOIN LATERAL (SELECT * FROM kubetune.reports"
                " WHERE trial_id = v.trial_id AND seq > v.seen AND seq <= v.last OFFSET 0) AS r"
                " ORDER BY v.number, r.seq",
                [
                    (trial.id, trial.number, seen.get(trial.number, 0), trial.last_seq)
                    for trial in found
                    if trial.last_seq > seen.get(trial.number, 0)
                ],
            )
            leases = _leases(cursor, uid) if any(trial.offered for trial in found) else {}
        reports: dict[int, list[Report]] = {}
        for row in came:
            reports.setdefault(row[-1], []).append(rows.report(row))
        return base.News(
            reports=reports,
            finishes={trial.number: trial.finish for trial in found if trial.finish},
            logs_read=frozenset(trial.number for trial in found if trial.log_read),
            leases={number: lease for number, lease in leases.items() if lease is not None},
        )

    # ---- trials

    def create_trials(self, uid: str, space: Mapping[str, Parameter], trials: Sequence[base.NewTrial]) -> None:
        if not trials:
            return
        now = self.clock()
        params = {trial.number: trial.params for trial in trials}
        offered = {trial.number for trial in trials if trial.offered}
        known = {trial.number: trial.known for trial in trials}
        given = {trial.number: trial.given for trial in trials if trial.given}
        sources = {number: each.source for number, each in given.items()}
        segments = {trial.number: trial for trial in trials}
        attributes = {trial.number: rules.attributes(trial) for trial in trials}
        environments = {trial.number: trial.environment for trial in trials}
        if len(params) < len(trials):
            raise ValueError(f"a trial number of {[trial.number for trial in trials]} is given twice")
        with self._write() as cursor:
            cursor.execute(
                "SELECT id, study_id, study_name, deleted FROM kubetune.experiments WHERE uid = %s FOR SHARE", (uid,)
            )
            found = cursor.fetchone()
            if found is None:
                raise KeyError(uid)
            experiment_id, study_id, study_name, deleted = found
            if deleted is not None:
                raise base.NotCurrent(f"study {study_name} is deleted")
            try:
                ids, theirs = optuna_tables.create_trials(cursor, study_id, space, params, now, given, attributes)
                ours = pool.values(
                    cursor,
                    "INSERT INTO kubetune.experiment_trials (experiment_id, number, optuna_id, params, created,"
                    " offered, source, parent, member, environment, known)"
                    " VALUES %s",
                    [
                        (
                            experiment_id,
                            number,
                            ids[number],
                            json.dumps(dict(params[number])),
                            now,
                            number in offered,
                            sources.get(number),
                            segments[number].parent,
                            segments[number].member,
                            rows.environment_json(environments[number]),
                            known[number],
                        )
                        for number in sorted(params)
                    ],
                )
                pool.together(cursor, theirs, ours)
            except psycopg2.errors.UniqueViolation as error:
                tried = sorted(sources.values())
                raise ValueError(f"one of {sorted(params)} or of {tried} is given already") from error
            if offered:
                tell.workers(cursor, uid)

    def sources(self, uid: str) -> frozenset[str]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT t.source FROM kubetune.experiment_trials t WHERE t.source IS NOT NULL"
                " AND t.experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s)",
                (uid,),
            )
            return frozenset(source for (source,) in cursor.fetchall())

    def record_jobs(self, uid: str, jobs: Sequence[JobRecord]) -> list[bool]:
        def write(part: Sequence[JobRecord]) -> list[bool]:
            with self._write() as cursor:
                return batches.record_jobs(cursor, uid, part)

        return batches.in_parts(jobs, write)

    def record_start(self, uid: str, starts: Mapping[int, float]) -> None:
        if not starts:
            return
        with self._write() as cursor:
            locked = trial_ends.lock(cursor, uid, starts)
            pool.with_values(
                cursor,
                "UPDATE kubetune.experiment_trials t SET started = v.started::double precision"
                " FROM (VALUES %s) AS v (id, started) WHERE t.id = v.id",
                [(trial.id, starts[trial.row.number]) for trial in locked if trial.row.started is None],
            )

    def decide(
        self, uid: str, stops: Mapping[int, base.Stop], rungs: Mapping[int, int], judged: Sequence[Judged] = ()
    ) -> None:
        if not stops and not rungs and not judged:
            return
        now = self.clock()
        with self._write() as cursor:
            locked = trial_ends.lock(cursor, uid, stops.keys() | rungs.keys())
            after = [
                (trial.id, rules.decided(trial.row, stops.get(trial.row.number), rungs.get(trial.row.number), now))
                for trial in locked
            ]
            pool.together(cursor, judgements(cursor, uid, judged, now))
            pool.with_values(
                cursor,
                "UPDATE kubetune.experiment_trials t SET stop_requested = v.at::double precision,"
                " stop_reason = v.reason, stop_message = v.message, rung = v.rung::bigint"
                " FROM (VALUES %s) AS v (id, at, reason, message, rung) WHERE t.id = v.id",
                [
                    (trial, row.stop_requested, row.stop_reason and str(row.stop_reason), row.stop_message, row.rung)
                    for trial, row in after
                ],
            )

    def new_attempt(self, uid: str, number: int, lost: int, reason: Reason, message: str) -> bool:
        with self._write() as cursor:
            locked = trial_ends.lock(cursor, uid, [number])
            if not locked or locked[0].row.attempt != lost:
                return False
            if rules.has_scored(uid, locked[0].metrics, locked[0].row):
                return False
            trial, after = locked[0], rules.next_attempt(locked[0].row, reason)
            kept = trial_ends.attempts_over(cursor, [(trial, reason, rules.clean(message))], self.clock())
            pool.together(cursor, kept, trial_ends.leases_over(cursor, [trial]))
            cursor.execute(
                "UPDATE kubetune.experiment_trials SET attempt = %s, losses = %s, job_uid = NULL, finish_status = NULL,"
                " finish_message = NULL, finish_time = NULL, last_step = %s, last_metrics = '{}',"
                " offered = false, stop_requested = %s, stop_reason = %s, stop_message = %s, rung = %s WHERE id = %s",
                (
                    after.attempt,
                    after.losses,
                    after.last_step,
                    after.stop_requested,
                    after.stop_reason and str(after.stop_reason),
                    after.stop_message,
                    after.rung,
                    trial.id,
                ),
            )
            return True

    def promote(
        self, uid: str, attempts: Mapping[int, int], offered: bool = False, judged: Sequence[Judged] = ()
    ) -> dict[int, TrialRow]:
        with self._write() as cursor:
            locked = {trial.row.number: trial for trial in trial_ends.lock(cursor, uid, attempts)}
            found = {number: rules.promoted(trial.row, attempts[number], offered) for number, trial in locked.items()}
            going = {number: row for number, row in found.items() if row is not None}
            new = {number: locked[number].id for number in going if locked[number].row.paused}
            recorded = [each for each in judged if each.number in new]
            update = cursor.mogrify(
                "UPDATE kubetune.experiment_trials SET paused = false, offered = %s WHERE id = ANY(%s)",
                (offered, list(new.values())),
            )
            pool.together(cursor, update, judgements(cursor, uid, recorded, self.clock()))
            if new and offered:
                tell.workers(cursor, uid)
        return going

    def finish_trials(self, uid: str, endings: Sequence[base.ToEnd]) -> list[TrialRow | Exception]:
        return batches.in_parts(endings, lambda part: self._finish_part(uid, part))

    def _finish_part(self, uid: str, part: Sequence[base.ToEnd]) -> list[TrialRow | Exception]:
        """What the database refuses of one (text that it cannot hold, say) it refuses of all: then each alone."""
        try:
            with self._write() as cursor:
                return batches.finish_trials(cursor, uid, part, self.clock())
        except psycopg2.Error as error:
            if len(part) == 1:
                return [error]
            return [answer for ending in part for answer in self._finish_part(uid, [ending])]

    def healthy(self) -> bool:
        try:
            with self.pool.transaction() as cursor:
                cursor.execute("SELECT epoch FROM kubetune.leader")
                return cursor.fetchone() is not None
        except base.StorageUnavailable:
            return False


def _integers(numbers: Iterable[int]) -> str:
    """An array as PostgreSQL reads it."""
    return f"{{{','.join(map(str, numbers))}}}"


def _later_series(cursor: pool.Cursor, uid: str, running: Mapping[int, TrialRow]) -> Piece:
    """The series of trials that are past their first attempt, by what of each attempt's reports counts."""
    cursor.execute(rows.LATER_REPORTS, (uid,))
    came: dict[int, list[Report]] = {}
    for row in cursor.fetchall():
        came.setdefault(row[-1], []).append(rows.report(row))
    cursor.execute("SELECT metrics[1] FROM kubetune.experiments WHERE uid = %s", (uid,))
    (metric,) = cursor.fetchone() or ("",)
    return series.of_reports({number: rules.chain(running[number], each) for number, each in came.items()}, metric)


def _leases(cursor: pool.Cursor, uid: str) -> dict[int, Lease | None]:
    """The trials that are offered to workers, by number, each with its lease or without."""
    cursor.execute(
        f"SELECT {rows.LEASE_COLUMNS}, t.number FROM kubetune.experiments e"
        " JOIN kubetune.experiment_trials t ON t.experiment_id = e.id"
        " LEFT JOIN kubetune.leases s ON s.trial_id = t.id AND s.attempt = t.attempt"
        " WHERE e.uid = %s AND t.state = 'RUNNING' AND t.offered",
        (uid,),
    )
    return {row[-1]: None if row[0] is None else rows.lease(row) for row in cursor.fetchall()}


def _leased(trials: Sequence[TrialRow], leases: Mapping[int, Lease | None]) -> list[TrialRow]:
    return [rows.with_lease(row, leases[row.number]) if row.number in leases else row for row in trials]
