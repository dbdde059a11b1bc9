"""Programs against beasts: started, timed, weighed, and their account made up afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_agents.spool.directory import Directory

from .growth import Growth

if TYPE_CHECKING:
    from .zoo import Seen, Zoo

TOOLS: Final = Path(sys.executable).parent
PROGRAM: Final = Path(__file__).with_name("program.py")
SECRET: Final = "canary-secret-7f3a"  # noqa: S105 - what must not leave
PATIENCE: Final = 100.0  # seconds; the SDK's own exporters take 30 each


@dataclass
class Ended:
    """A program that ended: what it said, its code, and what its ending took."""

    code: int
    output: str
    errors: str
    exit_seconds: float  # from its last line to its end
    grown_mib: float  # from its first line to its peak


@dataclass
class Account:
    """What became of what a program told, once the backend was well again."""

    ended: Ended
    met: int  # connections that the beast got
    told: dict[str, set[str]]
    seen: Seen
    canary: list[str]
    waited: dict[str, int]  # items by signal when the program had ended
    drained: dict[str, Any]
    drain_code: int
    status: dict[str, Any]
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def taken(self, signal: str) -> set[str]:
        """Return the ids that the backend holds."""
        return set(self.seen.taken[signal])


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the variables of a program with a spool in `home`, which shows its signals too."""
    found = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("OTEL_") and not key.endswith("CA_BUNDLE")
    }
    return found | {
        "OTEL_AGENTS_HOME": str(home / "none"),
        "OTEL_AGENTS_SINKS": f"otlp:,jsonl:{home}/signals.jsonl",
        "OTEL_AGENTS_SPOOL": str(home / "spool"),
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET}",
        "OTEL_METRIC_EXPORT_INTERVAL": "700",
        **more,
    }


def start(home: Path, variables: dict[str, str], *, zero_code: bool) -> Ended:
    """Run the program to its end."""
    command = [sys.executable, str(PROGRAM), str(home / "told.json")]
    if zero_code:
        command.insert(0, str(TOOLS / "opentelemetry-instrument"))
    with (home / "stderr").open("w") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=home, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    growth = Growth(process.pid)
    for line in process.stdout:
        lines.append(line)
        if line == "done\n":
            break
    done = time.monotonic()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    return Ended(
        process.returncode,
        "".join(lines),
        (home / "stderr").read_text(),
        time.monotonic() - done,
        growth.mib() or 0.0,
    )


def command(variables: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run `otel-agents spool …`; return its code and its data."""
    answer = subprocess.run(  # noqa: S603 - our own command
        [TOOLS / "otel-agents", "spool", *arguments, "--json"],
        env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)["data"]


def told_by(home: Path) -> dict[str, set[str]]:
    """Return the ids of the spans and log records of a program, its signals among them."""
    found = json.loads((home / "told.json").read_text())
    lines = (home / "signals.jsonl").read_text().splitlines()
    signals = {f"signal-{json.loads(line)['id']}" for line in lines}
    return {"traces": set(found["traces"]), "logs": set(found["logs"]) | signals}


def account(zoo: Zoo, home: Path, beast: str, protocol: str, *, zero_code: bool) -> Account:
    """Run the program against a beast, let the backend get well, drain, and make up the account."""
    home.mkdir()
    zoo.become("healthy" if beast == "dns" else beast)
    zoo.forget()
    before = zoo.connections()
    variables = environment(home, **zoo.environment(protocol))
    sick = dict(variables)
    if beast == "dns":
        sick["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector.invalid:4318"
    ended = start(home, sick, zero_code=zero_code)
    port = protocol.partition("/")[0]
    met = zoo.connections()[port] - before[port]
    waiting = Directory(home / "spool", 0).status()
    zoo.become("healthy")
    code, drained = command(variables, "drain", "--timeout", "30")
    _, status = command(variables, "status")
    dropped = Counter({(row["signal"], row["reason"]): row["count"] for row in status["dropped"]})
    return Account(
        ended, met, told_by(home), zoo.seen(), zoo.canary(), waiting["waiting"], drained, code,
        status, dropped,
    )  # fmt: skip
