"""Who is asking: bearer tokens, the console's session, and a limit on guessing.

Tokens are compared as digests, all of them each time, so that neither their number nor how much
of one was right shows in the time taken.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# `anyone` is the caller of a server without any token; it is never given beyond loopback.
Role = Literal["admin", "viewer", "ingest", "anyone"]

SESSION_SECONDS: Final = 12 * 3600
GUESSES: Final = 20
GUESS_SECONDS: Final = 60.0
_CLIENTS: Final = 1024
_REVOKED: Final = 1024
_LONGEST: Final = 4096

READERS: Final[frozenset[str | None]] = frozenset({"admin", "viewer", "anyone"})
ADMINS: Final[frozenset[str | None]] = frozenset({"admin", "anyone"})
SENDERS: Final[frozenset[str | None]] = frozenset({"admin", "ingest", "anyone"})


class Tokens:
    """The configured tokens, and what each of them allows."""

    def __init__(self, by_role: Mapping[Role, str | None]) -> None:
        self._digests = [
            (role, _digest(token)) for role, token in by_role.items() if token is not None
        ]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def role(self, token: str) -> Role | None:
        """Return what a token is for, or None where it is none of ours."""
        given = _digest(token[:_LONGEST])
        found: Role | None = None
        for role, digest in self._digests:
            if hmac.compare_digest(given, digest) and found is None:
                found = role
        return found

    def secret(self) -> bytes:
        """Return a key that changes with the tokens, too slow to compute to guess them from it."""
        both = b"".join(digest for _, digest in self._digests)
        return hashlib.scrypt(both, salt=b"otel-agents console", n=1 << 14, r=8, p=1)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Sessions:
    """The console's sessions: `role.expiry.nonce.digest`, the digest keyed by the tokens.

    A cookie reaches every server on the same host, whatever its port, so it never holds a token.
    Nothing is stored: a session outlives a restart, and ends when it expires, when the tokens
    change, or when it is given up, which this process remembers.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._revoked: OrderedDict[str, None] = OrderedDict()

    def issue(self, role: Role) -> str:
        """Return a new session."""
        expiry = int(self._clock()) + SESSION_SECONDS
        said = f"{role}.{expiry}.{secrets.token_hex(8)}"
        return f"{said}.{self._sign(said)}"

    def role(self, session: str) -> Role | None:
        """Return whose session it is, or None where it is not valid."""
        said, _, signature = session.rpartition(".")
        # `compare_digest` takes text only where it is ASCII.
        if not hmac.compare_digest(signature.encode(), self._sign(said).encode()):
            return None
        role, expiry, _nonce = said.split(".")
        if int(expiry) <= self._clock() or session in self._revoked:
            return None
        return "admin" if role == "admin" else "viewer" if role == "viewer" else None

    def revoke(self, session: str) -> None:
        """Make a session worthless."""
        if self.role(session) is not None:
            self._revoked[session] = None
            while len(self._revoked) > _REVOKED:
                self._revoked.popitem(last=False)

    def _sign(self, said: str) -> str:
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()


class Guesses:
    """How often a client gave a wrong token lately. Memory is bounded, whatever the clients."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Return the seconds a client has to wait before a token of its is looked at; 0 is now."""
        times = self._wrong.get(client)
        if times is None or len(times) < GUESSES:
            return 0.0
        return max(0.0, times[0] + GUESS_SECONDS - self._clock())

    def wrong(self, client: str) -> None:
        """Count a wrong token."""
        times = self._wrong.setdefault(client, deque(maxlen=GUESSES))
        times.append(self._clock())
        self._wrong.move_to_end(client)
        while len(self._wrong) > _CLIENTS:
            self._wrong.popitem(last=False)
