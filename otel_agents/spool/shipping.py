"""Batches as requests: whole where they are taken whole, else in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.spool.encode import logs_request, spans_request

if TYPE_CHECKING:
    from otel_agents.spool.destination import Destination
    from otel_agents.spool.segment import Source
    from otel_agents.spool.transport import Outcome, Transport

# Requests that one batch may cost when a part of it is looked for that is taken.
_MOST_SPLITS: Final = 128


class Shipping:
    """The connection of one lane, made when it is first used."""

    def __init__(self, signal: str, destination: Destination) -> None:
        self._signal = signal
        self._destination = destination
        self._transport: Transport | None = None

    def ship(
        self, items: list[tuple[Source, bytes]], requests: list[tuple[int, bytes]]
    ) -> tuple[Outcome, int, int]:
        """Send a batch, in parts where it is refused whole; return what came of it.

        One item that a backend does not take must not cost the others. Where a part has to be
        sent again, all of it is: what was taken then arrives twice, with the same ids.
        """
        waiting = [(items, requests)]
        refused = rejected = splits = 0
        why = ""
        outcome = None
        while waiting:
            items, requests = waiting.pop()
            outcome = self._send(items, requests)
            if outcome.again:
                break
            rejected += outcome.rejected
            if outcome.sent:
                continue
            many = len(items) + len(requests) > 1
            if outcome.split and many and splits < _MOST_SPLITS:
                splits += 1
                half = max(1, len(items) // 2) if items else 0
                middle = max(1, len(requests) // 2) if not items else 0
                waiting.append((items[half:], requests[middle:]))
                waiting.append((items[:half], requests[:middle]))
            else:
                refused += len(items) + sum(count for count, _ in requests)
                why = outcome.why
        assert outcome is not None  # noqa: S101 - there was something to send
        return outcome._replace(why=why or outcome.why), refused, rejected

    def _send(
        self, items: list[tuple[Source, bytes]], requests: list[tuple[int, bytes]]
    ) -> Outcome:
        if self._transport is None:
            self._transport = self._destination.connect()
        body = b"".join(body for _, body in requests)
        if items:
            join = spans_request if self._signal == "traces" else logs_request
            body += join(_grouped(items))
        return self._transport.send(body)


def _grouped(items: list[tuple[Source, bytes]]) -> list[Any]:
    """Group items by their resource, then by their scope, as a request has them."""
    found: dict[tuple[bytes, str], dict[tuple[bytes, str], list[bytes]]] = {}
    for source, body in items:
        scopes = found.setdefault((source.resource, source.resource_url), {})
        scopes.setdefault((source.scope, source.scope_url), []).append(body)
    return [
        (resource, url, [(scope, scope_url, bodies) for (scope, scope_url), bodies in of.items()])
        for (resource, url), of in found.items()
    ]
