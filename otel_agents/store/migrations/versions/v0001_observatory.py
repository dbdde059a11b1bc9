"""The observatory: signals, what they say of runs, agents, workers and tasks, spans, logs, metrics.

Times in columns that end in `_ns` are nanoseconds since the epoch; those of the two tables that
other programs read are timestamps. `seq` numbers signals in the order they were committed.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_BIG = sa.BigInteger()
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_UUID = sa.Text().with_variant(postgresql.UUID(), "postgresql")
_UUID_MADE = (
    "(lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || "
    "substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || "
    "hex(randomblob(6))))"
)
_NOW_MADE = "(strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))"


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=None if null else "")


def _number(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _BIG, nullable=null, server_default=None if null else "0")


def _spent() -> tuple[sa.Column[Any], ...]:
    """Return the columns of usage and cost: tokens by type, with cached ones in the input."""
    counts = (
        "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
        "reasoning_tokens", "requests", "tool_calls",
    )  # fmt: skip
    return (
        *(_number(name) for name in counts),
        sa.Column("complete", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("cost_usd", sa.Float(53), nullable=True),
        _number("unpriced_tokens"),
    )


def _moment(name: str) -> sa.Column[Any]:
    made = _NOW_MADE if _sqlite() else "now()"
    return sa.Column(name, _MOMENT, nullable=False, server_default=sa.text(made))


def _uuid() -> sa.Column[Any]:
    made = _UUID_MADE if _sqlite() else "gen_random_uuid()"
    return sa.Column("id", _UUID, primary_key=True, server_default=sa.text(made))


def _metadata() -> sa.Column[Any]:
    return sa.Column("metadata", _JSON, nullable=False, server_default="{}")


def upgrade() -> None:
    """Make the tables."""
    _signals()
    _runs()
    _agents()
    _runtime()
    _telemetry()


def _signals() -> None:
    op.create_table(
        "signals",
        sa.Column("seq", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        _text("run_id"),
        _text("type"),
        _number("time_ns"),
        sa.Column("body", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("signals_run", "signals", ["run_id", "seq"])
    op.create_index("signals_time", "signals", ["time_ns"])


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), primary_key=True),
        # Signals were stored that the row does not yet speak of.
        sa.Column("dirty", sa.Boolean(), nullable=False, server_default=sa.false()),
        # The number of the last signal that it and the rows below it speak of.
        _number("folded"),
        _text("workflow"), _text("status"), _text("work_order_id"), _text("correlation_id"),
        _text("plan_id"), _text("goal"), _text("phase"),
        _number("iteration", null=True), _number("max_iterations", null=True),
        sa.Column("share", sa.Float(53), nullable=True),
        _number("started_ns"), _number("updated_ns"), _number("ended_ns", null=True),
        sa.Column("seconds", sa.Float(53), nullable=True),
        sa.Column("agents", _JSON, nullable=False, server_default="{}"),
        *_spent(),
        _text("error_type", null=True), _text("error_message", null=True),
    )  # fmt: skip
    op.create_index("runs_started", "runs", [sa.text("started_ns DESC"), "run_id"])
    op.create_index("runs_status", "runs", ["status", sa.text("started_ns DESC")])
    op.create_index("runs_workflow", "runs", ["workflow", sa.text("started_ns DESC")])
    op.create_index("runs_updated", "runs", ["updated_ns"])
    op.create_index("runs_dirty", "runs", ["run_id"], unique=False,
                    sqlite_where=sa.text("dirty"), postgresql_where=sa.text("dirty"))  # fmt: skip
    op.create_table(
        "iterations",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("scope_id", sa.Text(), primary_key=True),
        _number("number", null=True), _text("status"),
        _number("started_ns"), _number("ended_ns", null=True),
    )  # fmt: skip
    op.create_table(
        "phases",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        _text("status"), _number("started_ns", null=True), _number("ended_ns", null=True),
        sa.Column("seconds", sa.Float(53), nullable=True),
        _number("iterations"), *_spent(),
    )  # fmt: skip


def _agents() -> None:
    op.create_table(
        "agents",
        # Ids of attempts are the caller's to choose, and some choose the same in every run.
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("agent_id", sa.Text(), primary_key=True),
        _text("scope_id"), _text("name"), _text("type"), _text("workflow"),
        _text("phase"), _number("iteration", null=True), _text("task_id", null=True),
        _text("status"), _number("attempt"), _text("parent_id", null=True),
        _text("plan_id", null=True), _number("pid", null=True), _text("host"),
        _number("exit_code", null=True), _text("log_file", null=True),
        _text("checkpoint_id", null=True), _text("provider"), _text("model"),
        _number("started_ns"), _number("updated_ns"), _number("ended_ns", null=True),
        *_spent(),
        _text("error_type", null=True), _text("error_message", null=True),
    )  # fmt: skip
    op.create_index("agents_started", "agents", [sa.text("started_ns DESC"), "agent_id"])
    op.create_index("agents_id", "agents", ["agent_id", sa.text("started_ns DESC")])
    op.create_index("agents_name", "agents", ["name", sa.text("started_ns DESC")])
    op.create_index("agents_status", "agents", ["status", sa.text("started_ns DESC")])
    op.create_table(
        "telemetry",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("scope_id", sa.Text(), primary_key=True),
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("model", sa.Text(), primary_key=True),
        _text("workflow"), _text("phase"), _text("agent_id"), _text("agent"),
        _number("time_ns"), *_spent(),
    )  # fmt: skip
    op.create_index("telemetry_agent", "telemetry", ["agent_id"])
    op.create_index("telemetry_time", "telemetry", ["time_ns"])
    op.create_table(
        "routes",
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("model", sa.Text(), primary_key=True),
        _number("last_used_ns"),
    )


def _runtime() -> None:
    op.create_table(
        "ai_runtime_events",
        _uuid(),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        _text("task_id", null=True), _text("persona_id", null=True), _text("worker_id", null=True),
        _text("run_id", null=True),
        _metadata(), _moment("occurred_at"), _moment("created_at"),
    )  # fmt: skip
    for column in ("", "layer", "reason_code", "entity_id", "task_id"):
        columns = [sa.text("occurred_at DESC"), sa.text("id DESC")]
        name = f"ai_runtime_events_{column + '_' if column else ''}occurred_at"
        op.create_index(name, "ai_runtime_events", [column, *columns] if column else columns)
    op.create_table(
        "ai_worker_status",
        _uuid(),
        sa.Column("worker_id", sa.Text(), nullable=False, unique=True),
        sa.Column("agent_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("circuit_open", sa.Boolean(), nullable=False, server_default=sa.false()),
        _text("circuit_reason", null=True),
        _moment("last_heartbeat"),
        _text("current_task_id", null=True),
        _metadata(), _moment("created_at"), _moment("updated_at"),
    )  # fmt: skip
    for column in ("status", "circuit_open"):
        op.create_index(
            f"ai_worker_status_{column}_updated_at", "ai_worker_status",
            [column, sa.text("updated_at DESC")],
        )  # fmt: skip
    # What the tables of workers, breakers and tasks are made of: by field, who said it last.
    op.create_table(
        "facts",
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("said", _JSON, nullable=False),
        _number("updated_ns"),
    )
    op.create_table(
        "breakers",
        sa.Column("name", sa.Text(), primary_key=True),
        _text("state"),
        _text("reason"),
        _text("worker_id", null=True),
        _number("changed_ns"),
    )
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.Text(), primary_key=True),
        _text("name"), _text("queue"), _text("feature"), _text("status"),
        _text("error", null=True), _text("skip_reason", null=True), _text("lease_owner", null=True),
        _number("lease_acquired_ns", null=True), _number("lease_expires_ns", null=True),
        _text("run_id", null=True), _text("agent_id", null=True), _text("persona_id", null=True),
        _text("worker_id", null=True), _number("created_ns"), _number("updated_ns"),
    )  # fmt: skip
    op.create_index("tasks_updated", "tasks", [sa.text("updated_ns DESC"), "task_id"])
    op.create_index("tasks_status", "tasks", ["status", sa.text("updated_ns DESC")])


def _telemetry() -> None:
    op.create_table(
        "blocks",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False, unique=True),
        _number("received_ns"), _number("spans"),
        # The request's protobuf bytes, deflated.
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )  # fmt: skip
    op.create_index("blocks_received", "blocks", ["received_ns"])
    # Blocks whose traces are not in the next table yet.
    op.create_table("unindexed", sa.Column("block_id", _SERIAL, primary_key=True))
    # What a block says of a trace; a trace that came in several blocks has a row for each.
    op.create_table(
        "traces",
        sa.Column("trace_id", sa.LargeBinary(), primary_key=True),
        sa.Column("block_id", _BIG, primary_key=True),
        _number("started_ns"), _number("ended_ns"), _number("spans"), _number("errors"),
        _text("root"), _text("service"), _text("run_id"),
        sqlite_with_rowid=False,
    )  # fmt: skip
    # With all that lists ask for, so that a search need not look up every row.
    op.create_index(
        "traces_started", "traces",
        [sa.text("started_ns DESC"), "trace_id", "root", "service", "run_id", "errors"],
    )  # fmt: skip
    there = sa.text("run_id <> ''")
    op.create_index("traces_run", "traces", ["run_id"], sqlite_where=there, postgresql_where=there)
    op.create_table(
        "logs",
        sa.Column("seq", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False, unique=True),
        _number("time_ns"), _number("severity"), _text("severity_text"), _text("body"),
        _text("event_name"), _text("service"), _text("run_id"), _text("phase"), _text("agent_id"),
        _text("trace_id"), _text("span_id"), sa.Column("attributes", _JSON, nullable=False),
    )  # fmt: skip
    op.create_index("logs_time", "logs", [sa.text("time_ns DESC"), "seq"])
    for column in ("run_id", "agent_id", "trace_id"):
        there = sa.text(f"{column} <> ''")
        op.create_index(f"logs_{column}", "logs", [column, sa.text("time_ns DESC"), "seq"],
                        sqlite_where=there, postgresql_where=there)  # fmt: skip
    op.create_table(
        "metrics",
        sa.Column("series", sa.LargeBinary(), primary_key=True),
        _text("name"), _text("unit"), _text("kind"), _text("service"), _text("instance"),
        sa.Column("attributes", _JSON, nullable=False),
        _number("started_ns"), _number("time_ns"),
        sa.Column("value", sa.Float(53), nullable=True),
        _number("count", null=True), sa.Column("sum", sa.Float(53), nullable=True),
        sa.Column("detail", _JSON, nullable=False),
    )  # fmt: skip
    op.create_index("metrics_name", "metrics", ["name", "series"])
    op.create_index("metrics_time", "metrics", ["time_ns"])
