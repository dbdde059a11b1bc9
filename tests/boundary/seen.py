"""What a program can see of a call: its result or exception, and what is current after it."""

from __future__ import annotations

import contextvars
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace

from tests.boundary.injection import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Callable


class Seen(NamedTuple):
    """One call, as its caller sees it."""

    result: Any
    error: Any
    current: Any


def seen(act: Callable[[], Any]) -> Seen:
    """Call `act` and return what there is to be seen of it."""
    before = where()
    result = error = None
    try:
        result = act()
    except BaseException as raised:  # noqa: BLE001 - compared, whatever it is
        error = shape(raised)
    return Seen(result, error, where() == before)


def where() -> Any:
    """Return what is current here: the span, the rest of OpenTelemetry's context, variables."""
    context = otel_context.get_current()
    # An announcement stays by design: it says which agent's call an `agent_started` was about.
    rest = {key: value for key, value in context.items() if "announced" not in key}
    variables = {
        variable: value
        for variable, value in contextvars.copy_context().items()
        if not isinstance(value, otel_context.Context)
        and not variable.name.startswith("otelagents")  # ours stay, and are as they began
    }
    return id(trace.get_current_span()), rest, variables


def shape(error: BaseException | None) -> Any:
    """Return all there is of an exception: type, arguments, the program's last line, its chain."""
    if error is None:
        return None
    frames = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(PACKAGE)
    ]
    return (
        type(error).__qualname__,  # the program is imported twice, under two names
        error.args,
        frames[-1] if frames else None,
        shape(error.__cause__),
        shape(error.__context__),
        error.__suppress_context__,
        getattr(error, "__notes__", None),
    )
