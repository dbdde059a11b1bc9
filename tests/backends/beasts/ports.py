"""A port of the zoo: what a backend can do wrong before a request is understood.

The port stays ours while nothing listens on it: a socket that is bound and never listens holds it,
so that a refused backend comes back at the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# What a port does by itself; under any other name it passes connections on.
PORT_BEASTS: Final = frozenset({"refused", "backlog", "blackhole", "slow-read", "plain"})
_PLAIN: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Port:
    """A port on loopback, with TLS where there are contexts for it."""

    def __init__(self, talk: Talk, contexts: dict[str, ssl.SSLContext] | None = None) -> None:
        self._talk = talk
        self._contexts = contexts or {}
        self._holder = _bound(0)
        self.number: int = self._holder.getsockname()[1]
        self._beast = "healthy"
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pending: list[socket.socket] = []
        self.connections = 0

    async def become(self, beast: str) -> None:
        """Cut all connections, and treat new ones as the beast does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        while self._pending:
            self._pending.pop().close()
        self.cut()
        self._beast = beast
        if beast == "refused":
            return
        if beast == "backlog":
            self._fill()
            return
        listening = _bound(self.number)
        if beast == "slow-read":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        context = self._contexts.get(beast, self._contexts.get("good"))
        if beast in PORT_BEASTS:
            context = None
        self._server = await asyncio.start_server(
            self._connected,
            sock=listening,
            ssl=context,
            limit=1 if beast == "slow-read" else 1 << 16,
        )

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._open):
            reset(writer)

    def _fill(self) -> None:
        """Listen, never accept, and let connections wait until a further one gets no answer."""
        listening = _bound(self.number)
        listening.listen(0)
        self._pending.append(listening)
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", self.number))
            self._pending.append(one)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # what clients of a zoo do
        finally:
            self._open.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._beast == "blackhole":
            while await reader.read(1 << 16):
                pass
        elif self._beast == "slow-read":
            while await reader.read(1):  # noqa: ASYNC110 - slow, not waiting
                await asyncio.sleep(1)
        elif self._beast == "plain":
            await reader.read(1)
            writer.write(_PLAIN)
            await writer.drain()
        else:
            await self._talk(reader, writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of an orderly close."""
    held = writer.get_extra_info("socket")
    if held is not None:
        with contextlib.suppress(OSError):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made
