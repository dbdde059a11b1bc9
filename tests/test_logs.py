"""Log records inside a scope say where they belong."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)

import otel_agents as oa
from otel_agents.logs import JsonFormatter, correlate, log_context
from otel_agents.stamping import stamp_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.testing import Captured


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """A logger `shop` that writes JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("shop")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_the_ids_of_the_scope(captured: Captured, lines: io.StringIO) -> None:
    """Keys come in the documented order, ids of the current scope among them."""
    with oa.run("s", id="r1", work_order_id="o1"), oa.iteration(number=3), oa.phase("plan"):
        with oa.agent("a", id="a1"):
            logging.getLogger("shop").info("hello %s", "world", extra={"order": 7})

    (line,) = read(lines)
    assert list(line)[:12] == [
        "timestamp", "level", "module", "message", "run_id", "phase", "iteration", "agent_id",
        "work_order_id", "correlation_id", "trace_id", "span_id",
    ]  # fmt: skip
    assert (line["level"], line["module"], line["message"]) == ("INFO", "shop", "hello world")
    assert (line["run_id"], line["phase"], line["iteration"]) == ("r1", "plan", 3)
    assert (line["agent_id"], line["work_order_id"], line["correlation_id"]) == ("a1", "o1", "r1")
    assert line["order"] == 7
    assert line["timestamp"].endswith("Z")
    context = captured.span("invoke_agent a").context
    assert context is not None
    assert line["trace_id"] == f"{context.trace_id:032x}"


def test_outside_a_scope_the_ids_are_null(captured: Captured, lines: io.StringIO) -> None:
    """The keys are there all the same."""
    logging.getLogger("shop").warning("x")

    (line,) = read(lines)
    assert line["run_id"] is None
    assert line["trace_id"] is None


def test_every_record_bears_the_ids_for_any_formatter(captured: Captured) -> None:
    """`%(run_id)s` works in a plain formatter."""
    with oa.run("s", id="r1"):
        record = logging.getLogger("shop").makeRecord("shop", 20, "f", 1, "m", (), None)

    assert logging.Formatter("%(run_id)s %(message)s").format(record) == "r1 m"


def test_a_callers_extra_of_the_same_name_stays(captured: Captured, lines: io.StringIO) -> None:
    """Logging forbids to overwrite a record's attribute: ours never stand in the caller's way."""
    with oa.run("s", id="r1"), oa.phase("plan"):
        logging.getLogger("shop").info("x", extra={"phase": "theirs"})

    (line,) = read(lines)
    assert line["phase"] == "theirs"
    assert line["run_id"] == "r1"


@given(st.text())
def test_one_record_is_one_line_whatever_is_in_it(message: str) -> None:
    """A message cannot forge a second record."""
    record = logging.LogRecord("shop", 20, "f", 1, message.replace("%", "%%"), (), None)
    line = JsonFormatter().format(record)

    assert line.splitlines() == [line]
    assert not any(ord(char) < 0x20 for char in line)


def test_secrets_in_messages_are_hidden(captured: Captured, lines: io.StringIO) -> None:
    """A key in a message or an extra does not reach the line."""
    logging.getLogger("shop").info("sk-abcdefghijklmnopqrstuvwx", extra={"api_key": "k"})

    assert "sk-abc" not in lines.getvalue()
    assert read(lines)[0]["api_key"] == "[redacted]"


def test_structlog_events_get_the_ids(captured: Captured) -> None:
    """`correlate` is a processor."""
    with (
        oa.run("s", id="r1"),
        oa.phase("plan"),
        structlog.testing.capture_logs([correlate]) as logs,
    ):
        structlog.get_logger().info("hello", phase="theirs")

    assert logs[0]["run_id"] == "r1"
    assert logs[0]["phase"] == "theirs"


def test_log_context_sets_ids_without_a_scope(captured: Captured, lines: io.StringIO) -> None:
    """No span is opened, and the ids end with the block."""
    with log_context(run_id="r9", phase="manual"):
        logging.getLogger("shop").info("in")
    logging.getLogger("shop").info("out")

    inside, outside = read(lines)
    assert (inside["run_id"], inside["phase"]) == ("r9", "manual")
    assert outside["run_id"] is None
    assert captured.spans == []


@pytest.mark.parametrize("processor", [BatchLogRecordProcessor, SimpleLogRecordProcessor])
def test_exported_records_carry_the_ids_whichever_processor_takes_them(
    captured: Captured, processor: Any
) -> None:
    """A batch processor keeps a record as it finds it, so ours has to come before it."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor(exporter))
    stamp_logs(provider)
    with oa.run("s", id="r1"), oa.phase("plan"):
        provider.get_logger("theirs").emit(LogRecord(body="hi", attributes={"a": 1}))
    provider.force_flush()
    provider.shutdown()

    (found,) = exporter.get_finished_logs()
    assert dict(found.log_record.attributes or {}) == {
        "a": 1,
        "otelagents.run.id": "r1",
        "otelagents.workflow.name": "s",
        "otelagents.correlation.id": "r1",
        "otelagents.phase.name": "plan",
    }
