"""Log records inside a scope say where they belong."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import io
import json
import logging
import logging.handlers
import queue
import threading
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
from otel_agents.boundary import boundary
from otel_agents.logs import JsonFormatter, correlate, log_context
from otel_agents.stamping import stamp_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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


any_text = st.text(st.characters(exclude_categories=()))


@given(message=any_text, extra=st.dictionaries(any_text, any_text), name=any_text)
def test_one_record_is_one_line_whatever_is_in_it(
    message: str, extra: dict[str, str], name: str
) -> None:
    """No message, extra or logger's name can forge a second record, or break the one it is in."""
    record = logging.LogRecord(name, 20, "f", 1, "%s", (message,), None)
    vars(record).update({f"x{key}": value for key, value in extra.items()})
    line = JsonFormatter().format(record)

    assert line.splitlines() == [line]
    assert not any(ord(char) < 0x20 for char in line)
    assert line.encode()
    assert next(iter(json.loads(line))) == "timestamp"


@pytest.mark.parametrize(
    "hidden", ["\n", "\r", "\x00", "\x1b[31m", "\x85", "\u2028", "\u2029", "\u202e", "\ufeff"]
)
def test_what_ends_a_line_or_moves_a_terminal_is_escaped(
    captured: Captured, lines: io.StringIO, hidden: str
) -> None:
    """In message, extra and traceback; the reader of the JSON gets it back as it was."""
    try:
        raise ValueError(f"a{hidden}b")
    except ValueError:
        logging.getLogger("shop").exception("a%sb", hidden, extra={"note": f"a{hidden}b"})

    text = lines.getvalue().removesuffix("\n")
    assert text.splitlines() == [text]
    assert hidden not in text
    (line,) = read(lines)
    assert (line["message"], line["note"]) == (f"a{hidden}b", f"a{hidden}b")
    assert f"a{hidden}b" in line["exception"]


class Hostile:
    """Raises when it is turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("hostile")

    __repr__ = __str__


class HostileError(Hostile, Exception):
    """An exception whose text raises."""


def holds_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def wide() -> Any:
    found: Any = ["x"]
    for _ in range(8):
        found = [found] * 100  # 10^16 items, in as many as 800
    return found


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("%d of %s", "x"), "%d of %s ['x']"),
        (("%s", 1, 2), "%s [1, 2]"),
        (("%(a)s", {"b": 1}), "%(a)s {'b': 1}"),
        ((Hostile(),), "<Hostile>"),
        (("got %s", Hostile()), "got %s ['<Hostile>']"),
        (({"a": 1},), "{'a': 1}"),
        ((None,), "None"),
        (("x" * 1_000_000,), "x" * 99_994 + "…[cut]"),
    ],
)
def test_a_message_that_cannot_be_made_is_told_as_well_as_can_be(
    captured: Captured, capsys: pytest.CaptureFixture[str], said: tuple[Any, ...], expected: str
) -> None:
    """Nothing is raised into logging, which would print it and lose the record."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    alone = logging.Logger("shop")  # noqa: LOG001 - pytest's handlers stay out of it
    alone.addHandler(handler)
    alone.info(*said)

    assert read(stream)[0]["message"] == expected
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": 7, "tags": ["a", {"b": None}]}, {"id": 7, "tags": ["a", {"b": None}]}),
        (Hostile(), "<Hostile>"),
        (holds_itself(), [[[["…"]]]]),
        (float("nan"), None),
        (2**70, str(2**70)),
        (b"bytes", "<bytes>"),
        ("\ud800", "\\ud800"),
        ({"password": "x", "n": 1}, {"password": "[redacted]", "n": 1}),
    ],
)
def test_an_extra_of_any_kind_is_kept_as_json(
    captured: Captured,
    lines: io.StringIO,
    capsys: pytest.CaptureFixture[str],
    value: Any,
    expected: Any,
) -> None:
    """Dicts and lists stay what they are; an object is named by its class."""
    logging.getLogger("shop").info("x", extra={"given": value})

    assert read(lines)[0]["given"] == expected
    assert capsys.readouterr().err == ""


def test_a_huge_extra_is_bounded(captured: Captured, lines: io.StringIO) -> None:
    """Wide, long or many: a line stays one that can be read."""
    logging.getLogger("shop").info(
        "x", extra={"wide": wide(), "long": "y" * 10_000_000, "many": ["z" * 5000] * 5000}
    )

    assert len(lines.getvalue()) < 100_000
    assert read(lines)[0]["long"].endswith("…[cut]")


