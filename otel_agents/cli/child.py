"""A server in a process of its own, for as long as a command needs it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from otel_agents.errors import UnavailableError
from otel_agents.workspace import HOME_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.workspace import Workspace

_PORTS: Final = {"--port": 3010, "--otlp-http-port": 4318, "--otlp-grpc-port": 4317}
_HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


class Server:
    """`otel-agents serve` on this machine, on free ports where the usual ones are taken.

    `console` and `otlp_http` are its addresses once it is entered; leaving ends it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._process: subprocess.Popen[bytes] | None = None
        self.console = ""
        self.otlp_http = ""

    def __enter__(self) -> Self:
        """Start it, and wait until it listens.

        Raises:
            UnavailableError: It does not start; why, it says itself on standard error.

        """
        ports = {option: port if _is_free(port) else 0 for option, port in _PORTS.items()}
        try:
            self._start(ports)
        except UnavailableError:
            # Somebody else may have taken one of them after it was looked at.
            if all(port == 0 or _is_free(port) for port in ports.values()):
                raise
            self._start(dict.fromkeys(ports, 0))
        return self

    def _start(self, ports: Mapping[str, int]) -> None:
        arguments = [sys.executable, "-m", "otel_agents.cli", "serve", "--json", "--host", _HOST]
        for option, port in ports.items():
            arguments += [option, str(port)]
        self._process = process = subprocess.Popen(  # noqa: S603 - ourselves
            arguments,
            env={**os.environ, HOME_VARIABLE: str(self._workspace.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command, which then ends it
        )
        try:
            data = self._first_answer(process)
        except BaseException:
            self.__exit__()
            raise
        self.console, self.otlp_http = data["console"], data["otlp_http"]

    def __exit__(self, *_: object) -> None:
        """End it, by its own process only."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def runs(self) -> bool:
        """Return whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def _first_answer(self, process: subprocess.Popen[bytes]) -> Any:
        stream = process.stdout
        assert stream is not None  # noqa: S101 - a pipe was asked for
        # Reading has no time limit of its own; ending the process ends it.
        late = threading.Timer(_START_SECONDS, process.kill)
        late.start()
        try:
            line = stream.readline()
        finally:
            late.cancel()
        with contextlib.suppress(msgspec.DecodeError, TypeError, KeyError):
            answer = msgspec.json.decode(line)
            if answer["error"] is None:
                return answer["data"]
        # Why, it says on standard error next, before it ends by itself.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        message = "The server did not start; what it said stands above."
        raise UnavailableError(message)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True
