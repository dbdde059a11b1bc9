"""Where a request comes from: the host it names, and the page that sent it.

A page of a foreign site can make a browser send requests to this server, and can have its own
name lead to 127.0.0.1 (DNS rebinding). The Host header tells the second, Origin and
Sec-Fetch-Site the first.
"""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.datastructures import Headers

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_ORIGIN: Final = re.compile(r"https?://([^/?#@\s]+)")
WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def is_loopback(host: str) -> bool:
    """Say whether a name or address is this machine's own, seen from itself alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Hosts:
    """The names this server answers to.

    Bound to one address, these are loopback, that address, the machine's name and the `extra`
    ones. Bound to all addresses, it cannot know its names and answers to any: such a server has
    tokens, which a foreign page does not have and a browser does not add by itself.
    """

    def __init__(self, bound: str, extra: Iterable[str] = ()) -> None:
        self._names = {_plain(name) for name in extra if name}
        self._any = bound in WILDCARDS and not self._names
        if not is_loopback(bound):
            self._names |= {_plain(bound), socket.gethostname().lower()}

    def knows(self, host: str) -> bool:
        """Say whether the value of a Host header names this server."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = _plain(found[1])
        return self._any or is_loopback(name) or name in self._names


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def is_foreign(headers: Headers) -> bool:
    """Say whether the browser says that another site's page sent a request."""
    origin = headers.get("origin")
    if origin is not None and not same_origin(origin, headers.get("host", "")):
        return True
    return headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def is_own(headers: Headers) -> bool:
    """Say whether the browser says that a page of this server sent a request."""
    if is_foreign(headers):
        return False
    return "origin" in headers or headers.get("sec-fetch-site") == "same-origin"


def same_origin(origin: str, host: str) -> bool:
    """Say whether an Origin is the server that a Host header names, port included.

    The scheme is left aside: behind a proxy that ends TLS the page's is https and ours is not.
    """
    found = _ORIGIN.fullmatch(origin)
    return found is not None and bool(host) and found[1].lower() == host.lower()
