"""Serve until standard input ends: orders come as JSON lines, each is answered by one.

`{"do": "become", "beast": NAME}`, `{"do": "seen"}`, `{"do": "counts"}`, `{"do": "canary"}`,
`{"do": "forget"}`. The first line out says the ports and the authority's file.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from .certificates import Certificates
from .http import HttpTalk, prepare
from .ports import Port
from .rpc import Rpc
from .seen import Seen


class Canary:
    """The server that nobody may be sent to: it keeps whatever reaches it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep the head of a request and say that all is well."""
        self.heard.append("a connection")
        self.heard[-1] = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()


class Zoo:
    """Two ports with the same beast behind them, one for each protocol, and the canary's."""

    def __init__(self, directory: Path, *, tls: bool) -> None:
        self.seen = Seen()
        self.canary = Canary()
        self._canary_port = Port(self.canary.talk)
        self._http_talk = HttpTalk(self.seen)
        self._http_talk.canary = f"http://127.0.0.1:{self._canary_port.number}"
        loop = asyncio.get_running_loop()
        self.rpc = Rpc(self.seen, lambda: loop.call_soon_threadsafe(self._rpc.cut))
        self.authority = ""
        contexts = {}
        if tls:
            certificates = Certificates(directory)
            self.authority = str(certificates.authority)
            contexts = certificates.contexts
        self._http = Port(self._http_talk, contexts)
        self._rpc = Port(self.rpc.talk, contexts)

    def described(self) -> dict[str, Any]:
        """Return what a client has to know."""
        return {
            "http": self._http.number, "grpc": self._rpc.number,
            "canary": self._canary_port.number, "authority": self.authority,
        }  # fmt: skip

    async def become(self, beast: str) -> None:
        """Change what is behind the ports."""
        prepare(beast)
        self._http_talk.beast = beast
        self.rpc.become(beast)
        for port in (self._http, self._rpc):
            await port.become(beast)
        await self._canary_port.become("healthy")

    async def obey(self, order: dict[str, Any]) -> Any:
        """Do as an order says and return the answer."""
        if order["do"] == "become":
            await self.become(order["beast"])
        elif order["do"] == "forget":
            self.seen.forget()
            self.canary.heard.clear()
        elif order["do"] == "canary":
            return self.canary.heard
        elif order["do"] == "connections":
            return {"http": self._http.connections, "grpc": self._rpc.connections}
        elif order["do"] == "counts":
            return self.seen.counts()
        elif order["do"] == "seen":
            return self.seen.told()
        return {}


async def main(directory: Path, *, tls: bool) -> None:
    """Serve."""
    zoo = Zoo(directory, tls=tls)
    await zoo.become("healthy")
    loop = asyncio.get_running_loop()
    answer: Any = zoo.described()
    while True:
        print(json.dumps(answer), flush=True)  # noqa: T201 - how it is spoken to
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            break
        answer = await zoo.obey(json.loads(line))
    loop.set_exception_handler(lambda *_: None)  # of those that were about to answer
    zoo.rpc.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), tls=len(sys.argv) > 2))
