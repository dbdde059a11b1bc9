"""The shapes of the API's spans, traces, log records, metrics, events and usage."""

# pydantic reads the annotations when the classes are made.

from typing import Any, Literal

from otel_agents.server.schemas import Count, Shape, Time, Usage, Usd

SpanStatus = Literal["unset", "ok", "error"]


class SpanEvent(Shape):
    """An event of a span."""

    name: str
    time: Time
    attributes: dict[str, Any]


class SpanLink(Shape):
    """A link of a span to another."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class Dropped(Shape):
    """What a span's sender left away."""

    attributes: Count
    events: Count
    links: Count


class Span(Shape):
    """A span; `start_ms` counts from the start of its trace."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    service: str | None
    scope: str | None
    started_at: Time
    ended_at: Time | None
    start_ms: float
    duration_ms: float | None
    status: SpanStatus
    message: str | None
    attributes: dict[str, Any]
    events: list[SpanEvent]
    links: list[SpanLink]
    dropped: Dropped


class TreeSpan(Span):
    """A span in the tree of its trace; the root's depth is 0."""

    depth: Count


class TraceRow(Shape):
    """A trace in a list."""

    trace_id: str
    root: str | None
    service: str | None
    started_at: Time
    duration_ms: float | None
    spans: Count
    errors: Count
    run_id: str | None


class Trace(Shape):
    """A trace: its spans in the order of the tree."""

    trace_id: str
    started_at: Time
    duration_ms: float | None
    services: list[str]
    spans: list[TreeSpan]
    run_ids: list[str]


class Log(Shape):
    """A log record."""

    seq: int
    timestamp: Time
    severity: int
    severity_text: str | None
    body: str
    event_name: str | None
    service: str | None
    run_id: str | None
    phase: str | None
    agent_id: str | None
    trace_id: str | None
    span_id: str | None
    attributes: dict[str, Any]


class UsageRow(Shape):
    """Usage and cost of one workflow, phase, agent, model or day."""

    key: str | None
    provider: str | None
    usage: Usage
    cost_usd: Usd
    unpriced_tokens: Count
    runs: Count
    agents: Count


class UsageRows(Shape):
    """Usage and cost, split."""

    items: list[UsageRow]


class Event(Shape):
    """An event of the live feed; `seq` orders all of them."""

    seq: int
    type: str
    timestamp: Time
    run_id: str | None
    payload: dict[str, Any]


class Metric(Shape):
    """The latest point of a series; `detail` holds buckets, quantiles and temporality."""

    name: str
    kind: Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
    unit: str | None
    service: str | None
    instance: str | None
    attributes: dict[str, Any]
    timestamp: Time
    value: float | None
    count: int | None
    sum: float | None
    detail: dict[str, Any]
