"""One export request, bounded in time and in what is read, and what came of it.

A backend is not trusted: a reply is read up to 4 MiB (the OTLP specification's own bound for
clients), a redirect is not followed, and a request ends when its time is over, however slowly the
other side goes on.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

MAX_REPLY: Final = 4 << 20
MESSAGE: Final = 200  # characters of an answer that are shown


class Outcome(NamedTuple):
    """What came of a request.

    `sent`: the other side has it, but for the `rejected` items it names. `again`: it may take it
    later, after `after` seconds where it said so. Else it refused it for good; `split` says that
    a part of it may be taken.
    """

    sent: bool = False
    again: bool = False
    rejected: int = 0
    after: float | None = None
    split: bool = False
    why: str = ""


class Transport(Protocol):
    """A connection to one end point for one kind of data."""

    def send(self, body: bytes) -> Outcome:
        """Send one request, and never raise."""

    def close(self) -> None:
        """Let go of the connection."""


def rejected(reply: bytes) -> int:
    """Return how many items a successful reply says were rejected (`partial_success`).

    The three replies have it at the same place; what cannot be read rejects nothing.
    """
    if not reply:
        return 0
    try:
        told = ExportTraceServiceResponse.FromString(reply).partial_success.rejected_spans
    except Exception:  # noqa: BLE001 - a page in HTML, say
        return 0
    return max(0, told)


def short(error: Exception) -> str:
    """Return an error in a few words."""
    return f"{type(error).__name__}: {error}"[:MESSAGE]
