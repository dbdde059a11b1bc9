"""Where the running code is: ids that follow asyncio tasks, threads and, by a carrier, queues.

The ids live in the OpenTelemetry context, under one key, so that whatever carries that context
carries them too.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, unquote

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context

from otel_agents.asyncwith import AsyncWith
from otel_agents.boundary import caught
from otel_agents.signals import STAMPED, Ids

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from types import TracebackType

FRAME_KEY: Final = otel_context.create_key("otelagents-frame")
_BAGGAGE: Final = "baggage"
_MAX_CARRIED: Final = 4096  # bytes of ids taken from a carrier: a hostile one must cost nothing
_FIELDS: Final = {key: field for field, key in STAMPED.items()} | {"otelagents.agent.name": "agent"}


class Counts:
    """What a run counts of the scopes in it: its iterations, and tries of an agent at a task."""

    __slots__ = ("_attempts", "iterations")

    def __init__(self) -> None:
        self.iterations = 0
        self._attempts: dict[tuple[str, str | None], int] = {}

    def attempt(self, task_id: str | None, agent: str | None) -> int:
        """Return which try of an agent at a task this is; without a task it is the first."""
        if task_id is None:
            return 1
        key = (task_id, agent)
        self._attempts[key] = found = self._attempts.get(key, 0) + 1
        return found

    def attempts(self, task_id: str | None, agent: str | None) -> int:
        """Return how often an agent has tried a task so far, at least once."""
        return 1 if task_id is None else self._attempts.get((task_id, agent), 1)


class Frame:
    """The ids in force, the attributes made of them, and the scope that set them.

    `scope` is None for a frame that came from another process.
    """

    __slots__ = ("counts", "ids", "scope", "stamp")

    def __init__(self, ids: Ids, stamp: dict[str, Any], counts: Counts, scope: Any = None) -> None:
        self.ids = ids
        self.stamp = stamp
        self.counts = counts
        self.scope = scope


def told_by(scope: Any) -> str:
    """Return the id of the nearest scope, from this one outwards, that has signals of its own.

    A tool or a model call has none: what is inside it is inside its agent. "" outside any scope.
    """
    while scope is not None and not (scope.kind.starts or scope.kind.ends):
        scope = scope.parent
    return "" if scope is None else scope.scope_id


def stamp_of(ids: Ids) -> dict[str, Any]:
    """Return the attributes that stand on every span and log record under these ids."""
    found = {}
    for field, key in STAMPED.items():
        value = getattr(ids, field)
        if value is not None:
            found[key] = value
    return found


def current_frame(context: Context | None = None) -> Frame | None:
    """Return the frame of a context, of the current one by default."""
    try:
        found = (otel_context.get_current() if context is None else context).get(FRAME_KEY)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("context", error)
        return None
    return found if isinstance(found, Frame) else None


def current_ids() -> Ids | None:
    """Return the ids in force here, or None outside any scope."""
    frame = current_frame()
    return None if frame is None else frame.ids


def current_task() -> object:
    """Return the task that runs here, or None outside any loop."""
    return None if asyncio._get_running_loop() is None else asyncio.current_task()  # noqa: SLF001


def enter(mine: Context) -> tuple[Context, object]:
    """Make a context the current one and return what `leave` wants to know."""
    before = otel_context.get_current(), current_task()
    otel_context.attach(mine)
    return before


def leave(mine: Context, before: tuple[Context, object]) -> None:
    """Make current again what was before `enter`, if what is current is `mine` or left in it.

    A token is never used: resetting one outside the context it was made in is an error that
    OpenTelemetry logs, and generators closed by the garbage collector or by another task do just
    that. Setting the previous value is always allowed, and where another task's context is
    current there is nothing of ours to take away.
    """
    previous, task = before
    try:
        _leave(mine, previous, task)
    except Exception as error:  # noqa: BLE001 - the host goes on where it was
        put_back(previous)
        caught("leave", error)


def put_back(previous: Context) -> None:
    """Make a context current again after something failed."""
    with contextlib.suppress(Exception):
        otel_context.attach(previous)


def _leave(mine: Context, previous: Context, task: object) -> None:
    current = otel_context.get_current()
    scope = getattr(current.get(FRAME_KEY), "scope", None)
    if current is not mine:
        own = mine.get(FRAME_KEY)
        while scope is not None and scope.frame is not own:
            scope = scope.parent
    if current is mine or scope is not None:
        otel_context.attach(previous)
    if task is not current_task():
        vacate(mine, previous)


def vacate(mine: Context, previous: Context) -> None:
    """Turn a context whose scope is over into the one before it, wherever it is still current.

    A task that was handed an item by an asynchronous generator has the generator's context, and
    keeps it when the generator is closed elsewhere: by the garbage collector or by another task.
    What it goes on to do is no part of a scope that is over. A context is immutable to its users;
    here nobody else can reach the place where it is current.
    """
    dict.update(mine, previous)
    for key in mine.keys() - previous.keys():
        dict.pop(mine, key, None)


def inject(carrier: MutableMapping[str, str]) -> None:
    """Write the current trace and ids into a carrier, such as the headers of a queued task.

    The trace goes as the configured propagators say, the ids as W3C baggage members beside any
    that are there. They are put in no other request of the program: only in this carrier.
    """
    try:
        propagate.inject(carrier)
        frame = current_frame()
        if frame is None:
            return
        members = [f"{key}={quote(str(value), safe='')}" for key, value in frame.stamp.items()]
        if frame.ids.agent:
            members.append(f"otelagents.agent.name={quote(frame.ids.agent, safe='')}")
        existing = carrier.get(_BAGGAGE)
        carrier[_BAGGAGE] = ",".join([existing, *members] if existing else members)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("inject", error)


class Extracted(AsyncWith):
    """A carrier's trace and ids, made current by `with`; `context` holds them for other uses."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._previous: Context | None = None

    def __enter__(self) -> Self:
        """Make the carried context current."""
        try:
            self._previous = otel_context.get_current()
            otel_context.attach(self.context)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("extract", error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Make the context before it current again."""
        previous, self._previous = self._previous, None
        if previous is not None:
            try:
                otel_context.attach(previous)
            except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
                put_back(previous)
                caught("extract", failure)


def extract(carrier: Mapping[str, str]) -> Extracted:
    """Read what `inject` wrote; use the answer in a `with` around the work.

    A carrier without any of it, or with garbage, gives the current context unchanged.
    """
    context = Context()
    try:
        context = otel_context.get_current()
        context = propagate.extract(carrier, context)
        found: dict[str, Any] = {}
        for member in str(carrier.get(_BAGGAGE, ""))[:_MAX_CARRIED].split(","):
            key, _, value = member.partition("=")
            field = _FIELDS.get(key.strip())
            if field is None:
                continue
            text = unquote(value.partition(";")[0].strip())
            if field != "iteration":
                found[field] = text
            elif text.isdecimal():
                found[field] = int(text)
        if found:
            ids = Ids(**found)
            context = otel_context.set_value(
                FRAME_KEY, Frame(ids, stamp_of(ids), Counts()), context
            )
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("extract", error)
    return Extracted(context)
