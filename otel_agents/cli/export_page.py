"""A run as an HTML page without anything outside of it.

The colours and icons are the console's, taken from its files, so that both are of one family. All
text is escaped by the template, and a policy by hash lets only our own style and script in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from otel_agents.cli.export_feed import Feed
from otel_agents.cli.export_tiles import tiles
from otel_agents.cli.kpis import Asked
from otel_agents.cli.listing import all_events
from otel_agents.cli.told import Wanted
from otel_agents.server import pages_text as text
from otel_agents.server.pages_render import STATIC
from otel_agents.server.pages_run import adopted
from otel_agents.server.pages_waterfall import chart, without_tellings
from otel_agents.version import __version__

if TYPE_CHECKING:
    from otel_agents.cli.reader import Reader

_HERE: Final = Path(__file__).parent / "templates"
_ROWS: Final = 500  # of the timeline: a row takes a kilobyte
_ERRORS: Final = 200
_POLICY: Final = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; "
    "base-uri 'none'; form-action 'none'"
)
_ICONS: Final = (
    "mark", "check", "cross", "run", "hand", "question", "stop", "minus", "ring", "dot",
    "warning", "refresh", "k-run", "k-iteration", "k-phase", "k-agent", "k-task", "k-gate",
    "k-validation", "k-delivery", "k-human", "k-worker", "k-runtime", "k-breaker",
    "k-agent-done", "k-budget", "k-budget-over", "k-critic", "k-clock", "k-span", "search",
)  # fmt: skip
_SYMBOL: Final = re.compile(r'<symbol id="([^"]+)".*?</symbol>', re.DOTALL)
_COLOUR: Final = re.compile(r"^\s*(--[a-z-]+: light-dark\([^;]*\);)\s*$", re.MULTILINE)


def page_of(source: Reader, run: dict[str, Any]) -> str:
    """Return the page of a run.

    Args:
        source: Where its events are read from.
        run: The run in full, as the store has it.

    """
    feed = Feed(text.moment(run["started_at"]))
    for each in all_events(source, Wanted(run_id=run["run_id"])):
        feed.add(each)
    kpis = Asked(source).reading(run["run_id"])
    length = (run["duration_seconds"] or 0) * 1000
    style, script = Markup(_style()), Markup(_read("export.js"))  # noqa: S704 - files of ours
    context = {
        "run": run,
        "tiles": tiles(kpis),
        "chart": chart(without_tellings(adopted(run, [])), length, _ROWS),
        "feed": feed,
        "errors": _errors(run),
        "errors_shown": _ERRORS,
        "icons": Markup(_sprite()),  # noqa: S704
        "style": style,
        "script": script,
        "policy": _POLICY.format(style=_hash(style), script=_hash(script)),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
    }
    return _templates().get_template("export.html").render(context)


def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=text.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "duration", "look", "millis", "percent", "plural", "short", "usd"):
        made.filters[name] = getattr(text, name)
    made.filters["clock"] = _clock
    return made


def _clock(value: str | None, form: str) -> str:
    """Return a time as people read it, in UTC as it was sent: a file is read anywhere."""
    moment = text.moment(value)
    return text.NOTHING if moment is None else moment.strftime(form)


def _errors(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what failed, in the order of its start; an error that only went up stands once."""
    found, seen = [], Counter[tuple[str, str]]()
    failed = [scope for scope in run["scopes"] if scope["error"]]
    # Where an error arose, the scope is inside those that it went up through.
    for scope in sorted(failed, key=lambda each: (-float(each["start_ms"]), each["kind"] == "run")):
        error = scope["error"]["type"], scope["error"]["message"]
        if scope["kind"] not in {"agent", "task"} and seen[error]:
            continue
        seen[error] += 1
        found.append(scope)
    return found[::-1]


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _style() -> str:
    """Return the style sheet, with the console's colours before it."""
    colours = _COLOUR.findall((STATIC / "console.css").read_text(encoding="utf-8"))
    return f":root {{ {' '.join(colours)} }}\n{_read('export.css')}"


def _sprite() -> str:
    """Return the symbols of the console that the page uses."""
    found = {
        match[1]: match[0]
        for match in _SYMBOL.finditer((STATIC / "icons.svg").read_text(encoding="utf-8"))
    }
    return "\n".join(found[name] for name in _ICONS)


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
