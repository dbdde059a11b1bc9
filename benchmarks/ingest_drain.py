"""A backend for the collector: it takes every request and keeps nothing but their number.

`GET /` tells how many came. It reads no more of HTTP than the collector writes, so that it costs
next to nothing beside what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
_taken = {"requests": 0, "bytes": 0}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b""
            if head.startswith(b"GET"):
                body = json.dumps(_taken).encode()
            else:
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                _taken["requests"] += 1
                _taken["bytes"] += length
            writer.write(_HEAD % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
