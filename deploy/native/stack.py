"""Run the stack on loopback, without containers: all of it but Grafana, which has no package.

As a command: `python stack.py up|down|status [--state DIR] [--default-ports | --free-ports]`.
As a library:

    with Stack.start(folder) as stack:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.otlp_grpc

The state folder holds the stack's data, logs and secrets (see layout.py), and `stack.json` with its
processes and ports.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import urllib.parse
import urllib.request
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import parts
import processes
from components import HOST, PUBLIC_PORTS, Component, choose_ports, components
from layout import prepare
from processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import FrameType, TracebackType

START_SECONDS = 60.0
LOG_TAIL = 5
LINE_LIMIT = 1000

# What runs here is asked directly, whatever proxy the caller has set.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class StackError(Exception):
    """The stack cannot do what was asked; the message is one sentence, and a log's end if any."""


class Stack:
    """A stack of processes on this machine, made by `Stack.start` or found by `Stack.attach`."""

    def __init__(self, state: Path, ports: dict[str, int], running: dict[str, Process]) -> None:
        """Describe a stack: its folder, its ports by use, its processes by component."""
        self.state = state
        self.ports = ports
        self.processes = running
        self._previous_handler: Callable[[int, FrameType | None], object] | int | None = None
        self._handles_sigterm = False

    @classmethod
    def start(
        cls,
        state: Path | str,
        *,
        default_ports: bool = False,
        only: Collection[str] = (),
        seconds: float = START_SECONDS,
    ) -> Self:
        """Start a stack in a folder and return when all of it answers.

        Until it is stopped or released, a SIGTERM to this process ends it first; call from the
        main thread for that. If the start fails, nothing of it is left running.

        Args:
            state: the folder for its data and logs, made if need be. Data of an earlier run in
                the same folder is taken up again.
            default_ports: whether to listen on the usual ports (`PUBLIC_PORTS`); otherwise on free
                ones.
            only: the parts to start, by name; none for all.
            seconds: how long to wait until everything answers.

        Raises:
            StackError: when a program is missing, a port is taken, a stack runs in the folder, or
                a component ends or does not answer in time.
        """
        folder = Path(state).absolute()
        earlier = cls.attach(folder)
        if earlier and any(map(processes.is_alive, earlier.processes.values())):
            message = f"A stack runs in {folder} already."
            raise StackError(message)
        try:
            ports = choose_ports(default=default_ports)
        except OSError as error:
            raise StackError(str(error)) from None
        _programs()
        prepare(folder, ports)
        stack = cls(folder, ports, {})
        names = [name for name in stack.components if not only or name in only]
        stack._end_on_sigterm()
        try:
            offsets = {name: stack._spawn(name) for name in names}
            stack._wait_until_ready(offsets, seconds)
        except BaseException:
            stack.stop()
            raise
        return stack

    @classmethod
    def attach(cls, state: Path | str) -> Self | None:
        """Return the stack that was started in a folder, running or not, or None for none."""
        folder = Path(state).absolute()
        try:
            record = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        running = {name: Process(**process) for name, process in record["processes"].items()}
        return cls(folder, record["ports"], running)

    @cached_property
    def components(self) -> dict[str, Component]:
        """The programs of the stack by name.

        Raises:
            StackError: when one is not installed.
        """
        return components(_programs(), self.state, self.ports)

    @property
    def otlp_grpc(self) -> str:
        """The collector's address for OTLP by gRPC, as OTEL_EXPORTER_OTLP_ENDPOINT takes it."""
        return f"http://{HOST}:{self.ports['otlp_grpc']}"

    @property
    def otlp_http(self) -> str:
        """The collector's address for OTLP by HTTP, without /v1/traces and the like."""
        return f"http://{HOST}:{self.ports['otlp_http']}"

    @property
    def jaeger_query(self) -> str:
        """The address of Jaeger's API and pages."""
        return f"http://{HOST}:{self.ports['jaeger_query']}"

    @property
    def prometheus(self) -> str:
        """The address of Prometheus' API and pages."""
        return f"http://{HOST}:{self.ports['prometheus']}"

    @property
    def alertmanager(self) -> str:
        """The address of Alertmanager's API and pages."""
        return f"http://{HOST}:{self.ports['alertmanager']}"

    @property
    def console(self) -> str:
        """The address of the otel-agents server: its console and API."""
        return f"http://{HOST}:{self.ports['console']}"

    @property
    def redis(self) -> str:
        """The address of Redis, as OTEL_AGENTS_REDIS_URL takes it."""
        return f"redis://{HOST}:{self.ports['redis']}/0"

    @property
    def token(self) -> str:
        """The console's token, for everything."""
        return self._secret("token")

    @property
    def ingest_token(self) -> str:
        """The server's token for those who send to it."""
        return self._secret("ingest_token")

    @property
    def viewer_token(self) -> str:
        """The console's token for those who only look."""
        return self._secret("viewer_token")

    def status(self) -> dict[str, str]:
        """Return `up`, `starting` or `down` for each part started: does it answer, does it run.

        Raises:
            StackError: when a program is not installed.
        """
        return {name: self._status(name) for name in self.processes}

    def kill(self, name: str) -> None:
        """End one component by SIGKILL, as a crash would, and return when it is gone."""
        processes.send(self.processes[name], signal.SIGKILL)
        processes.wait_for(lambda: not processes.is_alive(self.processes[name]), START_SECONDS)

    def resume(self, name: str, seconds: float = START_SECONDS) -> None:
        """Start one component again, on its data and its ports, and return when it answers.

        Raises:
            StackError: when it runs, or ends, or does not answer in time.
        """
        if processes.is_alive(self.processes[name]):
            message = f"{name} runs already."
            raise StackError(message)
        self._wait_until_ready({name: self._spawn(name)}, seconds)

    def stop(self) -> None:
        """End every process of the stack that still runs; its data stays."""
        processes.end(self.processes.values())
        self.release()

    def release(self) -> None:
        """Let the stack run on when this process gets a SIGTERM or ends."""
        if self._handles_sigterm:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._handles_sigterm = False

    def __enter__(self) -> Self:
        """Return the stack itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the stack, whatever ended the block."""
        self.stop()

    def _spawn(self, name: str) -> int:
        """Start a component and return where in its log this start begins."""
        log = self._log(name)
        offset = log.stat().st_size if log.exists() else 0
        component = self.components[name]
        self.processes[name] = processes.spawn(component.argv, component.env, log)
        record = {
            "ports": self.ports,
            "processes": {name: asdict(process) for name, process in self.processes.items()},
        }
        new = self.state / "stack.json.new"
        new.write_text(json.dumps(record, indent=2), encoding="utf-8")
        new.replace(self.state / "stack.json")
        return offset

    def _wait_until_ready(self, offsets: dict[str, int], seconds: float) -> None:
        def settled() -> bool:
            statuses = {self._status(name) for name in offsets}
            return "down" in statuses or statuses == {"up"}

        processes.wait_for(settled, seconds)
        failed = {name: status for name in offsets if (status := self._status(name)) != "up"}
        if failed:
            # What ended is the reason, not what still starts.
            name = min(failed, key=lambda name: failed[name] != "down")
            what = "ended" if failed[name] == "down" else f"did not answer within {seconds:.0f} s"
            tail = self._tail(name, offsets[name])
            message = f"{name} {what}; the end of {self._log(name)}:\n{tail}"
            raise StackError(message)

    def _status(self, name: str) -> str:
        process = self.processes.get(name)
        if process is None or not processes.is_alive(process):
            return "down"
        return "up" if all(map(_answers, self.components[name].ready)) else "starting"

    def _secret(self, name: str) -> str:
        return (self.state / "secrets" / name).read_text(encoding="ascii")

    def _log(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"

    def _tail(self, name: str, offset: int) -> str:
        with self._log(name).open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line[:LINE_LIMIT]}" for line in lines[-LOG_TAIL:])

    def _end_on_sigterm(self) -> None:
        """Make a SIGTERM end the stack first, and then do what it would have done."""
        if threading.current_thread() is not threading.main_thread():
            return

        def handle(number: int, _frame: FrameType | None) -> None:
            self.stop()
            os.kill(os.getpid(), number)

        self._previous_handler = signal.signal(signal.SIGTERM, handle)
        self._handles_sigterm = True


