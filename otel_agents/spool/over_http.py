"""OTLP/HTTP with protobuf bodies."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
import zlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from otel_agents.spool.transport import MAX_REPLY, MESSAGE, Outcome, rejected, short
from otel_agents.spool.watched import watched

if TYPE_CHECKING:
    import requests

# The codes that the OTLP specification lets a client retry.
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
# What one bad item among many can be the reason of.
_SPLITTABLE: Final = frozenset({400, 413, 422, 500})
# The status has come: what else there is to tell comes at once, or it is not worth a wait.
_REPLY_SECONDS: Final = 2.0


class HttpTransport:
    """Sends by `requests`, with the settings of the exporter's session.

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
        self._endpoint = endpoint
        self._timeout = timeout
        self._encoding = encoding
        self._session, self._sockets = watched(session)
        self._verify, self._certificate = verify, certificate
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
                # Given here, since bundles that the environment names beat those of a session.
                verify=self._verify,
                cert=self._certificate,
            ) as response:
                return self._outcome(response)
        except Exception as error:  # noqa: BLE001 - whatever a backend can do to a client
            return Outcome(again=True, why=short(error))  # no backend has refused it
        finally:
            late.cancel()

    def _outcome(self, response: requests.Response) -> Outcome:
        code = response.status_code
        reply = self._reply(response)
        if 200 <= code < 300:  # noqa: PLR2004 - success, whatever the kind
            return Outcome(sent=True, rejected=rejected(reply))
        why = f"{code} {response.reason or ''}".strip()[:MESSAGE]
        if code in _RETRYABLE:
            return Outcome(
                again=True, after=retry_after(response.headers.get("Retry-After")), why=why
            )
        return Outcome(split=code in _SPLITTABLE, why=why)

    def _reply(self, response: requests.Response) -> bytes:
        """Read the reply, as far as it is wanted; one that is longer has nothing to tell."""
        found = bytearray()
        ends = time.monotonic() + min(self._timeout, _REPLY_SECONDS)
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
