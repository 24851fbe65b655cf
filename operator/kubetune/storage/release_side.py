"""Checkpoints as the operator sees them, in PostgreSQL: who went on from which, and which ones nobody needs."""

from collections.abc import Collection, Sequence

from kubetune.api import checkpoints
from kubetune.api.checkpoints import S3, Leftover, Resumed
from kubetune.storage import base, checkpoint_side, engine_side, pool, rows, rules


class ReleaseSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    def resumes(self, uid: str) -> list[Resumed]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT t.number, r.attempt, r.source, r.source_attempt, r.step, r.location, r.time"
                " FROM kubetune.experiments e JOIN kubetune.experiment_trials t ON t.experiment_id = e.id"
                " JOIN kubetune.resumes r ON r.trial_id = t.id WHERE e.uid = %s ORDER BY t.number, r.attempt",
                (uid,),
            )
            return [Resumed(*row) for row in cursor.fetchall()]

    def release_checkpoints(self, uid: str, keep: Collection[int]) -> int:
        with self._write() as cursor:
            cursor.execute("SELECT FROM kubetune.experiments WHERE uid = %s FOR NO KEY UPDATE", (uid,))
            cursor.execute(
                "SELECT DISTINCT t.id, t.number FROM kubetune.experiments e"
                " JOIN kubetune.checkpoints c ON c.experiment_id = e.id"
                " JOIN kubetune.experiment_trials t ON t.id = c.trial_id"
                " WHERE e.uid = %s AND t.state <> 'RUNNING' AND c.released IS NULL",
                (uid,),
            )
            ended = cursor.fetchall()
            if not ended:
                return 0
            cursor.execute(
                f"SELECT {rows.TRIAL_COLUMNS} FROM {rows.TRIAL_TABLES} WHERE e.uid = %s AND t.state = 'RUNNING'", (uid,)
            )
            needed = {number for row in cursor.fetchall() for number in rules.resumes_from(rows.trial(row))}
            cursor.execute(  # where members of a population go on from
                "SELECT max(t.number) FROM kubetune.experiments e JOIN kubetune.experiment_trials t"
                " ON t.experiment_id = e.id WHERE e.uid = %s AND e.ended IS NULL AND t.state = 'COMPLETE'"
                " AND t.member IS NOT NULL GROUP BY t.member",
                (uid,),
            )
            needed.update(number for (number,) in cursor.fetchall())
            gone = [
                each.checkpoint.location
                for trial_id, number in ended
                for each in checkpoints.unneeded(
                    checkpoint_side.kept(cursor, trial_id), number in needed or number in keep
                )
            ]
            return _release(cursor, uid, gone, self.clock())

    def leftovers(self) -> list[Leftover]:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.checkpoints c SET released = %s FROM kubetune.experiments e"
                f" WHERE e.id = c.experiment_id AND e.deleted IS NOT NULL AND c.released IS NULL AND NOT {rows.HELD}",
                (self.clock(),),
            )
            cursor.execute(
                "SELECT e.id, e.uid, e.namespace, e.name, s.spec, e.deleted IS NOT NULL FROM kubetune.experiments e"
                " JOIN kubetune.experiments s ON s.uid = split_part(e.uid, '/', 1)"  # a phase has no spec of its own
                " WHERE e.ended IS NOT NULL AND s.spec IS NOT NULL AND EXISTS (SELECT FROM kubetune.checkpoints c"
                " WHERE c.experiment_id = e.id AND c.released IS NOT NULL AND c.removed IS NULL) ORDER BY e.id"
            )
            return [
                Leftover(uid, namespace, name, spec, deleted, self._staying(cursor, experiment_id))
                for experiment_id, uid, namespace, name, spec, deleted in cursor.fetchall()
            ]

    def _staying(self, cursor: pool.Cursor, experiment_id: int) -> tuple[str, ...]:
        cursor.execute(
            "SELECT location FROM kubetune.checkpoints WHERE experiment_id = %s AND released IS NULL ORDER BY id",
            (experiment_id,),
        )
        return tuple(location for (location,) in cursor.fetchall())

    def released_objects(self, limit: int) -> list[tuple[str, str]]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT e.uid, c.location FROM kubetune.checkpoints c JOIN kubetune.experiments e"
                " ON e.id = c.experiment_id WHERE c.released IS NOT NULL AND c.removed IS NULL AND c.store = %s"
                " ORDER BY c.released, c.id LIMIT %s",
                (S3, limit),
            )
            return [(uid, location) for uid, location in cursor.fetchall()]

    def removed_objects(self, objects: Sequence[tuple[str, str]]) -> None:
        with self._write() as cursor:
            pool.with_values(
                cursor,
                "UPDATE kubetune.checkpoints c SET removed = v.now FROM (VALUES %s) AS v (uid, location, now)"
                " JOIN kubetune.experiments e ON e.uid = v.uid"
                " WHERE c.experiment_id = e.id AND c.location = v.location AND c.released IS NOT NULL",
                [(*each, self.clock()) for each in objects],
            )

    def unswept(self, limit: int) -> list[str]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT uid FROM kubetune.experiments WHERE uploaded IS NOT NULL AND coalesce(swept, created) < %s"
                " AND (swept IS NULL OR swept < uploaded + %s) ORDER BY coalesce(swept, created), id LIMIT %s",
                (self.clock() - base.SWEEP_EVERY, base.SETTLED, limit),
            )
            return [uid for (uid,) in cursor.fetchall()]

    def swept(self, uid: str, begun: float) -> None:
        with self._write() as cursor:
            cursor.execute("UPDATE kubetune.experiments SET swept = %s WHERE uid = %s", (begun, uid))

    def unrecorded(self, uid: str, locations: Sequence[str]) -> list[str]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT c.location FROM kubetune.experiments e JOIN kubetune.checkpoints c ON c.experiment_id = e.id"
                " WHERE e.uid = %s AND c.location = ANY(%s) AND c.removed IS NULL",
                (uid, list(locations)),
            )
            recorded = {location for (location,) in cursor.fetchall()}
        return [location for location in locations if location not in recorded]

    def cleared(self, left: Leftover) -> None:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.checkpoints c SET removed = %s FROM kubetune.experiments e"
                " WHERE e.id = c.experiment_id AND e.uid = %s AND c.released IS NOT NULL"
                " AND c.removed IS NULL AND NOT c.location = ANY(%s)",
                (self.clock(), left.uid, list(left.keep)),
            )


def _release(cursor: pool.Cursor, uid: str, locations: list[str], now: float) -> int:
    """How many: what another experiment has taken stays."""
    cursor.execute(
        "UPDATE kubetune.checkpoints c SET released = %s FROM kubetune.experiments e"
        f" WHERE e.uid = %s AND c.experiment_id = e.id AND c.location = ANY(%s) AND NOT {rows.HELD}",
        (now, uid, locations),
    )
    return cursor.rowcount
