"""The schema's history: what Alembic runs to bring a database to the schema of this version."""
