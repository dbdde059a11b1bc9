"""`otel-agents doctor`: what is instrumented, what is not, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from otel_agents.cli.envelope import FAILED, OK, print_data
from otel_agents.text import visible


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON envelope.")
def command(*, as_json: bool) -> int:
    """Check versions, settings, targets, sinks and exporters; exit 1 if something is wrong.

    Run it where the program runs: it imports the modules that `[[wrap]]` names.
    """
    from otel_agents.doctor import examine

    checks = examine(Path.cwd())
    ok = all(check.ok for check in checks)
    if as_json:
        print_data({"ok": ok, "checks": [check._asdict() for check in checks]})
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {visible(check.detail)}")
            if check.fix:
                click.echo(f"      -> {visible(check.fix)}")
        failed = sum(not check.ok for check in checks)
        click.echo("All is well." if ok else f"{failed} of {len(checks)} checks failed.")
    return OK if ok else FAILED
