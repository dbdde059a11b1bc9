"""`otel-agents status --watch`: a run as it goes on, until it ends."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from otel_agents.cli.envelope import print_data
from otel_agents.cli.kpis import Asked
from otel_agents.cli.text import count, money, percent, roughly
from otel_agents.errors import UnavailableError
from otel_agents.state.estimate import history
from otel_agents.state.liveness import alive
from otel_agents.state.report import RunReport, report
from otel_agents.state.view import as_data
from otel_agents.text import visible

if TYPE_CHECKING:
    from otel_agents.cli.follow import Follower
    from otel_agents.cli.kpis import Counted
    from otel_agents.cli.reader import Reader
    from otel_agents.state.run import Runs, RunState

_POLL_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 0.5  # between two questions to a server
_REDRAW_SECONDS: Final = 1.0  # clocks on the screen go on though nothing is heard
# Other processes of a run may write the ends of their scopes a little after the run's own.
_SETTLE_SECONDS: Final = 2.0


class Output(Protocol):
    """Where readings go. Entered before the first, left after the last."""

    @property
    def size(self) -> tuple[int, int]:
        """What it takes the layout from; a change calls for the same reading again."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, read: RunReport, kpis: dict[str, Any] | None) -> None:
        """Show a reading and its KPIs, unless it says the same as the one before."""

    def say(self, text: str) -> None:
        """Say that no reading can be had, until the next one is."""


class _Piped:
    """Says on standard error what is no reading."""

    def say(self, text: str) -> None:
        """Print a line there."""
        sys.stderr.write(f"otel-agents: {visible(text)}\n")
        sys.stderr.flush()


class JsonLines(_Piped):
    """One envelope a line a change."""

    size = (0, 0)

    def __init__(self) -> None:
        self._last: Any = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def show(self, read: RunReport, kpis: dict[str, Any] | None) -> None:
        """Print a reading if anything in it has changed but the clocks."""
        data: dict[str, Any] = {**as_data(read), "kpis": kpis}
        clocks = {"eta_seconds": None, "phases": [_clockless(each) for each in data["phases"]]}
        # The KPIs change with the clock too, while an agent is active.
        said = data | clocks | {"kpis": kpis and kpis["counts"]["events"]}
        if said != self._last:
            self._last = said
            print_data(data)


def _clockless(phase: dict[str, Any]) -> dict[str, Any]:
    return phase | {"duration_seconds": None}


class Lines(_Piped):
    """A line of text a change, for logs and pipes, and at the end the reading in full."""

    size = (0, 0)

    def __init__(self) -> None:
        self._said = ""
        self._last: RunReport | None = None
        self._kpis: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Print the last reading in full."""
        if self._last is not None:
            from otel_agents.cli.screen import print_report  # Rich, at the end

            sys.stdout.write("\n")
            sys.stdout.flush()
            print_report(self._last, self._kpis)

    def show(self, read: RunReport, kpis: dict[str, Any] | None) -> None:
        """Print a line if it differs from the last one in more than the time."""
        self._last, self._kpis = read, kpis
        said = summary(read)
        if said != self._said:
            self._said = said
            moment = datetime.now().astimezone().strftime("%H:%M:%S")
            left = "" if read.eta is None else f" · about {roughly(read.eta)} left"
            sys.stdout.write(f"{moment} {said}{left}\n")
            sys.stdout.flush()


def summary(read: RunReport) -> str:
    """Return how a run stands, on one line and without clocks."""
    agents = Counter(agent.status for agent in read.agents)
    parts = [f"{visible(read.workflow) or 'run'} {read.status}"]
    if read.share is not None:
        parts[0] += f" {percent(read.share)}"
    active = [visible(phase.name) for phase in read.phases if phase.status == "running"]
    if active:
        parts.append(", ".join(active))
    if agents:
        said = ", ".join(f"{number} {word}" for word, number in agents.items())
        parts.append(f"agents: {said}")
    if read.usage.total_tokens:
        parts.append(f"{count(read.usage.total_tokens)} tokens")
    if read.usd is not None:
        parts.append(money(read.usd))
    if read.error is not None:
        parts.append(visible(f"{read.error.type}: {read.error.message}".removesuffix(": ")))
    return " · ".join(parts)


def output(*, as_json: bool) -> Output:
    """Return where readings go: JSON, a terminal that can be drawn on, or lines."""
    if as_json:
        return JsonLines()
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}:
        from otel_agents.cli.screen import Screen  # Rich, only where it is drawn

        return Screen()
    return Lines()


def follow_run(
    follower: Follower, runs: Runs, run: RunState, counted: Counted, shown: Output
) -> RunReport:
    """Show a run until it is over; return the last reading.

    Args:
        follower: Where its signals come from.
        runs: All runs, as far as they were read.
        run: The run.
        counted: Its KPIs, as far as it was read.
        shown: Where readings go.

    Raises:
        KeyboardInterrupt: Ctrl-C was typed.

    """
    known = history(runs, run)
    over_since: float | None = None
    with shown:
        while True:
            read = report(run, now=time.time_ns(), alive=alive, history=known)
            shown.show(read, counted.reading())
            if read.over:
                over_since = over_since or time.monotonic()
                if _settled(read) or time.monotonic() - over_since >= _SETTLE_SECONDS:
                    return read
            _wait(follower, runs, run, counted, shown)


def follow_reader(source: Reader, run_id: str | None, shown: Output) -> RunReport:
    """Show a run as a server or a store reads it until it is over; return the last reading.

    One that goes away meanwhile, to be started again, is waited for.

    Raises:
        OtelAgentsError: There is no such run, or no answer at first.
        KeyboardInterrupt: Ctrl-C was typed.

    """
    asked = Asked(source)
    read = source.report(run_id)
    kpis = asked.reading(read.id)
    over_since: float | None = None
    gone = False
    with shown:
        while True:
            if not gone:
                shown.show(read, kpis)
            if read.over:
                over_since = over_since or time.monotonic()
                if _settled(read) or time.monotonic() - over_since >= _SETTLE_SECONDS:
                    return read
            _rest(shown)
            try:
                read, kpis, gone = source.report(read.id), asked.reading(read.id), False
            except UnavailableError as error:
                if not gone:
                    shown.say(f"{error} Waiting for it.")
                gone = True


def _rest(shown: Output) -> None:
    """Wait until it is time to ask again, or another size calls for it."""
    size = shown.size
    deadline = time.monotonic() + _ASK_SECONDS
    while shown.size == size and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _settled(read: RunReport) -> bool:
    return read.status == "lost" or all(agent.status != "lost" for agent in read.agents)


def _wait(follower: Follower, runs: Runs, run: RunState, counted: Counted, shown: Output) -> None:
    """Wait until there is something to show: news of the run, another size, or a second gone by."""
    changes, size = run.changes, shown.size
    deadline = time.monotonic() + _REDRAW_SECONDS
    while run.changes == changes and shown.size == size and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        for each in follower.new():
            runs.apply(each)
            counted.take((each,))
