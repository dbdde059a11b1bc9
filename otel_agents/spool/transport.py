"""One export request over HTTP or gRPC, bounded in time and in what is read, and what came of it.

A backend is not trusted: a reply is read up to 4 MiB (the OTLP specification's own bound for
clients), a redirect is not followed, and a request ends when its time is over, however slowly the
other side goes on.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
import zlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import requests

MAX_REPLY: Final = 4 << 20
# The codes that the OTLP specification lets a client retry.
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
# What one bad item among many can be the reason of.
_SPLITTABLE: Final = frozenset({400, 413, 422, 500})
_RETRYABLE_GRPC: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_SPLITTABLE_GRPC: Final = frozenset({"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"})
_MESSAGE: Final = 200  # characters of an answer that are shown


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


class HttpTransport:
    """OTLP/HTTP with protobuf bodies, by `requests`, with the settings of the exporter's session.

    A session that came with adapters of its own (for authentication, say) keeps them.
    """

    def __init__(
        self,
        endpoint: str,
        headers: dict[str, str],
        encoding: str,
        timeout: float,
        session: requests.Session,
        verify: Any,
        certificate: Any,
    ) -> None:
        from otel_agents.spool.watched import watched

        self._endpoint = endpoint
        self._timeout = timeout
        self._encoding = encoding
        self._session, self._sockets = watched(session)
        self._session.verify, self._session.cert = verify, certificate
        self._session.headers.update(headers)
        self._session.headers["Content-Type"] = "application/x-protobuf"
        self._session.headers["Accept-Encoding"] = "identity"
        if encoding in {"gzip", "deflate"}:
            self._session.headers["Content-Encoding"] = encoding
        else:
            self._session.headers.pop("Content-Encoding", None)

    def send(self, body: bytes) -> Outcome:
        """Send one request, and never raise."""
        if self._encoding == "gzip":
            body = gzip.compress(body, 3)
        elif self._encoding == "deflate":
            body = zlib.compress(body)
        # A time-out of the socket begins anew with each byte, so another thread ends what drags on.
        late = threading.Timer(self._timeout + 1, self._sockets.cut)
        late.daemon = True
        late.start()
        try:
            with self._session.post(
                self._endpoint,
                data=body,
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                return self._outcome(response)
        except Exception as error:  # noqa: BLE001 - whatever a backend can do to a client
            return Outcome(again=_may_pass(error), why=_short(error))
        finally:
            late.cancel()

    def _outcome(self, response: requests.Response) -> Outcome:
        code = response.status_code
        reply = self._reply(response)
        if 200 <= code < 300:  # noqa: PLR2004 - success, whatever the kind
            return Outcome(sent=True, rejected=rejected(reply))
        why = f"{code} {response.reason or ''}".strip()[:_MESSAGE]
        if code in _RETRYABLE:
            return Outcome(
                again=True, after=retry_after(response.headers.get("Retry-After")), why=why
            )
        return Outcome(split=code in _SPLITTABLE, why=why)

    def _reply(self, response: requests.Response) -> bytes:
        """Read the reply, as far as it is wanted; one that is longer has nothing to tell."""
        found = bytearray()
        ends = time.monotonic() + self._timeout
        with contextlib.suppress(Exception):  # the status has been told
            while len(found) <= MAX_REPLY and time.monotonic() < ends:
                # One `recv` at a time: a large read would wait for a slow sender to fill it.
                part = response.raw.read1(65536)
                if not part:
                    return bytes(found)
                found += part
        self._sockets.cut()  # rather than to read the rest
        return b""

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()


class GrpcTransport:
    """OTLP/gRPC: bodies are handed over as they are."""

    def __init__(
        self,
        endpoint: str,
        method: str,
        headers: tuple[Any, ...],
        credentials: Any,
        timeout: float,
        compression: Any,
        options: tuple[Any, ...],
    ) -> None:
        import grpc

        options = (
            *((name, value) for name, value in options if "max_receive" not in name),
            ("grpc.max_receive_message_length", MAX_REPLY),
            ("grpc.enable_retries", 0),
        )
        if credentials is None:
            self._channel = grpc.insecure_channel(endpoint, options, compression)
        else:
            self._channel = grpc.secure_channel(endpoint, credentials, options, compression)
        self._call: Any = self._channel.unary_unary(method)
        self._headers = headers
        self._timeout = timeout
        self._error = grpc.RpcError

    def send(self, body: bytes) -> Outcome:
        """Send one request, and never raise."""
        try:
            reply = self._call(body, timeout=self._timeout, metadata=self._headers)
        except self._error as error:
            return _refused(error)
        except Exception as error:  # noqa: BLE001 - a closed channel, say
            return Outcome(again=True, why=_short(error))
        return Outcome(sent=True, rejected=rejected(reply))

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()


def _refused(error: Any) -> Outcome:
    code = error.code().name
    why = f"{code} {error.details() or ''}".strip()[:_MESSAGE]
    after = _retry_info(error)
    if code in _RETRYABLE_GRPC or (code == "RESOURCE_EXHAUSTED" and after is not None):
        return Outcome(again=True, after=after, why=why)
    return Outcome(split=code in _SPLITTABLE_GRPC, why=why)


def _retry_info(error: Any) -> float | None:
    """Return the wait that a gRPC status asks for, from either place that servers put it."""
    with contextlib.suppress(Exception):
        from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
        from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

        found = dict(error.trailing_metadata() or ())
        info = RetryInfo()
        if (data := found.get("google.rpc.retryinfo-bin")) is not None:
            info.ParseFromString(data)
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        if (data := found.get("grpc-status-details-bin")) is not None:
            for detail in Status.FromString(data).details:
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def retry_after(text: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, as a number or a date (RFC 9110)."""
    if text is None:
        return None
    if text.strip().isdecimal() and text.isascii():
        return float(text) if len(text) < 10 else float("inf")  # noqa: PLR2004 - 30 years
    try:
        wanted = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, wanted - time.time())


def rejected(reply: bytes) -> int:
    """Return how many items a successful reply says were rejected (`partial_success`).

    The three replies have it at the same place; what cannot be read rejects nothing.
    """
    if not reply:
        return 0
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        told = ExportTraceServiceResponse.FromString(reply).partial_success.rejected_spans
    except Exception:  # noqa: BLE001 - a page in HTML, say
        return 0
    return max(0, told)


def _may_pass(error: Exception) -> bool:
    """Say whether a request that failed without an answer may succeed later.

    What cannot be sent at all, as a URL that is none, will fail for ever.
    """
    import requests

    return not isinstance(
        error,
        (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidHeader,
        ),
    )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_MESSAGE]
