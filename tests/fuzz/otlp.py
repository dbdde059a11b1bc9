"""What the receiver must hold to, whatever bytes come: over HTTP, in protobuf, in JSON, in gzip."""

# ruff: noqa: PT017 - what a refusal says is a part of the property

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from otel_agents.receiver import decode, wire
from otel_agents.receiver.bounded import Body, Buffer, Inflate
from otel_agents.receiver.decode import LOGS, METRICS, TRACES, Decoding, Kind
from otel_agents.receiver.flight import InFlight
from otel_agents.receiver.http import HttpApp
from otel_agents.receiver.json import JsonSlices
from otel_agents.receiver.limits import MAX_ID, MAX_SIGNAL, MAX_TEXT, MAX_TIME, MAX_VALUE_DEPTH
from otel_agents.receiver.slices import Slices
from otel_agents.receiver.status import Refusal
from otel_agents.receiver.wire import has_long, shortened
from otel_agents.signals import decode_line, encode_line
from otel_agents.store import Busy
from otel_agents.values import CUT
from otel_agents.vocabulary import SIGNAL
from tests.fuzz import mutate, reference
from tests.receiver.kit import Remembering
from tests.receiver.messages import elements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.store.batch import Batch

_KINDS: Final = {"traces": TRACES, "metrics": METRICS, "logs": LOGS}
HEAD: Final = (
    "traces", "metrics", "logs", "json", "protobuf", "gzip", "gzipped", "identity", "br", "get",
    "charset", "no-type", "whole=1", "whole=40", "whole=300", "whole=2000", "chunk=1", "chunk=7",
    "chunk=100", "limit=64", "limit=1000", "members=2", "nowhere", "long=9", "busy",
    "broken",
)  # fmt: skip
_ANSWERS: Final = {200, 400, 404, 405, 413, 415, 503}
_CODES: Final = {400: 3, 404: 5, 405: 12, 413: 8, 415: 3, 500: 13, 503: 14}


def headed(data: bytes) -> tuple[dict[str, str], bytes]:
    """Return the words of an input's first line, with what each is set to, and the rest."""
    head, _, body = data.partition(b"\n")
    words = head.decode("latin-1").split()
    return {name: value for name, _, value in (word.partition("=") for word in words)}, body


def _number(words: dict[str, str], name: str, default: int) -> int:
    text = words.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else default


def _kind(words: dict[str, str]) -> Kind:
    """Return the kind that is named, cut in slices from a length on that inputs do reach."""
    kind = next((_KINDS[name] for name in words if name in _KINDS), TRACES)
    if "whole" in words:
        return msgspec.structs.replace(kind, whole=max(2, _number(words, "whole", 2)))
    return kind


def _body(data: bytes) -> Body:
    return Body(data, len(data))


def _batches(decoding: Decoding) -> Iterator[Batch]:
    while (batch := decoding.next()) is not None:
        yield batch


# ---------------------------------------------------------------------- HTTP


def http(data: bytes) -> None:
    """A request gets one answer, in its own content type; one of 400 or more is a Status.

    Sent again, it is decoded to the same; nothing stays counted as under way.
    """
    words, body = headed(data)
    first, kept = _posted(words, body)
    again, twice = _posted(words, body)
    assert first[:2] == again[:2], "the same request was answered otherwise"
    assert [_essence(one) for one in kept] == [_essence(one) for one in twice]
    _check_answer(words, *first)


def _essence(batch: Batch) -> Any:
    digests = [(block.digest, block.spans) for block in batch.blocks]
    # A record without a time gets that of its arrival.
    logs = [msgspec.structs.replace(one, time=0) for one in batch.logs]
    return msgspec.json.encode([digests, batch.signals, logs, batch.points], enc_hook=str)