def test_an_exception_and_a_stack_are_told(
    captured: Captured, lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception whose text raises is named by its class."""
    log = logging.getLogger("shop")
    for error in (ValueError("sk-abcdefghijklmnopqrstuvwx"), HostileError()):
        try:
            raise error
        except Exception:
            log.exception("failed")
    log.info("here", stack_info=True)
    log.info("none", exc_info=True)  # noqa: LOG014 - what hosts do

    first, second, third, fourth = read(lines)
    assert first["exception"].startswith("Traceback")
    assert first["exception"].endswith("ValueError: [redacted]")
    assert "HostileError" in second["exception"]
    assert "test_an_exception_and_a_stack_are_told" in third["stack"]
    assert "exception" not in third
    assert fourth["exception"] == "NoneType: None"
    assert capsys.readouterr().err == ""


def test_an_extra_never_takes_the_place_of_a_field_of_ours(
    captured: Captured, lines: io.StringIO
) -> None:
    """It is there under another name."""
    logging.getLogger("shop").info(
        "x", extra={"timestamp": 1, "level": "high", "exception": "no", "stack": "pile"}
    )

    (line,) = read(lines)
    assert line["level"] == "INFO"
    assert (line["extra_timestamp"], line["extra_level"]) == (1, "high")
    assert (line["exception"], line["stack"]) == ("no", "pile")


@pytest.mark.parametrize("created", [float("nan"), float("inf"), 1e300, -1e300, None, "x"])
def test_a_time_no_calendar_holds_is_now(created: Any) -> None:
    """A record made by hand can have any."""
    record = logging.LogRecord("shop", 20, "f", 1, "m", (), None)
    record.created = created

    assert json.loads(JsonFormatter().format(record))["timestamp"].endswith("Z")


def test_ids_follow_asyncio_tasks(captured: Captured, lines: io.StringIO) -> None:
    """Records of fifty tasks at once each bear the ids of their own."""
    log = logging.getLogger("shop")

    async def one(number: int) -> None:
        async with oa.run("s", id=f"r{number}"), oa.phase(f"p{number}"):
            await asyncio.sleep(0)
            log.info("%d", number)
            await asyncio.gather(*(asyncio.create_task(child(number)) for _ in range(2)))

    async def child(number: int) -> None:
        await asyncio.sleep(0)
        log.info("%d", number)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(main())

    found = read(lines)
    assert len(found) == 150
    for line in found:
        assert (line["run_id"], line["phase"]) == (f"r{line['message']}", f"p{line['message']}")
        assert line["trace_id"] is not None


def test_ids_follow_threads_and_executors(captured: Captured, lines: io.StringIO) -> None:
    """Where threads are instrumented, a record made in one bears the ids of who started it."""
    log = logging.getLogger("shop")
    with oa.run("s", id="r1"), concurrent.futures.ThreadPoolExecutor(2) as pool:
        thread = threading.Thread(target=log.info, args=("thread",))
        thread.start()
        thread.join()
        pool.submit(log.info, "pool").result()
        asyncio.run(asyncio.to_thread(log.info, "to_thread"))
    pool_after = concurrent.futures.ThreadPoolExecutor(1)
    pool_after.submit(log.info, "after").result()
    pool_after.shutdown()

    assert [(line["message"], line["run_id"]) for line in read(lines)] == [
        ("thread", "r1"), ("pool", "r1"), ("to_thread", "r1"), ("after", None),
    ]  # fmt: skip


def test_a_record_that_is_formatted_elsewhere_keeps_its_ids(captured: Captured) -> None:
    """A queue handler's thread, or another scope, does not put its own in."""
    waiting: queue.Queue[Any] = queue.Queue()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    sender = logging.handlers.QueueHandler(waiting)
    log = logging.getLogger("queued")
    log.addHandler(sender)
    log.propagate = False
    try:
        with oa.run("s", id="r1"):
            log.warning("x")
    finally:
        log.removeHandler(sender)
    with oa.run("s", id="r2"), oa.phase("other"):
        handler.handle(waiting.get_nowait())

    (line,) = read(stream)
    assert (line["run_id"], line["phase"], line["message"]) == ("r1", None, "x")


def test_the_formatter_finds_the_ids_without_the_instrumentor() -> None:
    """It looks where it formats, which is where the record was made."""
    record = logging.LogRecord("shop", 20, "f", 1, "m", (), None)
    with log_context(run_id="r1", iteration=2):
        line = json.loads(JsonFormatter().format(record))

    assert (line["run_id"], line["iteration"], line["correlation_id"]) == ("r1", 2, "r1")


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


def structlog_line(**event: Any) -> dict[str, Any]:
    stream = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            correlate,
            structlog.processors.JSONRenderer(),
        ],
    )
    log.info("hello\nthere", **event)
    text = stream.getvalue().removesuffix("\n")
    assert text.splitlines() == [text]
    found: dict[str, Any] = json.loads(text)
    return found


def test_structlog_renders_the_ids_as_json(captured: Captured) -> None:
    """All that are in force, the trace's and span's too; what is not set is not there."""
    with oa.run("s", id="r1", work_order_id="o1"), oa.iteration(number=2), oa.phase("plan"):
        with oa.agent("a", id="a1"):
            line = structlog_line(order=7)

    context = captured.span("invoke_agent a").context
    assert context is not None
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "hello\nthere", "level": "info", "order": 7,
        "run_id": "r1", "phase": "plan", "iteration": 2, "agent_id": "a1", "work_order_id": "o1",
        "correlation_id": "r1", "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
    }  # fmt: skip
    assert "run_id" not in structlog_line()


