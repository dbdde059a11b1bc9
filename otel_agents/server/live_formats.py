"""What a stored signal is to a client of the feed: an envelope, an event, or progress messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from otel_agents.event_types import event_of
from otel_agents.signals import decode_line
from otel_agents.state.progress import progress_of
from otel_agents.store.runs import event_of as envelope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_agents.signals import Signal

log = logging.getLogger("otel_agents.server")

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class Message(NamedTuple):
    """One message as it goes out, and its type as the message itself spells it."""

    type: str
    text: str


def _events(signal: Signal) -> list[dict[str, Any]]:
    event = event_of(signal)
    return [] if event is None else [event.line()]


class _Reader(NamedTuple):
    read: Callable[[Signal], list[dict[str, Any]]]
    type: str  # the member that says what a message is


_READERS: Final = {
    "events": _Reader(_events, "event_type"),
    "progress": _Reader(progress_of, "type"),
}
FORMATS: Final = tuple(_READERS)
ENVELOPE: Final = ""
"""The format of those who ask for none: one envelope for every signal, with its number."""


class Sent:
    """A stored signal as it goes out, made once in each format for all who want it."""

    __slots__ = ("_made", "_row", "run_id", "seq", "size")

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row
        self._made: dict[str, tuple[Message, ...]] = {}
        self.seq: int = row["seq"]
        self.run_id: str | None = row["run_id"] or None
        self.size = len(row["body"])  # characters; a message is about as long

    def messages(self, format_: str) -> tuple[Message, ...]:
        """Return what a client is sent, which can be nothing."""
        found = self._made.get(format_)
        if found is None:
            try:
                found = tuple(_messages(self._row, format_))
            except Exception as error:  # noqa: BLE001 - one odd signal must not end the feed
                log.warning("event %d cannot be sent as %s: %r", self.seq, format_, error)
                found = ()
            self._made[format_] = found
        return found


def _messages(row: dict[str, Any], format_: str) -> Iterable[Message]:
    if format_ == ENVELOPE:
        return (Message(row["type"], _encode(envelope_of(row)).decode()),)
    signal = decode_line(row["body"].encode())
    if signal is None:
        return ()
    read, type_ = _READERS[format_]
    return (Message(str(one[type_]), _encode(one).decode()) for one in read(signal))


def numbered(text: str, seq: int) -> str:
    """Return a message with its number as its last member."""
    return f'{text[:-1]},"seq":{seq}}}'