def _posted(
    words: dict[str, str], body: bytes
) -> tuple[tuple[int, bytes, dict[bytes, bytes]], list[Batch]]:
    """Send a request to the application, and return its answer and what the store got."""
    store = Remembering()
    if "busy" in words:
        store.answer = lambda _batch: Busy("It is full.", 7)
    elif "broken" in words:
        store.answer = lambda _batch: OSError("No space left on device")
    flight = InFlight(_number(words, "limit", 1 << 27))
    path = next((f"/v1/{name}" for name in words if name in _KINDS), "/v1/traces")
    if "gzipped" in words:
        body = gzip.compress(body, 1, mtime=0) * max(1, min(8, _number(words, "members", 1)))
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        app = HttpApp(store, None, flight)
        size = max(1, _number(words, "chunk", len(body) or 1))
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        waiting = [
            {"type": "http.request", "body": part, "more_body": number < len(parts)}
            for number, part in enumerate(parts, 1)
        ]
        waiting.reverse()

        async def receive() -> Any:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "method": "GET" if "get" in words else "POST",
            "path": "/nowhere" if "nowhere" in words else path,
            "headers": _headers(words, body),
        }
        try:
            await app(scope, receive, send)
        finally:
            app._threads.shutdown()

    asyncio.run(run())
    assert flight.held == 0, "bytes stay counted as under way"
    started = [one for one in sent if one["type"] == "http.response.start"]
    assert len(started) == 1, f"{len(started)} answers"
    assert sent[-1]["more_body"] is False
    answer = b"".join(one["body"] for one in sent[1:])
    return (started[0]["status"], answer, dict(started[0]["headers"])), store.batches


