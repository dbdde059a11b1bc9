"""Log records that say where they belong: for stdlib `logging` and for structlog.

Every record made inside a scope carries the ids as attributes (`record.run_id` and so on), for any
formatter; `JsonFormatter` writes them as JSON, one record a line, and `correlate` does the same
for structlog. None of it raises into the program's logging, whatever a record holds.
"""

from __future__ import annotations

import datetime
import logging
from copy import copy
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import msgspec
from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_agents.asyncwith import AsyncWith
from otel_agents.boundary import caught
from otel_agents.context import (
    FRAME_KEY,
    Counts,
    Frame,
    current_frame,
    enter,
    leave,
    put_back,
    stamp_of,
    vacate,
)
from otel_agents.kept import kept, single
from otel_agents.signals import Ids
from otel_agents.text import unbroken
from otel_agents.values import cut, plain, redact, whole

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from types import TracebackType

    from opentelemetry.context import Context

_F = TypeVar("_F", bound="Callable[..., Any]")
# The ids a log record bears, in the order they are written.
LOGGED: Final = (
    "run_id", "phase", "iteration", "agent_id", "work_order_id", "correlation_id",
)  # fmt: skip
_STAMPED: Final = (*LOGGED, "trace_id", "span_id")
_STANDARD: Final = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", (), None)) | {"message": "", "asctime": ""}
)
MAX_TEXT: Final = 100_000  # characters of a message or traceback: what reads lines has limits
MAX_KEY: Final = 200
# The line of a record that could not be written as one.
_UNREADABLE: Final = '{"level":"ERROR","module":"otel_agents","message":"<unreadable record>"}'
_CUT_BEFORE: Final = "[cut]…"


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


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Keys: `timestamp` (RFC 3339, UTC), `level`, `module` (the logger's name), `message`, `run_id`,
    `phase`, `iteration`, `agent_id`, `work_order_id`, `correlation_id`, `trace_id`, `span_id`;
    then `exception` and `stack` where there are such, and what the caller gave by `extra`, under
    `extra_<key>` where the key is one of these. Unset ids are null. Line breaks and control
    characters are escaped, so that a record cannot forge another; secrets are hidden, and what is
    too long is cut and marked. It never raises: what cannot be read is named by its class.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        try:
            return self._line(record)
        except Exception as error:  # noqa: BLE001 - a log line never fails the program
            caught("log line", error)
            return _UNREADABLE

    def _line(self, record: logging.LogRecord) -> str:
        known = dict(vars(record))
        entry: dict[str, Any] = {
            "timestamp": _time(known.get("created")),
            "level": kept("", known.get("levelname")),
            "module": kept("", known.get("name")),
            "message": _message(record),
        }
        # A record that was stamped where it was made is complete, wherever it is formatted.
        stamped = "run_id" in known or "trace_id" in known
        now = {} if stamped else ids_now()
        for name in _STAMPED:
            entry[name] = kept(name, known.get(name, now.get(name)))
        raised: Any = known.get("exc_info")
        if raised:
            entry["exception"] = _text(lambda: self.formatException(raised))
        elif known.get("exc_text"):
            entry["exception"] = _text(lambda: record.exc_text)
        if known.get("stack_info"):
            entry["stack"] = _text(lambda: self.formatStack(str(record.stack_info)))
        for key, value in known.items():
            if key not in _STANDARD and key not in _STAMPED:
                name = whole(cut(str(plain(key)), MAX_KEY))
                entry[f"extra_{name}" if name in entry else name] = kept(name, value)
        return unbroken(msgspec.json.encode(entry).decode())


def _time(created: Any) -> str:
    try:
        when = datetime.datetime.fromtimestamp(created, tz=datetime.UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        when = datetime.datetime.now(tz=datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        message: Any = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit, or a `__str__` that raises
        message = record.msg
        if type(message) is str and record.args:
            message = f"{cut(message)} {kept('', record.args)}"
    found = plain(message) if type(message) is not str else message
    return _shown(str(found))


def _text(make: Callable[[], Any]) -> str:
    try:
        # The end of a traceback says what went wrong.
        found = str(make())
        if len(found) > MAX_TEXT:
            found = _CUT_BEFORE + found[len(_CUT_BEFORE) - MAX_TEXT :]
        return _shown(found)
    except Exception as error:  # noqa: BLE001 - a formatter of the host's, or a hostile exception
        return f"<{type(error).__qualname__}>"


def _shown(text: str) -> str:
    """Return text that a line can hold: cut, whole, without secrets."""
    return whole(str(redact("", cut(text, MAX_TEXT))))


def correlate(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the ids in force to a structlog event: a processor; put it before the renderer."""
    try:
        for name, value in ids_now().items():
            if value is not None:
                event.setdefault(name, value)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("structlog event", error)
    return event


class log_context(AsyncWith):  # noqa: N801 - used as a function is
    """Set ids for the log records (and spans) inside, without opening a scope.

    Use it with `with`, `async with` or as a decorator of a function of any shape. Known names:
    `run_id`, `workflow`, `work_order_id`, `correlation_id` (by default the run's), `plan_id`,
    `iteration`, `phase`, `agent_id`, `agent`, `parent_agent_id`, `task_id`, `worker_id`. Others
    are left away. What is None is unset inside.
    """

    def __init__(self, **ids: Any) -> None:
        self._ids = ids
        self._entered: list[tuple[Context, tuple[Context, object]]] = []

    def __enter__(self) -> Self:
        """Put the ids in force."""
        self.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put those before in force again; the exception goes on as it was."""
        self.detach()

    def __call__(self, function: _F) -> _F:
        """Decorate a function, coroutine function, generator or async generator."""
        from otel_agents.drive import decorate

        # Driven like a scope, of which it has all that is asked for here.
        return decorate(function, cast("Any", lambda: log_context(**self._ids)))

    def attach(self) -> None:
        """Put the ids in force here."""
        try:
            mine = otel_context.set_value(FRAME_KEY, self._frame())
            self._entered.append((mine, enter(mine)))
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("log context", error)

    def detach(self) -> None:
        """Put those before `attach` in force again."""
        if not self._entered:
            return
        *self._entered, (mine, before) = self._entered
        try:
            innermost = otel_context.get_current() is mine
            leave(mine, before)
            if not innermost:
                # Something in it is still open, and ends into this context.
                vacate(mine, before[0])
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            put_back(before[0])
            caught("log context", error)

    def start(self) -> None:
        """Do nothing: there is no span to open."""

    def begin(self) -> None:
        """Do nothing: there is no span to open."""

    def end(self, error: BaseException | None = None) -> None:
        """Do nothing: there is no span to end."""

    def _frame(self) -> Frame:
        frame = current_frame()
        found = Ids() if frame is None else copy(frame.ids)
        for name, value in self._ids.items():
            if name in Ids.__struct_fields__:
                setattr(found, name, single(value, int if name == "iteration" else str))
        if found.correlation_id is None:
            found.correlation_id = found.run_id
        counts, scope = (Counts(), None) if frame is None else (frame.counts, frame.scope)
        return Frame(found, stamp_of(found), counts, scope)
