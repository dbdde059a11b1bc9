"""Waits for humans, made from the signals of the kind `human`, and the runs that they hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_BIG = sa.BigInteger()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def upgrade() -> None:
    """Make the table of waits; add the column."""
    op.create_table(
        "waits",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("scope_id", sa.Text(), primary_key=True),
        # The id given by the user, which may come again, or else the scope's.
        _text("wait_id"), _text("workflow"), _text("phase"), _text("agent"), _text("task_id"),
        _text("reason"), _text("tool"), _text("tool_call_id"),
        sa.Column("attempts", _BIG, nullable=True), _text("last_error"), _text("priority"),
        _text("trace_id"), _text("span_id"),
        sa.Column("asked_ns", _BIG, nullable=False),
        # approved, rejected or answered; where nothing came of it yet, nothing.
        _text("decision"), _text("answer"), _text("answered_by"),
        sa.Column("answered_ns", _BIG, nullable=True), sa.Column("ended_ns", _BIG, nullable=True),
        # The result of the scope's end.
        _text("result"), sa.Column("updated_ns", _BIG, nullable=False),
        # What it is made of: which signal said what.
        sa.Column("said", _JSON, nullable=False),
    )  # fmt: skip
    op.create_index("waits_asked", "waits", [sa.text("asked_ns DESC"), "scope_id", "run_id"])
    op.create_index("waits_id", "waits", ["wait_id", sa.text("asked_ns DESC")])
    op.create_index("waits_scope", "waits", ["scope_id"])
    there = sa.text("ended_ns IS NULL")
    op.create_index("waits_open", "waits", [sa.text("asked_ns DESC")],
                    sqlite_where=there, postgresql_where=there)  # fmt: skip
    # The run's program has ended, but what its agents put off is not decided: silent, not lost.
    op.add_column(
        "runs", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    there = sa.text("held")
    op.create_index("runs_held", "runs", ["run_id"], sqlite_where=there, postgresql_where=there)
