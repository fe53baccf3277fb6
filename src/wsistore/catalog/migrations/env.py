"""Alembic's entry: runs the revisions on the connection that `wsistore.catalog.migrate` hands over."""

from __future__ import annotations

from alembic import context

from wsistore.catalog import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
