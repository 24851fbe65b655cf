"""Checkpoints in PostgreSQL: committed under the lock of the trial's row, as reports are."""

from collections.abc import Collection, Sequence

from kubetune.api import checkpoints
from kubetune.api.checkpoints import Checkpoint, Kept
from kubetune.storage import base, gateway_side, pool, rules

_COLUMNS = "t.number, c.attempt, c.step, c.location, c.digest, c.bytes, c.files, c.store, c.time"
_LOCK = "FOR NO KEY UPDATE OF t"


class CheckpointSide(gateway_side.GatewaySide):
    """See `base.GatewayStorage`."""

    def uploading(self, who: base.Identity) -> base.Answer:
        with self.pool.transaction() as cursor:
            _, row = self._current(cursor, who)
            now = self.clock()
            cursor.execute(
                "UPDATE kubetune.experiments SET uploaded = %s WHERE uid = %s AND (uploaded IS NULL OR uploaded < %s)",
                (now, who.experiment_uid, now - base.UPLOADING),
            )
        return rules.answer(row, row.last_seq, who.attempt)

    def commit_checkpoint(self, who: base.Identity, new: Checkpoint) -> tuple[base.Answer, list[str]]:
        with self.pool.transaction() as cursor:
            trial_id, row = self._current(cursor, who, _LOCK)
            now = self.clock()
            cursor.execute(
                "INSERT INTO kubetune.checkpoints (experiment_id, trial_id, attempt, step, store, location, digest,"
                " bytes, files, time) SELECT t.experiment_id, t.id, %s, %s, %s, %s, %s, %s, %s, %s"
                " FROM kubetune.experiment_trials t WHERE t.id = %s"
                " ON CONFLICT (experiment_id, location) DO UPDATE SET location = excluded.location"
                " RETURNING digest, experiment_id",
                (who.attempt, new.step, new.store, new.location, new.digest, new.bytes, new.files, now, trial_id),
            )
            digest, experiment_id = cursor.fetchone() or ("", 0)
            if digest != new.digest:
                raise ValueError(f"location: another checkpoint was committed as {new.location}; choose a new name")
            gone = checkpoints.superseded(kept(cursor, trial_id), self._keep(cursor, experiment_id))
            cursor.execute(
                "UPDATE kubetune.checkpoints SET released = %s WHERE trial_id = %s AND location = ANY(%s)",
                (now, trial_id, [each.checkpoint.location for each in gone]),
            )
            remove = self._to_remove(cursor, experiment_id, now)
        return rules.answer(row, row.last_seq, who.attempt), remove

    def _keep(self, cursor: pool.Cursor, experiment_id: int) -> int:
        cursor.execute(  # a phase has no spec of its own
            "SELECT s.spec FROM kubetune.experiments e JOIN kubetune.experiments s"
            " ON s.uid = split_part(e.uid, '/', 1) WHERE e.id = %s",
            (experiment_id,),
        )
        (spec,) = cursor.fetchone() or (None,)
        return checkpoints.keep_of(spec)

    def _to_remove(self, cursor: pool.Cursor, experiment_id: int, now: float) -> list[str]:
        """Each is told to one trial, and to another one when it is still there after a while."""
        cursor.execute(
            "UPDATE kubetune.checkpoints SET told = %s WHERE id = ANY(ARRAY("
            "SELECT id FROM kubetune.checkpoints WHERE experiment_id = %s AND released IS NOT NULL"
            " AND removed IS NULL AND store = %s AND (told IS NULL OR told < %s)"
            " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING location",
            (now, experiment_id, checkpoints.CLAIM, now - base.TELL_AGAIN, base.REMOVE_AT_ONCE),
        )
        return sorted(location for (location,) in cursor.fetchall())

    def resumable(self, who: base.Identity) -> list[Checkpoint]:
        with self.pool.transaction() as cursor:
            _, row = self._current(cursor, who)
            found: list[Checkpoint] = []
            for number in rules.resumes_from(row):
                cursor.execute(
                    "SELECT t.id FROM kubetune.experiments e JOIN kubetune.experiment_trials t"
                    " ON t.experiment_id = e.id WHERE e.uid = %s AND t.number = %s",
                    (who.experiment_uid, number),
                )
                for (trial_id,) in cursor.fetchall():
                    found += latest(cursor, trial_id)
        return [each for each in found if each.trial != row.number or each.attempt > rules.anew(row)]

    def resume(self, who: base.Identity, location: str | None, damaged: Collection[str]) -> base.Answer:
        with self.pool.transaction() as cursor:
            trial_id, row = self._current(cursor, who, _LOCK)
            cursor.execute(
                "UPDATE kubetune.checkpoints SET damaged = true WHERE location = ANY(%s) AND experiment_id ="
                " (SELECT experiment_id FROM kubetune.experiment_trials WHERE id = %s)",
                (sorted(damaged), trial_id),
            )
            if location is not None:
                found = self._at(cursor, trial_id, location)
                cursor.execute(
                    "INSERT INTO kubetune.resumes (trial_id, attempt, source, source_attempt, step, location, time)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (trial_id, attempt) DO UPDATE SET"
                    " source = excluded.source, source_attempt = excluded.source_attempt, step = excluded.step,"
                    " location = excluded.location, time = excluded.time",
                    (trial_id, who.attempt, found.trial, found.attempt, found.step, location, self.clock()),
                )
                row = rules.resumed(row, found.step)
                cursor.execute(
                    "UPDATE kubetune.experiment_trials SET last_step = %s WHERE id = %s", (row.last_step, trial_id)
                )
        return rules.answer(row, row.last_seq, who.attempt)

    def _at(self, cursor: pool.Cursor, trial_id: int, location: str) -> Checkpoint:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM kubetune.checkpoints c JOIN kubetune.experiment_trials t ON t.id = c.trial_id"
            " WHERE c.location = %s AND c.experiment_id ="
            " (SELECT experiment_id FROM kubetune.experiment_trials WHERE id = %s)",
            (location, trial_id),
        )
        row = cursor.fetchone()
        if row is None:
            raise ValueError(f"location: no checkpoint was committed as {location}")
        return Checkpoint(*row)

    def removed(self, who: base.Identity, locations: Sequence[str]) -> base.Answer:
        with self.pool.transaction() as cursor:
            trial_id, row = self._current(cursor, who)
            cursor.execute(
                "UPDATE kubetune.checkpoints SET removed = %s WHERE location = ANY(%s) AND released IS NOT NULL"
                " AND removed IS NULL AND experiment_id ="
                " (SELECT experiment_id FROM kubetune.experiment_trials WHERE id = %s)",
                (self.clock(), sorted(set(locations)), trial_id),
            )
        return rules.answer(row, row.last_seq, who.attempt)


def latest(cursor: pool.Cursor, trial_id: int) -> list[Checkpoint]:
    """A trial's that may be gone on from, the latest first."""
    return checkpoints.candidates(kept(cursor, trial_id))


def kept(cursor: pool.Cursor, trial_id: int) -> list[Kept]:
    """A trial's checkpoints that are not removed, in order of their commits."""
    cursor.execute(
        f"SELECT {_COLUMNS}, c.damaged, c.released IS NOT NULL FROM kubetune.checkpoints c"
        " JOIN kubetune.experiment_trials t ON t.id = c.trial_id"
        " WHERE c.trial_id = %s AND c.removed IS NULL ORDER BY c.id",
        (trial_id,),
    )
    return [Kept(Checkpoint(*row[:-2]), *row[-2:]) for row in cursor.fetchall()]
