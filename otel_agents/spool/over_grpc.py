"""OTLP/gRPC: bodies are handed over as they are."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otel_agents.spool.transport import MAX_REPLY, MESSAGE, Outcome, rejected, short

_RETRYABLE: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_SPLITTABLE: Final = frozenset({"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"})


class GrpcTransport:
    """Sends by a channel made with the settings of the exporter's."""

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

    def send(self, body: bytes) -> Outcome:
        """Send one request, and never raise."""
        try:
            reply = self._call(body, timeout=self._timeout, metadata=self._headers)
        except grpc.RpcError as error:
            if _reply_too_long(error, len(body)):
                return Outcome(sent=True)
            return _refused(error)
        except Exception as error:  # noqa: BLE001 - a closed channel, say
            return Outcome(again=True, why=short(error))
        return Outcome(sent=True, rejected=rejected(reply))

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()


def _reply_too_long(error: Any, sent: int) -> bool:
    """Say whether a request was taken, and only the reply was longer than we read.

    gRPC has the same status for a request that the server finds too long; the texts differ, and
    the sizes in them.
    """
    told = error.details() or ""
    if error.code().name != "RESOURCE_EXHAUSTED" or "larger than max" not in told:
        return False
    if "Decompressed message" in told:
        return sent <= MAX_REPLY  # which every server takes
    sizes = re.search(r"\((\d+) vs\. (\d+)\)", told)
    return sizes is not None and int(sizes[2]) == MAX_REPLY and int(sizes[1]) != sent


def _refused(error: Any) -> Outcome:
    code = error.code().name
    why = f"{code} {error.details() or ''}".strip()[:MESSAGE]
    after = _retry_info(error)
    if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and after is not None):
        return Outcome(again=True, after=after, why=why)
    return Outcome(split=code in _SPLITTABLE, why=why)


def _retry_info(error: Any) -> float | None:
    """Return the wait that a gRPC status asks for, from either place that servers put it."""
    with contextlib.suppress(Exception):
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
