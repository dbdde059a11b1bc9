"""Write the reference docs from the tables that the code itself uses.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if a committed file differs
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Final

import click

from otel_agents import settings, vocabulary
from otel_agents.cli.main import COMMANDS, app
from otel_agents.vocabulary import ATTRIBUTES, KINDS, LABELS, METRICS, OUTCOMES, PROFILES, SAYS

HERE: Final = Path(__file__).parent / "reference"
_NOTE: Final = "<!-- Made by docs/generate.py from the code. Do not edit. -->\n\n"
_TYPES: Final = {str: "string", int: "int", float: "double", bool: "bool", list: "string[]"}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def attributes() -> str:
    """Return the page of span attributes and scope kinds."""
    own = [found for found in ATTRIBUTES.values() if found.key.startswith(vocabulary.NAMESPACE)]
    other = [found for found in ATTRIBUTES.values() if found not in own]
    head = ("Key", "Type", "Meaning")
    rows = [
        [(f"`{found.key}`", _TYPES[found.type], found.brief) for found in sorted(group)]
        for group in (own, other)
    ]
    kinds = [
        (
            f"`{kind.name}`",
            f"`{kind.span}`",
            ", ".join(f"`{field}`" for field in dict.fromkeys((*kind.ids, *kind.fields))),
            ", ".join(
                f"`{metric.name}`"
                for metric in (kind.started, kind.active, kind.ended, kind.duration)
                if metric is not None
            ),
        )
        for kind in KINDS.values()
    ]
    said = [(outcome, *(SAYS[surface][outcome] for surface in SAYS)) for outcome in OUTCOMES]
    return (
        "# Scopes and attributes\n\n"
        + _NOTE
        + "## Kinds of scope\n\nEvery kind also takes `done` and `total`.\n\n"
        + _table(("Kind", "Span", "Fields", "Metrics"), kinds)
        + "\n## Outcomes, and what each surface calls them\n\n"
        + _table(("Outcome", *SAYS), said)
        + "\n## Our own attributes\n\n"
        + _table(head, rows[0])
        + "\n## Attributes of the OpenTelemetry conventions\n\n"
        + _table(head, rows[1])
    )


def metrics() -> str:
    """Return the page of metrics."""
    own = [
        (
            f"`{metric.name}`", metric.instrument, metric.unit,
            ", ".join(f"`{label}`" for label in metric.labels), metric.brief,
        )
        for metric in METRICS.values()
        if metric.name.startswith(vocabulary.NAMESPACE)
    ]  # fmt: skip
    profiles = []
    for name, profile in PROFILES.items():
        found = [part for part in profile if isinstance(part, vocabulary.Metric)]
        found += profile.token_counters.values()
        profiles += [
            (f"`{metric.name}`", name, metric.instrument, metric.unit, metric.brief)
            for metric in found
        ]
    buckets = ", ".join(f"{value:g}" for value in vocabulary.LONG_BUCKETS)
    return (
        "# Metrics\n\n"
        + _NOTE
        + "In Prometheus dots become underscores, counters end in `_total`, seconds in `_seconds`."
        + "\n"
        + f"Durations have buckets at {buckets} seconds.\n\n"
        + _table(("Name", "Instrument", "Unit", "Labels", "Meaning"), own)
        + "\n## Labels\n\nAn id is never one.\n\n"
        + _table(("Label", "Meaning"), [(f"`{key}`", text) for key, text in LABELS.items()])
        + "\n## Metrics of the GenAI conventions\n\n"
        + "`OTEL_AGENTS_SEMCONV` chooses the generation: `compat` (default) or `latest`.\n\n"
        + _table(("Name", "Generation", "Instrument", "Unit", "Meaning"), profiles)
    )


def settings_page() -> str:
    """Return the page of settings."""
    rows = [
        (
            f"`{found.variable}`" if found.variable else "",
            f"`{found.key}`" if found.key else "",
            found.default,
            found.meaning,
        )
        for found in settings.SETTINGS
    ]
    return (
        "# Settings\n\n"
        + _NOTE
        + "The environment beats the file. The standard `OTEL_*` variables are honoured too.\n\n"
        + _table(("Variable", "In the file", "Default", "Meaning"), rows)
    )


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\b\n", "").strip()


def commands() -> str:
    """Return the page of commands."""
    parts = ["# Commands\n\n" + _NOTE + _prose(app.help) + "\n"]
    context = click.Context(app, info_name="otel-agents")
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None  # noqa: S101 - it is in COMMANDS
        rows = []
        for parameter in command.params:
            names = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
            if parameter.param_type_name == "argument":
                names = f"`{parameter.metavar or parameter.name}`"
            rows.append((names, getattr(parameter, "help", None) or ""))
        parts.append(
            f"\n## `otel-agents {name}`\n\n{_prose(command.help)}\n\n"
            + _table(("Option", "Meaning"), rows)
        )
    return "".join(parts)


PAGES: Final = {
    "attributes.md": attributes,
    "metrics.md": metrics,
    "settings.md": settings_page,
    "commands.md": commands,
}


def main() -> int:
    """Write or check every page; return the exit code."""
    stale = []
    for name, make in PAGES.items():
        path, text = HERE / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; run python docs/generate.py")  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
