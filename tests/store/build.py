"""What the store's tests write, and all that a store holds, to be compared."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch, Block
from otel_agents.store.blocks import block_of
from otel_agents.vocabulary import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.store import Store

# What is made of signals, with the columns that tell when or in which order it was made.
_MADE: Final = {
    "runs": ("dirty", "folded"), "iterations": (), "phases": (), "agents": (), "telemetry": (),
    "routes": (), "ai_runtime_events": ("created_at",), "ai_worker_status": ("id", "created_at"),
    "breakers": (), "tasks": (), "waits": (),
}  # fmt: skip
_ALL: Final = (
    *_MADE, "facts", "signals", "blocks", "unindexed", "traces", "logs", "metrics", "alerts",
)  # fmt: skip


def wipe(store: Store) -> None:
    """Delete all that a store holds."""
    connection = store._database.here
    with connection.writing():
        for table in _ALL:
            connection.run(f"DELETE FROM {table}")  # noqa: S608 - of the tables above


def made(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that were made of the signals of a store, in an order of their own."""
    assert store.settle()
    found = {}
    for table, left_out in _MADE.items():
        rows = store._database.here.rows(f"SELECT * FROM {table}")  # noqa: S608
        kept = [{key: value for key, value in row.items() if key not in left_out} for row in rows]
        found[table] = sorted(kept, key=repr)
    return found


def write(store: Store, *signals: Signal) -> None:
    """Write signals and wait until the rows speak of them."""
    store.write(Batch(signals=list(signals)))
    assert store.settle()


def fact(kind: str, number: int, when: int, name: str = "", **more: Any) -> Signal:
    """Return a fact; its id is the number, and the ids may be given."""
    attributes = more.pop("attributes", {})
    return Signal(
        id=f"{kind}-{number:04d}", kind=kind, edge=more.pop("edge", "fact"), time=when, name=name,
        result=more.pop("result", ""), ids=Ids(**more), attributes=attributes,
    )  # fmt: skip


def request(*spans: dict[str, Any], service: str = "shop") -> ExportTraceServiceRequest:
    """Return a request of spans: `trace`, `span`, `parent`, `name`, `run`, `start`, `end`."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    one = resource.resource.attributes.add()
    one.key, one.value.string_value = "service.name", service
    scope = resource.scope_spans.add()
    for said in spans:
        span = scope.spans.add()
        span.trace_id, span.span_id = said["trace"], said["span"]
        span.parent_span_id = said.get("parent", b"")
        span.name = said.get("name", "work")
        span.start_time_unix_nano = said.get("start", 1_000)
        span.end_time_unix_nano = said.get("end", 2_000)
        if "run" in said:
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = RUN_ID.key, said["run"]
    return message


def block(*spans: dict[str, Any], service: str = "shop") -> Block:
    """Return the block of a request of spans."""
    message = request(*spans, service=service)
    return block_of(message, message.SerializeToString())[0]


def number(value: int, size: int = 8) -> bytes:
    """Return an id of bytes; 0 has none."""
    return (value + 1).to_bytes(size, "big")


def trace_number(value: int) -> bytes:
    """Return a trace's id."""
    return number(value, 16)


def seconds_ago(seconds: float) -> int:
    """Return a time, in nanoseconds since the epoch."""
    return time.time_ns() - round(seconds * 1e9)


def every(ask: Any, *, limit: int = 3) -> list[Any]:
    """Return the items of all pages of a list."""
    items: list[Any] = []
    cursor = None
    while True:
        page = ask(cursor=cursor, limit=limit)
        assert len(page["items"]) <= limit
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


def ids_of(items: Iterable[dict[str, Any]], key: str) -> list[Any]:
    """Return one value of each item."""
    return [item[key] for item in items]
