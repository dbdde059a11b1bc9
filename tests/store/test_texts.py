"""What comes from anywhere: texts, numbers and times that a database does not expect."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from otel_agents.errors import InvalidInputError, NotFoundError
from otel_agents.signals import Failure, Ids, ModelUse, Signal
from otel_agents.store import Batch, LogRecord, Point
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    BREAKER_STATE,
    CIRCUIT_REASON,
    ENTITY_ID,
    LAYERS,
    LEASE_OWNER,
    OPERATIONS,
    REASON_CODE,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
    TASK_QUEUE,
    TASK_STATE,
    WORKER_TYPE,
)
from tests.state.build import BEGIN

from .build import block, made, number, trace_number, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.store import Store

# Of each pair the second has the letters "\u0000" and no NUL: JSON escapes its backslash.
TEXTS: Final = (
    "\0", "a\0b", r"\u0000", r"\\u0000", "\\\0", "\ud800", "a\udfffb", "é\0", "␀",
    "'; DROP TABLE runs;--",
    "%_%", "{}", "__proto__", "<script>alert(1)</script>", "\x1b]0;x\x07", "\u202e", "𝄞" * 80,
    "x" * 300, "é" * 5_000,
)  # fmt: skip


_KINDS: Final = (
    "run", "iteration", "phase", "agent", "task", "worker", "breaker", "runtime",
)  # fmt: skip


def names(text: str) -> list[Signal]:
    """Return signals that have a text wherever one can stand."""
    ids = Ids(
        run_id=text, workflow=text, work_order_id=text, correlation_id=text, plan_id=text,
        phase=text, agent_id=text, agent=text, parent_agent_id=text, task_id=text, worker_id=text,
    )  # fmt: skip
    keys = (
        WORKER_TYPE.key, CIRCUIT_REASON.key, TASK_QUEUE.key, LEASE_OWNER.key, REASON_CODE.key,
        ENTITY_ID.key, text,
    )  # fmt: skip
    said = dict.fromkeys(keys, text)
    said |= {
        RUNTIME_LAYER.key: LAYERS[0], RUNTIME_OPERATION.key: OPERATIONS[0],
        TASK_STATE.key: "RUNNING", BREAKER_STATE.key: "open",
    }  # fmt: skip
    use = ModelUse(provider=text, model=text, usage=Usage(input_tokens=1), cost=0.5)
    return [
        Signal(
            id=f"{text}-{kind}-{edge}", kind=kind, edge=edge, time=BEGIN, scope_id=f"{text}-{kind}",
            name=text, ids=ids, trace_id=text, span_id=text, result="error", models=[use],
            usage=Usage(input_tokens=1), cost=0.5, error=Failure(text, text, text),
            attributes={**said, "nested": [text, {text: text}]}, host=text,
        )
        for kind in (*_KINDS, text)
        for edge in ("start", "end", "fact")
    ]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_any_text_is_kept_and_found(store: Store, text: str) -> None:
    """A text in every place is stored, listed as text and asked for by its id."""
    write(store, *names(text))
    record = LogRecord(
        time=BEGIN, severity_text=text, body=text, event_name=text, service=text, trace_id=text,
        span_id=text, run_id=text, phase=text, agent_id=text, attributes={text: [text]},
    )  # fmt: skip
    point = Point(
        name=text, kind="sum", time=BEGIN, unit=text, service=text, instance=text, value=1.0,
        attributes={text: text}, detail={text: text},
    )  # fmt: skip
    store.write(Batch(logs=[record], points=[point]))
    (run,) = store.runs()["items"]
    (agent,) = store.agents()["items"]
    answers = [
        store.run(text), store.agent(text), store.telemetry(text), store.run_signals(text),
        store.feed(0), store.logs(), store.metrics(), store.runtime_status(), store.tasks(),
        store.runtime_events(), store.verify(), store.usage(by="model"), store.run_spans(text),
        run, agent,
    ]  # fmt: skip
    for answer in answers:
        assert json.loads(msgspec.json.encode(answer)) is not None
    assert store.run(run["run_id"])["status"] == "failed"
    assert store.agent(agent["id"])["run_id"] == run["run_id"]
    shown = text.replace("\0", "␀").encode("utf-8", "replace").decode()
    assert store.logs()["items"][0]["body"] == shown
    assert store.logs()["items"][0]["attributes"] == {shown: [shown]}
    assert store.feed(0)[0]["payload"]["attributes"]["nested"] == [shown, {shown: shown}]
    assert store.runs()["items"][0]["error"] == {"type": shown, "message": shown}
    removed = store.delete_run(text)
    assert (removed["signals"], removed["logs"]) == (27, 1)


def test_a_text_of_a_megabyte_is_kept(store: Store) -> None:
    """In a name, an id, an error, an attribute and a log record, and other runs go on."""
    text = "".join(f"{count:08x}" for count in range(1 << 17))
    ids = Ids(run_id=text, workflow=text, agent_id=text, agent=text)
    write(
        store,
        Signal(id="s", kind="agent", edge="end", time=BEGIN, scope_id=text, name=text, ids=ids,
               result="error", error=Failure("E", text), attributes={"a": text},
               models=[ModelUse(provider=text, model=text)], usage=Usage()),
        Signal(id="t", kind="run", edge="start", time=BEGIN, ids=Ids(run_id="r")),
    )  # fmt: skip
    store.write(Batch(logs=[LogRecord(time=BEGIN, body=text, run_id=text)]))
    assert store.agent(text)["error"] == {"type": "E", "message": text}
    assert store.logs(run_id=store.run(text)["run_id"])["items"][0]["body"] == text
    assert len(store.runs()["items"]) == 2


def test_two_long_ids_that_begin_alike_are_two_runs(store: Store) -> None:
    """What is cut off an id still tells it from others."""
    for ending in ("a", "b"):
        ids = Ids(run_id="r" * 5_000 + ending)
        write(store, Signal(id=ending, kind="run", edge="start", time=BEGIN, ids=ids))
    assert len(store.runs()["items"]) == 2
    assert store.run("r" * 5_000 + "a")["run_id"].startswith("r" * 200)


@pytest.mark.parametrize("when", [0, -5, 1, (1 << 63) - 1, 1 << 63, 1 << 70])
def test_any_time_is_brought_to_one_that_a_calendar_holds(store: Store, when: int) -> None:
    """Times before the epoch and beyond 64 bits are stored, listed and no error."""
    write(
        store,
        Signal(id="w", kind="worker", edge="start", time=when, ids=Ids(worker_id="w")),
        Signal(id="t", kind="task", edge="start", time=when, ids=Ids(task_id="t")),
        Signal(id="b", kind="breaker", edge="fact", time=when, name="b",
               attributes={BREAKER_STATE.key: "open"}),
        Signal(id="e", kind="runtime", edge="fact", time=when,
               attributes={RUNTIME_LAYER.key: LAYERS[0], RUNTIME_OPERATION.key: OPERATIONS[0]}),
        Signal(id="r", kind="run", edge="start", time=when, ids=Ids(run_id="r")),
    )  # fmt: skip
    store.write(
        Batch(logs=[LogRecord(time=when)], points=[Point(name="m", kind="gauge", time=when)])
    )
    known = min((1 << 63) - 1, max(0, when))
    expected = {0: "1970-01-01T00:00:00", 1: "1970-01-01T00:00:00"}.get(
        known, "2262-04-11T23:47:16"
    )
    times = [
        store.runtime_status()["workers"][0]["last_heartbeat"],
        store.runtime_status()["breakers"][0]["changed_at"],
        store.runtime_events()["items"][0]["occurred_at"],
        store.tasks()["items"][0]["updated_at"],
        store.logs()["items"][0]["timestamp"],
        store.metrics()["items"][0]["timestamp"],
        store.feed(0)[0]["timestamp"],
    ]
    assert {one[:19] for one in times} == {expected}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_null(store: Store, value: float) -> None:
    """NaN and infinities are no JSON, so answers have null in their place."""
    write(
        store,
        Signal(id="r", kind="run", edge="end", time=BEGIN, ids=Ids(run_id="r"), cost=value,
               duration=value, usage=Usage(input_tokens=1), attributes={"x": value}),
    )  # fmt: skip
    store.write(Batch(
        logs=[LogRecord(time=BEGIN, attributes={"x": [value]})],
        points=[Point(name="m", kind="histogram", time=BEGIN, value=value, sum=value,
                      attributes={"x": value}, detail={"bounds": [value]})],
    ))  # fmt: skip
    (metric,) = store.metrics()["items"]
    assert (metric["value"], metric["sum"]) == (None, None)
    assert metric["detail"] == {"bounds": [None]}
    assert store.logs()["items"][0]["attributes"] == {"x": [None]}
    assert store.runs()["items"][0]["cost_usd"] is None
    assert store.feed(0)[0]["payload"]["attributes"] == {"x": None}


def test_an_integer_of_any_size_is_kept_in_attributes(store: Store) -> None:
    """Attributes are JSON, which bounds no number."""
    big = {"big": 1 << 200, "small": -(1 << 200)}
    store.write(Batch(logs=[LogRecord(time=BEGIN, severity=1 << 70, attributes=big)]))
    assert store.logs()["items"][0]["attributes"].keys() == big.keys()


def test_sums_of_absurd_usage_are_no_error(store: Store) -> None:
    """Many scopes with all the tokens that 64 bits hold are added up."""
    most = Usage(input_tokens=(1 << 63) - 1, output_tokens=(1 << 63) - 1)
    write(store, *(
        Signal(id=f"{n}", kind="agent", edge="end", time=BEGIN, scope_id=f"{n}", usage=most,
               ids=Ids(run_id="r", agent_id=f"{n}"), unpriced_tokens=(1 << 63) - 1)
        for n in range(20)
    ))  # fmt: skip
    for by in ("workflow", "phase", "agent", "model", "day"):
        assert store.usage(by=by)["items"][0]["usage"]["input_tokens"] > 0
    assert store.runs()["items"][0]["usage"]["input_tokens"] > 0


INJECTIONS: Final = (
    "' OR '1'='1", "'; DROP TABLE signals; --", '" OR ""="', "1) OR (1=1", "\\'; SELECT 1 --",
    "?", "%s", "%(x)s", "{0}", "$1", ":name",
)  # fmt: skip


def asks(store: Store, text: str) -> dict[str, Callable[[], Any]]:
    """Return every filter that takes a text, asked for it."""
    return {
        "runs.workflow": lambda: store.runs(workflow=text),
        "runs.q": lambda: store.runs(q=text),
        "agents.name": lambda: store.agents(name=text),
        "agents.run_id": lambda: store.agents(run_id=text),
        "agents.q": lambda: store.agents(q=text),
        "traces.q": lambda: store.traces(q=text),
        "traces.service": lambda: store.traces(service=text),
        "logs.run_id": lambda: store.logs(run_id=text),
        "logs.agent_id": lambda: store.logs(agent_id=text),
        "logs.trace_id": lambda: store.logs(trace_id=text),
        "logs.q": lambda: store.logs(q=text),
        "metrics.name": lambda: store.metrics(name=text),
        "events.reason": lambda: store.runtime_events(reason_code=text),
        "events.entity": lambda: store.runtime_events(entity_id=text),
        "events.task": lambda: store.runtime_events(task_id=text),
        "tasks.queue": lambda: store.tasks(queue=text),
        "tasks.q": lambda: store.tasks(q=text),
        "usage.run_id": lambda: store.usage(run_id=text),
    }


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_a_filter_is_text(store: Store, text: str) -> None:
    """It matches nothing, changes nothing, and finds what bears it as a name."""
    write(store, *names("plain"))
    before = made(store)
    for name, ask in asks(store, text).items():
        assert ask()["items"] == [], name
    for ask in (store.run, store.agent, store.telemetry, store.delete_run):
        with pytest.raises(NotFoundError):
            ask(text)
    assert made(store) == before
    write(store, *names(text))
    for name in ("runs.workflow", "runs.q", "agents.q", "tasks.queue", "events.entity"):
        assert len(asks(store, text)[name]()["items"]) > 0, name


@pytest.mark.parametrize("text", ["%", "_", "%_%_%", "a%", "!", "[a-z]", "*", "\\"])
def test_wildcards_are_literal(store: Store, text: str) -> None:
    """A search for a wildcard finds the names that have one."""
    write(store, *names("plain"), *names(f"x{text}y"))
    store.write(Batch(logs=[LogRecord(time=1, body="plain"), LogRecord(time=2, body=f"x{text}y")]))
    store.write(Batch(blocks=[
        block({"trace": trace_number(n), "span": number(n), "name": name})
        for n, name in enumerate(("plain", f"x{text}y"))
    ]))  # fmt: skip
    store.settle()
    found = asks(store, text)
    assert [run["goal"] for run in found["runs.q"]()["items"]] == [None]
    for name in ("agents.q", "tasks.q", "logs.q", "traces.q"):
        assert len(found[name]()["items"]) == 1, name


def test_a_search_disregards_case_in_any_script(store: Store) -> None:
    """`É` is found by `é`, and by itself."""
    write(store, *names("ÉTÉ Straße"))
    for text in ("é", "ÉTÉ", "straße", "STR"):
        assert len(store.runs(q=text)["items"]) == 1, text


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 2001])
def test_a_filter_that_no_database_takes_is_refused_by_its_name(store: Store, text: str) -> None:
    """NUL, half a surrogate pair and more than 2,000 characters."""
    names = {
        "events.reason": "reasonCode", "events.entity": "entityId", "events.task": "taskId",
    }  # fmt: skip
    for name, ask in asks(store, text).items():
        expected = names.get(name, name.partition(".")[2])
        with pytest.raises(InvalidInputError, match=expected) as refused:
            ask()
        assert refused.value.parameter == expected
