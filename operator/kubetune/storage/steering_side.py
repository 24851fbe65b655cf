"""The record of what people did to a running experiment, in PostgreSQL."""

import json
from collections.abc import Sequence

from kubetune.storage import base, engine_side, pool


class SteeringSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    def steering(self, uid: str) -> list[base.Steer]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                "SELECT kind, subject, detail, time, trial, place FROM kubetune.steering"
                " WHERE experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s) ORDER BY id",
                (uid,),
            )
            return [base.Steer(*row) for row in cursor.fetchall()]

    def record_steering(self, uid: str, steers: Sequence[base.Steer]) -> None:
        with self._write() as cursor:
            cursor.execute("SELECT id FROM kubetune.experiments WHERE uid = %s", (uid,))
            found = cursor.fetchone()
            if found is None:
                raise KeyError(uid)
            now = self.clock()
            pool.with_values(
                cursor,
                "INSERT INTO kubetune.steering (experiment_id, time, kind, subject, detail, trial, place) VALUES %s",
                [
                    (found[0], now, each.kind, each.subject, json.dumps(each.detail), each.trial, each.order)
                    for each in steers
                ],
            )
