"""Who may send: a bearer token, compared in constant time."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # Headers, or gRPC's metadata, by their names in lower case.
    Authorize = Callable[[Mapping[str, str]], bool]


def bearer(*tokens: str) -> Authorize:
    """Return a check that a request bears one of some tokens; without any token all may send."""
    known = [token.encode() for token in tokens if token]

    def authorize(headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        # Every token is compared, so that the time tells nothing of which one it was.
        equal = [hmac.compare_digest(sent, token) for token in known]
        return not known or (scheme.lower() == "bearer" and any(equal))

    return authorize
