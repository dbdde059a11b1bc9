"""What the store takes in: the parts of one request, written in one commit or not at all."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from otel_agents.signals import Signal  # noqa: TC001 - msgspec reads the annotation

PointKind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]


class TraceSummary(msgspec.Struct):
    """What a block says of one trace: for lists and searches, without decoding the block.

    Times are nanoseconds since the epoch. `root` is the name of a span without a parent, and
    `run_id` that of the first span that bears one; both are empty where the block has none.
    """

    started: int
    ended: int
    spans: int = 0
    errors: int = 0
    root: str = ""
    service: str = ""
    run_id: str = ""


class Block(msgspec.Struct):
    """One trace request as it is kept: its protobuf bytes, and what they hold by trace id.

    `digest` tells a request that is sent again, byte for byte, from a new one.
    """

    body: bytes
    digest: bytes
    spans: int
    traces: dict[bytes, TraceSummary]


class LogRecord(msgspec.Struct, kw_only=True):
    """One log record that is no signal. `time` is nanoseconds since the epoch."""

    time: int
    severity: int = 0
    severity_text: str = ""
    body: str = ""
    event_name: str = ""
    service: str = ""
    trace_id: str = ""
    span_id: str = ""
    run_id: str = ""
    phase: str = ""
    agent_id: str = ""
    attributes: dict[str, Any] = {}


class Point(msgspec.Struct, kw_only=True):
    """One data point of a metric; the store keeps the latest of each series.

    `value` is there for gauges and sums, `count` and `sum` for the others, `detail` holds buckets,
    quantiles, temporality and whether a sum only grows. Times are nanoseconds since the epoch.
    """

    name: str
    kind: PointKind
    time: int
    unit: str = ""
    service: str = ""
    instance: str = ""
    attributes: dict[str, Any] = {}
    start: int = 0
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    detail: dict[str, Any] = {}


class Batch(msgspec.Struct):
    """The parts of a request that are committed together. `size` is its weight in bytes."""

    blocks: list[Block] = []
    signals: list[Signal] = []
    logs: list[LogRecord] = []
    points: list[Point] = []
    size: int = 0
