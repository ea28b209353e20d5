"""What Alembic runs to upgrade: in the transaction of the connection that it was given."""

from alembic import context

from byokd.adapters.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
