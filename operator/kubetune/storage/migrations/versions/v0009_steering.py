"""What people did to a running experiment, in order, with the time at which it took effect."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE kubetune.steering (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        experiment_id integer NOT NULL REFERENCES kubetune.experiments,
        time double precision NOT NULL,
        kind text NOT NULL,
        subject text NOT NULL,
        detail json NOT NULL
    )
    """,
    "CREATE INDEX steering_of ON kubetune.steering (experiment_id, id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
