"""What a caller may do: roles by request, the cookie session, and refusals with their reasons.

    method and path                    needs
    health, sign-in, static files      nothing
    POST /api/alerts                   a token that sends, or a server without tokens
    any other method that changes      the admin's token
    /api/admin/…, /admin/…             the admin's token, or a server without tokens
    everything else                    a viewer's or the admin's token, or no tokens at all

What is not named here needs to be allowed to read, so a new route is guarded from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.requests import cookie_parser

from otel_agents.errors import SettingsError
from otel_agents.server.origins import Hosts, is_foreign, is_loopback, is_own, same_origin
from otel_agents.server.tokens import (
    ADMINS,
    READERS,
    SENDERS,
    SESSION_SECONDS,
    Guesses,
    Role,
    Sessions,
    Tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.datastructures import Headers

    from otel_agents.settings import Settings

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE: Final = "otel_agents_session"
_PUBLIC: Final = frozenset({"/healthz", "/readyz", "/login", "/favicon.ico"})
_PUBLIC_BELOW: Final = "/static/"
_ADMIN_BELOW: Final = ("/api/admin", "/admin")
# Signing in and out changes nothing but the browser's own cookie.
_SIGNING: Final = frozenset({"/login", "/logout"})
# What senders bring to the console's port; telemetry has ports of its own.
_SENT: Final = frozenset({("POST", "/api/alerts")})


class Caller(NamedTuple):
    """Who is asking: the role, or None, and whether a token was given that is none of ours."""

    role: Role | None
    wrong: bool = False

    @property
    def reads(self) -> bool:
        """Whether the caller may see runs, agents, traces and the live feed."""
        return self.role in READERS

    @property
    def sends(self) -> bool:
        """Whether the caller may bring telemetry and alerts."""
        return self.role in SENDERS

    @property
    def administers(self) -> bool:
        """Whether the caller may see the runtime's state."""
        return self.role in ADMINS

    @property
    def changes(self) -> bool:
        """Whether the caller may delete."""
        return self.role == "admin"


