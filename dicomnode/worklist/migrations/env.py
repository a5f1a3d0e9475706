"""How alembic runs here: on the connection that `dicomnode.worklist.versions` hands over."""

from alembic import context

from dicomnode.worklist.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