def default_state() -> Path:
    """Return the folder of the stack that the command runs when none is given."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "otel-agents" / "stack"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 when the stack is not up or could not be started."""
    parser = argparse.ArgumentParser(prog="stack.py", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--state", type=Path, default=default_state(), metavar="DIR")
    which = parser.add_mutually_exclusive_group()
    usual = ", ".join(map(str, PUBLIC_PORTS.values()))
    which.add_argument("--default-ports", action="store_true", help=f"{usual} (the default)")
    which.add_argument("--free-ports", action="store_true", help="any that are free")
    asked = parser.parse_args(argv)
    try:
        commands = {"up": _up, "down": _down, "status": _report}
        return commands[asked.command](asked.state, not asked.free_ports)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _up(state: Path, default_ports: bool) -> int:
    stack = Stack.attach(state)
    if stack is None or set(stack.status().values()) != {"up"}:
        if stack is not None:
            stack.stop()
        Stack.start(state, default_ports=default_ports).release()
    return _report(state, default_ports)


def _down(state: Path, _default_ports: bool) -> int:
    stack = Stack.attach(state)
    if stack is not None:
        stack.stop()
    return 0


def _report(state: Path, _default_ports: bool) -> int:
    stack = Stack.attach(state)
    if stack is None:
        print(f"no stack was started in {state}")
        return 1
    statuses = stack.status()
    for name, status in statuses.items():
        print(f"{name:<13} {status:<9} pid {stack.processes[name].pid}")
    if set(statuses.values()) != {"up"}:
        return 1
    for what, address in (
        ("OTLP/gRPC", stack.otlp_grpc),
        ("OTLP/HTTP", stack.otlp_http),
        ("console", stack.console),
        ("its token", stack.state / "secrets" / "token"),
        ("Jaeger", stack.jaeger_query),
        ("Prometheus", stack.prometheus),
        ("Alertmanager", stack.alertmanager),
        ("Redis", stack.redis),
        ("state, logs", stack.state),
    ):
        print(f"{what:<13} {address}")
    return 0


def _programs() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for part in parts.stack_parts().values():
        for name, path in part.programs.items():
            if path is None:
                message = f"{name} is missing: run deploy/native/install {part.name}."
                raise StackError(message)
            found[name] = path
    return found


def _answers(url: str) -> bool:
    address = urllib.parse.urlsplit(url)
    try:
        if address.scheme == "tcp":
            with socket.create_connection((address.hostname or HOST, address.port or 0), timeout=2):
                return True
        with _open(url, timeout=2):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
