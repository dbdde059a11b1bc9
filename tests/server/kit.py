"""A store as a program leaves it, and requests to a real server over it."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.settings import Settings
from otel_agents.signals import Ids, ModelUse, Signal
from otel_agents.store import Batch, LogRecord, Point, Store
from otel_agents.store.blocks import block_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    BREAKER_STATE,
    ENTITY_ID,
    LEASE_EXPIRES,
    LEASE_OWNER,
    REASON_CODE,
    RUN_ID,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
    TASK_QUEUE,
    TASK_STATE,
    WAIT_ID,
    WORKER_STATUS,
    WORKER_TYPE,
)
from tests.state.build import SECOND, Story, shop, tokens
from tests.store.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
ADMIN: Final = "admin-token-0123456789"
VIEWER: Final = "viewer-token-0123456789"
INGEST: Final = "ingest-token-0123456789"
TOKENS: Final = Settings(token=ADMIN, viewer_token=VIEWER, ingest_token=INGEST)
OPEN: Final = Settings()
# An id of a user's may hold anything; this one would be mistaken for a path, a query and a row.
ODD_RUN: Final = "feature/login%2F?x=1&../%"


def fact(kind: str, name: str, *, ids: Ids | None = None, at: int = 0, **attributes: Any) -> Signal:
    """Return a fact; attributes are named by their keys."""
    moment = at or time.time_ns()
    return Signal(
        id=f"{kind}-{name}-{moment}", kind=kind, edge="fact", name=name, time=moment,
        scope_id=f"{kind}-{name}", ids=ids or Ids(), attributes=attributes,
    )  # fmt: skip


def event(number: int, *, at: int = 0) -> Signal:
    """Return a runtime event, a retry of a tool."""
    told = {
        RUNTIME_LAYER.key: "tool_runtime",
        RUNTIME_OPERATION.key: "RETRY",
        REASON_CODE.key: "timeout",
        ENTITY_ID.key: f"tool-{number}",
        "delay": 0.5,
    }
    return fact("runtime", f"event-{number}", ids=Ids(task_id="t-1"), at=at, **told)


def runtime() -> list[Signal]:
    """Return the signals of a worker, a breaker, two tasks and some events."""
    lease = {LEASE_OWNER.key: "w-1", LEASE_EXPIRES.key: time.time() - 60}
    return [
        Signal(
            id=f"w-1-{time.time_ns()}", kind="worker", edge="progress", name="indexer",
            time=time.time_ns(), scope_id="w-1", ids=Ids(worker_id="w-1"),
            attributes={WORKER_TYPE.key: "indexer", WORKER_STATUS.key: "RUNNING", "slots": 4},
        ),
        fact("breaker", "search", **{BREAKER_STATE.key: "closed"}),
        fact("task", "t-1", ids=Ids(task_id="t-1"), **{TASK_STATE.key: "RUNNING", **lease}),
        fact(
            "task", "t-2", ids=Ids(task_id="t-2"),
            **{TASK_STATE.key: "PENDING", TASK_QUEUE.key: "digest"},
        ),
        *(event(number) for number in range(3)),
    ]  # fmt: skip


def trace_request(run_id: str, spans: int = 3) -> ExportTraceServiceRequest:
    """Return the request of one trace: a root, and children of which the last failed."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    _put(resource.resource.attributes, "service.name", "shop")
    inside = resource.scope_spans.add()
    inside.scope.name = "tests"
    begin = time.time_ns() - 10 * SECOND
    for number in range(spans):
        span = inside.spans.add(
            trace_id=bytes.fromhex(TRACE),
            span_id=(number + 1).to_bytes(8, "big"),
            parent_span_id=b"" if number == 0 else (1).to_bytes(8, "big"),
            name=f"step {number}",
            kind=1,
            start_time_unix_nano=begin + number,
            end_time_unix_nano=begin + SECOND,
        )
        _put(span.attributes, RUN_ID.key, run_id)
        _put(span.events.add(name="seen", time_unix_nano=begin + 5).attributes, "why", "asked")
        if number == spans - 1:
            span.status.code = 2
            span.status.message = "no luck"
            span.links.add(trace_id=bytes.fromhex(TRACE), span_id=(1).to_bytes(8, "big"))
    return message


def _put(attributes: Any, key: str, value: str) -> None:
    attributes.add(key=key).value.string_value = value


def told(run_id: str, seconds_ago: float = 600, result: str = "success") -> list[Signal]:
    """Return the signals of a run of the shop, its first agent's split by model."""
    story = shop(run_id, begin=time.time_ns() - round(seconds_ago * SECOND), result=result)
    end = next(one for one in story.signals if one.kind == "agent" and one.edge == "end")
    end.models = [ModelUse(provider="openai", model="gpt-5", usage=tokens(100), cost=0.25)]
    return story.signals


def filled() -> Batch:
    """Return what the store of most tests holds."""
    failing = Story("run-2", "press", begin=time.time_ns() - 60 * SECOND)
    failing.start("run", "r2", "press").start("agent", "a2", "writer", parent="r2", phase="write")
    failing.instant("gate", "lint", "failure", parent="r2")
    failing.wait(3).end("a2", "failure", error=("ValueError", "no"), usage=Usage(input_tokens=7))
    failing.end("r2", "failure", error=("ValueError", "no"))
    running = Story("run-3", "press", begin=time.time_ns()).start("run", "r3", "press")
    running.start("human", "wait-1", "deploy?", parent="r3", attributes={WAIT_ID.key: "wait-1"})
    message = trace_request("run-1")
    block, _ = block_of(message, message.SerializeToString())
    logs = [
        LogRecord(
            time=time.time_ns() - number, severity=9, severity_text="INFO", body=f"line {number}",
            service="shop", run_id="run-1", agent_id="run-1-plan-agent", trace_id=TRACE,
            attributes={"n": number},
        )
        for number in range(3)
    ]  # fmt: skip
    now = time.time_ns()
    points = [
        Point(name="otelagents.tokens", kind="sum", time=now, unit="{token}", value=3.0),
        Point(name="otelagents.run.duration", kind="histogram", time=now, count=2, sum=4.0),
    ]
    signals = [
        *told("run-1"), *failing.signals, *running.signals, *told(ODD_RUN, 300), *runtime()
    ]  # fmt: skip
    return Batch(blocks=[block], signals=signals, logs=logs, points=points)


def fill(store: Store, batch: Batch | None = None) -> None:
    """Write a batch, and wait until the rows of runs and agents speak of it."""
    store.write(filled() if batch is None else batch)
    assert store.settle()


def alive(store: Store) -> None:
    """Give a sign of life of the run that waits in a filled store, however old that is by now."""
    fill(store, Batch(signals=[run("progress", "run-3")]))


class Answer(NamedTuple):
    """A raw answer: its status, headers in lower case, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def envelope(self) -> dict[str, Any]:
        """The body as an envelope."""
        return msgspec.json.decode(self.body, type=dict[str, Any])


def raw(url: str, method: str, target: str, headers: dict[str, str] | None = None) -> Answer:
    """Send a request as it is: no client puts a target or a header right."""
    address = httpx.URL(url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    try:
        given = {"Host": f"{address.host}:{address.port}", **(headers or {})}
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for a condition, and fail where it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
