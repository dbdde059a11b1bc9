"""Answers that say what is wrong: `google.rpc.Status`, in protobuf, in JSON and in gRPC's trailer.

OTLP asks for one in the body of every answer of 400 and above. It names what a client may retry:
429, 502, 503 and 504 over HTTP, and `UNAVAILABLE` over gRPC, where `RetryInfo` says when.
"""

from __future__ import annotations

from typing import Final

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otel_agents.receiver.limits import RETRY_SECONDS

INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

_TYPE: Final = "type.googleapis.com/"


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is turned away.

    Attributes:
        http: The status of the answer over HTTP.
        code: The status over gRPC.
        message: What is wrong, for people.
        retry_after: Seconds after which to try again; None where trying again does not help.
        headers: Headers that the answer has besides.

    """

    def __init__(
        self,
        http: int,
        code: int,
        message: str,
        *,
        retry_after: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.headers = headers

    def status(self) -> Status:
        """Return the refusal as a status message."""
        found = Status(code=self.code, message=self.message)
        if self.http == 400:  # noqa: PLR2004 - the specification's own word for undecodable
            bad = BadRequest(field_violations=[BadRequest.FieldViolation(description=self.message)])
            _pack(found, bad)
        if self.retry_after is not None:
            info = RetryInfo()
            info.retry_delay.seconds = self.retry_after
            _pack(found, info)
        return found

    def as_json(self) -> bytes:
        """Return the refusal as the JSON of a status message."""
        details: list[dict[str, object]] = []
        if self.http == 400:  # noqa: PLR2004
            details.append(
                {
                    "@type": _TYPE + BadRequest.DESCRIPTOR.full_name,
                    "fieldViolations": [{"description": self.message}],
                }
            )
        if self.retry_after is not None:
            details.append(
                {
                    "@type": _TYPE + RetryInfo.DESCRIPTOR.full_name,
                    "retryDelay": f"{self.retry_after}s",
                }
            )
        return msgspec.json.encode({"code": self.code, "message": self.message, "details": details})


def _pack(status: Status, detail: BadRequest | RetryInfo) -> None:
    status.details.append(
        AnyMessage(type_url=_TYPE + detail.DESCRIPTOR.full_name, value=detail.SerializeToString())
    )


def undecodable(why: str) -> Refusal:
    """Return the refusal of a request that cannot be read."""
    return Refusal(400, INVALID_ARGUMENT, why)


def too_large(why: str) -> Refusal:
    """Return the refusal of a request that is larger than a limit. Sending it again is no use."""
    return Refusal(413, RESOURCE_EXHAUSTED, why)


def busy(why: str, retry_after: float | None = None) -> Refusal:
    """Return the refusal of a request that may be sent again after `retry_after` seconds."""
    seconds = max(1, round(RETRY_SECONDS if retry_after is None else retry_after))
    return Refusal(
        503,
        UNAVAILABLE,
        why,
        retry_after=seconds,
        headers=((b"retry-after", str(seconds).encode()),),
    )


def unauthorized() -> Refusal:
    """Return the refusal of a request without a token that may send."""
    return Refusal(
        401,
        UNAUTHENTICATED,
        "A bearer token that may send telemetry is required.",
        headers=((b"www-authenticate", b'Bearer realm="otel-agents"'),),
    )
