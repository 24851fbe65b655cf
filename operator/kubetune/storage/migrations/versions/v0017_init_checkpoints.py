"""Which checkpoint of another experiment every trial of a study starts from."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE kubetune.init_checkpoints (
        experiment_id integer PRIMARY KEY REFERENCES kubetune.experiments,
        time double precision NOT NULL,
        source text NOT NULL,  -- the other experiment's name
        source_uid text NOT NULL,  -- of the study that it is of: of the search, or of a phase
        claim text NOT NULL,
        folder text NOT NULL,
        number integer NOT NULL,  -- the trial's, there
        attempt integer NOT NULL,
        step bigint NOT NULL,
        location text NOT NULL,
        digest text NOT NULL,
        bytes bigint NOT NULL,
        files integer NOT NULL,
        store text NOT NULL,
        committed double precision NOT NULL
    )
    """,
    "CREATE INDEX init_checkpoints_of ON kubetune.init_checkpoints (source_uid)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
