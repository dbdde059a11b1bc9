"""A request of any signal, in protobuf or JSON, into batches for the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from otel_agents.receiver import shapes
from otel_agents.receiver.json import JsonSlices
from otel_agents.receiver.limits import (
    MAX_TEXT,
    PART_BYTES,
    PART_TRACES,
    WHOLE,
    WHOLE_OBJECTS,
)
from otel_agents.receiver.logs import add_logs
from otel_agents.receiver.metrics import add_metrics
from otel_agents.receiver.slices import Slices
from otel_agents.receiver.status import undecodable
from otel_agents.receiver.wire import has_long, shortened
from otel_agents.store.batch import Batch
from otel_agents.store.blocks import block_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    from otel_agents.receiver.bounded import Body
    from otel_agents.receiver.flight import InFlight
    from otel_agents.receiver.shapes import Shape


class Kind(msgspec.Struct, frozen=True):
    """What one of the protocol's signals is called, made of and turned into.

    A body of up to `whole` bytes is parsed at once. `add` puts a parsed request and its bytes in a
    batch, and returns how many items it rejected and why; `items` is the word for them, `rejected`
    the answer's field that counts them.
    """

    path: str
    method: str
    request: type[Message]
    response: type[Message]
    shape: Shape
    whole: int
    add: Callable[[Any, bytes, Batch], tuple[int, str]]
    items: str
    rejected: str


def _add_traces(
    message: trace_service_pb2.ExportTraceServiceRequest, body: bytes, batch: Batch
) -> tuple[int, str]:
    """Put a trace request in a batch as a block, less spans whose ids nothing can refer to."""
    block, rejected = block_of(message, body)
    if block.spans:
        batch.blocks.append(block)
    return rejected, "its trace id or span id is not of 16 and 8 bytes, or all zero"


TRACES: Final = Kind(
    "/v1/traces",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    trace_service_pb2.ExportTraceServiceRequest,
    trace_service_pb2.ExportTraceServiceResponse,
    shapes.TRACES,
    WHOLE,
    _add_traces,
    "spans",
    "rejected_spans",
)
METRICS: Final = Kind(
    "/v1/metrics",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    metrics_service_pb2.ExportMetricsServiceRequest,
    metrics_service_pb2.ExportMetricsServiceResponse,
    shapes.METRICS,
    WHOLE_OBJECTS,
    add_metrics,
    "data points",
    "rejected_data_points",
)
LOGS: Final = Kind(
    "/v1/logs",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    logs_service_pb2.ExportLogsServiceRequest,
    logs_service_pb2.ExportLogsServiceResponse,
    shapes.LOGS,
    WHOLE_OBJECTS,
    add_logs,
    "log records",
    "rejected_log_records",
)
KINDS: Final = (TRACES, METRICS, LOGS)


class Decoding:
    """A body on its way into batches.

    What a body costs is bounded before it is parsed: a large one is parsed in slices, each let go
    before the next, and comes in several batches. That is no harm, since a request that is sent
    again is cut in the same places, and the store keeps nothing twice.

    Attributes:
        rejected: How many items were left out so far.
        reason: Why the last of them was.
        cuts: How many texts were cut.

    """

    def __init__(self, kind: Kind, body: Body, *, as_json: bool = False) -> None:
        self.rejected = 0
        self.reason = ""
        self.cuts = 0
        self._kind = kind
        parts = _parts(kind, body, as_json)
        self._slices = parts if isinstance(parts, Slices) else None
        self._rest = iter(parts)

    def next(self) -> Batch | None:
        """Return the next batch, None after the last; a refusal where the body cannot be read."""
        batch = Batch()
        for part in self._rest:
            self._add(part, batch)
            batch.size += len(part)
            if _full(batch):
                return batch
        if self._slices is not None:
            self.rejected += self._slices.rejected
            self.reason = self._slices.reason or self.reason
            self.cuts += self._slices.cuts
            self._slices = None
        return batch if _holds(batch) else None

    def _add(self, data: bytes, batch: Batch) -> None:
        kind = self._kind
        if len(data) > MAX_TEXT and has_long(data, 0, len(data), kind.shape):
            short, cuts = shortened(data, 0, len(data), kind.shape)
            if cuts:
                data = short
                self.cuts += cuts
        try:
            message = kind.request.FromString(data)
        except DecodeError:
            why = "The body is not a protobuf message of this kind, or nested too deeply."
            raise undecodable(why) from None
        rejected, reason = kind.add(message, data, batch)
        if rejected:
            self.rejected += rejected
            self.reason = reason

    def note(self, flight: InFlight) -> None:
        """Count what was left out."""
        flight.note(f"rejected: {self._kind.items}", self.rejected)
        flight.note("texts cut", self.cuts)

    def answer(self, *, as_json: bool = False) -> bytes:
        """Return the body of the answer, once all is taken: empty where nothing was left out."""
        if not self.rejected:
            return b"{}" if as_json else b""
        kind = self._kind
        text = f"{self.rejected} {kind.items} were rejected. Of the last one, {self.reason}."
        if as_json:
            name, *rest = kind.rejected.split("_")
            camel = name + "".join(word.title() for word in rest)
            partial = {camel: str(self.rejected), "errorMessage": text}
            return msgspec.json.encode({"partialSuccess": partial})
        response: Any = kind.response()
        setattr(response.partial_success, kind.rejected, self.rejected)
        response.partial_success.error_message = text
        return bytes(response.SerializeToString())


def _parts(kind: Kind, body: Body, as_json: bool) -> Iterable[bytes]:
    """Return the messages that a body is parsed as."""
    if not body.size:
        return ()
    if as_json:
        return JsonSlices(body, kind.request, kind.shape, kind.whole // 2)
    if body.size > kind.whole:
        return Slices(body, kind.shape, kind.whole // 2)
    data = body.data
    return (data if isinstance(data, bytes) else data[: body.size],)


def _holds(batch: Batch) -> bool:
    return bool(batch.blocks or batch.signals or batch.logs or batch.points)


def _full(batch: Batch) -> bool:
    """Say whether a batch is to be committed before the next slice is parsed."""
    if batch.blocks:
        traces = sum(len(block.traces) for block in batch.blocks)
        return traces > PART_TRACES or batch.size > PART_BYTES
    return _holds(batch)