def _headers(words: dict[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    headers = []
    if "no-type" not in words:
        kind = b"application/json" if "json" in words else b"application/x-protobuf"
        headers.append(
            (b"content-type", kind + (b"; charset=utf-8" if "charset" in words else b""))
        )
    for name in ("gzip", "identity", "br"):
        if name in words or (name == "gzip" and "gzipped" in words):
            headers.append((b"content-encoding", name.encode()))
    if "long" in words:
        length = 10 ** _number(words, "long", 1)
        headers.append((b"content-length", str(length).encode()))
    return headers


def _check_answer(
    words: dict[str, str], status: int, body: bytes, headers: dict[bytes, bytes]
) -> None:
    as_json = "json" in words and "no-type" not in words
    assert status in _ANSWERS or (status == 500 and "broken" in words), f"answered with {status}"
    expected = b"application/json" if as_json else b"application/x-protobuf"
    assert headers[b"content-type"] == expected
    assert int(headers[b"content-length"]) == len(body)
    if status == 200:
        _check_success(_kind(words), body, as_json=as_json)
        return
    if as_json:
        said = json.loads(body)
        code, message = said["code"], said["message"]
    else:
        found = Status.FromString(body)
        code, message = found.code, found.message
    assert code == _CODES[status]
    assert message
    assert (b"retry-after" in headers) == (status == 503)


def _check_success(kind: Kind, body: bytes, *, as_json: bool) -> None:
    """A full success is empty; a partial one counts at least one, and says why."""
    if as_json:
        said = json.loads(body)
        partial = said.get("partialSuccess")
        assert set(said) <= {"partialSuccess"}
        if partial is not None:
            assert partial.pop("errorMessage")
            (count,) = partial.values()
            assert int(count) > 0
        return
    response: Any = kind.response.FromString(body)
    if response.HasField("partial_success"):
        assert getattr(response.partial_success, kind.rejected) > 0
        assert response.partial_success.error_message
    else:
        assert body == b""


# ---------------------------------------------------------------------- protobuf


def protobuf(data: bytes) -> None:
    """In slices a request holds what it holds as a whole, or is refused with a reason.

    Google's parser is the reference. Where it takes a body that we refuse, one of the departures
    in `reference.REFUSED_ON_THE_WIRE` is why.
    """
    words, body = headed(data)
    kind = _kind(words)
    try:
        whole = kind.request.FromString(body)
    except DecodeError:
        whole = None
    slices = Slices(_body(body), kind.shape, max(1, _number(words, "whole", 2000) // 2))
    try:
        parts = [kind.request.FromString(part) for part in slices]
    except DecodeError:
        assert whole is None, "a slice of a good body cannot be parsed"
    except Refusal as refusal:
        assert refusal.http in {400, 413}
        assert whole is None or reference.has_group(body, kind.request.DESCRIPTOR), (
            f"refused, but good: {refusal}"
        )
    else:
        if whole is not None and not slices.rejected and not reference.has_two_of_one(kind, body):
            found = [one for part in parts for one in elements(part)]
            assert found == list(elements(whole)), "slices hold something else"
    _decoded(kind, body, whole)


def _decoded(kind: Kind, body: bytes, whole: Any) -> None:
    """Decode a body as the listeners do, and count what came of each item."""
    decoding = Decoding(kind, _body(body))
    try:
        batches = list(_batches(decoding))
    except Refusal as refusal:
        assert refusal.http in {400, 413}
        assert whole is None or reference.has_group(body, kind.request.DESCRIPTOR)
        return
    if whole is None:
        return  # in slices only what is kept is looked at
    taken = sum(
        sum(block.spans for block in one.blocks)
        + len(one.logs) + len(one.signals) + len(one.points)
        for one in batches
    )  # fmt: skip
    if not reference.has_two_of_one(kind, body):
        assert taken + decoding.rejected == len(list(elements(whole))), (
            "items are not accounted for"
        )
    assert bool(decoding.answer()) == bool(decoding.rejected)


_SHORT: Final = 64


def texts(data: bytes) -> None:
    """Long texts are cut and counted where they stand, and nothing else is changed.

    The limit is lowered, so that inputs of some hundred bytes reach it. Then the texts are made
    long enough for the real one, which the quick look relies on.
    """
    words, body = headed(data)
    kind = _kind(words)
    _check_cut(kind, _longer(body), MAX_TEXT, quick=True)
    before = wire.MAX_TEXT, decode.MAX_TEXT
    wire.MAX_TEXT = decode.MAX_TEXT = _SHORT  # type: ignore[misc]
    try:
        _check_cut(kind, body, _SHORT, quick=False)
    finally:
        wire.MAX_TEXT, decode.MAX_TEXT = before  # type: ignore[misc]


def _longer(body: bytes) -> bytes:
    """Return a message whose texts of 60 bytes and more are longer than may be."""

    def stretched(fields: list[Any]) -> list[Any]:
        return [
            [
                number,
                wire_type,
                stretched(value) if isinstance(value, list) else _stretched(value),
                *padding,
            ]
            for number, wire_type, value, *padding in fields
        ]

    try:
        found = mutate.encoded(stretched(mutate.parsed(body)))
    except (ValueError, IndexError):
        return body
    return found if len(found) <= 8 * MAX_TEXT else body


def _stretched(value: Any) -> Any:
    return value * 1200 if isinstance(value, bytes) and len(value) >= 60 else value


def _check_cut(kind: Kind, body: bytes, most: int, *, quick: bool) -> None:
    try:
        whole = kind.request.FromString(body)
    except DecodeError:
        whole = None
    try:
        long = not quick or has_long(body, 0, len(body), kind.shape)
        short, cuts = shortened(body, 0, len(body), kind.shape)
    except Refusal as refusal:
        assert refusal.http == 400
        assert whole is None or reference.has_group(body, kind.request.DESCRIPTOR)
        return
    assert bool(cuts) == bool(short)
    if not long:
        assert not cuts, "the quick look passed over a long text"
    if whole is None:
        return
    found = kind.request.FromString(short) if cuts else whole
    expected, count = reference.cut_texts(kind, body, most, CUT)
    assert cuts == count
    assert found.SerializeToString(deterministic=True) == expected


# ---------------------------------------------------------------------- JSON


def as_json(data: bytes) -> None:
    """A JSON body becomes the message that google's `json_format` makes of it.

    Before that, ids are turned from hexadecimal to base64 and what OTLP tells apart is taken out;
    the departures stand in `reference`, each with its reason. Cut in slices it holds the same.
    """
    words, body = headed(data)
    kind = _kind(words)
    try:
        ours = kind.request()
        for part in JsonSlices(_body(body), kind.request, kind.shape, 1 << 20):
            ours.MergeFromString(part)
    except Refusal as refusal:
        assert refusal.http in {400, 413}
        ours = None
        why = refusal.message
    theirs, departures = reference.from_json(kind.request, body)
    if ours is None:
        stricter = departures - reference.TAKEN
        assert theirs is None or stricter, f"refused, but good: {why}"
        return
    if theirs is None:
        assert departures & reference.TAKEN, f"taken, but json_format refuses it: {ours}"
    else:
        one, two = (each.SerializeToString(deterministic=True) for each in (ours, theirs))
        assert one == two, f"another message than json_format's\n{ours}\n{theirs}"
    again = kind.request.FromString(ours.SerializeToString())
    assert again.SerializeToString(deterministic=True) == ours.SerializeToString(deterministic=True)
    if "two of a oneof" in departures:
        return  # cut apart, both stay
    most = _number(words, "whole", 2)
    try:
        parts = [
            kind.request.FromString(part)
            for part in JsonSlices(_body(body), kind.request, kind.shape, max(1, most))
        ]
    except Refusal as refusal:
        assert refusal.http == 413, "refused in slices, but not as a whole"
    else:
        assert [e for part in parts for e in elements(part)] == list(elements(ours))


# ---------------------------------------------------------------------- gzip


def packed(data: bytes) -> None:
    """A gzip body, however it is cut, becomes what Python's gzip makes of it, up to a limit."""
    words, body = headed(data)
    limit = _number(words, "limit", 100_000)
    if "gzipped" in words:
        body = gzip.compress(body, 1, mtime=0) * max(1, min(8, _number(words, "members", 1)))
    size = max(1, _number(words, "chunk", 1 << 20))
    flight = InFlight(1 << 20)
    buffer = Buffer(limit, flight)
    inflate = Inflate(buffer)
    try:
        for at in range(0, len(body), size):
            left = inflate.feed(body[at : at + size], 100)
            while left:
                left = inflate.feed(left)
        found = inflate.close()
        ours = bytes(found.data[: found.size])
    except Refusal as refusal:
        assert refusal.http in {400, 413}
        ours = None
        why = refusal
    finally:
        assert buffer.size <= limit
        buffer.free()
    assert flight.held == 0
    theirs = _unpacked(body)
    if ours is None:
        too_much = why.http == 413 and (theirs is None or len(theirs) > limit)
        assert theirs is None or too_much or reference.gzip_is_stricter(body), str(why)
    else:
        assert ours == theirs


def _unpacked(body: bytes) -> bytes | None:
    if not body:
        return None
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return None


# ---------------------------------------------------------------------- signals in log records


def record(data: bytes) -> None:
    """Each log record is taken as a signal or a record, or counted as rejected; none is changed.

    The first line is JSON that becomes the record's `otelagents.signal`; what follows is protobuf
    that is merged in.
    """
    line, _, more = data.partition(b"\n")
    message: Any = LOGS.request()
    one = message.resource_logs.add().scope_logs.add().log_records.add()
    one.attributes.add(key=SIGNAL.key).value.string_value = line.decode(errors="replace")
    body = message.SerializeToString() + more
    try:
        whole: Any = LOGS.request.FromString(body)
    except DecodeError:
        return
    decoding = Decoding(LOGS, _body(body))
    batches = list(_batches(decoding))
    signals = [signal for batch in batches for signal in batch.signals]
    records = [record for batch in batches for record in batch.logs]
    assert len(signals) + len(records) + decoding.rejected == len(list(elements(whole)))
    for found in records:
        assert 0 <= found.time <= MAX_TIME
        assert len(found.trace_id) in {0, 32}
        assert len(found.span_id) in {0, 16}
        msgspec.json.encode(found.attributes)
    for signal in signals:
        assert 0 < len(signal.id) <= MAX_ID
        assert 0 <= signal.time <= MAX_TIME
        assert _depth(signal.attributes) <= MAX_VALUE_DEPTH
        told = encode_line(signal)
        assert len(told) <= 6 * MAX_SIGNAL
        again = decode_line(told)
        assert again is not None
        assert encode_line(again) == told, "a signal is not told again as it was"


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_depth, inside), default=-1) + 1 if isinstance(value, dict | list) else 0
