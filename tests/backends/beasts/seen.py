"""What came to the backend, by id, under the name of the beast that it came to."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIGNALS: Final = ("traces", "metrics", "logs")
# What tests put on a log record, to know it again.
NUMBER: Final = "test.number"
_SIGNAL: Final = "otelagents.signal"


def ids_of(signal: str, body: bytes) -> list[str]:
    """Return an id of each span, data point or log record of a request."""
    return list(_READERS[signal](body))


def _spans(body: bytes) -> Iterator[str]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            yield from (f"{span.trace_id.hex()}-{span.span_id.hex()}" for span in scope.spans)


def _points(body: bytes) -> Iterator[str]:
    for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points if kind else ():
                    said = sorted(f"{key.key}={key.value}".strip() for key in point.attributes)
                    yield f"{metric.name} {' '.join(said)} {point.time_unix_nano}"


def _records(body: bytes) -> Iterator[str]:
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                said = {key.key: key.value for key in record.attributes}
                if NUMBER in said:
                    yield f"log-{said[NUMBER].string_value}"
                elif _SIGNAL in said:
                    yield f"signal-{json.loads(said[_SIGNAL].string_value)['id']}"
                else:
                    yield f"record-{record.time_unix_nano}-{record.span_id.hex()}"


def _coding(headers: Mapping[str, str]) -> str:
    return headers.get("content-encoding", "") or headers.get("grpc-encoding", "")


_READERS: Final = {"traces": _spans, "metrics": _points, "logs": _records}


class Seen:
    """Ids by signal: those that were taken, those that were refused, and each request's moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._taken: dict[str, Counter[str]] = defaultdict(Counter)
            self._refused: dict[str, Counter[str]] = defaultdict(Counter)
            self._requests: list[dict[str, Any]] = []

    def put(
        self, beast: str, signal: str, ids: list[str], headers: Mapping[str, str], *, taken: bool
    ) -> None:
        """Note a request's ids; the backend is said to hold them where they are taken."""
        now = time.time()
        with self._lock:
            (self._taken if taken else self._refused)[signal].update(ids)
            self._requests.append(
                {
                    "at": now,
                    "beast": beast,
                    "signal": signal,
                    "items": len(ids),
                    "taken": taken,
                    "token": headers.get("authorization", ""),
                    "coding": _coding(headers),
                }
            )

    def told(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        with self._lock:
            return {
                "taken": {signal: dict(self._taken[signal]) for signal in SIGNALS},
                "refused": {signal: dict(self._refused[signal]) for signal in SIGNALS},
                "requests": list(self._requests),
            }

    def counts(self) -> dict[str, Any]:
        """Return how many ids were taken, and how often one was taken again."""
        with self._lock:
            return {
                signal: {"ids": len(ids), "again": sum(ids.values()) - len(ids)}
                for signal, ids in ((signal, self._taken[signal]) for signal in SIGNALS)
            }
