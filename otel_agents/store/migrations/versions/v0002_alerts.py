"""Alerts as Alertmanager told of them, and what gauges of runs and workers are read from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_BIG = sa.BigInteger()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def _object(name: str) -> sa.Column[object]:
    return sa.Column(name, _JSON, nullable=False, server_default="{}")


def upgrade() -> None:
    """Make the table of alerts; add the columns and the index."""
    op.create_table(
        "alerts",
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        # firing or resolved, as it was told last.
        _text("status"), _text("name"), _text("severity"), _object("labels"),
        _object("annotations"), _text("generator_url"), _text("external_url"),
        sa.Column("starts_ns", _BIG, nullable=False), sa.Column("ends_ns", _BIG, nullable=True),
        # When it was last told of.
        sa.Column("received_ns", _BIG, nullable=False),
    )  # fmt: skip
    op.create_index("alerts_started", "alerts", [sa.text("starts_ns DESC"), "fingerprint"])
    op.create_index("alerts_status", "alerts", ["status", sa.text("received_ns DESC")])
    # When the run last told of more than that it lives, and since when it waits for a human.
    op.add_column("runs", sa.Column("told_ns", _BIG, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("waiting_ns", _BIG, nullable=True))
    there = sa.text("worker_id IS NOT NULL")
    op.create_index(
        "tasks_worker", "tasks", ["worker_id", sa.text("updated_ns DESC")],
        sqlite_where=there, postgresql_where=there,
    )  # fmt: skip
