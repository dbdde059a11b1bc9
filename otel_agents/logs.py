"""Log records that say where they belong: for stdlib `logging` and for structlog.

Every record made inside a scope carries the ids as attributes (`record.run_id` and so on), for any
formatter; `JsonFormatter` writes them as JSON, one record a line, and `correlate` does the same
for structlog.
"""

from __future__ import annotations

import datetime
import logging
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_agents.context import FRAME_KEY, Counts, Frame, current_frame, stamp_of
from otel_agents.signals import Ids
from otel_agents.text import unbroken
from otel_agents.values import plain, redact

if TYPE_CHECKING:
    from collections.abc import Generator, MutableMapping

# The ids a log record bears, in the order they are written.
LOGGED: Final = (
    "run_id", "phase", "iteration", "agent_id", "work_order_id", "correlation_id",
)  # fmt: skip
_FIXED: Final = {"timestamp", "level", "module", "message", *LOGGED, "trace_id", "span_id"}
_STANDARD: Final = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", (), None)) | {"message": "", "asctime": ""}
)


def ids_now() -> dict[str, Any]:
    """Return the ids in force for a log record, trace and span id included; None where unset."""
    frame = current_frame()
    ids = frame.ids if frame is not None else None
    found: dict[str, Any] = {name: getattr(ids, name, None) for name in LOGGED}
    span = trace.get_current_span().get_span_context()
    found["trace_id"] = f"{span.trace_id:032x}" if span.is_valid else None
    found["span_id"] = f"{span.span_id:016x}" if span.is_valid else None
    return found


def stamp(record: logging.LogRecord) -> logging.LogRecord:
    """Put the ids in force on a log record; what the caller gave by `extra` stays."""
    known = vars(record)
    for name, value in ids_now().items():
        if value is not None:
            known.setdefault(name, value)
    return record


def _encode(entry: dict[str, Any]) -> str:
    return unbroken(msgspec.json.encode(entry, enc_hook=lambda item: str(plain(item))).decode())


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Keys: `timestamp` (RFC 3339, UTC), `level`, `module`, `message`, `run_id`, `phase`,
    `iteration`, `agent_id`, `work_order_id`, `correlation_id`, `trace_id`, `span_id`; then
    `exception` where there is one and what the caller gave by `extra`. Unset ids are null.
    Line breaks and control characters are escaped, so that a record cannot forge another.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        known = vars(record)
        when = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
        entry: dict[str, Any] = {
            "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "module": record.name,
            "message": redact("", record.getMessage()),
        }
        now = ids_now()
        for name in (*LOGGED, "trace_id", "span_id"):
            entry[name] = plain(known.get(name, now[name]))
        if record.exc_info:
            entry["exception"] = redact("", self.formatException(record.exc_info))
        for name, value in known.items():
            if name not in _STANDARD and name not in _FIXED:
                entry[name] = redact(name, plain(value))
        return _encode(entry)


def correlate(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the ids in force to a structlog event: a processor; put it before the renderer."""
    for name, value in ids_now().items():
        if value is not None:
            event.setdefault(name, value)
    return event


@contextmanager
def log_context(**ids: Any) -> Generator[None]:
    """Set ids for the log records (and spans) inside a `with`, without opening a scope.

    Known names: `run_id`, `workflow`, `work_order_id`, `correlation_id`, `plan_id`, `iteration`,
    `phase`, `agent_id`, `agent`, `task_id`, `worker_id`. Others are left away.
    """
    previous = otel_context.get_current()
    frame = current_frame(previous)
    found = Ids() if frame is None else copy(frame.ids)
    for name, value in ids.items():
        if name in Ids.__struct_fields__:
            setattr(found, name, plain(value))
    counts, scope = (Counts(), None) if frame is None else (frame.counts, frame.scope)
    inner = Frame(found, stamp_of(found), counts, scope)
    otel_context.attach(otel_context.set_value(FRAME_KEY, inner, previous))
    try:
        yield
    finally:
        otel_context.attach(previous)
