"""What a study began with, in PostgreSQL."""

import json
from collections.abc import Sequence

from kubetune.api.trial import TrialState, from_json_metrics
from kubetune.storage import base, engine_side, pool, rows

_COLUMNS = "source, source_uid, number, state, params, objective_values, last_step, last_value, constraint_values"


class WarmSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    def warm_trials(self, uid: str) -> list[base.WarmTrial] | None:
        with self.pool.transaction() as cursor:
            cursor.execute("SELECT id, warm_started FROM kubetune.experiments WHERE uid = %s", (uid,))
            experiment_id, begun = cursor.fetchone() or (None, None)
            if begun is None:
                return None
            return read(cursor, experiment_id)

    def save_warm_trials(self, uid: str, trials: Sequence[base.WarmTrial]) -> None:
        with self._write() as cursor:
            cursor.execute(
                "UPDATE kubetune.experiments SET warm_started = %s WHERE uid = %s AND warm_started IS NULL"
                " RETURNING id",
                (self.clock(), uid),
            )
            found = cursor.fetchone()
            if found is None:
                raise KeyError(uid)
            pool.with_values(
                cursor,
                f"INSERT INTO kubetune.warm_trials (experiment_id, place, {_COLUMNS}) VALUES %s",
                [(found[0], place, *_row(trial)) for place, trial in enumerate(trials)],
                "(%s, %s, %s, %s, %s, %s, %s::json, %s::double precision[], %s::bigint, %s::double precision,"
                " %s::json)",
            )


def read(cursor: pool.Cursor, experiment_id: int) -> list[base.WarmTrial]:
    """In order."""
    cursor.execute(
        f"SELECT {_COLUMNS} FROM kubetune.warm_trials WHERE experiment_id = %s ORDER BY place", (experiment_id,)
    )
    return [_trial(*row) for row in cursor.fetchall()]


def _row(trial: base.WarmTrial) -> tuple[object, ...]:
    step, last = trial.last or (None, None)
    constraints = None if trial.constraints is None else rows.metrics_json(trial.constraints)
    values = None if trial.values is None else list(trial.values)
    params = json.dumps(dict(trial.params))
    return trial.source, trial.source_uid, trial.number, str(trial.state), params, values, step, last, constraints


def _trial(*row: object) -> base.WarmTrial:
    source, uid, number, state, params, values, step, last, constraints = row
    return base.WarmTrial(
        source,  # type: ignore[arg-type]
        uid,  # type: ignore[arg-type]
        number,  # type: ignore[arg-type]
        TrialState(str(state)),
        params,  # type: ignore[arg-type]
        None if values is None else tuple(values),  # type: ignore[arg-type]
        None if step is None else (step, last),  # type: ignore[arg-type]
        None if constraints is None else from_json_metrics(constraints),  # type: ignore[arg-type]
    )
