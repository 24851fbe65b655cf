"""What the operator sees of checkpoints, in PostgreSQL."""

from kubetune.api.checkpoints import Resumed
from kubetune.storage import engine_side


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
