"""What every command shares: the JSON envelope, and errors as one sentence and an exit code."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.signals import new_id
from otel_agents.state.times import rfc3339
from otel_agents.text import unbroken

if TYPE_CHECKING:
    from otel_agents.errors import OtelAgentsError

# The exit codes of interfaces that errors do not bring along.
OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 3


def envelope(data: Any, error: dict[str, Any] | None = None, **more: Any) -> str:
    """Return one line: `{"data": …, "error": null|{code, message, details}, "meta": {…}}`."""
    meta = {"timestamp": rfc3339(time.time_ns()), "request_id": new_id(), **more}
    text = msgspec.json.encode({"data": data, "error": error, "meta": meta}).decode()
    return unbroken(text)


def print_data(data: Any, **more: Any) -> None:
    """Print an answer as one envelope, at once; `more` goes to its `meta`."""
    sys.stdout.write(envelope(data, **more) + "\n")
    sys.stdout.flush()


def fail(code: str, message: str, exit_code: int, *, as_json: bool, parameter: str = "") -> int:
    """Say what went wrong, on stderr and where asked for in an envelope; return the exit code.

    Args:
        code: `not_found`, `invalid_input`, `unauthorized`, `unavailable` or `internal`.
        message: One sentence that names what is wrong and what to do.
        exit_code: What the process is to exit with.
        as_json: Whether the command was asked for JSON.
        parameter: The name of what was wrong in the input, where it is one thing.

    """
    from otel_agents.text import visible  # only where something failed

    if as_json:
        details = {"parameter": parameter} if parameter else {}
        error = {"code": code, "message": message, "details": details}
        sys.stdout.write(envelope(None, error) + "\n")
        sys.stdout.flush()
    sys.stderr.write(f"otel-agents: {visible(message)}\n")
    return exit_code


def fail_with(error: OtelAgentsError, *, as_json: bool) -> int:
    """Report one of our errors; return its exit code."""
    parameter = getattr(error, "parameter", "")
    return fail(error.code, str(error), error.exit_code, as_json=as_json, parameter=parameter)
