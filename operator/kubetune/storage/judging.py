"""How judgements of the pruner, and promotions, are written."""

from collections.abc import Sequence

from kubetune.storage import pool
from kubetune.storage.record import Judged


def judgements(cursor: pool.Cursor, uid: str, judged: Sequence[Judged], now: float) -> bytes:
    """The statement that records them."""
    return pool.values(
        cursor,
        "INSERT INTO kubetune.judgements (experiment_id, place, number, attempt, kind, seq, rung, why, time, known)"
        " SELECT e.id, v.place, v.number, v.attempt, v.kind, v.seq, v.rung::bigint, v.why, v.time,"
        " v.known::bigint"
        " FROM (VALUES %s) AS v (uid, place, number, attempt, kind, seq, rung, why, time, known)"
        " JOIN kubetune.experiments e ON e.uid = v.uid",
        [
            (uid, each.order, each.number, each.attempt, each.kind, each.seq, each.rung, each.why, now, each.known)
            for each in judged
        ],
    )