def test_correlate_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with us costs the ids only."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr("otel_agents.logs.ids_now", lambda: 1 / 0)

    assert correlate(None, "info", {"event": "x"}) == {"event": "x"}
    assert boundary.counts["structlog event"] >= 1


def test_log_context_sets_ids_without_a_scope(captured: Captured, lines: io.StringIO) -> None:
    """No span is opened, and the ids end with the block."""
    with log_context(run_id="r9", phase="manual"):
        logging.getLogger("shop").info("in")
    logging.getLogger("shop").info("out")

    inside, outside = read(lines)
    assert (inside["run_id"], inside["phase"]) == ("r9", "manual")
    assert outside["run_id"] is None
    assert captured.spans == []


def test_log_contexts_nest(captured: Captured, lines: io.StringIO) -> None:
    """The inner adds to the outer; None unsets, and an unknown name or odd value harms nobody."""
    log = logging.getLogger("shop")
    with log_context(run_id="r1", phase="plan"):
        with log_context(iteration="3", phase=None, agent_id=7, nonsense=1, task_id=holds_itself()):
            log.info("in")
        log.info("out")

    inside, outside = read(lines)
    assert (inside["run_id"], inside["phase"], inside["iteration"]) == ("r1", None, 3)
    assert (inside["agent_id"], inside["correlation_id"]) == ("7", "r1")
    assert (outside["phase"], outside["iteration"], outside["agent_id"]) == ("plan", None, None)


def test_a_log_context_goes_with_a_scope(captured: Captured, lines: io.StringIO) -> None:
    """Inside a run it keeps the run's ids, and a scope inside it takes its own."""
    log = logging.getLogger("shop")
    with oa.run("s", id="r1"), log_context(work_order_id="o9"), oa.phase("plan"):
        log.info("x")

    (line,) = read(lines)
    assert (line["run_id"], line["work_order_id"], line["phase"]) == ("r1", "o9", "plan")
    found = captured.span("phase plan")
    assert (found.attributes or {})["otelagents.work_order.id"] == "o9"
    assert found.parent is not None


def test_a_log_context_is_used_in_every_way(captured: Captured, lines: io.StringIO) -> None:
    """`async with`, and as a decorator of a function, coroutine function and generators."""
    log = logging.getLogger("shop")

    @log_context(run_id="sync")
    def plain() -> str:
        log.info("x")
        return "result"

    @log_context(run_id="async")
    async def later() -> None:
        await asyncio.sleep(0)
        log.info("x")

    @log_context(run_id="generator")
    def several() -> Iterator[int]:
        log.info("x")
        yield 1
        log.info("x")

    @log_context(run_id="async-generator")
    async def several_later() -> AsyncIterator[int]:
        log.info("x")
        yield 1
        await asyncio.sleep(0)
        log.info("x")

    async def main() -> None:
        await asyncio.gather(later(), later())
        async for _ in several_later():
            log.info("between")
        async with log_context(run_id="async-with"):
            log.info("x")

    assert plain() == "result"
    for _ in several():
        log.info("between")
    asyncio.run(main())
    log.info("after")

    assert [line["run_id"] for line in read(lines)] == [
        "sync", "generator", None, "generator", "async", "async", "async-generator", None,
        "async-generator", "async-with", None,
    ]  # fmt: skip


def test_a_log_context_in_a_generator_that_is_left_changes_nothing_elsewhere(
    captured: Captured, lines: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    """Closed by another task or context, it neither leaves its ids there nor takes any away."""
    log = logging.getLogger("shop")

    async def items() -> AsyncIterator[int]:
        with log_context(run_id="inner"):
            yield 1
            yield 2

    async def main() -> None:
        found = items()
        await anext(found)

        async def close() -> None:
            with log_context(run_id="closer"):
                await found.aclose()  # type: ignore[attr-defined]
                log.info("x")

        await asyncio.create_task(close(), context=contextvars.Context())
        log.info("x")

    asyncio.run(main())

    assert [line["run_id"] for line in read(lines)] == ["closer", None]
    assert [one for one in caplog.records if one.name == "opentelemetry.context"] == []


def test_a_run_that_outlasts_its_log_context_leaves_nothing_of_it(
    captured: Captured, lines: io.StringIO
) -> None:
    """What is still open when the block ends goes on, and ends into what was before the block."""
    log = logging.getLogger("shop")
    with contextlib.ExitStack() as stack:
        with log_context(work_order_id="o1"):
            stack.enter_context(oa.run("s", id="r1"))
        log.info("x")
    log.info("x")

    inside, outside = read(lines)
    assert (inside["run_id"], inside["work_order_id"]) == ("r1", None)
    assert (outside["run_id"], outside["work_order_id"]) == (None, None)


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
