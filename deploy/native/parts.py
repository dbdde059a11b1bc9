"""What the native stack is made of, at which versions, and where its programs are.

Programs stand in a cache by version, outside the repository, so that every checkout on a machine
shares them: `OTEL_AGENTS_STACK_CACHE`, else `otel-agents/stack` below `XDG_CACHE_HOME`, else below
`~/.cache`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import compose_tools
import helm_tool

DEPLOY = Path(__file__).resolve().parent.parent
COLLECTOR_SOURCES = tuple(DEPLOY / "collector" / n for n in ("builder.yaml", "go.mod", "go.sum"))

# Jaeger 1.76.0 and 2.13.0 are one release; its 2.x tags cannot be had as Go modules, since the
# module's path has no /v2. The sum is Go's own hash of the module, compared before it is built.
JAEGER_MODULE = "github.com/jaegertracing/jaeger"
JAEGER_MODULE_VERSION = "1.76.0"
JAEGER_MODULE_SUM = "h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g="
JAEGER_VERSION = "2.13.0"

# Prometheus 3's checker of rules and configurations; 0.315 is 3.15 as a Go module.
PROMTOOL_MODULE = "github.com/prometheus/prometheus"
PROMTOOL_MODULE_VERSION = "0.315.0"
PROMTOOL_MODULE_SUM = "h1:sFGZWmC2Hk9N1NBJGCnXYZb5hyLCq8yuAMoEjLAg6ac="
PROMTOOL_VERSION = "3.15.0"


@dataclass(frozen=True)
class Part:
    """One part of the stack: its name, its version, and its programs by name.

    A program that is not there has no path.
    """

    name: str
    version: str
    programs: dict[str, Path | None]

    @property
    def complete(self) -> bool:
        """Whether every program of the part is there."""
        return all(self.programs.values())


def cache_dir() -> Path:
    """Return the folder that holds the programs, which need not exist yet."""
    if explicit := os.environ.get("OTEL_AGENTS_STACK_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "otel-agents" / "stack"


def collector_version() -> str:
    """Return the collector's version, as its builder's manifest gives it."""
    manifest = COLLECTOR_SOURCES[0].read_text(encoding="utf-8")
    match = re.search(r"^  version: (\S+)$", manifest, re.MULTILINE)
    if match is None:
        message = f"{COLLECTOR_SOURCES[0]} gives no version."
        raise ValueError(message)
    return match[1]


def collector_path() -> Path:
    """Return where the collector stands, or will once it is built.

    The path carries a hash of what it is built from: another choice of components at the same
    version is another program.
    """
    sources = b"\0".join(path.read_bytes() for path in COLLECTOR_SOURCES)
    digest = hashlib.sha256(sources).hexdigest()[:12]
    return cache_dir() / f"collector-{collector_version()}-{digest}" / "otelcol"


def jaeger_path() -> Path:
    """Return where Jaeger stands, or will once it is built."""
    return cache_dir() / f"jaeger-{JAEGER_VERSION}" / "jaeger"


def promtool_path() -> Path:
    """Return where Prometheus 3's promtool stands, or will once it is built."""
    return cache_dir() / f"promtool-{PROMTOOL_VERSION}" / "promtool"


def parts() -> dict[str, Part]:
    """Return all parts by name: those of the stack, and those that only the tests need."""
    return {
        **stack_parts(),
        "promtool3": Part("promtool3", PROMTOOL_VERSION, {"promtool3": _existing(promtool_path())}),
        "compose": Part(
            "compose", compose_tools.COMPOSE_VERSION, compose_tools.programs(cache_dir())
        ),
        "helm": Part("helm", helm_tool.HELM_VERSION, helm_tool.programs(cache_dir())),
        "postgresql": Part("postgresql", "of this machine", _postgresql()),
        "chromium": Part("chromium", "of this machine", {"chromium": _on_path("chromium")}),
    }


def stack_parts() -> dict[str, Part]:
    """Return the parts of the stack by name, with the programs that are there.

    The otel-agents server is not among them: it runs in the Python that starts the stack.
    """
    return {
        part.name: part
        for part in (
            Part("collector", collector_version(), {"otelcol": _existing(collector_path())}),
            Part("jaeger", JAEGER_VERSION, {"jaeger": _existing(jaeger_path())}),
            _debian("prometheus", prometheus="prometheus", promtool="promtool"),
            _debian("alertmanager", alertmanager="prometheus-alertmanager", amtool="amtool"),
            Part("redis", "of this machine", {"redis-server": _on_path("redis-server")}),
        )
    }


def _postgresql() -> dict[str, Path | None]:
    """Find the server's programs: Debian keeps them by version, off the PATH; the latest counts."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: int(f.parent.name))
    names = ("initdb", "postgres")
    if folders:
        return {name: _existing(folders[-1] / name) for name in names}
    return {name: _on_path(name) for name in names}


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return None if found is None else Path(found)


def _debian(name: str, **programs: str) -> Part:
    """Find a part: the machine's own, else the Debian package unpacked in the cache.

    Args:
        name: of the part; what it is unpacked to begins with it.
        programs: each program's name at Debian by its own name, by which another system has it.
    """
    own = {each: _on_path(each) or _on_path(there) for each, there in programs.items()}
    if all(own.values()):
        return Part(name, "of this machine", own)
    unpacked = sorted(cache_dir().glob(f"{name}-[0-9]*/usr/bin"))
    if not unpacked:
        return Part(name, "of Debian", dict.fromkeys(programs))
    version = unpacked[-1].parent.parent.name.removeprefix(f"{name}-")
    found = {each: _existing(unpacked[-1] / there) for each, there in programs.items()}
    return Part(name, version, found)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
