"""A real server in a process of its own, for as long as a test needs it."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from .conftest import Shell

FREE = ("--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")


class Serving:
    """`otel-agents serve --json` on free ports in a shell's directory."""

    def __init__(self, shell: Shell, *arguments: str, ports: tuple[str, ...] = FREE) -> None:
        self.shell = shell
        self.arguments = (*ports, *arguments)
        self.addresses: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.process = self.shell.start(
            "serve", "--json", *self.arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.addresses = json.loads(line)["data"]
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def url(self) -> str:
        """The address of console and API."""
        return str(self.addresses["console"])

    @property
    def port(self) -> str:
        """The port of console and API."""
        return self.url.rpartition(":")[2]

    def interrupt(self) -> int:
        """Type Ctrl-C, so to say; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(120)
