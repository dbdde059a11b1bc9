"""Programs that tell of runs: what they sent, what was acknowledged, and the sending of it.

A request that is not acknowledged is sent again, byte for byte, as an SDK does. So one whose
acknowledgement was lost with the server comes twice.
"""

from __future__ import annotations

import gzip
import http.client
import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.receiver.decode import LOGS, TRACES
from otel_agents.signals import Ids, Signal, attributes_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import RUN_ID

from .served import HOST, PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.receiver.decode import Kind

    from .served import Served

NUMBER: Final = "chaos.number"
TEXT: Final = "chaos.text"
WORKFLOW: Final = "chaos"
SPANS: Final = 5  # a request
_LETTERS: Final = "abcxyz 0189 äß€ 東 😀 \"'\\<>&%\n"
_AGAIN_SECONDS: Final = 0.01
_GIVES_UP: Final = 0.1
_ANSWER_LATER: Final = frozenset({429, 502, 503, 504})
_CALL_LATER: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)


class Item(NamedTuple):
    """A span, a signal or a log record: its kind and number, and all that is to be read of it."""

    kind: str
    number: str
    told: tuple[Any, ...]


class Request(NamedTuple):
    """The bytes of a request, and what they hold."""

    kind: Kind
    body: bytes
    items: list[Item]


@dataclass
class Told:
    """What a client told of a run. It is whole when all of it was acknowledged."""

    tokens: int = 0
    ended: bool = False
    whole: bool = True


@dataclass
class Ledger:
    """What was sent and what was acknowledged, by kind and number.

    Attributes:
        issued: What is to be read of each thing that was sent.
        acked: What was acknowledged.
        moments: When that was, by the monotonic clock in nanoseconds, and what was with it.
        runs: The runs by their ids.
        requests: How many requests were acknowledged.
        repeated: How many were sent more than once.
        put_off: How often the server said "later".
        wrong: Answers that no client should get.

    """

    issued: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    acked: set[tuple[str, str]] = field(default_factory=set)
    moments: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)
    runs: dict[str, Told] = field(default_factory=dict)
    requests: int = 0
    repeated: int = 0
    put_off: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Ledger) -> None:
        """Take in what another one knows."""
        self.issued |= other.issued
        self.acked |= other.acked
        self.moments += other.moments
        self.runs |= other.runs
        self.requests += other.requests
        self.repeated += other.repeated
        self.put_off += other.put_off
        self.wrong += other.wrong


