"""What another process's server tells, asked over HTTP: the same answers as the local store's.

The server may be anybody's: no redirect is followed, a reply is read up to a limit and up to a
deadline, and whatever goes wrong is one sentence.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from otel_agents.errors import (
    InvalidInputError,
    NotFoundError,
    OtelAgentsError,
    UnauthorizedError,
    UnavailableError,
)
from otel_agents.text import segment
from otel_agents.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.cli.remote_hitl import RemoteWaits
    from otel_agents.state.report import RunReport

MAX_REPLY: Final = 64 * 1024 * 1024
TIMEOUT_SECONDS: Final = 10.0  # of each wait for the server
DEADLINE_SECONDS: Final = 60.0  # of a whole reply
_CHUNK: Final = 1 << 16
_PORTS: Final = {"http": 80, "https": 443}
_OK, _REDIRECTS, _UNAUTHORIZED, _FORBIDDEN = 200, range(300, 400), 401, 403


class Remote:
    """Asks one server. Each answer is what the store's method of the same name returns.

    Args:
        url: Its address, `http://HOST:PORT` or with `https`; a path in front of `/api` may follow.
        token: Sent as a bearer token, where there is one.

    Raises:
        InvalidInputError: The address is none.

    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
        except ValueError:
            host = port = None
        if (
            not host or port is None or parts.query or parts.fragment or parts.username is not None
            or not self.url.isascii() or not self.url.isprintable() or " " in self.url
        ):  # fmt: skip
            message = f"{url!r} is not the address of a server: write it as http://HOST:PORT."
            raise InvalidInputError(message, parameter="server")
        self._secure, self._host, self._port, self._path = (
            parts.scheme == "https", host, port, parts.path,
        )  # fmt: skip

    # ------------------------------------------------------------------ what can be asked

    def runs(self, *, cursor: str | None = None, limit: int = 50) -> Any:
        """Return runs, the latest first."""
        return self.get("/api/runs", {"cursor": cursor, "limit": limit})

    def report(self, run_id: str | None = None) -> RunReport:
        """Return how a run stands, of the latest run by default."""
        from otel_agents.state.report import RunReport

        data = self.get(f"/api/runs/{segment(run_id or 'latest')}/report")
        try:
            return msgspec.convert(data, RunReport)
        except msgspec.ValidationError as error:
            what = f"a report it sends cannot be read: {error}"
            raise self.foreign(what) from error

    def agents(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        run_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Any:
        """Return attempts of agents, the latest first."""
        given = {"status": status, "name": name, "run_id": run_id}
        return self.get("/api/agents", {**given, "cursor": cursor, "limit": limit})

    def agent(self, agent_id: str) -> Any:
        """Return one attempt of an agent."""
        return self.get(f"/api/agents/{segment(agent_id)}")

    def telemetry(self, agent_id: str) -> Any:
        """Return what an attempt of an agent used and cost."""
        return self.get(f"/api/agents/{segment(agent_id)}/telemetry")

    def logs(
        self, *, agent_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Any:
        """Return log records, the latest first."""
        path = "/api/logs" if agent_id is None else f"/api/agents/{segment(agent_id)}/logs"
        return self.get(path, {"cursor": cursor, "limit": limit})

    def runtime_events(
        self,
        *,
        layer: str | None = None,
        reason_code: str | None = None,
        entity_id: str | None = None,
        task_id: str | None = None,
        since: str | None = None,
        until: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Any:
        """Return runtime events, the latest first."""
        named = {"reasonCode": reason_code, "entityId": entity_id, "taskId": task_id}
        given = {"layer": layer, **named, "from": since, "to": until}
        path = "/api/admin/runtime/events"
        return self.get(path, {**given, "cursor": cursor, "limit": limit})

    def verify(self) -> Any:
        """Return what is healthy and what is not."""
        return self.get("/api/admin/runtime/verify")

    def alerts(
        self, *, status: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Any:
        """Return alerts, the last to begin first."""
        return self.get("/api/alerts", {"status": status, "cursor": cursor, "limit": limit})

    def run(self, run_id: str) -> Any:
        """Return a run in full."""
        return self.get(f"/api/runs/{segment(run_id)}")

    def feed(self, after: int, limit: int = 500, run_id: str | None = None) -> Any:
        """Return the signals stored after a number, in the order they were."""
        given = {"after": after, "limit": limit, "run_id": run_id}
        return self.get("/api/events", given)["items"]

    def kpis(self, run_id: str) -> Any:
        """Return the KPIs of a run as the API answers them."""
        return self.get("/api/kpis", {"run_id": run_id})

    @property
    def hitl(self) -> RemoteWaits:
        """Who waits for a human."""
        from otel_agents.cli.remote_hitl import RemoteWaits

        return RemoteWaits(self)

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""

    # ------------------------------------------------------------------ how it is asked

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return the data of an answer.

        Raises:
            NotFoundError: The server knows no such thing.
            InvalidInputError: It cannot use a parameter.
            UnauthorizedError: It wants a token, or another one.
            UnavailableError: It does not answer, or not as a server of ours does.

        """
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        target = path + (f"?{urlencode(given)}" if given else "")
        return self.data(*self._exchange("GET", target))

    def post(self, path: str, body: Any) -> tuple[int, bytes]:
        """Send JSON; return the status and body of the answer."""
        return self._exchange("POST", path, msgspec.json.encode(body))

    @property
    def has_token(self) -> bool:
        """Whether a token is sent."""
        return bool(self._token)

    def data(self, status: int, body: bytes) -> Any:
        """Return the data of an answer, or raise what it says, as `get` does."""
        if status in _REDIRECTS:
            what = f"it sends us elsewhere ({status}), which is not followed"
            raise self.foreign(what)
        try:
            data, error = _opened(body)
        except ValueError as problem:
            raise self._refused(status) from problem
        if status == _OK and error is None:
            return data
        raise self._refused(status, error if isinstance(error, dict) else {})

    def refusal(self, status: int, body: bytes) -> OtelAgentsError:
        """Return what a refused request is to be told as."""
        try:
            _, error = _opened(body)
        except ValueError:
            error = None
        return self._refused(status, error if isinstance(error, dict) else None)

    def unanswered(self, error: Exception) -> UnavailableError:
        """Return the error of a server that cannot be reached."""
        return UnavailableError(
            f"The server at {self.url} does not answer ({_why(error)}): "
            "is `otel-agents serve` running there?"
        )

    def socket_at(self, path: str, query: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return the address of a WebSocket there, and the headers to ask for it with."""
        query_text = f"?{urlencode(query)}" if query else ""
        address = f"{'wss' if self._secure else 'ws'}{self.url[self.url.index(':') :]}{path}"
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return address + query_text, headers

    def _exchange(
        self, method: str, target: str, content: bytes | None = None
    ) -> tuple[int, bytes]:
        headers = {
            "Accept": "application/json",
            "Connection": "close",
            "User-Agent": f"otel-agents/{__version__}",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + DEADLINE_SECONDS
        connection = self._connection()
        try:
            connection.request(method, self._path + target, content, headers)
            reply = connection.getresponse()
            body = bytearray()
            while chunk := reply.read1(_CHUNK):
                body += chunk
                if len(body) > MAX_REPLY or time.monotonic() > deadline:
                    most = f"{MAX_REPLY >> 20} MiB or {DEADLINE_SECONDS:.0f} s"
                    what = f"its reply takes more than {most}"
                    raise self.foreign(what)
            return reply.status, bytes(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unanswered(error) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(
                self._host,
                self._port,
                timeout=TIMEOUT_SECONDS,
                context=ssl.create_default_context(),
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)

    def _refused(self, status: int, error: Mapping[str, Any] | None = None) -> OtelAgentsError:
        if status == _UNAUTHORIZED:
            had = "another token than the one given" if self._token else "a token"
            return UnauthorizedError(
                f"The server at {self.url} wants {had}: set OTEL_AGENTS_TOKEN, "
                "or OTEL_AGENTS_VIEWER_TOKEN to read only."
            )
        if status == _FORBIDDEN:
            return UnauthorizedError(
                f"The server at {self.url} does not let this token ask for that: "
                "set OTEL_AGENTS_TOKEN to the token of an admin."
            )
        if error is None or not isinstance(error.get("message"), str):
            return self.foreign(f"status {status}, and no envelope")
        message, code, details = error["message"], error.get("code"), error.get("details")
        if code == "not_found":
            return NotFoundError(message)
        if code == "invalid_input":
            parameter = details.get("parameter") if isinstance(details, dict) else None
            return InvalidInputError(message, parameter=str(parameter or ""))
        return UnavailableError(message)

    def foreign(self, what: str) -> UnavailableError:
        """Return the error of an answer that no server of ours gives."""
        return UnavailableError(
            f"What answers at {self.url} is no otel-agents server, or another version: {what}."
        )


def _opened(body: bytes) -> tuple[Any, Any]:
    """Return the data and the error of an envelope; raise ValueError where it is none."""
    try:
        answer = msgspec.json.decode(body)
        return answer["data"], answer["error"]
    except (msgspec.DecodeError, TypeError, KeyError, RecursionError) as problem:
        message = "no envelope"
        raise ValueError(message) from problem


def _why(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it hung up"
    return str(error) or type(error).__name__
