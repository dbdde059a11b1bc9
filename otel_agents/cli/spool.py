"""`otel-agents spool`: what has not been delivered yet, and sending what dead processes left."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.cli.envelope import FAILED, OK, print_data
from otel_agents.cli.options import AS_JSON
from otel_agents.cli.reader import settings_here
from otel_agents.errors import NotFoundError, SettingsError
from otel_agents.settings import spool_path
from otel_agents.text import visible

if TYPE_CHECKING:
    from otel_agents.spool.directory import Directory

_LEAST_SECONDS: Final = 1.0


def _finite(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if math.isnan(value):
        message = "nan is no number of seconds"
        raise click.BadParameter(message)
    return value


DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="The spool's directory, instead of the one that the settings name.",
)


@click.group("spool")
def command() -> None:
    """Show the spool, and send what is left in it.

    With OTEL_AGENTS_SPOOL set, programs append their spans, log records and metrics to files there
    before they are sent.
    """


@command.command("status")
@DIRECTORY
@AS_JSON
def status_command(directory: Path | None, *, as_json: bool) -> int:
    """Say what waits in the spool, for how long, and what was dropped and why.

    Exit codes: 0, and 4 where there is no spool.
    """
    found = _opened(directory).status()
    if as_json:
        print_data(found)
        return OK
    from otel_agents.cli.drawn_spool import spool_page

    spool_page(found)
    return OK


@command.command("drain")
@DIRECTORY
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    callback=_finite,
    default=60.0,
    show_default=True,
    help="Seconds to go on for while a backend is away.",
)
@AS_JSON
def drain_command(directory: Path | None, timeout: float, *, as_json: bool) -> int:
    """Send what programs left that have ended, to where OTEL_EXPORTER_OTLP_* say.

    What programs that are running have waiting is theirs to send. Where a backend does not let us
    in, or is not one, all is kept.

    Exit codes: 0 when all of it was delivered or refused for good, 1 if something is left.
    """
    from otel_agents.spool.destination import of_environment
    from otel_agents.spool.directory import SIGNALS
    from otel_agents.spool.lane import Lane
    from otel_agents.spool.spool import source_of

    spool = _opened(directory)
    before = spool.losses()
    try:
        # One more than none: whoever asks for 0 wants one try.
        longest = max(timeout, _LEAST_SECONDS)
        ways = {signal: of_environment(signal, longest=longest) for signal in SIGNALS}
    except ValueError as error:
        raise SettingsError(str(error)) from error
    lanes = [Lane(signal, spool, way, source_of) for signal, way in ways.items()]
    deadline = time.monotonic() + timeout
    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(lambda lane: lane.drain(deadline), lanes))
    for lane in lanes:
        lane.close()
    found = _drained(spool, before)
    found["sent"] = {lane.signal: lane.sent for lane in lanes}
    found["why"] = {lane.signal: lane.trouble for lane in lanes if lane.trouble}
    if as_json:
        print_data(found)
    else:
        from otel_agents.cli.drawn_spool import drained_page

        drained_page(found)
    return FAILED if any(found["left"].values()) else OK


def _opened(directory: Path | None) -> Directory:
    from otel_agents.spool.directory import Directory

    settings = settings_here()
    path = spool_path(settings) if directory is None else directory
    if not path.is_dir():
        message = f"there is no spool at {visible(str(path))}"
        raise NotFoundError(message)
    found = Directory(path, settings.spool_bytes)
    found.check()
    return found


def _drained(spool: Directory, before: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Return what is left of dead processes, and what was dropped meanwhile."""
    status = spool.status()
    left = dict.fromkeys(status["waiting"], 0)
    for segment in status["segments"]:
        if not segment["alive"]:
            left[segment["signal"]] += segment["items"]
    dropped = []
    for key, count in sorted(spool.losses().items()):
        if count > before.get(key, 0):
            signal, reason = key
            dropped.append(
                {"signal": signal, "reason": reason, "count": count - before.get(key, 0)}
            )
    return {"sent": {}, "left": left, "dropped": dropped}
