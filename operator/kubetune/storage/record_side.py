"""The record of decisions in PostgreSQL: where the order stands, and all of it for who makes them again."""

from kubetune.api import names
from kubetune.storage import base, engine_side, pool, read_side, rows, taken_side, version_side, warm_side
from kubetune.storage.record import Judged, Point, TrialRecord

_JUDGED = "place, number, attempt, kind, seq, rung, why, time, known"


class OrderSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    def last_order(self, uid: str) -> int:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT greatest((SELECT greatest(max(end_order), max(known))"
                " FROM kubetune.experiment_trials WHERE experiment_id = e.id),"
                " (SELECT max((legs -> -1 -> 'placing' ->> 'order')::bigint)"
                " FROM kubetune.experiment_trials WHERE experiment_id = e.id AND legs IS NOT NULL),"
                " (SELECT max(place) FROM kubetune.judgements WHERE experiment_id = e.id),"
                " (SELECT max(place) FROM kubetune.steering WHERE experiment_id = e.id), 0)"
                " FROM kubetune.experiments e WHERE e.uid = %s",
                (uid,),
            )
            (last,) = cursor.fetchone() or (0,)
            return int(last)


class RecordSide(read_side.ReadSide):
    """The part of `base.GatewayStorage` that reads the record."""

    def history(self, namespace: str, name: str, phase: str = "") -> base.StudyHistory:
        with self.pool.transaction() as cursor:
            experiment_id = read_side.newest(cursor, namespace, name, phase)
            cursor.execute(
                f"SELECT {rows.STUDY_COLUMNS}, e.generation, e.spec FROM kubetune.experiments e WHERE e.id = %s",
                (experiment_id,),
            )
            *study, generation, spec = cursor.fetchone() or ()
            cursor.execute(
                "SELECT kind, subject, detail, time, trial, place FROM kubetune.steering WHERE experiment_id = %s"
                " ORDER BY id",
                (experiment_id,),
            )
            steering = [base.Steer(*row) for row in cursor.fetchall()]
            warm = warm_side.read(cursor, experiment_id)
            taken = taken_side.read(cursor, study[0])
            after, versions = ([], []) if phase else _after(cursor, experiment_id, study[0])
        kept = None if spec is None else base.KeptSpec(generation, spec)
        return base.StudyHistory(rows.study(tuple(study)), kept, steering, warm, after, versions, taken)

    def record(self, namespace: str, name: str, offset: int, limit: int, phase: str = "") -> list[TrialRecord]:
        with self.pool.transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # of one moment
            experiment_id = read_side.newest(cursor, namespace, name, phase)
            page = {row.number: row for row in read_side.page(cursor, experiment_id, None, offset, limit)}
            if not page:
                return []
            chosen = (experiment_id, min(page), max(page))
            cursor.execute(
                "SELECT number, known, end_order, reports_removed, attempt, series_steps, series_values"
                " FROM kubetune.experiment_trials WHERE experiment_id = %s AND number BETWEEN %s AND %s",
                chosen,
            )
            kept = cursor.fetchall()
            points = _points(cursor, chosen)
            judged = _judged(cursor, chosen)
        found = []
        for number, known, order, removed, attempt, steps, values in sorted(kept, key=lambda row: int(row[0])):
            series = dict(zip(steps or (), values or (), strict=True))
            came = points.get(number, [])
            if removed:
                came = [Point(attempt, at, step, value) for at, (step, value) in enumerate(series.items(), 1)]
            row = page[number]
            found.append(
                TrialRecord(row, known, order, came, not removed, judged.get(number, []), series, len(row.legs))
            )
        return found


def _after(cursor: pool.Cursor, experiment_id: int, uid: str) -> tuple[list[str], list[base.Version]]:
    """What came after the search: phases as they were begun, models by number."""
    cursor.execute(engine_side.PHASES, (uid, uid))
    after = [names.phase_of(rows.study(row).uid) for row in cursor.fetchall()]
    cursor.execute(f"{version_side.VERSIONS} WHERE experiment_id = %s ORDER BY number", (experiment_id,))
    return after, [base.Version(*row) for row in cursor.fetchall()]


def _points(cursor: pool.Cursor, chosen: tuple[int, int, int]) -> dict[int, list[Point]]:
    cursor.execute(
        "SELECT t.number, r.attempt, r.seq, r.step, (r.metrics ->> e.metrics[1])::double precision"
        " FROM kubetune.experiments e JOIN kubetune.experiment_trials t ON t.experiment_id = e.id"
        " JOIN kubetune.reports r ON r.trial_id = t.id"
        " WHERE e.id = %s AND t.number BETWEEN %s AND %s AND r.metrics ->> e.metrics[1] IS NOT NULL"
        " ORDER BY t.number, r.seq",
        chosen,
    )
    found: dict[int, list[Point]] = {}
    for number, *point in cursor.fetchall():
        found.setdefault(number, []).append(Point(*point))
    return found


def _judged(cursor: pool.Cursor, chosen: tuple[int, int, int]) -> dict[int, list[Judged]]:
    cursor.execute(
        f"SELECT {_JUDGED} FROM kubetune.judgements WHERE experiment_id = %s AND number BETWEEN %s AND %s"
        " ORDER BY place",
        chosen,
    )
    found: dict[int, list[Judged]] = {}
    for row in cursor.fetchall():
        found.setdefault(row[1], []).append(Judged(*row))
    return found
