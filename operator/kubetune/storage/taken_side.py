"""Which checkpoint of another experiment a study begins with, in PostgreSQL, and what it is held by.

Who takes one and who releases lock the row of the study that it is of, so every later release sees what was recorded.
"""

from kubetune.api import names
from kubetune.api.checkpoints import Checkpoint, Start, Taken
from kubetune.storage import base, checkpoint_side, engine_side, gateway_side, pool, rules

_COLUMNS = "source, source_uid, claim, folder, number, attempt, step, location, digest, bytes, files, store, committed"


class TakenSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    def taken_checkpoint(self, uid: str) -> Taken | None:
        with self.pool.transaction() as cursor:
            return read(cursor, uid)

    def latest_checkpoint(self, uid: str, number: int) -> Checkpoint | None:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT t.id FROM kubetune.experiments e JOIN kubetune.experiment_trials t ON t.experiment_id = e.id"
                " WHERE e.uid = %s AND t.number = %s AND t.state <> 'RUNNING'",
                (uid, number),
            )
            found = cursor.fetchone()
            return None if found is None else next(iter(checkpoint_side.latest(cursor, int(found[0]))), None)

    def take_checkpoint(self, uid: str, taken: Taken) -> Taken:
        one = taken.checkpoint
        with self._write() as cursor:
            known = read(cursor, uid)
            if known is not None:
                return known
            cursor.execute("SELECT id FROM kubetune.experiments WHERE uid = %s", (uid,))
            mine = cursor.fetchone()
            if mine is None:
                raise KeyError(uid)
            cursor.execute("SELECT deleted FROM kubetune.experiments WHERE uid = %s FOR NO KEY UPDATE", (taken.uid,))
            if cursor.fetchone() != (None,):
                raise base.NotCurrent(f"{taken.source} was deleted")
            cursor.execute(
                "SELECT FROM kubetune.checkpoints c JOIN kubetune.experiments e ON e.id = c.experiment_id"
                " WHERE e.uid = %s AND c.location = %s AND c.released IS NULL AND NOT c.damaged",
                (taken.uid, one.location),
            )
            if cursor.fetchone() is None:
                raise base.NotCurrent(f"the checkpoint {one.location} of {taken.source} was removed")
            cursor.execute(
                f"INSERT INTO kubetune.init_checkpoints (experiment_id, time, {_COLUMNS})"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    *(mine[0], self.clock(), taken.source, taken.uid, taken.claim, taken.folder),
                    *(one.trial, one.attempt, one.step, one.location, one.digest, one.bytes, one.files, one.store),
                    one.time,
                ),
            )
        return taken


class StartSide(gateway_side.GatewaySide):
    """See `base.GatewayStorage`."""

    def start(self, who: base.Identity) -> Start | None:
        with self.pool.transaction() as cursor:
            self._current(cursor, who)
            uid = names.base_uid(who.experiment_uid)
            taken = read(cursor, uid)
            cursor.execute(
                "SELECT spec FROM kubetune.experiments WHERE uid = %s AND namespace = %s", (uid, who.namespace)
            )
            (spec,) = cursor.fetchone() or (None,)
        return rules.start(taken, spec)


def read(cursor: pool.Cursor, uid: str) -> Taken | None:
    """What a study has taken."""
    cursor.execute(
        f"SELECT {_COLUMNS} FROM kubetune.init_checkpoints WHERE experiment_id ="
        " (SELECT id FROM kubetune.experiments WHERE uid = %s)",
        (uid,),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    source, source_uid, claim, folder, *checkpoint = row
    return Taken(source, source_uid, claim, folder, Checkpoint(*checkpoint))
