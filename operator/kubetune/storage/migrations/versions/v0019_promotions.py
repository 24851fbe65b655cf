"""Promotions are kept beside the pruner's judgements: in what order, and by what was known."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

STATEMENTS = ("ALTER TABLE kubetune.judgements ADD COLUMN known bigint",)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
