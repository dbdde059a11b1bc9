"""The metrics of this process, to be scraped."""

from __future__ import annotations

from otel_agents import runtime
from otel_agents.boundary import caught


def prometheus_text() -> str:
    """Return the metrics of this process in Prometheus' text format 0.0.4.

    For a program that has an HTTP server of its own to answer `/metrics` with; the content type is
    `text/plain; version=0.0.4; charset=utf-8`. It is empty while nothing was counted, and where
    telemetry is disabled.
    """
    return answer()[1].decode()


def answer(accept: str = "") -> tuple[str, bytes]:
    """Return what a scrape is answered: the content type that `accept` asks for, and the body."""
    from otel_agents.exposition import exposition

    try:
        current = runtime.peek()
        families = [] if current is None or current.disabled else current.metrics.families()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("scrape", error)
        families = []
    return exposition(families, accept)
