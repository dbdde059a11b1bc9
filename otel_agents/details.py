"""The conventions' event with the content of a model call, where its capture is asked for.

GenAI conventions, October 2026: `gen_ai.client.inference.operation.details`, severity DEBUG, the
attributes of the call's span and no body.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider

from otel_agents.version import __version__
from otel_agents.vocabulary import NAMESPACE, SCHEMA_URL

if TYPE_CHECKING:
    from opentelemetry.context import Context

EVENT: Final = "gen_ai.client.inference.operation.details"


def emit_details(attributes: dict[str, Any], context: Context) -> None:
    """Emit the event through the program's logger provider, in the trace of `context`."""
    now = time.time_ns()
    get_logger_provider().get_logger(NAMESPACE, __version__, SCHEMA_URL).emit(
        LogRecord(
            timestamp=now,
            observed_timestamp=now,
            context=context,
            severity_number=SeverityNumber.DEBUG,
            severity_text="DEBUG",
            attributes=attributes,
            event_name=EVENT,
        )
    )
