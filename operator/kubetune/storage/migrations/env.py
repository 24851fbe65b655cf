"""What alembic runs around each migration: all of them in one transaction on the connection it is given."""

from alembic import context

from kubetune.storage.migrate import SCHEMA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, version_table_schema=SCHEMA
)
with context.begin_transaction():
    context.run_migrations()
