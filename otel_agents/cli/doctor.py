"""`otel-agents doctor`: what is instrumented, what is not, and what to do about it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from otel_agents.cli.envelope import FAILED, OK, print_data
from otel_agents.cli.text import visible


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON envelope.")] = False,
) -> int:
    """Check versions, settings, targets, sinks and exporters; exit 1 if something is wrong.

    Run it where the program runs: it imports the modules that `[[wrap]]` names.
    """
    from otel_agents.doctor import examine  # noqa: PLC0415 - loads OpenTelemetry

    checks = examine(Path.cwd())
    ok = all(check.ok for check in checks)
    if as_json:
        print_data({"ok": ok, "checks": [check._asdict() for check in checks]})
    else:
        for check in checks:
            sys.stdout.write(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {visible(check.detail)}\n")
            if check.fix:
                sys.stdout.write(f"      -> {visible(check.fix)}\n")
        failed = sum(not check.ok for check in checks)
        sys.stdout.write(
            "All is well.\n" if ok else f"{failed} of {len(checks)} checks failed.\n"
        )
    return OK if ok else FAILED
