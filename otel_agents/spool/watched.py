"""A session of `requests` whose connections can be cut by another thread."""

from __future__ import annotations

import contextlib
import socket
import weakref
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_COPIED: Final = ("auth", "proxies", "params", "trust_env")


class Sockets:
    """The connections of one session."""

    def __init__(self) -> None:
        self.open: weakref.WeakSet[Any] = weakref.WeakSet()

    def cut(self) -> None:
        """End whatever is being sent or read."""
        for connection in list(self.open):
            with contextlib.suppress(Exception):
                connection.sock.shutdown(socket.SHUT_RDWR)


def watched(session: requests.Session) -> tuple[requests.Session, Sockets]:
    """Return a new session with the settings of another, and its connections."""
    sockets = Sockets()
    made = requests.Session()
    for name in _COPIED:
        setattr(made, name, getattr(session, name))
    made.headers.update(session.headers)
    # Those of a backend are neither kept, which has no bound, nor sent back.
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for prefix in ("https://", "http://"):
        made.mount(prefix, _Adapter(sockets))
    for prefix, adapter in session.adapters.items():
        if type(adapter) is not HTTPAdapter:
            made.mount(prefix, adapter)
    return made, sockets


class _Adapter(HTTPAdapter):
    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        super().__init__(max_retries=0, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # whose connections are of their own kind
            self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        sockets = self._sockets

        class Plain(HTTPConnection):
            def connect(self) -> None:
                sockets.open.add(self)
                super().connect()

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                sockets.open.add(self)
                super().connect()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls: Any = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls: Any = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
