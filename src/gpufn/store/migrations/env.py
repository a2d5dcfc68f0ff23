"""How alembic reaches the database: over the connection that ``store.migrate`` hands it."""

from __future__ import annotations

from alembic import context

from gpufn.store import cluster_tables, invocation_tables, task_tables  # noqa: F401 - each registers its tables
from gpufn.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
