"""Readings of a run on standard output: once, or drawn over and over on a terminal."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from otel_agents.cli.kpis import told
from otel_agents.cli.render import lines
from otel_agents.text import visible

if TYPE_CHECKING:
    from otel_agents.state.report import RunReport


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def print_report(read: RunReport, kpis: dict[str, Any] | None = None) -> None:
    """Print a reading in full."""
    console = _console()
    found = lines(
        read,
        told(kpis),
        now=time.time_ns(),
        width=console.width,
        ascii_only=_ascii_only(console),
    )
    console.print(Group(*found), no_wrap=True, crop=False)


def _ascii_only(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")


class Screen:
    """A terminal's other screen, drawn anew at each reading; the last is left on the usual one."""

    def __init__(self) -> None:
        self._console = _console()
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False,
            redirect_stderr=False,
        )  # fmt: skip
        self._last: RunReport | None = None
        self._kpis: dict[str, Any] | None = None
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Self:
        """Turn to the other screen."""
        # A process that is asked to end must turn back too, or the terminal is left unusable.
        self._before = signal.signal(signal.SIGTERM, _interrupt)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Turn back, and leave the last reading in full."""
        self._live.stop()
        signal.signal(signal.SIGTERM, self._before)
        if self._last is not None:
            print_report(self._last, self._kpis)

    @property
    def size(self) -> tuple[int, int]:
        """The columns and lines of the terminal; when they change it is time to draw."""
        return self._console.width, self._console.height

    def show(self, read: RunReport, kpis: dict[str, Any] | None) -> None:
        """Draw a reading, as much of it as there is room for."""
        self._last, self._kpis = read, kpis
        width, height = self.size
        self._draw(self._lines(read, width, height))

    def say(self, text: str) -> None:
        """Write a line below the last reading, until the next one."""
        width, height = self.size
        note = Text(visible(text), style="yellow")
        note.truncate(width, overflow="ellipsis")
        found = [] if self._last is None else self._lines(self._last, width, height - 1)
        self._draw([*found, note])

    def _lines(self, read: RunReport, width: int, height: int) -> list[Text]:
        return lines(
            read,
            told(self._kpis),
            now=time.time_ns(),
            width=width,
            height=height,
            ascii_only=_ascii_only(self._console),
        )

    def _draw(self, found: list[Text]) -> None:
        self._live.update(Group(*found), refresh=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
