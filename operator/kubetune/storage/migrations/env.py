"""What alembic runs around each migration: all of them in one transaction on the connection it is given.

It begins by taking the epoch, so that an operator that is still at work (of the version before, in a rolling upgrade)
writes nothing from here on.
"""

from alembic import context

from kubetune.storage.migrate import SCHEMA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, version_table_schema=SCHEMA
)
with context.begin_transaction():
    if context.get_context().get_current_revision() not in (None, context.get_head_revision()):
        fence = f"UPDATE {SCHEMA}.leader SET epoch = epoch + 1, holder = 'migration'"
        context.execute(fence)
    context.run_migrations()
