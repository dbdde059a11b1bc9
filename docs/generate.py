"""Write the reference docs from the tables that the code itself uses.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if a committed file differs
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from otel_agents import server_vocabulary, settings, vocabulary
from otel_agents.cli.main import COMMANDS, app
from otel_agents.profiles import PROFILES
from otel_agents.tool_call import WRITES
from otel_agents.vocabulary import ATTRIBUTES, KINDS, LABELS, METRICS, OUTCOMES, SAYS

if TYPE_CHECKING:
    from otel_agents.store import Store

HERE: Final = Path(__file__).parent / "reference"
_NOTE: Final = "<!-- Made by docs/generate.py from the code. Do not edit. -->\n\n"
_TYPES: Final = {
    str: "string", int: "int", float: "double", bool: "bool", list: "string[]", dict: "object",
}  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _fields(kind: vocabulary.Kind) -> list[str]:
    """Return what a scope of a kind is given, whether or not an attribute tells of it."""
    own = (WRITES,) if kind.name == "tool" else ()
    return list(dict.fromkeys((*kind.ids, *kind.fields, *own)))


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
            ", ".join(f"`{field}`" for field in _fields(kind)),
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
        + "## Kinds of scope\n\nEvery kind also takes `done` and `total`. `writes` says whether "
        + "a tool writes files, which are\n[saved before it]"
        + "(../how-to/guard-and-recover.md#save-the-working-tree).\n\n"
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
        for metric in (*METRICS.values(), *server_vocabulary.METRICS.values())
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
        parts.append(_command(name, command, "##"))
        if isinstance(command, click.Group):
            parts += [
                _command(f"{name} {below}", one, "###") for below, one in command.commands.items()
            ]
    return "".join(parts)


def _command(name: str, command: click.Command, level: str) -> str:
    rows = []
    for parameter in command.params:
        names = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name}`"
        rows.append((names, getattr(parameter, "help", None) or ""))
    options = _table(("Option", "Meaning"), rows) if rows else ""
    return f"\n{level} `otel-agents {name}`\n\n{_prose(command.help)}\n\n{options}"


def reason_codes() -> str:
    """Return the page of runtime events: layers, operations and reason codes."""
    rows = [
        (f"`{code}`", f"`{reason.layer}`", f"`{reason.operation}`", reason.brief)
        for code, reasons in vocabulary.REASON_CODES.items()
        for reason in reasons
    ]
    return (
        "# Runtime events\n\n"
        + _NOTE
        + "What the runtime did besides the plain work, as rows of `ai_runtime_events`. These are "
        + "told by the instrumentation itself; a program may tell of more, under codes of its own."
        + "\n\n"
        + _table(("Reason code", "Layer", "Operation", "When"), rows)
    )


def http_api() -> str:
    """Return the page of the server's HTTP API, from its OpenAPI document."""
    from otel_agents.server.app import bare_app
    from otel_agents.server.guard import Guard
    from otel_agents.server.openapi import document as described

    made = bare_app(cast("Store", None), Guard(settings.Settings(), "127.0.0.1"))
    document = described(made, guarded=True)
    parts = [
        "# HTTP API\n\n"
        + _NOTE
        + "`otel-agents serve` answers on its console port; `/openapi.json` is the whole document."
        + "\n"
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rows = [
                (f"`{one['name']}`", one["in"], one.get("description", ""))
                for one in operation.get("parameters", ())
            ]
            text = operation.get("description") or operation.get("summary", "")
            parts.append(f"\n## `{method.upper()} {path}`\n\n{text}\n")
            if rows:
                parts.append("\n" + _table(("Parameter", "In", "Meaning"), rows))
    return "".join(parts)


PAGES: Final = {
    "attributes.md": attributes,
    "metrics.md": metrics,
    "settings.md": settings_page,
    "commands.md": commands,
    "runtime-events.md": reason_codes,
    "http-api.md": http_api,
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
