"""What comes after an experiment's search has studies of its own, beside it under the same name."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiments ADD COLUMN phase text NOT NULL DEFAULT ''",  # finalists …; '': the search
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
