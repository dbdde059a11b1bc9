"""Secrets that are made up, each with a mark in it that says what it is and where it was put."""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARK: Final = re.compile(rb"q7p(\d\d)k(\d\d)z")

# What a text holds: `{}` is the mark, `{up}` the mark in capitals.
SHAPES: Final = {
    "openai": "sk-proj-{}AAAAAAAAAAAA",
    "anthropic": "sk-ant-api03-{}-AAAAAAAA",
    "stripe": "sk_live_{}AAAAAAAAAA",
    "aws id": "AKIA{up}AAAAAAA",
    "aws session": "ASIA{up}AAAAAAA",
    "aws secret": "aws_secret_access_key = {}/AAAA+AAAA",
    "github": "ghp_{}AAAAAAAAAAAAAAAAAAAAAAAAAA",
    "github, fine": "github_pat_{}AAAAAAAAAAAAAAAA",
    "gitlab": "glpat-{}AAAAAAAAAAAA",
    "slack": "xoxb-1234567890-{}",
    "slack app": "xapp-1-A1234567-{}",
    "slack hook": "https://hooks.slack.com/services/T0001/B0001/{}",
    "google": "AIza{}AAAAAAAAAAAAAAAAAAAAAAAAA",
    "google oauth": "ya29.{}AAAAAAAAAAAAAAAAA",
    "hugging face": "hf_{}AAAAAAAAAAAAAAAAAAAAAAAA",
    "jwt": "eyJ{}AAAA.{}AAAA.{}",
    "bearer": "Authorization: Bearer {}.AAAA",
    "basic": "Authorization: Basic {}AAAA==",
    "cookie": "Cookie: theme=dark; session={}",
    "set-cookie": "Set-Cookie: id={}; HttpOnly; Path=/",
    "key in a header": "x-api-key: {}",
    "dsn": "postgresql://app:{}@db/orders",
    "dsn with an @": "redis://:{}@{}@db/0",
    "odbc": "Server=db;Uid=app;Pwd={};",
    "libpq": "host=db user=app password='{} {}' dbname=x",
    "keyword": "connect(host='db', password='{}', retries=3)",
    "mapping": "{{'db_password': '{}', 'retries': 3}}",
    "json": '{{"apiKey": "x\\"{}", "retries": 3}}',
    "json in json": '{{"body": "{{\\"client_secret\\": \\"{}\\", \\"n\\": 3}}"}}',
    "variable": "export DB_PASSWORD={}",
    "query": "https://example.com/x?page=2&access_token={}&size=3",
    "signature": "https://blob.example.com/c?sv=1&sig={}%3D",
    "account key": "DefaultEndpointsProtocol=https;AccountKey={}==;EndpointSuffix=x",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\n{}\nAA+/=\n-----END RSA PRIVATE KEY-----",
    "pem, encrypted": (
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n"
        "{}\n-----END RSA PRIVATE KEY-----"
    ),
}
KINDS: Final = tuple(SHAPES)
# Keys whose values are hidden whatever they look like.
NAMES: Final = (
    "password", "db.password", "client_secret", "http.request.header.authorization",
    "http.request.header.x-api-key", "http.response.header.set-cookie", "apiKey", "accessToken",
    "aws.secret_access_key", "user.credentials", "SIGNING_KEY",
)  # fmt: skip
PLACES: Final = (
    "prompt", "instructions", "tool argument", "tool result", "tool error", "answer", "thought",
    "run attribute", "late attribute", "run goal", "reason", "exception", "cause", "environment",
    "log line", "log exception", "log extra", "printed", "event", "event of another type",
    "baggage", "feedback", "task spec", "wait", "wait answer", "breaker", "worker", "runtime event",
    "checkpoint", "json log", "their span name", "their attribute", "their event",
    "their exception", "their status", "their link", "their log", "their resource", "their list",
    "their mapping", "their log body", "their scope", "their metric",
)  # fmt: skip
# Written by others, sent by the SDK's own exporter.
THEIRS: Final = (
    *(one for one in PLACES if one.startswith("their ")), "log line", "log exception", "log extra",
)  # fmt: skip


def mark(place: str, kind: int) -> str:
    """Return the mark of a place and a kind of secret; 99 is one by its key."""
    return f"q7p{PLACES.index(place):02}k{kind:02}z"


def secret(place: str, kind: str) -> str:
    """Return one secret for a place."""
    made = mark(place, KINDS.index(kind))
    return SHAPES[kind].replace("{up}", made.upper()).format(*[made] * 3)


def text(place: str) -> str:
    """Return a text for a place with one secret of every kind, each on a line, and its name."""
    lines = (f"before {secret(place, kind)} after" for kind in KINDS)
    return "\n".join((words(place), *lines, words(place)))


def words(place: str) -> str:
    """Return words that stand around the secrets of a place, and are none."""
    return f"words-of-{place.replace(' ', '-')}"


def named(place: str) -> dict[str, Any]:
    """Return values of every shape under keys that name secrets, and harmless ones with them."""
    found: dict[str, Any] = dict.fromkeys(NAMES, f"{mark(place, 99)}-plain")
    return {**found, "note": text(place), "colour": "blue"}


def found_in(data: bytes) -> set[tuple[str, str]]:
    """Return place and kind of each canary in bytes, as they are or in any letters."""
    kinds = dict(enumerate(KINDS)) | {99: "by name"}
    return {(PLACES[int(place)], kinds[int(kind)]) for place, kind in _MARK.findall(data.lower())}


def found_in_all(chunks: Iterable[bytes]) -> set[tuple[str, str]]:
    """Return the canaries of several pieces of bytes."""
    found: set[tuple[str, str]] = set()
    for chunk in chunks:
        found |= found_in(chunk)
    return found


def unpacked(data: bytes) -> bytes:
    """Return bytes with what is deflated in them, anywhere: a store deflates requests."""
    found = [data]
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
        reader = zlib.decompressobj(wbits=47)
        try:
            found.append(reader.decompress(data[start.start() :], 1 << 24))
        except zlib.error:
            continue
    return b"\n".join(found)


def as_json(value: Any) -> bytes:
    """Return data as JSON in which text stands as it is."""
    return json.dumps(value, ensure_ascii=False, default=str).encode()
