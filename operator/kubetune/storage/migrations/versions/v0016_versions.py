"""Models that refits told of, numbered within their experiment."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE kubetune.versions (
        trial_id bigint PRIMARY KEY REFERENCES kubetune.experiment_trials,  -- the refit's run
        experiment_id integer NOT NULL,  -- the experiment's own, not its phase's
        number integer NOT NULL,
        phase text NOT NULL,
        attempt integer NOT NULL,
        params json NOT NULL,
        address text NOT NULL,
        digest text NOT NULL,
        image text NOT NULL,
        time double precision NOT NULL,
        UNIQUE (experiment_id, number)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
