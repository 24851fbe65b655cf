"""Models that refits told of, in PostgreSQL: under the lock of the run's row, as reports are."""

from kubetune.storage import base, engine_side, gateway_side, rules

VERSIONS = "SELECT number, phase, address, digest, image, params, time FROM kubetune.versions"
_LOCK = "FOR NO KEY UPDATE OF t"
_INSERT = """
    INSERT INTO kubetune.versions
        (trial_id, experiment_id, number, phase, attempt, params, address, digest, image, time)
    SELECT t.id, b.id, 1 + coalesce((SELECT max(number) FROM kubetune.versions WHERE experiment_id = b.id), 0),
        e.phase, t.attempt, t.params, %s, %s, coalesce(e.spec->>'image', ''), %s
    FROM kubetune.experiment_trials t JOIN kubetune.experiments e ON e.id = t.experiment_id
        JOIN kubetune.experiments b ON b.uid = split_part(e.uid, '/', 1)
    WHERE t.id = %s
    ON CONFLICT (trial_id) DO UPDATE SET attempt = excluded.attempt, address = excluded.address,
        digest = excluded.digest, time = excluded.time
    RETURNING number
"""


_MODELS = """
    SELECT b.id, b.name, v.number, v.phase, v.address, v.digest, v.image, v.params, v.time
    FROM (SELECT id, name FROM kubetune.experiments WHERE namespace = %s AND phase = '' AND deleted IS NULL) AS b
        CROSS JOIN LATERAL (SELECT * FROM kubetune.versions WHERE experiment_id = b.id
            ORDER BY number DESC LIMIT 1000) AS v
        JOIN kubetune.experiment_trials t ON t.id = v.trial_id
    WHERE t.state = 'COMPLETE' AND (%s::text IS NULL OR b.name = %s)
    ORDER BY b.name, v.number
"""
_SCORES = """
    SELECT b.id, (e.spec->'model'->>'version')::integer, e.phase, t.objective_values[1], t.ended
    FROM kubetune.experiments e JOIN kubetune.experiments b ON b.uid = split_part(e.uid, '/', 1)
        JOIN kubetune.experiment_trials t ON t.experiment_id = e.id
    WHERE e.namespace = %s AND split_part(e.phase, '.', 1) = 'test' AND b.deleted IS NULL AND t.state = 'COMPLETE'
        AND e.spec->'model' IS NOT NULL AND (%s::text IS NULL OR b.name = %s)
    ORDER BY e.id
"""


class ModelSide(gateway_side.GatewaySide):
    """See `base.GatewayStorage`."""

    def model(self, who: base.Identity, address: str, digest: str) -> tuple[base.Answer, int]:
        with self.pool.transaction() as cursor:
            trial_id, row = self._current(cursor, who, _LOCK)
            rules.may_tell_a_model(who)
            told = (rules.clean(address), rules.clean(digest), self.clock(), trial_id)
            cursor.execute(_INSERT, told)
            (number,) = cursor.fetchone() or (0,)
        return rules.answer(row, row.last_seq, who.attempt), int(number)

    def models(self, namespace: str, name: str | None = None) -> list[base.Model]:
        with self.pool.transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # of one moment
            cursor.execute(_MODELS, (namespace, name, name))
            models = cursor.fetchall()
            cursor.execute(_SCORES, (namespace, name, name))
            scores: dict[tuple[int, int], list[base.Score]] = {}
            for experiment, number, *score in cursor.fetchall():
                scores.setdefault((experiment, number), []).append(base.Score(*score))
        return [
            base.Model(of, base.Version(*version), tuple(scores.get((experiment, version[0]), ())))
            for experiment, of, *version in models
        ]


class VersionSide(engine_side.EngineSide):
    """See `base.EngineStorage`."""

    def versions(self, uid: str) -> list[base.Version]:
        with self.pool.transaction() as cursor:
            cursor.execute(
                f"{VERSIONS} WHERE experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s)"
                " ORDER BY number",
                (uid,),
            )
            return [base.Version(*row) for row in cursor.fetchall()]
