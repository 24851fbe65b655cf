"""Studies of 100,000 trials: an index by state, and vacuum before a fifth of a large table is dead.

The index counts trials by state and finds a page of them without reading their rows; it also finds those that run.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE INDEX experiment_trials_state ON kubetune.experiment_trials (experiment_id, state, number)
        INCLUDE (losses)
    """,
    "DROP INDEX IF EXISTS kubetune.experiment_trials_running",
    """
    ALTER TABLE kubetune.experiment_trials SET (
        autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)
    """,
    # A lease is renewed every few seconds: in place, where its page has room.
    "ALTER TABLE kubetune.leases SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
    "ALTER TABLE kubetune.logs SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
