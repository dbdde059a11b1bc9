"""Programs with a spool, as processes that a test kills, and what they say that they ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .clients import Ledger
from .oracle import judge
from .served import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle import Held

APP: Final = Path(__file__).with_name("app.py")
_DELIVERED_SECONDS: Final = 60.0
_LINE: Final = 250  # bytes that are told of a span, about


def beside(program: str) -> Path:
    """Return a program of this Python's environment."""
    return Path(sys.executable).with_name(program)


class Apps:
    """Starts programs that share a spool, and a folder to tell in.

    Attributes:
        held: Returns what came to the backend.
        spool: The spool's directory.
        told: Where programs tell what they end.
        fresh: Where the one tells that comes after the faults.

    """

    def __init__(self, home: Path, endpoint: str, held: Callable[[], Held]) -> None:
        self.home = home
        self.held = held
        self.spool = home / "spool"
        self.told = home / "told"
        self.fresh = home / "fresh"
        for folder in (self.told, self.fresh, home / ".otel-agents"):
            folder.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "COVERAGE"))}
        self.environment = {
            **kept, "OTEL_AGENTS_HOME": str(home / ".otel-agents"),
            "OTEL_AGENTS_SPOOL": str(self.spool), "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }  # fmt: skip
        self._made: list[subprocess.Popen[str]] = []

    def start(
        self, way: str, *more: object, folder: Path | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start `app.py` in one of its ways."""
        return self.run(
            sys.executable, APP, folder or self.told, way, *map(str, more), **environment
        )

    def run(self, *command: Any, **environment: str) -> subprocess.Popen[str]:
        """Start a command under `opentelemetry-instrument`."""
        made = subprocess.Popen(  # noqa: S603 - our own programs
            [beside("opentelemetry-instrument"), *command],
            cwd=self.home, env=self.environment | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._made.append(made)
        return made

    def close(self) -> None:
        """End what still runs."""
        for one in self._made:
            with suppress(ProcessLookupError):  # its children are of its session
                os.killpg(one.pid, signal.SIGKILL)
            one.communicate()

    def lines(self) -> int:
        """Return how much was told so far, in bytes."""
        return sum(file.stat().st_size for file in self.told.iterdir())

    def waiting(self) -> list[str]:
        """Return the segments in the spool."""
        return [one.name for one in self.spool.glob("*.seg")]

    def losses(self) -> str:
        """Return what the spool says that it dropped."""
        file = self.spool / "losses.jsonl"
        return file.read_text("utf-8") if file.exists() else ""


def ledger_of(folder: Path) -> Ledger:
    """Return what programs told in a folder: issued before a span ended, acknowledged after."""
    ledger = Ledger()
    for file in folder.glob("told-*"):
        # The last line of a process that was killed may be half a line.
        for line in file.read_bytes().split(b"\n")[:-1]:
            said = json.loads(line)
            if "issued" in said:
                ledger.issued["span", said["issued"]] = tuple(said["told"])
            else:
                key = "span", said["ended"]
                ledger.acked.add(key)
                ledger.moments.append((said["at"], [key]))
    ledger.moments.sort()
    ledger.requests = len(ledger.acked)
    return ledger


def assert_delivered(apps: Apps, *, spans: int, note: str) -> int:
    """Start the next process, and assert the five properties; return how many came twice.

    A span is delivered at least once: a sender that is killed before it has noted what the backend
    took leaves it to the next one to send it again.
    """
    held = apps.held
    following = apps.start("next", folder=apps.fresh)
    until(lambda: ledger_of(apps.fresh).acked, "the next process")
    ledger, fresh = ledger_of(apps.told), ledger_of(apps.fresh)

    def clean() -> bool:
        found = judge(ledger, held(), fresh=fresh, requests=spans)
        return found._replace(doubled=set()).clean

    try:
        until(clean, "all that was told", _DELIVERED_SECONDS)
    except AssertionError:
        found = judge(ledger, held(), fresh=fresh, requests=spans)
        message = f"{found} ({note}); waiting: {apps.waiting()}; dropped: {apps.losses()}"
        raise AssertionError(message) from None
    following.communicate(timeout=PATIENCE)
    until(lambda: not apps.waiting(), "an empty spool", 10)
    assert not apps.losses(), note
    doubled = judge(ledger, held()).doubled
    figures = f"{note}: {len(ledger.acked)} spans ended, 0 lost, {len(doubled)} delivered twice"
    print(figures)  # noqa: T201 - the figures of the report
    return len(doubled)


def ended(process: subprocess.Popen[str], number: signal.Signals | None = None) -> int:
    """Send a signal, if any, and wait for the end; return the exit code."""
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    return process.returncode


def forked(parent: subprocess.Popen[str]) -> int:
    """Have a program that forks do so; return the child's number."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write("\n")
    parent.stdin.flush()
    return int(parent.stdout.readline())


def some(apps: Apps, spans: int) -> None:
    """Wait until about so many more spans have ended."""
    enough = apps.lines() + spans * _LINE
    until(lambda: apps.lines() >= enough, "spans")