class Http:
    """OTLP over HTTP on a connection that is kept."""

    def __init__(self, port: int, *, packed: bool = False) -> None:
        self._port = port
        self._packed = packed
        self._connection: http.client.HTTPConnection | None = None

    def send(self, kind: Kind, body: bytes) -> int | str:
        """Return 200 where all was taken, another status or what was said; raises OSError."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(HOST, self._port, timeout=PATIENCE)
        headers = {"Content-Type": "application/x-protobuf"}
        if self._packed:
            body, headers["Content-Encoding"] = gzip.compress(body, 1, mtime=0), "gzip"
        try:
            self._connection.request("POST", kind.path, body, headers)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ConnectionError from error
        if answer.will_close:
            self.close()
        if answer.status == 200 and said:
            return f"200 with {said!r}"
        return answer.status

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Grpc:
    """OTLP over gRPC on one channel."""

    def __init__(self, port: int) -> None:
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channel = grpc.insecure_channel(f"{HOST}:{port}", options)
        self._calls: dict[str, Any] = {}

    def send(self, kind: Kind, body: bytes) -> int | str:
        """Return 200 where all was taken, another status or what was said; raises OSError."""
        call = self._calls.get(kind.method)
        if call is None:
            call = self._calls[kind.method] = self._channel.unary_unary(kind.method)
        try:
            said = call(body, timeout=PATIENCE)
        except grpc.RpcError as error:
            if error.code() in _CALL_LATER:
                raise ConnectionError from error
            return f"{error.code()}: {error.details()}"
        return f"OK with {said!r}" if said else 200

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class Teller:
    """Tells of runs, one after the other, in requests; the same number tells the same."""

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._random = Random(f"{seed} {name}")  # noqa: S311 - to be repeatable
        self._count = 0

    def requests(self, told: dict[str, Told]) -> Iterator[tuple[Told, Request]]:
        """Yield requests with the run they are of, for ever."""
        while True:
            run_id = f"{self._name}-{self._next()}"
            run = told[run_id] = Told()
            trace = self._random.randbytes(16)
            ids = Ids(run_id=run_id, workflow=WORKFLOW, agent="writer", agent_id=f"{run_id}-a")
            yield run, self._log_request(self._begin(ids))
            for _ in range(self._random.randint(2, 12)):
                yield run, self._trace_request(run_id, trace)
                run.tokens += 10
                yield run, self._log_request(self._go_on(ids, run.tokens))
            run.ended = True
            yield run, self._log_request(self._finish(ids, run.tokens))

    def _next(self) -> str:
        self._count += 1
        return f"{self._name}-{self._count:07d}"

    def _text(self) -> str:
        return "".join(self._random.choices(_LETTERS, k=self._random.randint(0, 60)))

    def _signal(self, kind: str, edge: Any, ids: Ids, scope: str, **more: Any) -> Signal:
        number = self._next()
        return Signal(
            id=number, kind=kind, edge=edge, ids=ids, time=time.time_ns(), name=self._text(),
            scope_id=f"{ids.run_id}-{scope}", attributes={NUMBER: number, TEXT: self._text()},
            **more,
        )  # fmt: skip

    def _begin(self, ids: Ids) -> list[Signal]:
        return [
            self._signal("run", "start", ids, "r"),
            self._signal("agent", "start", ids, "a", parent_id=f"{ids.run_id}-r"),
        ]

    def _go_on(self, ids: Ids, tokens: int) -> list[Signal]:
        return [
            self._signal("agent", "progress", ids, "a", usage=Usage(input_tokens=tokens)),
            self._signal("breaker", "fact", ids, "b"),
        ]

    def _finish(self, ids: Ids, tokens: int) -> list[Signal]:
        spent = Usage(input_tokens=tokens)
        return [
            self._signal("agent", "end", ids, "a", result="success", usage=spent),
            self._signal("run", "end", ids, "r", result="success"),
        ]

    def _trace_request(self, run_id: str, trace: bytes) -> Request:
        message = ExportTraceServiceRequest()
        inside = message.resource_spans.add().scope_spans.add()
        items = []
        for _ in range(SPANS):
            number, name, text = self._next(), self._text(), self._text()
            now = time.time_ns()
            span = inside.spans.add(
                trace_id=trace, span_id=self._random.randbytes(8), name=name,
                start_time_unix_nano=now - 1000, end_time_unix_nano=now,
            )  # fmt: skip
            for key, value in ((NUMBER, number), (TEXT, text), (RUN_ID.key, run_id)):
                span.attributes.add(key=key).value.string_value = value
            items.append(Item("span", number, (trace.hex(), span.span_id.hex(), name, text)))
        return Request(TRACES, message.SerializeToString(), items)

    def _log_request(self, signals: list[Signal]) -> Request:
        message = log_message(signals)
        items = []
        for signal in signals:
            usage = None if signal.usage is None else signal.usage.input_tokens
            told = (
                signal.ids.run_id, f"{signal.kind}.{signal.edge}".removesuffix(".fact"),
                signal.scope_id, signal.name, signal.attributes[TEXT], usage,
            )  # fmt: skip
            items.append(Item("signal", signal.id, told))
        number, text = self._next(), self._text()
        line = message.resource_logs[0].scope_logs[0].log_records.add(time_unix_nano=time.time_ns())
        line.body.string_value = text
        line.attributes.add(key=NUMBER).value.string_value = number
        items.append(Item("log", number, (text,)))
        return Request(LOGS, message.SerializeToString(), items)


def log_message(signals: list[Signal]) -> ExportLogsServiceRequest:
    """Return the request that tells signals."""
    message = ExportLogsServiceRequest()
    inside = message.resource_logs.add().scope_logs.add()
    for signal in signals:
        record = inside.log_records.add(time_unix_nano=signal.time)
        for key, value in attributes_of(signal).items():
            record.attributes.add(key=key).value.string_value = str(value)
    return message


class Client(threading.Thread):
    """A closed loop: the next request is made when the last one was acknowledged or given up.

    Attributes:
        alone: Set where its server is gone for good, so that it does not try for ever.

    """

    def __init__(self, name: str, seed: int, transport: Http | Grpc) -> None:
        super().__init__(daemon=True)
        self.ledger = Ledger()
        self._requests = Teller(name, seed).requests
        self._transport = transport
        self._random = Random(f"{seed} {name} gives up")  # noqa: S311
        self._ending = threading.Event()
        self.alone = threading.Event()

    def run(self) -> None:
        """Send until asked to end; what is under way then is sent to its end."""
        try:
            for told, request in self._requests(self.ledger.runs):
                if not self._deliver(request):
                    told.whole = False
                if self._ending.is_set() or self.ledger.wrong:
                    return
        finally:
            self._transport.close()

    def tell_one(self, seconds: float) -> Ledger:
        """Send one run from its begin to its end, in this thread; not for longer than so."""
        late = threading.Timer(seconds, self.alone.set)
        late.start()
        for told, request in self._requests(self.ledger.runs):
            told.whole = self._deliver(request)
            if told.ended or not told.whole:
                break
        late.cancel()
        self._transport.close()
        return self.ledger

    def _deliver(self, request: Request) -> bool:
        """Send a request until it is acknowledged; sometimes give up, as an SDK does in the end."""
        ledger = self.ledger
        keys = [(item.kind, item.number) for item in request.items]
        ledger.issued.update(zip(keys, (item.told for item in request.items), strict=True))
        failures = 0
        while True:
            try:
                said = self._transport.send(request.kind, request.body)
            except ConnectionError:
                failures += 1
                ledger.repeated += failures == 1
                unlucky = failures == 1 and self._random.random() < _GIVES_UP
                if unlucky or self.alone.is_set():
                    return False
            else:
                if said == 200:
                    ledger.moments.append((time.monotonic_ns(), keys))
                    ledger.acked.update(keys)
                    ledger.requests += 1
                    return True
                if said not in _ANSWER_LATER:
                    ledger.wrong.append(str(said))
                    return False
                ledger.put_off += 1
                if self.alone.is_set():
                    return False
            time.sleep(_AGAIN_SECONDS)

    def end(self) -> None:
        """Ask for the end."""
        self._ending.set()


class Load:
    """Clients of a server, while the context lasts."""

    def __init__(self, served: Served, seed: int, *, name: str = "c") -> None:
        transports: list[Http | Grpc] = [
            Http(served.otlp_http), Http(served.otlp_http), Http(served.otlp_http, packed=True),
            Grpc(served.otlp_grpc),
        ]  # fmt: skip
        self.clients = [
            Client(f"{name}{number}", seed, transport)
            for number, transport in enumerate(transports)
        ]

    def __enter__(self) -> Self:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.end()

    @property
    def acknowledged(self) -> int:
        """How many requests were, so far."""
        return sum(client.ledger.requests for client in self.clients)

    def finish(self) -> Ledger:
        """Have every client end what is under way; return what all of them know."""
        ledger = Ledger()
        for client in self.clients:
            client.end()
        for client in self.clients:
            client.join(PATIENCE)
            assert not client.is_alive(), "a client's request was not answered"
            ledger.add(client.ledger)
        return ledger


def some(load: Load, requests: int) -> None:
    """Wait until so many more requests are acknowledged."""
    enough = load.acknowledged + requests
    until(lambda: load.acknowledged >= enough, "acknowledgements")


def once(served: Served, seed: int, name: str = "fresh", seconds: float = PATIENCE) -> Ledger:
    """Send one run from its begin to its end, and return what was acknowledged."""
    return Client(name, seed, Http(served.otlp_http)).tell_one(seconds)
