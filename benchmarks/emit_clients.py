"""Clients of the event stream in a process of their own: when each message came.

    python emit_clients.py ADDRESS CLIENTS

The sockets are read bare, and the time is taken before anything is looked at, so that a hundred
clients on the machine of the server are no more work for it than they must be.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time
from typing import Final
from urllib.parse import urlsplit

_SENT: Final = re.compile(rb'"sent":(\d+)')
_QUIET_SECONDS: Final = 1.0


def _open(host: str, port: int) -> socket.socket:
    """Open a WebSocket for `format=events`, and wait until it has its place in the stream."""
    one = socket.create_connection((host, port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(
        f"GET /ws?format=events HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    _read(one, b"\r\n\r\n")
    ping = b'{"type": "ping"}'
    one.sendall(bytes([0x81, 0x80 | len(ping), 0, 0, 0, 0]) + ping)
    _read(one, b'"pong"')
    return one


def _read(one: socket.socket, end: bytes) -> None:
    said = b""
    while end not in said:
        data = one.recv(4096)
        if not data:
            sys.exit(f"the server ended a connection after {said!r}")
        said += data


def main() -> None:
    """Open clients, say so, take until nothing comes, and print each delay in nanoseconds."""
    where = urlsplit(sys.argv[1])
    assert where.hostname is not None
    assert where.port is not None
    selector = selectors.DefaultSelector()
    rest: dict[socket.socket, bytes] = {}
    for _ in range(int(sys.argv[2])):
        one = _open(where.hostname, where.port)
        rest[one] = b""
        selector.register(one, selectors.EVENT_READ, one)
    print("ready", flush=True)
    delays: list[int] = []
    patience = 60.0
    while ready := selector.select(patience):
        for key, _ in ready:
            one = key.data
            data = one.recv(1 << 16)
            now = time.time_ns()
            if not data:
                selector.unregister(one)
                continue
            data = rest[one] + data
            end = 0
            for found in _SENT.finditer(data):
                if found.end() < len(data):  # else a digit may be on its way
                    delays.append(now - int(found[1]))
                    end = found.end()
            rest[one] = data[end:][-64:]
        if delays:
            patience = _QUIET_SECONDS
        if not selector.get_map():
            break
    print(json.dumps(delays), flush=True)


if __name__ == "__main__":
    main()
