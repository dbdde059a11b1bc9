"""The one record that moves: an object in memory, a JSON line on disk, a log record on the wire.

A signal says that a scope started, moved on or ended, or states a fact such as a gate's result.
Start signals make running work visible, since spans arrive only when they end.
"""

from __future__ import annotations

import os
import time
from itertools import count
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from otel_agents.usage import Usage
from otel_agents.values import whole
from otel_agents.vocabulary import (
    AGENT_NAME,
    AGENT_PARENT_RUN_ID,
    AGENT_RUN_ID,
    CORRELATION_ID,
    ERROR_TYPE,
    ITERATION,
    NAMESPACE,
    PHASE,
    PLAN_ID,
    RESULT,
    RUN_ID,
    SIGNAL,
    TASK_ID,
    WORK_ORDER_ID,
    WORKER_ID,
    WORKFLOW,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Edge = Literal["start", "progress", "end", "fact"]

# A run that is under way says so every few seconds; one that is silent for long is lost.
HEARTBEAT_SECONDS: Final = 5.0
LOST_AFTER_SECONDS: Final = 30.0


class Ids(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Where in a run we are. Made once a scope and shared by all inside it: never changed after."""

    run_id: str | None = None
    workflow: str | None = None
    work_order_id: str | None = None
    correlation_id: str | None = None
    plan_id: str | None = None
    iteration: int | None = None
    phase: str | None = None
    agent_id: str | None = None
    agent: str | None = None
    parent_agent_id: str | None = None
    task_id: str | None = None
    worker_id: str | None = None


# The ids that stand on every span and log record inside a scope, by their field of `Ids`.
STAMPED: Final = {
    "run_id": RUN_ID.key,
    "workflow": WORKFLOW.key,
    "work_order_id": WORK_ORDER_ID.key,
    "correlation_id": CORRELATION_ID.key,
    "plan_id": PLAN_ID.key,
    "iteration": ITERATION.key,
    "phase": PHASE.key,
    "agent_id": AGENT_RUN_ID.key,
    "parent_agent_id": AGENT_PARENT_RUN_ID.key,
    "task_id": TASK_ID.key,
    "worker_id": WORKER_ID.key,
}


class Failure(msgspec.Struct, omit_defaults=True, frozen=True):
    """What went wrong: the class or code, where it was raised, and the message.

    The message of an exception can quote a prompt, so it is there only where the capture of
    content is on; a reason that the caller passes on purpose is always there, redacted and cut.
    """

    type: str
    message: str = ""
    where: str = ""


class ModelUse(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """What one model of a provider was used for: a part of its scope's usage and cost."""

    provider: str = ""
    model: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    unpriced: int = 0


class Signal(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A scope's start, progress or end, or a fact.

    `time` is nanoseconds since the epoch, `duration` seconds. `usage` and `cost` (USD) are the
    scope's own, without those of the scopes inside it, so that a sum over signals is the bill;
    `models` splits them by model;
    in a progress signal they are what was seen so far, and the end's replaces them.
    `scope_id` joins the signals of one scope; `id` is unique, so that a repeat counts once.
    """

    id: str
    kind: str
    edge: Edge
    time: int
    scope_id: str = ""
    parent_id: str = ""
    name: str = ""
    ids: Ids = msgspec.field(default_factory=Ids)
    trace_id: str = ""
    span_id: str = ""
    result: str = ""
    duration: float | None = None
    usage: Usage | None = None
    cost: float | None = None
    unpriced_tokens: int = 0
    models: list[ModelUse] = []
    error: Failure | None = None
    attributes: dict[str, Any] = {}
    pid: int = 0
    host: str = ""


def new_id() -> str:
    """Return a new id: UUID text, version 7, so that ids sort by the time they were made."""
    bits = getrandbits(74)
    milliseconds = time.time_ns() // 1_000_000
    version, variant = 0x7000 | bits >> 62, 1 << 63 | bits & (1 << 62) - 1
    text = f"{milliseconds:012x}{version:04x}{variant:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Numbers:
    """Signal ids: a random word for the process and a count. A forked child takes a new word."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.next = count(1).__next__
        self.process = f"{getrandbits(64):016x}"


_numbers = _Numbers()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_numbers.renew)


def signal_id() -> str:
    """Return an id for a signal, unique over processes and cheap enough for the hot path."""
    return f"{_numbers.process}-{_numbers.next():x}"


def event_name(signal: Signal) -> str:
    """Return a signal's name on the wire: `otelagents.<kind>.<edge>` or `otelagents.<fact>`."""
    if signal.edge == "fact":
        return f"{NAMESPACE}.{signal.kind}"
    return f"{NAMESPACE}.{signal.kind}.{signal.edge}"


_encoder = msgspec.json.Encoder(enc_hook=str)


def encode(value: Any) -> bytes:
    """Return a signal, or a part of one, as JSON, whatever text a host's name or id is."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_whole(msgspec.to_builtins(value, enc_hook=str)))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


_decoder = msgspec.json.Decoder(Signal)


def encode_line(signal: Signal) -> bytes:
    """Return a signal as one JSON line, line feed included."""
    return encode(signal) + b"\n"


def decode_line(line: bytes) -> Signal | None:
    """Return the signal of a JSON line; None where the line is torn or no signal.

    A crash can tear the last line of a file. Unknown fields are ignored, so that an older
    reader reads a newer file.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode_lines(lines: Iterable[bytes]) -> Iterator[Signal]:
    """Yield the signals of JSON lines, torn lines left out."""
    for line in lines:
        if line.strip() and (signal := decode_line(line)) is not None:
            yield signal


def attributes_of(signal: Signal) -> dict[str, Any]:
    """Return a signal as attributes of an OTLP log record.

    What people search by stands in attributes; the whole signal is one of them, as JSON, so that
    nothing is lost on the way. An attribute costs the SDK some 5 µs, and a signal has thirty.
    """
    ids = signal.ids
    found: dict[str, Any] = {SIGNAL.key: encode(signal).decode()}
    for field, key in STAMPED.items():
        value = getattr(ids, field)
        if value is not None:
            found[key] = value
    if ids.agent:
        found[AGENT_NAME.key] = ids.agent
    if signal.result:
        found[RESULT.key] = signal.result
    if signal.error is not None:
        found[ERROR_TYPE.key] = signal.error.type
    return found