class RefusedError(Exception):
    """A request that is not answered: the HTTP status, and a sentence that says why.

    `retry_after` is seconds, for 429.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Guard:
    """The tokens, names and sessions of one server.

    Args:
        settings: Where the tokens are.
        host: The name or address that is bound.
        hosts: More names that clients reach the server by.
        tls: Whether the console speaks TLS: its cookie then travels by TLS only.

    Raises:
        SettingsError: The address can be reached from elsewhere, and there is no token.

    """

    def __init__(
        self, settings: Settings, host: str, hosts: Iterable[str] = (), *, tls: bool = False
    ) -> None:
        self._tokens = Tokens(
            {
                "admin": settings.token,
                "viewer": settings.viewer_token,
                "ingest": settings.ingest_token,
            }
        )
        if not self._tokens and not is_loopback(host):
            message = (
                f"{host or 'all addresses'} can be reached from other machines: set "
                "OTEL_AGENTS_TOKEN before the server listens there, or listen on 127.0.0.1"
            )
            raise SettingsError(message)
        self.hosts = Hosts(host, hosts)
        self._tls = tls
        self._sessions = Sessions(self._tokens.secret()) if self._tokens else None
        self.guesses = Guesses()
        # Where telemetry is taken; a program that finds the console's port taken sends it there.
        self.otlp_http: str | None = None

    @property
    def open(self) -> bool:
        """Whether there are no tokens: anyone on this machine may read and send."""
        return not self._tokens

    # ------------------------------------------------------------------ who

    def caller(self, headers: Headers, client: str) -> Caller:
        """Return who sends a request, by its bearer token or else by its session.

        Raises:
            RefusedError: 429, after too many wrong tokens from this client.

        """
        token = bearer(headers.get("authorization"))
        if token is not None:
            return self.caller_of(token, client)
        if self._sessions is None:
            return Caller("anyone")
        session = session_of(headers)
        return Caller(None if session is None else self._sessions.role(session))

    def caller_of(self, token: str, client: str) -> Caller:
        """Return who has a token. A server without tokens does not mind being given one."""
        if self.open:
            return Caller("anyone")
        wait = self.guesses.wait(client)
        if wait > 0:
            message = "Too many wrong tokens came from this address; try again later."
            raise RefusedError(429, message, retry_after=wait)
        role = self._tokens.role(token)
        if role is None:
            self.guesses.wrong(client)
        return Caller(role, wrong=role is None)

    def may_send(self, headers: Mapping[str, str]) -> bool:
        """Say whether a request may bring telemetry, by its headers or gRPC metadata.

        Without tokens a browser could be led here by a foreign page, so that one is turned away.
        """
        if self.open:
            host, origin = headers.get("host"), headers.get("origin")
            if host is not None and not self.hosts.knows(host):
                return False
            return origin is None or same_origin(origin, host or "")
        token = bearer(headers.get("authorization"))
        return token is not None and self._tokens.role(token) in SENDERS

    # ------------------------------------------------------------------ what

    def admit(self, method: str, path: str, headers: Headers, client: str) -> Caller:
        """Return who sends a request that may be answered.

        Raises:
            RefusedError: It may not: 401 without a valid token, 403 with one that is not enough
                or from a foreign page, 421 for a host that is not this server, 429 for guessing.

        """
        self.check_host(headers)
        if method not in SAFE:
            self._check_origin(headers, sent=(method, path) in _SENT)
        caller = self.caller(headers, client)
        self._check_role(caller, method, path)
        return caller

    def check_host(self, headers: Headers) -> None:
        """Refuse a request to a name that is not this server's."""
        if not self.hosts.knows(headers.get("host", "")):
            raise RefusedError(421, "This server does not answer to the host that is asked for.")

    def _check_origin(self, headers: Headers, *, sent: bool) -> None:
        """Refuse what a foreign page may have made a browser send."""
        if is_foreign(headers):
            raise RefusedError(403, "A page of another site may not change anything here.")
        if sent and self.open:
            return  # a program on this machine; a browser names the page that sends
        if not is_own(headers) and bearer(headers.get("authorization")) is None:
            raise RefusedError(403, "To change something, send a bearer token.")

    def _check_role(self, caller: Caller, method: str, path: str) -> None:
        if (method, path) in _SENT:
            self._demand(caller, caller.sends or self.open, "a token that sends, or the admin's")
        elif method not in SAFE:
            if self.open:
                raise RefusedError(403, "Nothing can be changed while no OTEL_AGENTS_TOKEN is set.")
            if path in _SIGNING:
                return
            self._demand(caller, caller.changes, "the admin's token")
        elif path in _PUBLIC or path.startswith(_PUBLIC_BELOW):
            return
        elif path.startswith(_ADMIN_BELOW):
            self._demand(caller, caller.administers, "the admin's token")
        else:
            self._demand(caller, caller.reads, "a viewer's token or the admin's")

    def _demand(self, caller: Caller, enough: bool, what: str) -> None:
        if enough:
            return
        if caller.role is not None:
            raise RefusedError(403, f"This needs {what}.")
        if caller.wrong:
            raise RefusedError(401, "The token is not valid.")
        raise RefusedError(401, f"This needs {what}, as `Authorization: Bearer TOKEN`.")

    # ------------------------------------------------------------------ sessions

    def sign_in(self, token: str, client: str) -> str | None:
        """Return the Set-Cookie of a new session, or None where the token reads nothing."""
        caller = self.caller_of(token, client)
        if self._sessions is None or caller.role is None or not caller.reads:
            return None
        return self._cookie(self._sessions.issue(caller.role), SESSION_SECONDS)

    def sign_out(self, headers: Headers) -> str:
        """End the session of a request; return the Set-Cookie that makes a browser forget it."""
        session = session_of(headers)
        if self._sessions is not None and session is not None:
            self._sessions.revoke(session)
        return self._cookie("", 0)

    def _cookie(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self._tls else ""
        return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def bearer(authorization: str | None) -> str | None:
    """Return the token of an Authorization header; "" where it holds something else."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def session_of(headers: Headers) -> str | None:
    """Return the session in a request's cookies."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)
