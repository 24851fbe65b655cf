"""When a study's trials were last given an address to send an object to, and when its objects were last looked through
for what was never committed."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiments ADD COLUMN uploaded double precision, ADD COLUMN swept double precision",
    """
    UPDATE kubetune.experiments e SET uploaded = extract(epoch FROM now()) FROM kubetune.experiments s
    WHERE s.uid = split_part(e.uid, '/', 1) AND s.spec -> 'checkpoints' -> 's3' IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
