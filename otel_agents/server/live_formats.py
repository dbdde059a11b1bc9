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
    text: bytes


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

    __slots__ = ("_frames", "_messages", "_row", "run_id", "seq", "size")

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row
        self._messages: dict[str, tuple[Message, ...]] = {}
        self._frames: dict[tuple[str, bool], bytes] = {}
        self.seq: int = row["seq"]
        self.run_id: str | None = row["run_id"] or None
        self.size = len(row["body"])  # characters; a message is about as long

    def messages(self, format_: str) -> tuple[Message, ...]:
        """Return what the signal is in a format, which can be nothing."""
        found = self._messages.get(format_)
        if found is None:
            try:
                found = tuple(_messages(self._row, format_))
            except Exception as error:  # noqa: BLE001 - one odd signal must not end the feed
                log.warning("event %d cannot be sent as %s: %r", self.seq, format_, error)
                found = ()
            self._messages[format_] = found
        return found

    def frames(
        self, format_: str, *, numbered: bool = False, types: frozenset[str] = frozenset()
    ) -> bytes:
        """Return the WebSocket frames of the messages, or of those of some types.

        Where it is `numbered`, the last message ends with a member `seq`, unless it has one by
        its format: a client that goes on after the last number it saw then misses nothing.
        """
        if types:
            return self._framed(format_, numbered, types)
        found = self._frames.get((format_, numbered))
        if found is None:
            found = self._frames[format_, numbered] = self._framed(format_, numbered, types)
        return found

    def _framed(self, format_: str, numbered: bool, types: frozenset[str]) -> bytes:
        texts = [one.text for one in self.messages(format_) if not types or one.type in types]
        if texts and numbered and format_ != ENVELOPE:
            texts[-1] = b'%b,"seq":%d}' % (texts[-1][:-1], self.seq)
        return b"".join(map(frame_of, texts))


def frame_of(text: bytes) -> bytes:
    """Return a text message as the one frame that a server sends (RFC 6455, 5.2)."""
    size = len(text)
    if size < 126:  # noqa: PLR2004 - here and below: the lengths of the RFC
        head = b"\x81%c" % size
    elif size < 1 << 16:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    return head + text


def _messages(row: dict[str, Any], format_: str) -> Iterable[Message]:
    if format_ == ENVELOPE:
        return (Message(row["type"], _encode(envelope_of(row))),)
    signal = decode_line(row["body"].encode())
    if signal is None:
        return ()
    read, type_ = _READERS[format_]
    return (Message(str(one[type_]), _encode(one)) for one in read(signal))
