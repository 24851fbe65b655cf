"""Workers: which attempts are offered to them, which Jobs are workers, and who has what on lease.

A lease's row lives as long as its attempt is current; kubetune.attempts keeps whose Job it was. Leases are by the
database's own clock.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiment_trials ADD COLUMN offered boolean NOT NULL DEFAULT false",
    """
    CREATE INDEX experiment_trials_offered ON kubetune.experiment_trials (experiment_id, number)
        WHERE state = 'RUNNING' AND offered AND job_uid IS NULL
    """,
    """
    CREATE TABLE kubetune.workers (
        experiment_id integer NOT NULL REFERENCES kubetune.experiments,
        number integer NOT NULL,
        incarnation integer NOT NULL,
        job_uid text UNIQUE,
        draining boolean NOT NULL DEFAULT false,
        created double precision NOT NULL,
        ended double precision,
        reason text,
        message text NOT NULL DEFAULT '',
        PRIMARY KEY (experiment_id, number, incarnation)
    )
    """,
    """
    CREATE TABLE kubetune.leases (
        trial_id bigint NOT NULL REFERENCES kubetune.experiment_trials PRIMARY KEY,
        attempt integer NOT NULL,
        job_uid text NOT NULL,
        pod_uid text NOT NULL,
        slot integer NOT NULL,
        until timestamptz NOT NULL,
        exit_time double precision,
        exit_reason text,
        exit_message text NOT NULL DEFAULT '',
        log_tail text
    )
    """,
    "CREATE INDEX leases_held ON kubetune.leases (job_uid, slot) WHERE exit_time IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
