"""The shape of the house: imports go down only, and every module has its place."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parent.parent / "otel_agents"

# Each level may import from those before it, and from its own where the line says so. A new
# module has to be placed here on purpose.
LEVELS: Final = (
    {"reasons", "words"},
    {"version", "vocabulary", "errors", "environment_variables", "py"},
    {
        "usage",
        "text",
        "values",
        "boundary",
        "workspace",
        "profiles",
        "asyncwith",
        "server_vocabulary",
        "budget",
        "waits",
    },
    {
        "signals",
        "tally",
        "templates",
        "settings_file",
        "settings_checks",
        "settings_guards",
        "settings",
        "kept",
        "gathered",
    },
    {"failures", "context", "metrics", "pipeline", "spans", "details", "event_types", "exposition"},
    {"checkpoint", "spool"},
    {"announced", "progress_details"},
    {"runtime", "state"},
    {"store"},
    {"measures", "telling", "runtime_events", "scrape"},
    {"location", "wrapper", "under_way", "answers"},
    {"scope", "drive", "heartbeat"},
    {"tool_call", "progress_scopes", "humans", "ledgers", "checkpoints"},
    {"workers"},
    {"tasks", "breakers"},
    {"model_call", "scopes", "stamping", "logs", "agent_logs", "kpi_sink"},
    {"event_feed", "listeners"},
    {"events", "progress_emitter"},
    {"sinks", "instrument", "receiver"},
    {"configure"},
    {"instrumentor"},
    {"testing", "doctor", "server"},
    {"cli", "pytest_plugin", "emitter"},
)
# Neighbours on one level that see each other: packages see their own modules, and the pairs here.
NEIGHBOURS: Final = {
    ("boundary", "values"),
    ("scope", "drive"),
    ("drive", "scope"),
    ("stamping", "model_call"),
    ("settings", "settings_file"),
    ("settings_file", "settings"),
    ("settings", "settings_checks"),
    ("settings", "settings_guards"),
    ("settings_guards", "settings_checks"),
    ("settings_guards", "settings_file"),
}
# A third-party package is imported only where it is named or built on.
OWNERS: Final = {
    "wrapt": {"instrumentor", "wrapper", "instrument"},
    "pydantic_ai": {"instrument.pydantic_ai"},
    "pydantic_graph": {"instrument.pydantic_graph"},
    "genai_prices": {"usage.prices", "usage.plan"},
    "click": {"cli"},
    "rich": {"cli"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "grpc": {"receiver", "server", "spool"},
    "requests": {"spool"},
    "urllib3": {"spool"},
    "uvicorn": {"receiver", "server"},
    "fastapi": {"server"},
    "starlette": {"receiver", "server"},
    "httptools": {"receiver", "server"},
    "psycopg": {"store.database"},
    "redis": {"sinks.redis"},
    "prometheus_client": {"exposition"},
    "structlog": set(),
    "markdown_it": {"server"},
}


def level_of(unit: str) -> int:
    for number, level in enumerate(LEVELS):
        if unit in level:
            return number
    pytest.fail(f"otel_agents.{unit} has no place in LEVELS")


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.append((dotted.removesuffix(".__init__"), path))
    return [(name, path) for name, path in found if name != "__init__"]


def imports(path: Path) -> list[tuple[str, int]]:
    """Return every module a file imports, at the top or lazily; not those for types only."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "otel_agents":
                found += [(f"otel_agents.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((node.module, node.lineno))
    return found


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_imports_go_down_only(name: str, path: Path) -> None:
    """No module imports from a level above its own, lazily or not, nor the package root."""
    unit = name.split(".", maxsplit=1)[0]
    mine = level_of(unit)
    for target, line in imports(path):
        parts = target.split(".")
        if parts[0] != "otel_agents":
            continue
        assert len(parts) > 1, f"{path.name}:{line} imports the package root"
        other = parts[1]
        allowed = other == unit or level_of(other) < mine or (unit, other) in NEIGHBOURS
        assert allowed, f"{path.name}:{line}: {unit} (level {mine}) imports {target}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_a_third_party_package_has_one_home(name: str, path: Path) -> None:
    """What an extra brings is imported only in the modules named after it."""
    for target, line in imports(path):
        owners = OWNERS.get(target.split(".")[0])
        if owners is not None:
            known = name in owners or name.split(".", maxsplit=1)[0] in owners
            assert known, f"{path.name}:{line} imports {target}"


def test_no_module_is_longer_than_five_hundred_lines() -> None:
    """A module that long has two subjects."""
    sizes = {name: len(path.read_text().splitlines()) for name, path in modules()}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


LOADED: Final = """
import sys
before = set(sys.modules)
import {module}
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))
"""


def loaded_by(module: str) -> set[str]:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", LOADED.format(module=module)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import otel_agents` costs nothing; the scopes load the OpenTelemetry API and msgspec."""
    heavy = {"wrapt", "genai_prices", "pydantic", "pydantic_ai", "typer", "rich", "asyncio"}
    assert loaded_by("otel_agents") & (heavy | {"opentelemetry", "msgspec"}) == set()
    assert loaded_by("otel_agents.scopes") & (heavy - {"asyncio"}) == set()


def test_the_scopes_do_not_load_the_sdk() -> None:
    """A program without an SDK does not get one."""
    code = (
        "import sys, otel_agents.scopes, otel_agents.configure\n"
        "print('opentelemetry.sdk' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
